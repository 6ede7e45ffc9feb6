"""The columns of data as it was given, and the keys of its messages: how often each is filled in, and with what.

Kept beside a data set: what becomes of a column that is not used is nowhere else to be seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

_SAMPLES, _SAMPLE_CHARACTERS = 3, 80
_FIRST_ROWS, _FIRST_CHARACTERS = 3, 50_000  # kept as they were given: what a mapping makes of them can be shown
_TYPES = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "object"}
_EMPTY: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True)
class Column:
    """A column, or a key of messages. filled: how many rows (messages) have a value there.

    types: what these are, the commonest first. longest: characters of a text, members of a list; 0: neither. These
    and the samples are of the first rows.
    """

    name: str
    filled: int
    types: tuple[str, ...] = ()
    longest: int = 0
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """What rows held as they were given. messages: how many there were. first: the first rows, as JSON."""

    rows: int = 0
    messages: int = 0
    columns: tuple[Column, ...] = ()
    keys: tuple[Column, ...] = ()
    first: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return kept columns."""
        columns, keys = (tuple(_read_column(column) for column in kept[name]) for name in ("columns", "keys"))
        return cls(kept["rows"], kept["messages"], columns, keys, tuple(kept["first"]))


@dataclass
class Filled:
    """In how many objects of one kind, rows or messages, each name has a value. orders: objects by their names."""

    orders: Counter[tuple[str, ...]] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many objects there were."""
        return self.orders.total()

    def add(self, given: Mapping[str, Any]) -> None:
        """Count an object."""
        self.orders[tuple(given)] += 1
        if not all(given.values()):
            self.note_empty(given)

    def note_empty(self, given: Mapping[str, Any]) -> None:
        """Note which names of an object that was counted have no value."""
        self.empty.update(name for name, value in given.items() if not value and value in _EMPTY)

    def read(self) -> dict[str, int]:
        """Return in how many objects each name is filled in, in the order in which they came."""
        filled: Counter[str] = Counter()
        for names, objects in self.orders.items():
            for name in names:
                filled[name] += objects
        filled.subtract(self.empty)
        return dict(filled)


def describe(rows: Filled, messages: Filled, sample: Sequence[tuple[dict[str, Any], Iterable[Any]]]) -> Columns:
    """Return what was counted, and what the first rows hold. sample: these as they were given, with their messages."""
    given = [row for row, _ in sample]
    talks = [message for _, some in sample for message in some if isinstance(message, dict)]
    texts = (json.dumps(row, ensure_ascii=False) for row in given[:_FIRST_ROWS])
    return Columns(
        rows.count,
        messages.count,
        tuple(_describe(name, filled, given) for name, filled in rows.read().items()),
        tuple(_describe(name, filled, talks) for name, filled in messages.read().items()),
        tuple(text for text in texts if len(text) <= _FIRST_CHARACTERS),
    )


def _describe(name: str, filled: int, objects: Sequence[Mapping[str, Any]]) -> Column:
    values = [value for one in objects if (value := one.get(name)) is not None and value not in _EMPTY]
    types = Counter(_TYPES.get(type(value), "other") for value in values)
    longest = max((len(value) for value in values if isinstance(value, (str, list))), default=0)
    samples: list[str] = []
    for value in values:
        shown = _shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if shown not in samples:
            samples.append(shown)
        if len(samples) == _SAMPLES:
            break
    return Column(name, filled, tuple(word for word, _ in types.most_common()), longest, tuple(samples))


def _shorten(text: str) -> str:
    text = " ".join(text[: 10 * _SAMPLE_CHARACTERS].split())
    return text if len(text) <= _SAMPLE_CHARACTERS else text[:_SAMPLE_CHARACTERS] + "…"


def _read_column(kept: Mapping[str, Any]) -> Column:
    return Column(kept["name"], kept["filled"], tuple(kept["types"]), kept["longest"], tuple(kept["samples"]))
