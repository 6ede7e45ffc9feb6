"""Which languages conversations are in, judged by their script and their most common words.

An estimate: it reads 200 rows, spread evenly over the file.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from core.dataset import row_index, row_pages

_ROWS = 200
_CHARACTERS = 1_000
_ENOUGH = 2  # common words that decide on a language
# The commonest words of each language that are rare in the others.
_WORDS = {
    "English": "the of and to is that it was for with you this are have what",
    "German": "der die und das ist nicht ein ich sie mit für auf eine wie auch",
    "French": "le les des est une dans pour que qui pas vous sur avec je du",
    "Spanish": "el los las una por con para es como más pero su qué está del",
    "Portuguese": "os uma não com para mais como você são ao dos pelo isso também em",
    "Italian": "il gli che una per con non sono della come più anche nel questo è",
    "Dutch": "het een van niet zijn voor met maar ook wat naar ik je deze worden",
    "Polish": "nie się jest że na jak ale tak dla czy co przez być oraz także",
    "Swedish": "och att det som är inte jag för på med ett av till vad har",
    "Turkish": "bir ve bu için ile çok daha ne gibi olarak değil mi var nasıl ama",
    "Indonesian": "yang dan ini itu dengan untuk dari dalam tidak adalah pada apa akan bisa saya",
}
_KNOWN = {word: language for language, said in _WORDS.items() for word in said.split()}
_SCRIPTS = (
    ("Japanese", re.compile(r"[\u3040-\u30ff]")),
    ("Chinese", re.compile(r"[\u4e00-\u9fff]")),
    ("Korean", re.compile(r"[\uac00-\ud7af]")),
    ("Russian and other Cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("Arabic script", re.compile(r"[\u0600-\u06ff]")),
    ("Hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("Hindi and other Devanagari", re.compile(r"[\u0900-\u097f]")),
    ("Greek", re.compile(r"[\u0370-\u03ff]")),
    ("Thai", re.compile(r"[\u0e00-\u0e7f]")),
)
OTHER = "Not recognised"


@dataclass(frozen=True)
class Languages:
    """Rows by language, most first, among `looked_at` rows spread evenly over `rows`."""

    shares: tuple[tuple[str, int], ...]
    looked_at: int
    rows: int

    @property
    def sampled(self) -> bool:
        """Tell whether only some of the rows were looked at."""
        return self.rows > _ROWS


def count_languages(path: Path) -> Languages:
    """Return the languages of a checked file; about 20 ms."""
    total = row_index.count(path)
    places = sorted({at * total // _ROWS for at in range(_ROWS)}) if total > _ROWS else list(range(total))
    rows = row_pages.read_places(path, places)
    texts = (" ".join(message["content"] for message in row.messages)[:_CHARACTERS] for row in rows if row.messages)
    counts = Counter(guess_language(text) for text in texts)
    return Languages(tuple(counts.most_common()), sum(counts.values()), total)


def guess_language(text: str) -> str:
    """Return the language of a text, OTHER if there is too little to tell."""
    letters = sum(character.isalpha() for character in text)
    for name, script in _SCRIPTS:
        if letters and len(script.findall(text)) > 0.15 * letters:
            return name
    spoken = Counter(_KNOWN[word] for word in re.findall(r"[^\W\d_]+", text.lower()) if word in _KNOWN)
    best = spoken.most_common(1)
    return best[0][0] if best and best[0][1] >= _ENOUGH else OTHER
