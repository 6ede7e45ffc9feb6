"""Reads tables of text, CSV and TSV, row by row, each on the line where it begins.

A row that cannot be read is reported on its line, and reading goes on with the next line: otherwise one missing quote
would swallow all that follows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from core.dataset.checks.line_check import UNREADABLE
from core.dataset.files.encodings import NO_UTF8
from core.dataset.forms.form import CHAT_COLUMNS
from core.errors import BadInput

_MAX_FIELD = (
    4 << 20
)  # characters; no conversation is that long, and at most so much is read again after a missing quote
_READ_AGAIN = 32 << 20  # characters; a file that needs more of this is no table
_LONGEST_LINE = 32 << 20
_SHOWN = 500
_ALONE = ("text", *CHAT_COLUMNS.split())  # columns that need no other
_SEPARATOR = re.compile(r"(?:\ufeff)?[\"']?sep=(.)[\"']?\s*$", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')


def read_table(path: Path, delimiter: str = "") -> Iterator[tuple[int, Any]]:
    """Yield each row with the line on which it begins: a dict, or {UNREADABLE: why it cannot be read}.

    delimiter: found in the first lines if empty; a first line `sep=;` says it, as Excel writes it. Raises BadInput if
    the file is no table at all.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        said = _SEPARATOR.match(file.readline(_LONGEST_LINE))
        if not said:
            file.seek(0)
        line = 2 if said else 1
        table = _Table(file, said[1] if said else delimiter or _find_delimiter(path))
        names = _check_header(table.read())
        line += table.lines
        while (record := table.read()) is not None:
            problem = record.problem
            if record.cells and len(record.cells) != len(names):
                fields = "1 field" if len(record.cells) == 1 else f"{len(record.cells):,} fields"
                problem = f"has {fields}; the header has {len(names)}"
            if problem:
                yield line, {UNREADABLE: {"said": problem, "text": table.first_line}}
                if not record.ends:
                    table.go_back()
            elif record.cells:
                yield line, dict(zip(names, record.cells, strict=True))
            line += table.lines


def _find_delimiter(path: Path) -> str:
    """Return what separates the fields: what splits the header, outside its quotes, into the most of them."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = _QUOTED.sub("", file.readline(_SHOWN * 100))
    return max(",;\t|", key=header.count)


@dataclass(frozen=True)
class _Record:
    """One row. problem: why it cannot be read. ends: whether it is known where it ends."""

    cells: list[str]
    problem: str = ""
    ends: bool = False


class _Table:
    """Reads one record after the other, and can go back to the second line of one that could not be read."""

    def __init__(self, file: TextIO, delimiter: str) -> None:
        csv.field_size_limit(_MAX_FIELD)
        self._file = file
        self._again: list[str] = []  # lines to read again, the next one last
        self._held: list[str] = []  # lines of the last record
        self._read_again = 0
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)

    @property
    def lines(self) -> int:
        """Return how many lines the last record takes."""
        return len(self._held)

    @property
    def first_line(self) -> str:
        """Return the beginning of the last record, for showing."""
        return self._held[0].rstrip("\r\n")[:_SHOWN].encode("utf-8", "replace").decode()

    def read(self) -> _Record | None:
        """Return the next record, None at the end."""
        self._held = []
        try:
            cells = next(self._reader)
        except StopIteration:
            return None
        except csv.Error as error:
            return _Record([], f"cannot be read: {_in_words(error)}")
        if odd := next((byte for cell in cells if not cell.isascii() and (byte := NO_UTF8.search(cell))), None):
            return _Record([], f"is not UTF-8 text: byte 0x{ord(odd[0]) - 0xDC00:02x}", ends=True)
        return _Record(cells)

    def go_back(self) -> None:
        """Read the lines of the last record again, from its second one on. Raises BadInput."""
        rest = self._held[1:]
        self._read_again += sum(map(len, rest))
        if self._read_again > _READ_AGAIN:
            said = "The file is no table: its double quotes do not belong together."
            raise BadInput(said, "Save it as CSV again, or as JSONL.")
        self._again += rest[::-1]
        del self._held[1:]

    def __iter__(self) -> _Table:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._file.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        self._held.append(line)
        return line


def _in_words(error: csv.Error) -> str:
    said = str(error)
    if said.startswith("unexpected end"):
        return "a closing double quote is missing"
    if "expected after" in said:
        return "a double quote stands inside a field; inside quotes it is written twice"
    if "field larger" in said:
        return "a field is longer than 4 MiB, or a closing double quote is missing"
    return "a line break or a sign stands where none can"


def _check_header(record: _Record | None) -> list[str]:
    header, problem = (record.cells, record.problem) if record else ([], "")
    if problem or any("\0" in name for name in header):
        said = "The file is no table of UTF-8 text: its first line cannot be read."
        raise BadInput(said, "Save it as CSV in UTF-8, or as JSONL.", f"The first line {problem}." if problem else "")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise BadInput(f"The table's first line names the column '{doubled[0]}' twice.", "Give each its own name.")
    if len(header) < 2 and "".join(header).lower().strip() not in _ALONE:
        raise BadInput("The table's first line names fewer than two columns.", "Begin with a line of column names.")
    return header
