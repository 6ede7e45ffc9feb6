"""Makes a checked data set of what an operator chose; run by `python -m core.dataset.worker <id>`.

Fetches, checks, splits and moves into place. For small data the dashboard calls prepare() in its own process.
"""

from __future__ import annotations

import shutil
import sys
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from core.dataset import hub, row_index
from core.dataset.allowed_files import get_file
from core.dataset.chat_dataset import find_dataset
from core.dataset.edits import edited_rows, undo
from core.dataset.file_check import check_file, find_leakage
from core.dataset.file_formats import convert, unpack
from core.dataset.findings import Finding
from core.dataset.line_check import BOM, read_line, to_line
from core.dataset.longer_checks import run_checks
from core.dataset.progress import Meter
from core.dataset.repair import repaired_rows
from core.dataset.report import Report, Reports
from core.dataset.row_shapes import Shape, converter, recognise, with_mapping
from core.dataset.scan import MAX_LINE
from core.dataset.set_aside import write_set_aside
from core.dataset.split import DEFAULT_PERCENT, VALIDATION_NOTE, split
from core.dataset.store import TEST, TRAIN, Manifest, hash_files, move_into_place, write_manifest, write_reports
from core.dataset.token_counts import NO_TOKENIZER
from core.dataset.versions import find_inherited
from core.dataset.workplace import Request, Workplace, link
from core.errors import NotFound, TunedeckError

_SAMPLE_ROWS, _SAMPLE_LINE = 200, 4 << 20  # what the shape is recognised from
_BLOCK = 1 << 20


def prepare(place: Workplace) -> str:
    """Carry out the workplace's request, and return the data set's hash. Raises TunedeckError.

    The files as they were given stay in the workplace, to be read again with another mapping.
    """
    request = place.read_request()
    meter = Meter(lambda now: place.write("progress", asdict(now)))
    note = _gather(place, request, meter)
    folder = place.path / "data"
    folder.mkdir(exist_ok=True)
    converted = []
    for source in place.sources:
        path = folder / source.name
        link(source, path)
        row_index.copy_lines(source, path)
        unpack(path, meter)
        if convert(path, request.file_names.get(path.name, ""), meter):
            converted.append(path)
    key = _finish(folder, request, note, meter, converted)
    undo(request.edits)  # they are made; had it ended before, they would wait still
    return key


def _gather(place: Workplace, request: Request, meter: Meter) -> str:
    """Bring the files into the workplace that are not there yet; return how they were split, in words."""
    if place.sources:
        return str(place.read("note").get("note", ""))
    note = ""
    if request.hub is not None:
        note = hub.fetch(request.hub, place.path, meter)
        place.write("note", {"note": note})
    if request.kind == "repair":
        _repair(request, place, meter)
    for name, given in request.paths.items():
        _copy(get_file(given), place.path / name, meter)
    return note


def run_longer_checks(place: Workplace, key: str) -> None:
    """Run the longer checks of a data set that was just prepared."""
    dataset = find_dataset(key)
    if dataset is not None:
        run_checks(dataset, place.read_request().tokenizer)


def _repair(request: Request, place: Workplace, meter: Meter) -> None:
    """Write the repaired or edited files of a data set into the workplace."""
    dataset = find_dataset(request.of)
    if dataset is None:
        raise NotFound("The data to change is no longer on this machine.", "Choose the data again.")
    for file, path in dataset.files.items():
        rows, copy, own_lines = row_index.count(path), place.path / path.name, array("I")
        with copy.open("wb") as lines:
            for own_line, line in (
                edited_rows(dataset, request.edits, file)
                if request.edits
                else repaired_rows(dataset, request.codes, file)
            ):
                lines.write(line + b"\n")
                own_lines.append(own_line)
                meter.tell("Copied", len(own_lines), rows)
        row_index.write_lines(copy, own_lines)


def _copy(source: Path, target: Path, meter: Meter) -> None:
    total = source.stat().st_size
    with source.open("rb") as file, target.open("wb") as copy:
        while block := file.read(_BLOCK):
            copy.write(block)
            meter.tell("Read", done=copy.tell(), total=total)


def _finish(folder: Path, request: Request, note: str, meter: Meter, converted: list[Path]) -> str:
    """Check, split and move into place. converted: files whose blank lines come from a conversion."""
    train, test = folder / TRAIN, folder / TEST
    given_test, aside = test.exists(), find_inherited(request.name, request.of)
    had_mark = _strip_mark(train)
    shape = _recognise(train, request.mapping)
    _reshape(train, shape, meter)
    if given_test:
        _strip_mark(test)
        _reshape(test, shape, meter)
    report = check_file(train, meter=meter)
    if not given_test:
        note = _split(train, test, request, report.without(aside["train"]))
    reports = _check_both(train, test, meter, report if test.exists() == given_test else None)
    if not any(each.errors for each in reports if each):
        closed = [path for path in converted if _close_gaps(path)]
        reports = _check_both(train, test, meter) if closed else reports
    if had_mark:
        mark = Finding("byte_order_mark", "The file begins with a byte order mark.")
        reports = reports[0].with_findings([mark]), reports[1]
    has_test, note = test.exists(), note or VALIDATION_NOTE
    write_reports(folder, NO_TOKENIZER, reports)
    write_manifest(folder, Manifest(request.name, request.source, note, has_test, time.time(), shape, request.of))
    if any(aside.values()):
        write_set_aside(folder, aside)
    sha256 = hash_files(train, test if has_test else None)
    move_into_place(folder, sha256)
    return sha256


def _split(train: Path, test: Path, request: Request, report: Report) -> str:
    """Split test rows off a checked file, if nothing is wrong with it; returns what was done, in words."""
    if report.errors:
        return "The test rows are split off when the errors are gone."
    percent = DEFAULT_PERCENT if request.test_percent is None else request.test_percent
    return split(train, test, percent, request.seed)


def _recognise(path: Path, mapping: Mapping[str, str] | None) -> Shape:
    """Return the shape of a file's rows, from its first ones, or as the operator set it."""
    with path.open("rb") as file:
        rows = (read_line(0, raw)[0] for raw in _first_lines(file))
        shape = recognise(islice(rows, _SAMPLE_ROWS))
    return with_mapping(mapping, shape.columns) if mapping else shape


def _first_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file's first bytes that are not blank; leading blank lines cost nothing."""
    head = file.read(4 * _SAMPLE_LINE)
    left = len(head.lstrip())
    file.seek(len(head) - left)
    while left > 0 and (raw := file.readline(_SAMPLE_LINE)):
        left -= len(raw)
        if raw.strip():
            yield raw


def _reshape(path: Path, shape: Shape, meter: Meter) -> None:
    """Convert every row of a file to the contract's shape; a line that is no row stays, for the check to name."""
    if shape.is_contract or not shape.is_recognised:
        return
    change, reshaped, size = converter(shape), path.with_suffix(".shaped"), path.stat().st_size
    with path.open("rb") as source, reshaped.open("wb") as target:
        for number, raw in enumerate(iter(lambda: source.readline(MAX_LINE), b"")):
            row, _ = read_line(0, raw) if raw.strip() else (None, None)
            target.write(raw if row is None else to_line(change(row)) + b"\n")
            if number % 500 == 0:
                meter.tell("Reshaped", number, 0, source.tell(), size)
    reshaped.replace(path)


def _close_gaps(path: Path) -> bool:
    """Remove the blank lines that keep line numbers true, once there is no error to look up; tell if there were any."""
    rows = row_index.read(path)
    if not len(rows) or rows["line"][-1] == len(rows):
        return False
    closed = path.with_suffix(".closed")
    with closed.open("wb") as file:
        for _, lines in row_index.iterate(path):
            file.write(b"".join(raw.strip() + b"\n" for raw in lines))
    closed.replace(path)
    return True


def _check_both(train: Path, test: Path, meter: Meter, first: Report | None = None) -> Reports:
    """Check both files; first: the report of the training file, if it has not changed since."""
    first = first or check_file(train, meter=meter)
    if not test.exists():
        return first, None
    second, leakage = check_file(test, 1, meter, first.unit), find_leakage(train, test, first.unit)
    return first, second.with_findings([leakage] if leakage else [])


def _strip_mark(path: Path) -> bool:
    """Remove a byte order mark from a file, also a doubled one; tell whether there was one."""
    with path.open("rb") as file:
        marks = 0
        while file.read(len(BOM)) == BOM:
            marks += 1
        if not marks:
            return False
        file.seek(marks * len(BOM))
        bare = path.with_suffix(".bare")
        with bare.open("wb") as copy:
            shutil.copyfileobj(file, copy, _BLOCK)
    bare.replace(path)
    return True


def main(preparation_id: str) -> int:
    """Carry out a request, and leave the result or the error in the workplace."""
    place = Workplace(preparation_id)
    try:
        key = prepare(place)
        place.write("result", {"sha256": key})
        run_longer_checks(place, key)
    except TunedeckError as error:
        place.write_error(error)
        place.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
