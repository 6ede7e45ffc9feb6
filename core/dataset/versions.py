"""Compares a data set with the one of the same name before it: which rows are new, gone or the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy

from core.dataset import row_index, row_pages
from core.dataset.chat_dataset import ChatDataset, find_dataset, list_all, list_datasets
from core.dataset.row_pages import Row
from core.dataset.set_aside import NOTHING, SetAside


@dataclass(frozen=True)
class Comparison:
    """Counts over both files; rows are the same if they say the same. added_rows, removed_rows: the first of each."""

    added: int
    removed: int
    same: int
    added_rows: tuple[Row, ...] = ()
    removed_rows: tuple[Row, ...] = ()

    @property
    def words(self) -> str:
        """Return "120 rows are new, 3 are gone, 9,880 are the same."."""
        return f"{self.added:,} rows are new, {self.removed:,} are gone, {self.same:,} are the same."


def find_latest(dataset: ChatDataset) -> ChatDataset:
    """Return the newest version of a data set that can be used: itself, or what was made of it by edits and repairs."""
    later = (
        other
        for other in list_datasets()
        if other.name == dataset.name
        and _origin_of(other) == _origin_of(dataset)
        and other.created_at > dataset.created_at
    )
    return next(later, dataset)


def _origin_of(dataset: ChatDataset) -> str:
    return re.sub("^((edited|repaired) from )+", "", dataset.source)


def find_previous(dataset: ChatDataset) -> ChatDataset | None:
    """Return the last data set of the same name that was made before this one, None if there is none."""
    earlier = [
        other
        for other in list_all()
        if other.name == dataset.name and other.key != dataset.key and other.created_at < dataset.created_at
    ]
    return max(earlier, key=lambda other: other.created_at, default=None)


def find_inherited(name: str, of: str = "") -> SetAside:
    """Return what is set aside in the data set with the key `of`, else in the newest of that name."""
    earlier = find_dataset(of) if of else next((other for other in list_all() if other.name == name), None)
    return earlier.aside if earlier else NOTHING


def compare(dataset: ChatDataset, previous: ChatDataset, shown: int = 20) -> Comparison:
    """Return what changed between two data sets; a row that moved between the files is the same."""
    now, before = _hashes(dataset), _hashes(previous)
    same = int(numpy.isin(now, before).sum())
    removed = int((~numpy.isin(before, now)).sum())
    added_rows, removed_rows = _first(dataset, before, shown), _first(previous, now, shown)
    return Comparison(len(now) - same, removed, same, added_rows, removed_rows)


def _hashes(dataset: ChatDataset) -> row_index.Rows:
    parts = [row_index.read(path)["hash"] for path in dataset.files.values()]
    return numpy.concatenate(parts)


def _first(dataset: ChatDataset, hashes: row_index.Rows, shown: int) -> tuple[Row, ...]:
    rows: list[Row] = []
    for path in dataset.files.values():
        places = numpy.flatnonzero(~numpy.isin(row_index.read(path)["hash"], hashes))[: shown - len(rows)]
        rows += row_pages.read_places(path, places.tolist())
    return tuple(rows)
