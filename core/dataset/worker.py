"""Turns what an operator gave into a checked data set of the home; run by `python -m core.dataset.worker <id>`.

Fetches, checks, splits and moves into place. Small uploads call prepare() in the dashboard's own process.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from core.dataset import hub, table
from core.dataset.analysis import analyse
from core.dataset.chat_dataset import find_dataset, repaired_lines
from core.dataset.check import Report, check_file, count_both, mark_leakage, with_problem
from core.dataset.files import (
    TEST,
    TRAIN,
    Manifest,
    Workplace,
    hash_files,
    move_into_place,
    tokenizer_mark,
    write_manifest,
    write_reports,
)
from core.dataset.formats import convert, unpack
from core.dataset.progress import Meter
from core.dataset.rows import Problem, read_line, to_line
from core.dataset.scan import MAX_LINE
from core.dataset.server_files import get_file
from core.dataset.shapes import Shape, converter, recognise, with_mapping
from core.dataset.split import DEFAULT_PERCENT, VALIDATION_NOTE, split
from core.errors import NotFound, TunedeckError

_SAMPLE_ROWS, _SAMPLE_LINE = 200, 4 << 20  # what the shape is recognised from
_BOM = b"\xef\xbb\xbf"

COUNTED_INLINE = 2 * 1024 * 1024
_BLOCK = 1 << 20

Tell = Callable[[str, int, int], None]  # verb, done, total


def prepare(place: Workplace) -> str:
    """Do what the workplace's request says, and return the data set's hash. Raises TunedeckError."""
    request = place.read("request")
    meter = Meter(lambda now: place.write("progress", now.to_json()))
    tell = meter.tell
    folder = place.path / "data"
    folder.mkdir(exist_ok=True)
    note, converted = "", []
    if request["kind"] == "hub":
        note = hub.fetch(request, folder, tell)
    else:
        if request["kind"] == "repair":
            _repair(request, place, meter)
        for name, given in (request.get("paths") or {}).items():
            _copy(get_file(given), place.path / name, tell)
        for name in (TRAIN, TEST):
            if (place.path / name).exists():
                (place.path / name).replace(folder / name)
                file_name = str((request.get("file_names") or {}).get(name, ""))
                unpack(folder / name, lambda done: tell("Unpacking", 0, 0, done))
                if convert(folder / name, file_name, lambda done, total: tell("Converted", done, total)):
                    converted.append(folder / name)
    return _finish(folder, request, note, meter, converted)


def _repair(request: dict[str, Any], place: Workplace, meter: Meter) -> None:
    """Write the repaired files of a data set into the workplace."""
    found = find_dataset(request["of"])
    if found is None:
        raise NotFound("The data to repair is no longer on this machine.", "Choose the data again.")
    for name, path, rows in ((TRAIN, found.train_path, found.rows), (TEST, found.test_path, found.test_rows)):
        if path is not None:
            with (place.path / name).open("wb") as copy:
                lines = repaired_lines(found, request["codes"], "test" if name == TEST else "train")
                for done, line in enumerate(lines, start=1):
                    copy.write(line + b"\n")
                    meter.tell("Repaired", done, rows)


def _copy(source: Path, target: Path, tell: Callable[..., None]) -> None:
    total = source.stat().st_size
    with source.open("rb") as file, target.open("wb") as copy:
        while block := file.read(_BLOCK):
            copy.write(block)
            tell("Read", 0, 0, copy.tell(), total)


def check_further(place: Workplace, key: str) -> None:
    """Run the checks that take longer than reading; the data set is there already."""
    found, tokenizer = find_dataset(key), place.read("request").get("tokenizer")
    if found is not None:
        analyse(found, Path(tokenizer) if tokenizer else None)


def _finish(folder: Path, request: dict[str, Any], note: str, meter: Meter, converted: list[Path]) -> str:
    """Check, split and move into place. converted: files whose blank lines are none of the operator's."""
    train, test = folder / TRAIN, folder / TEST
    small = train.stat().st_size <= COUNTED_INLINE
    tokenizer = Path(request["tokenizer"]) if request.get("tokenizer") and small else None
    marks = [_without_mark(path) for path in (train, test) if path.exists()]
    shape = _recognise(train, request.get("mapping"))
    for path in (train, test):
        if path.exists() and not shape.is_contract and shape.name != "unknown":
            _convert_rows(path, shape, meter)
    first, given = check_file(train, meter=meter), test.exists()
    percent = float(DEFAULT_PERCENT if request.get("test_percent") is None else request["test_percent"])
    if not given and not first.errors:
        note = note or split(train, test, percent, int(request.get("seed") or 0))
    elif not given:
        note = "The test rows are split off when the errors are gone."
    reports = _check_both(train, test, meter, first if given or not test.exists() else None)
    if not any(one.errors for one in reports if one):
        closed = [_close_gaps(path) for path in converted]
        reports = _check_both(train, test, meter) if any(closed) else reports
    if first.errors:
        note = note or VALIDATION_NOTE
    reports = (_with(reports[0], train, marks[0]), reports[1])
    test_path = test if test.exists() else None
    sha256 = hash_files(train, test_path)
    manifest = Manifest(
        request["name"], request["source"], note or VALIDATION_NOTE, test_path is not None, time.time(), asdict(shape)
    )
    write_reports(folder, tokenizer_mark(None), *reports)
    if tokenizer is not None:
        write_reports(folder, tokenizer_mark(tokenizer), *count_both(reports, train, test_path, tokenizer, meter))
    write_manifest(folder, manifest)
    move_into_place(folder, sha256)
    return sha256


def _recognise(path: Path, mapping: dict[str, str] | None) -> Shape:
    """Return the shape of a file's rows, from its first ones, or as the operator set it."""
    with path.open("rb") as file:
        rows = (read_line(0, raw)[0] for raw in _first_lines(file))
        found = recognise(islice(rows, _SAMPLE_ROWS))
    return with_mapping(mapping, found.columns) if mapping else found


def _first_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that are not blank of a file's first bytes; blank ones that it begins with cost nothing."""
    head = file.read(4 * _SAMPLE_LINE)
    left = len(head.lstrip())
    file.seek(len(head) - left)
    while left > 0 and (raw := file.readline(_SAMPLE_LINE)):
        left -= len(raw)
        if raw.strip():
            yield raw


def _convert_rows(path: Path, shape: Shape, meter: Meter) -> None:
    """Give every row of a file the contract's shape; a line that is no row stays as it is, for the check to name."""
    change, converted, size = converter(shape), path.with_suffix(".shaped"), path.stat().st_size
    with path.open("rb") as source, converted.open("wb") as target:
        for number, raw in enumerate(iter(lambda: source.readline(MAX_LINE), b"")):
            row, _ = read_line(0, raw) if raw.strip() else (None, None)
            target.write(raw if row is None else to_line(change(row)) + b"\n")
            if number % 500 == 0:
                meter.tell("Reshaped", number, 0, source.tell(), size)
    converted.replace(path)


def _close_gaps(path: Path) -> bool:
    """Take out the blank lines that a table's line numbers left, once nobody looks for an error by its line."""
    if not table.count(path) or int(table.read(path)["line"][-1]) == table.count(path):
        return False
    closed = path.with_suffix(".closed")
    with closed.open("wb") as file:
        for lines in table.iterate(path):
            file.write(b"".join(raw.strip() + b"\n" for raw in lines))
    closed.replace(path)
    return True


def _check_both(train: Path, test: Path, meter: Meter, first: Report | None = None) -> tuple[Report, Report | None]:
    """Check both files; first: what was found in the training file, where it is still as it was then."""
    first = first or check_file(train, meter=meter)
    if not test.exists():
        return first, None
    second = check_file(test, minimum_rows=1, meter=meter)
    return first, with_problem(second, test, mark_leakage(train, test))


def _without_mark(path: Path) -> bool:
    """Take a byte order mark off the file; tell whether there was one."""
    with path.open("rb") as file:
        if file.read(3) != _BOM:
            return False
        bare = path.with_suffix(".bare")
        with bare.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
    bare.replace(path)
    return True


def _with(report: Report, path: Path, had_mark: bool) -> Report:
    if not had_mark:
        return report
    fix = "Nothing: it is left out of the copy that is used."
    mark = Problem(0, "", "The file begins with a byte order mark.", fix, "warning", "byte_order_mark")
    return with_problem(report, path, mark)


def main(preparation_id: str) -> int:
    """Prepare, and leave the result or the error in the workplace."""
    place = Workplace(preparation_id)
    try:
        key = prepare(place)
        place.write("result", {"sha256": key})
        place.clear()
        check_further(place, key)
    except TunedeckError as error:
        place.write_error(error)
    finally:
        place.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
