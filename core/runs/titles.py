"""What a run is called: two words, easier to say than a job's name, until a person names it; and its note."""

from __future__ import annotations

import random

from core.errors import BadInput

LONGEST_TITLE = 80
LONGEST_NOTE = 256  # what a tag holds
_MARKUP = frozenset("<>&`")  # charts and their legends would not show them as they are

_ADJECTIVES = [
    "able",
    "amber",
    "bold",
    "brave",
    "brief",
    "bright",
    "brisk",
    "calm",
    "candid",
    "cheery",
    "clear",
    "clever",
    "cosy",
    "crisp",
    "daring",
    "eager",
    "early",
    "fair",
    "fast",
    "fleet",
    "fond",
    "frank",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "grand",
    "happy",
    "hardy",
    "honest",
    "jolly",
    "keen",
    "kind",
    "lively",
    "loyal",
    "lucky",
    "merry",
    "mild",
    "modest",
    "neat",
    "nimble",
    "noble",
    "patient",
    "plucky",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "sage",
    "sharp",
    "silver",
    "steady",
    "sunny",
    "swift",
    "tidy",
    "tender",
    "true",
    "warm",
    "wise",
    "witty",
]
_ANIMALS = [
    "badger",
    "beaver",
    "bison",
    "bittern",
    "bobcat",
    "buzzard",
    "civet",
    "condor",
    "coyote",
    "crane",
    "curlew",
    "dingo",
    "dipper",
    "eagle",
    "egret",
    "ermine",
    "falcon",
    "ferret",
    "finch",
    "fox",
    "gannet",
    "gecko",
    "gibbon",
    "grouse",
    "hare",
    "heron",
    "hoopoe",
    "ibex",
    "ibis",
    "jackal",
    "jay",
    "kestrel",
    "kite",
    "lark",
    "lemur",
    "linnet",
    "lynx",
    "magpie",
    "marmot",
    "marten",
    "merlin",
    "mink",
    "moose",
    "newt",
    "osprey",
    "otter",
    "owl",
    "panda",
    "plover",
    "puffin",
    "quail",
    "rail",
    "raven",
    "robin",
    "seal",
    "shrew",
    "siskin",
    "skua",
    "snipe",
    "stoat",
    "stork",
    "swift",
    "tapir",
    "tern",
    "teal",
    "thrush",
    "vole",
    "wagtail",
    "wolf",
    "wombat",
    "wren",
]


def new_title(seed: str = "") -> str:
    """Return two words for a run ("brave-otter"): random, or always the same for one seed."""
    chance = random.Random(seed) if seed else random.SystemRandom()
    return f"{chance.choice(_ADJECTIVES)}-{chance.choice(_ANIMALS)}"


def new_run_name(title: str, seed: str) -> str:
    """Return a job name: the title and the first eight letters of `seed`, a hexadecimal number."""
    return f"{title}-{seed[:8]}"


def check_title(text: str, of: str = "run") -> str:
    """Return a run's name, or that of something else, as a person gave it, without the spaces around it; raises
    BadInput for none that can be.
    """
    title = text.strip()
    if not title:
        raise BadInput(f"A {of} needs a name.", "Type one.")
    if len(title) > LONGEST_TITLE:
        raise BadInput(f"The name has {len(title)} characters.", f"At most {LONGEST_TITLE} are shown whole everywhere.")
    if not title.isprintable() or _MARKUP.intersection(title):
        raise BadInput("The name has a character that is not shown as itself.", "Leave out <, >, &, ` and line breaks.")
    return title


def check_note(text: str) -> str:
    """Return a run's note without the spaces around it; raises BadInput for more than a tag holds."""
    note = text.strip()
    if len(note) > LONGEST_NOTE:
        raise BadInput(f"The note has {len(note)} characters.", f"A tag holds at most {LONGEST_NOTE}.")
    return note
