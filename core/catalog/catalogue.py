"""The models of all registries: listed behind the pages, kept on disk, searched at once, looked at as they are shown.

What it does not know it says: how far each list is, and of how many names nobody knows publisher, task and licence.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from core.azureml.connection import Connection
from core.catalog import base_models, registries
from core.catalog.base_models import BaseModel, find_facets, keep_model, to_base_model
from core.catalog.flights import AHEAD, LIST, SCREEN, flights
from core.catalog.kept import Facets, Hidden, Kept, Key, Listed, RegistryState, Wanted
from core.errors import AccessDenied, ServiceFailed, ServiceRefused, SignInFailed, Throttled, TunedeckError, Unreachable
from core.locks import tried

SCREENFUL = 12
LIST_FRESH_S = 6 * 3600.0
LOCAL_LIST_FRESH_S = 10.0
LINK_GOOD_S = 3600.0  # a list that stopped is gone on with at its page for so long, else begun anew
RETRIES = 10  # of one page in a row
LONGEST_PAUSE_S, LOCAL_LONGEST_PAUSE_S = 60.0, 2.0
OTHERS_S = 1.0  # a list that moved so lately is another process's
LOOK_AGAIN_S, LATER_S = 20.0, 600.0  # after a failure that may pass, and after another
AHEAD_AT_ONCE = 48  # names looked at ahead of a screen that is not full yet; a page that is closed asks no more
_PASSING = (Throttled, ServiceFailed, Unreachable)


@dataclass(frozen=True)
class Entry:
    """One line of what was found."""

    registry: str
    name: str
    """As it is spoken of elsewhere: with its registry before it where that is not the connection's own."""
    version: str
    archived: bool
    model: BaseModel | None
    """None until somebody has looked at it."""
    problem: str = ""
    """Why it could not be looked at."""


@dataclass(frozen=True)
class Found:
    """What a search finds in what is known."""

    entries: tuple[Entry, ...]
    """Of the part that is on screen."""
    matches: int
    unknown: int
    """Names whose publisher, task and licence are not known yet: some of them may match as well."""
    registries: tuple[RegistryState, ...]

    looking: bool
    """Whether names are looked at that nobody has looked at yet."""
    hidden: Hidden
    choices: Mapping[str, tuple[str, ...]]
    """The registries, publishers, tasks and licences that there are."""

    @property
    def moving(self) -> bool:
        """Tell whether the same search may find more in a moment."""
        return self.looking or any(each.state in ("waiting", "listing") for each in self.registries)


def search(
    conn: Connection, text: str = "", wanted: Wanted | None = None, first: int = 0, *, further: bool = False
) -> Found:
    """Return what is known to match, at once; has lists that are missing or old read behind, and what is shown.

    text: words that have to be in the registry, name, publisher, task or licence. While fewer match than a screen
    holds, what is named so and nobody has looked at yet is, some at a time for each call; further: whatever its name.
    """
    kept = _kept(conn)
    _refresh(conn, kept)
    # What may change is read first: a list that is whole by then is whole in what is found, too.
    states, looking = tuple(kept.list_registries()), _is_looking(conn)
    own = conn.settings.registry_name
    wanted = replace(wanted or Wanted(), words=tuple(text.lower().split()))
    shown, matches = kept.search(wanted, first, SCREENFUL, own)
    if first and not shown:  # fewer match than did
        shown, matches = kept.search(wanted, 0, SCREENFUL, own)
    fresh_s = base_models.fresh_s(conn)
    _look_at(conn, [each.key for each in shown if time.time() - each.read_at > fresh_s], SCREEN)
    if further or len(shown) < SCREENFUL:
        count = AHEAD_AT_ONCE + len(_problems)  # those that cannot be looked at are among them
        _look_at(conn, kept.list_unknown(Wanted() if further else wanted, count), AHEAD)
    entries = tuple(_to_entry(conn, each) for each in shown)
    looking, unknown = looking or _is_looking(conn), kept.count_unknown()
    choices = _list_choices(conn, kept, (states, unknown))
    return Found(entries, matches, unknown, states, looking, kept.count_hidden(wanted), choices)


def find_successor(conn: Connection, model: BaseModel) -> BaseModel | None:
    """Return the model that its registry names in its place, else the newest of its publisher and family that can be
    tuned today; None where none is known. Sends nothing.
    """
    named, family = model.lifecycle.successor, _family_of(model.name)
    word, publisher = (named, "") if named else (family, model.publisher)
    registry, _ = registries.split_name(conn, model.name)
    wanted = Wanted(True, True, words=(word.lower(),), registry=registry, publisher=publisher)
    found = [_to_entry(conn, each).model for each in _kept(conn).search(wanted, 0, 50)[0] if word]
    usable = [each for each in found if each and each.name != model.name and not each.lifecycle.over]
    return max((each for each in usable if named or _family_of(each.name) == family), key=_newest, default=None)


def _family_of(name: str) -> str:
    """Return the word before the first number: "Phi" of Phi-3-mini, "Llama" of azureml-meta/Meta-Llama-3.1-8B."""
    found = re.search(r"([A-Za-z]+)[-_ ]?\d", name.rpartition("/")[2])
    return found[1] if found else ""


def _newest(model: BaseModel) -> tuple[float, int]:
    """Return a sort key in which Phi-4 follows Phi-3.5 and, being the plain one, Phi-4-mini."""
    number = re.search(r"\d+(\.\d+)?", model.name.rpartition("/")[2])
    return float(number[0]) if number else 0.0, -len(model.name)


# What is under way in this process, for all connections.
_lock = threading.Lock()
_listings: set[tuple[str, str, str]] = set()
_looks: set[tuple[str, str, Key]] = set()
_problems: dict[tuple[str, str, Key], tuple[str, float]] = {}  # why, and until when it is let be
_refreshed: dict[tuple[str, str], float] = {}
_choices: dict[tuple[str, str], tuple[object, dict[str, tuple[str, ...]]]] = {}


def _kept(conn: Connection) -> Kept:
    return Kept(conn.home, conn.alias)


def _list_choices(conn: Connection, kept: Kept, stamp: object) -> dict[str, tuple[str, ...]]:
    """Return what can be filtered by, read anew where what is known has changed since."""
    before, known = _choices.get(_place(conn), (None, {}))
    if before != stamp:
        known = kept.list_choices()
        _choices[_place(conn)] = stamp, known
    return known


def _place(conn: Connection) -> tuple[str, str]:
    return str(conn.home.path), conn.alias


def _is_looking(conn: Connection) -> bool:
    with _lock:
        return any(name[:2] == _place(conn) for name in _looks)


def _refresh(conn: Connection, kept: Kept) -> None:
    """Have the lists that are due read behind; looks at most once a second."""
    with _lock:
        now = time.monotonic()
        if now - _refreshed.get(_place(conn), -1.0) < 1.0:
            return
        _refreshed[_place(conn)] = now
    known = {each.name for each in kept.list_registries()}
    if missing := [name for name in registries.list_named(conn) if name not in known]:
        kept.add_registries(missing)
    for state in kept.list_registries():
        if _is_due(conn, state):
            _begin(conn, state.name)


def _is_due(conn: Connection, state: RegistryState) -> bool:
    age_s = time.time() - state.tried_at
    fresh_s = LOCAL_LIST_FRESH_S if conn.cloud.is_local else LIST_FRESH_S
    if state.state == "failed":
        return age_s > min(fresh_s, LOOK_AGAIN_S)
    return age_s > (OTHERS_S if state.state == "listing" else fresh_s) or state.state == "waiting"


def _begin(conn: Connection, registry: str) -> None:
    """List a registry behind, unless this process does or another one of this home."""
    name = (*_place(conn), registry)
    with _lock:
        if name in _listings:
            return
        _listings.add(name)
    flights.put(LIST, _Listing(conn, registry, name))


@dataclass
class _Listing:
    """The list of one registry, a page at a time."""

    conn: Connection
    registry: str
    name: tuple[str, str, str]
    tries: int = 0
    mine: bool = False
    resumed: bool = False
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def _kept(self) -> Kept:
        return _kept(self.conn)

    def go(self) -> float | None:
        """Read the next page, unless another process does."""
        kept = self._kept
        if not self.mine:
            lock = self.conn.home.catalogue / f"{self.conn.alias}-{self.registry or 'own'}.lock"
            self.mine = self.held.enter_context(tried(lock))
            state = kept.find_registry(self.registry)
            if not self.mine or state is None or not _is_due(self.conn, state):
                return None
            self.resumed = bool(state.next_link) and time.time() - state.tried_at < LINK_GOOD_S
            if not self.resumed:
                kept.begin(self.registry)
        state = kept.find_registry(self.registry)
        assert state is not None, self.registry
        found, next_link = registries.read_page(self.conn, self.registry, state.next_link)
        self.tries, self.resumed = 0, False
        if self.registry == registries.OWN:
            kept.add_registries(str(each["name"]) for each in found)
            found = []
        kept.keep_page(self.registry, [_read_name(each) for each in found], next_link)
        kept.keep_told(_read_told(self.registry, found))
        return 0.0 if next_link else None

    def fail(self, error: TunedeckError) -> float | None:
        """Return after which pause the page is asked for again, None where the list has failed."""
        if isinstance(error, _PASSING) and self.tries < RETRIES:
            self.tries += 1
            self._kept.note(self.registry, error, "listing")
            longest_s = LOCAL_LONGEST_PAUSE_S if self.conn.cloud.is_local else LONGEST_PAUSE_S
            return _pause_of(error, min(0.5 * 2 ** (self.tries - 1), longest_s))
        if self.resumed and not isinstance(error, (AccessDenied, SignInFailed, *_PASSING)):  # the link has run out
            self.resumed = False
            self._kept.begin(self.registry)
            return 0.0
        self._kept.note(self.registry, error, "failed")
        return None

    def end(self) -> None:
        """Let another process list this registry."""
        self.held.close()
        with _lock:
            _listings.discard(self.name)


def _read_told(registry: str, page: Iterable[dict[str, object]]) -> Iterator[tuple[Key, dict[str, object], Facets]]:
    """Yield the models of which the list itself says what they are for."""
    for body in page:
        name, version, _ = _read_name(body)
        model = to_base_model(name, version, body)
        if model.task:
            yield (registry, name, version), body, find_facets(model)


def _read_name(body: dict[str, object]) -> tuple[str, str, bool]:
    told = body.get("properties")
    wire = told if isinstance(told, dict) else {}
    return str(body["name"]), str(wire.get("latestVersion") or "latest"), bool(wire.get("isArchived"))


def _look_at(conn: Connection, keys: Iterable[Key], rank: int) -> None:
    """Have models looked at behind the page, each once at a time, and not soon again where that failed."""
    for key in keys:
        name = (*_place(conn), key)
        with _lock:
            if name in _looks or time.time() < _problems.get(name, ("", 0.0))[1]:
                continue
            _looks.add(name)
        flights.put(rank, _Look(conn, key, name))


@dataclass
class _Look:
    """One model that is looked at; some tries, then the page is told why not."""

    conn: Connection
    key: Key
    name: tuple[str, str, Key]
    tries: int = 0

    def go(self) -> float | None:
        """Look once."""
        registry, name, version = self.key
        keep_model(_kept(self.conn), self.key, registries.read_model(self.conn, registry, name, version)[1])
        with _lock:
            _problems.pop(self.name, None)
        return None

    def fail(self, error: TunedeckError) -> float | None:
        """Return after which pause to look again, None after some tries."""
        self.tries += 1
        again_s = LOOK_AGAIN_S if isinstance(error, _PASSING) else LATER_S
        with _lock:
            _problems[self.name] = error.message, time.time() + again_s
        return _pause_of(error, 0.5 * 2**self.tries) if isinstance(error, _PASSING) and self.tries <= 3 else None

    def end(self) -> None:
        """Let it be looked at again."""
        with _lock:
            _looks.discard(self.name)


def _pause_of(error: TunedeckError, usual_s: float) -> float:
    """Return how long to wait after a failure: as long as the service asks."""
    asked_s = error.pause_s if isinstance(error, ServiceRefused) else None
    return usual_s if asked_s is None else asked_s


def _to_entry(conn: Connection, found: Listed) -> Entry:
    name = registries.join_name(conn, found.registry, found.name)
    model = to_base_model(name, found.version, found.body) if found.body is not None else None
    with _lock:
        problem = _problems.get((*_place(conn), found.key), ("", 0.0))[0]
    return Entry(found.registry, name, found.version, found.archived, model, problem)
