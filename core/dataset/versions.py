"""Compares a data set with the one of the same name before it: which rows are edited, new, gone or the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from core.dataset import row_index, row_pages
from core.dataset.chat_dataset import ChatDataset, find_dataset, list_all, list_datasets
from core.dataset.repair import RowDiff, readable
from core.dataset.row_pages import Row
from core.dataset.set_aside import NOTHING, SetAside

# place: in its file (0: train, 1: test), from 0. at: its line and file in one number.
_PLACED = numpy.dtype([("hash", "<u8"), ("place", "<i8"), ("file", "<i8"), ("at", "<i8")])


@dataclass(frozen=True)
class Comparison:
    """Counts over both files, and the first rows of each; rows are the same if they say the same.

    edited: rows of a copy that say something else than those on their lines said before.
    """

    edited: int
    added: int
    removed: int
    same: int
    edited_rows: tuple[RowDiff, ...] = ()
    added_rows: tuple[Row, ...] = ()
    removed_rows: tuple[Row, ...] = ()

    @property
    def words(self) -> str:
        """Return "120 rows are new, 3 are gone, 9,880 are the same.", with the edited ones first if there are any."""
        counts = {"new": self.added, "gone": self.removed, "the same": self.same}
        counts = {"edited": self.edited, **counts} if self.edited else counts
        said = [f"{count:,} {'is' if count == 1 else 'are'} {word}" for word, count in counts.items()]
        row = "row" if next(iter(counts.values())) == 1 else "rows"
        return f"{', '.join(said).replace(' ', f' {row} ', 1)}."


def find_latest(dataset: ChatDataset) -> ChatDataset:
    """Return the newest copy of a data set that can be used, also a copy of a copy; itself where there is none."""
    family = _find_family(dataset)
    return next((other for other in list_datasets() if other.of and other.key in family), dataset)


def _find_family(dataset: ChatDataset) -> set[str]:
    """Return the keys of a data set, of what it was copied from, and of all copies of these."""
    links, family = {(other.key, other.of) for other in list_all() if other.of}, {dataset.key}
    while grown := {key for link in links if family & set(link) for key in link} - family:
        family |= grown
    return family


def find_previous(dataset: ChatDataset) -> ChatDataset | None:
    """Return the last data set of the same name that was made before this one, None if there is none.

    Rows that were not read yet, or by a guess that was not confirmed, are no version of these.
    """
    earlier = [
        other
        for other in list_all()
        if other.name == dataset.name and other.key != dataset.key and other.created_at < dataset.created_at
        if other.shape is None or other.shape.is_sure
    ]
    return max(earlier, key=lambda other: other.created_at, default=None)


def find_inherited(name: str, of: str = "") -> SetAside:
    """Return what is set aside in the data set with the key `of`, else in the newest of that name."""
    earlier = find_dataset(of) if of else next((other for other in list_all() if other.name == name), None)
    return earlier.aside if earlier else NOTHING


def compare(dataset: ChatDataset, previous: ChatDataset, shown: int = 20) -> Comparison:
    """Return what changed between two data sets; a row that moved between the files is the same."""
    now, before = _list_rows(dataset), _list_rows(previous)
    new, gone = now[~numpy.isin(now["hash"], before["hash"])], before[~numpy.isin(before["hash"], now["hash"])]
    keeps_lines = dataset.of and previous.key in _find_family(dataset)
    both = numpy.intersect1d(new["at"], gone["at"]) if keeps_lines else ()
    here, there = numpy.isin(new["at"], both), numpy.isin(gone["at"], both)
    pairs = zip(_read(previous, gone[there][:shown]), _read(dataset, new[here][:shown]), strict=False)
    return Comparison(
        int(here.sum()),
        int((~here).sum()),
        int((~there).sum()),
        len(now) - len(new),
        tuple(RowDiff(old.line, (), readable(old.text.encode()), readable(row.text.encode())) for old, row in pairs),
        tuple(_read(dataset, new[~here][:shown])),
        tuple(_read(previous, gone[~there][:shown])),
    )


def _list_rows(dataset: ChatDataset) -> row_index.Rows:
    """Return the rows of both files, `(rows,)` of _PLACED."""
    parts = []
    for number, path in enumerate(dataset.files.values()):
        rows = row_index.read(path)
        part = numpy.zeros(len(rows), _PLACED)
        part["hash"], part["place"], part["file"] = rows["hash"], numpy.arange(len(rows)), number
        part["at"] = 2 * rows["line"].astype(numpy.int64) + number
        parts.append(part)
    return numpy.concatenate(parts)


def _read(dataset: ChatDataset, found: row_index.Rows) -> list[Row]:
    of_files = (
        row_pages.read_places(path, found["place"][found["file"] == number].tolist())
        for number, path in enumerate(dataset.files.values())
    )
    return [row for rows in of_files for row in rows]
