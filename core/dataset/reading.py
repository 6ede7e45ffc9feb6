"""Reads JSON lines as conversations: recognises what the rows are, brings them into the contract's shape, checks them.

What cannot be read at first is mended where that keeps its rows. A file that is in the contract's shape and has no
error is read once, by scan.py; any other once more, row by row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from core.dataset import row_index
from core.dataset.checks.file_check import check_scanned, has_errors, refuse
from core.dataset.checks.line_check import read_line, to_line
from core.dataset.checks.scan import MAX_LINE, Scan, scan_file
from core.dataset.columns import Columns, Filled, describe
from core.dataset.files.encodings import Other, look
from core.dataset.files.file_formats import Reading
from core.dataset.files.lenient_json import mend_lines
from core.dataset.findings import Finding
from core.dataset.forms.row_shapes import Shape, converter, read_message_keys, recognise, with_mapping
from core.dataset.progress import Meter
from core.dataset.report import Report
from core.recipe import MINIMUM_ROWS

_SAMPLE_ROWS, _SAMPLE_LINE = 200, 4 << 20  # what the shape is recognised from
_UNREADABLE = ("not_utf8", "not_json", "not_object")
# What can be wrong with a file whatever its rows are; the rest is said of conversations.
_OF_ANY_FILE = (*_UNREADABLE, "too_deep", "line_too_long", "bad_table_row", "empty_file", "too_few_rows", "duplicate")


@dataclass(frozen=True)
class ReadFile:
    """A file that was read. left_out: rows that the mapping leaves out. mended: sentences on what was mended.

    looks_like: the codec that it is in, where it was not read for that.
    """

    report: Report
    shape: Shape
    columns: Columns
    left_out: int = 0
    mended: tuple[str, ...] = ()
    looks_like: str = ""


@dataclass
class _Shaped:
    """Rows in the contract's shape, in a file beside the one that they were read from; `settle` puts it in its place.

    changed: rows that were not in that shape. unreadable: lines that are no object and stay as they are.
    """

    path: Path
    own_lines: array[int] = field(default_factory=lambda: array("I"))
    rows: Filled = field(default_factory=Filled)
    messages: Filled = field(default_factory=Filled)
    unreadable: int = 0
    changed: int = 0
    left_out: int = 0

    def take(self, raw: bytes, shape: Shape, change: Callable[[Any], Any]) -> bytes | None:
        """Count a line, and return it in the contract's shape; None where the mapping leaves it out."""
        row, _ = read_line(0, raw)
        if row is None:
            self.unreadable += 1
            return raw
        self.rows.add(row)
        for message in read_message_keys(row, shape):
            self.messages.add(message)
        changed = change(row)
        if changed is row:
            return raw
        self.changed += 1
        self.left_out += changed is None
        return None if changed is None else to_line(changed) + b"\n"

    def settle(self, path: Path) -> None:
        """Take the place of the file that these rows were read from."""
        self.path.replace(path)
        row_index.write_lines(path, self.own_lines)


def read_as_chat(
    path: Path,
    given: Reading,
    meter: Meter,
    mapping: Mapping[str, str] | None = None,
    shape: Shape | None = None,
    minimum_rows: int = MINIMUM_ROWS,
) -> ReadFile:
    """Bring a file into the contract's shape, check it, and write its row index.

    given: how it came to be JSON lines. mapping: the operator's own. shape: that of its rows, where it is known.
    """
    if given.other:
        return _refuse(path, given.other)
    if given.damaged:
        given = _read_damaged(path, given, meter)
    if refusal := refuse(path):
        return ReadFile(Report(0, (refusal,)), shape or recognise([]), Columns())
    found, sample = _recognise(path, mapping, shape)
    scan, shaped = _look(path, found, meter)
    unreadable = _count_unreadable(path, scan, shaped)
    if unreadable and (other := look(path)):
        return _refuse(path, other)
    if unreadable and (mended := mend_lines(path, meter)):
        given = Reading("row" if given.unit == "row" else mended.unit, (*given.mended, *mended.mended))
        found, sample = _recognise(path, mapping, shape)
        scan, shaped = _look(path, found, meter)
    if scan is not None and found.is_contract and has_errors(path):
        shaped = _reshape(path, found, meter)  # odd rows among the others: another name of a role, parts of texts
    if shaped is not None and (scan is None or shaped.changed):
        shaped.settle(path)
        scan = scan_file(path, meter)
    elif shaped is not None:  # it is scanned as it stands, with its blank lines
        shaped.path.unlink()
    assert scan is not None
    report = check_scanned(path, scan, minimum_rows, given.unit)
    if not found.is_recognised and found.columns:  # said once, of the whole file
        report = replace(report, findings=tuple(one for one in report.findings if one.code in _OF_ANY_FILE))
    rows, messages = (scan.columns, scan.keys) if shaped is None else (shaped.rows, shaped.messages)
    looked_at = [(row, read_message_keys(row, found)) for row in sample]
    return ReadFile(report, found, describe(rows, messages, looked_at), shaped.left_out if shaped else 0, given.mended)


def _read_damaged(path: Path, given: Reading, meter: Meter) -> Reading:
    """Read a damaged JSON list by its lines. Raises BadInput where none can be read."""
    mended = mend_lines(path, meter, is_list=True)
    if mended is None:
        assert given.damaged is not None
        raise given.damaged
    return Reading(mended.unit, (*given.mended, *mended.mended))


def _refuse(path: Path, other: Other) -> ReadFile:
    """Return a file that was not read, for it is in another encoding."""
    row_index.write_empty(path)
    report = Report(0, (Finding("other_encoding", other.said),))
    return ReadFile(report, recognise([]), Columns(), looks_like=other.encoding)


def _look(path: Path, shape: Shape, meter: Meter) -> tuple[Scan | None, _Shaped | None]:
    """Scan a file that is in the contract's shape already, or in none that is known; bring any other into it."""
    if shape.is_contract or not shape.is_recognised:
        return scan_file(path, meter), None
    return None, _reshape(path, shape, meter)


def _count_unreadable(path: Path, scan: Scan | None, shaped: _Shaped | None) -> int:
    return len(row_index.find_flagged(path, *_UNREADABLE)) if scan else shaped.unreadable if shaped else 0


def _recognise(
    path: Path, mapping: Mapping[str, str] | None, shape: Shape | None
) -> tuple[Shape, list[dict[str, Any]]]:
    """Return the shape of a file's rows, and the first of these, from which it is told."""
    with path.open("rb") as file:
        rows = (read_line(0, raw)[0] for raw in _first_lines(file))
        sample = [row for row in islice(rows, _SAMPLE_ROWS) if row is not None]
    found = shape or recognise(sample)
    return (with_mapping(mapping, found.columns) if mapping and shape is None else found), sample


def _first_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file's first bytes that are not blank; leading blank lines cost nothing."""
    head = file.read(4 * _SAMPLE_LINE)
    left = len(head.lstrip())
    file.seek(len(head) - left)
    while left > 0 and (raw := file.readline(_SAMPLE_LINE)):
        left -= len(raw)
        if raw.strip():
            yield raw


def _reshape(path: Path, shape: Shape, meter: Meter) -> _Shaped:
    """Write every row in the contract's shape beside the file; a line that is no row stays, for the check to name."""
    change, shaped, size = converter(shape), _Shaped(path.with_suffix(".shaped")), path.stat().st_size
    own_lines = row_index.read_lines(path)
    with path.open("rb") as source, shaped.path.open("wb") as target:
        rows = number = 0
        ended = True
        for raw in iter(lambda: source.readline(MAX_LINE), b""):
            begins, ended = ended, raw.endswith(b"\n")
            if not begins:  # the rest of a line that is too long to be read
                target.write(raw)
                continue
            number += 1
            if not raw.strip():
                continue
            own_line = number if own_lines is None else int(own_lines[rows])
            rows += 1
            line = shaped.take(raw, shape, change)
            if line is not None:
                target.write(line)
                shaped.own_lines.append(own_line)
            if rows % 500 == 0:
                meter.tell("Reshaped", rows, 0, source.tell(), size)
    return shaped
