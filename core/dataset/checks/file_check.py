"""Checks a JSONL chat file: each line, by scan.py, then what only the whole file shows. Counts for plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy

from core.dataset import row_index
from core.dataset.checks.scan import Scan, scan_file
from core.dataset.findings import ERROR_FLAGS, Finding, Unit, in_order
from core.dataset.progress import Meter
from core.dataset.report import ESTIMATE_UNIT, Report, Stats
from core.recipe import MINIMUM_ROWS

_UNREADABLE = ("not_utf8", "not_json", "not_object", "bad_table_row")
_NEARLY_ALL = 0.9  # of the rows; what they have in common is said once, of the file


def check_file(path: Path, minimum_rows: int = MINIMUM_ROWS, meter: Meter | None = None, unit: Unit = "line") -> Report:
    """Check a JSONL chat file, and write its row index; lengths are estimated."""
    if refusal := refuse(path):
        return Report(0, (refusal,))
    return check_scanned(path, scan_file(path, meter), minimum_rows, unit)


def has_errors(path: Path) -> bool:
    """Tell whether a row of a scanned file has an error."""
    return bool((row_index.read(path)["flags"] & numpy.uint64(ERROR_FLAGS)).any())


def check_scanned(path: Path, scan: Scan, minimum_rows: int, unit: Unit = "line") -> Report:
    """Return what a scan found in a file, and what only the whole file shows."""
    whole = _find_unreadable(path, scan, unit)
    findings = [
        row_index.make_finding(path, row_index.find_flagged(path, code), code, problem.said(unit))
        for code, problem in scan.examples.items()
        if whole is None or code not in _UNREADABLE
    ]
    findings += [whole] if whole else []
    findings += _check_whole(path, scan.rows, minimum_rows, unit)
    return Report(scan.rows, in_order(findings), _count(path, scan), unit)


def _find_unreadable(path: Path, scan: Scan, unit: Unit) -> Finding | None:
    """Return the one finding of a file nearly none of whose rows can be read; no repair leaves them out."""
    unreadable = len(row_index.find_flagged(path, *_UNREADABLE))
    if scan.rows < MINIMUM_ROWS or unreadable <= _NEARLY_ALL * scan.rows:
        return None
    first = min((scan.examples[code] for code in _UNREADABLE if code in scan.examples), key=lambda one: one.line)
    all_of_it = unreadable == scan.rows
    many = f"None of the {scan.rows:,} {unit}s can" if all_of_it else f"{unreadable:,} of {scan.rows:,} {unit}s cannot"
    return Finding(first.code, f"{many} be read. {first.said(unit)}")


def find_leakage(train: Path, test: Path, unit: Unit = "line") -> Finding | None:
    """Flag the rows of a checked test file that training holds too; return the finding."""
    hashes = row_index.read(test)["hash"]
    leaked = numpy.isin(hashes, row_index.read(train)["hash"]) & (hashes != 0)
    return _mark(test, leaked, "leakage", "is in the training file too", "are in the training file too", unit)


def _find_copies(path: Path, unit: Unit) -> Finding | None:
    """Flag the rows that say the same as an earlier one; return the finding."""
    hashes = numpy.array(row_index.read(path)["hash"])
    copies = hashes != 0
    copies[numpy.unique(hashes, return_index=True)[1]] = False
    return _mark(path, copies, "duplicate", "is a copy of an earlier row", "are copies of an earlier row", unit)


def _mark(path: Path, chosen: row_index.Rows, code: str, one_is: str, many_are: str, unit: Unit) -> Finding | None:
    """Flag the chosen rows, `(rows,)` of bool, in the index of a file; return the finding."""
    places = numpy.flatnonzero(chosen)
    if not len(places):
        return None
    row_index.add_flag(path, places, code)
    count = f"1 row {one_is}" if len(places) == 1 else f"{len(places):,} rows {many_are}"
    first = row_index.read(path)["line"][places[0]]
    return row_index.make_finding(path, places, code, f"{count}. {unit.capitalize()} {first:,} is the first.")


def _count(path: Path, scan: Scan) -> Stats:
    """Return the counts of a scanned file, its lengths a quarter of the characters."""
    turns: Counter[int] = Counter()
    roles: Counter[str] = Counter()
    for order, rows in scan.orders.items():
        turns[len(order)] += rows
        for role in order:
            roles[role] += rows
    chars = row_index.read(path)["chars"]
    lengths = (chars[chars > 0].astype(numpy.int64) + 3) // 4
    return Stats(turns=dict(sorted(turns.items())), roles=dict(roles)).with_lengths(lengths, ESTIMATE_UNIT)


def _check_whole(path: Path, rows: int, minimum_rows: int, unit: Unit) -> Iterator[Finding]:
    if not rows:
        yield Finding("empty_file", "The file is empty.")
    elif rows < minimum_rows:
        has = "1 row" if rows == 1 else f"{rows} rows"
        yield Finding("too_few_rows", f"The file has {has}; training needs at least {minimum_rows}.")
    if copies := _find_copies(path, unit):
        yield copies


def refuse(path: Path) -> Finding | None:
    """Return what makes a file one whose lines need not be read; it then has an index without rows."""
    refusal = _judge(path)
    if refusal:
        row_index.write_empty(path)
    return refusal


def _judge(path: Path) -> Finding | None:
    with path.open("rb") as file:
        start = file.read(256)
    if b"\0" in start[:200]:
        return Finding("not_text", "The file is not text: its first bytes hold zeros.")
    return None
