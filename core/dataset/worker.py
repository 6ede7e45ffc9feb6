"""Makes a checked data set of what an operator chose; run by `python -m core.dataset.worker <id>`.

Fetches, checks, splits and moves into place. For small data the dashboard calls prepare() in its own process.
"""

from __future__ import annotations

import shutil
import sys
import time
from array import array
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from core.dataset import hub, row_index
from core.dataset.allowed_files import get_file
from core.dataset.chat_dataset import find_dataset
from core.dataset.checks.file_check import check_file, find_leakage
from core.dataset.checks.line_check import BOM
from core.dataset.checks.longer_checks import run_checks
from core.dataset.edits import edited_rows, undo
from core.dataset.files.file_formats import Reading, convert, unpack
from core.dataset.findings import Unit
from core.dataset.forms.row_shapes import Shape
from core.dataset.model.token_counts import NO_TOKENIZER
from core.dataset.progress import Meter
from core.dataset.reading import read_as_chat
from core.dataset.repair import repaired_rows
from core.dataset.report import Report
from core.dataset.set_aside import write_set_aside
from core.dataset.split import DEFAULT_PERCENT, VALIDATION_NOTE, split
from core.dataset.store import (
    TEST,
    TRAIN,
    Manifest,
    hash_files,
    move_into_place,
    write_columns,
    write_manifest,
    write_reports,
)
from core.dataset.versions import find_inherited
from core.dataset.workplace import Request, Workplace, link
from core.errors import NotFound, TunedeckError

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
    readings: dict[str, Reading] = {}
    for source in place.sources:
        path = folder / source.name
        link(source, path)
        row_index.copy_lines(source, path)
        unpack(path, meter)
        reading = convert(path, request.file_names.get(path.name, ""), meter, request.encoding)
        readings[path.name] = replace(reading, unit=_find_unit(request, path.name) or reading.unit)
    key = _finish(place, request, note, meter, readings)
    undo(request.edits)  # they are made; had it ended before, they would wait still
    return key


def _find_unit(request: Request, file_name: str) -> Unit | None:
    """Return what rows are named by that did not come in a file of the operator's; None: as that file has it."""
    if request.hub is not None:
        return "row"
    of = find_dataset(request.of) if request.of else None
    return of.unit_of("train" if file_name == TRAIN else "test") if of else None


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
    dataset = find_dataset(request.of, request.tokenizer)
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


def _finish(place: Workplace, request: Request, note: str, meter: Meter, readings: Mapping[str, Reading]) -> str:
    """Read, check, split and move into place. readings: how each file came to be JSON lines."""
    folder, aside = place.path / "data", find_inherited(request.name, request.of)
    train, test, looks_like = folder / TRAIN, folder / TEST, ""
    mark = ["The file began with a byte order mark."] if _strip_mark(train) else []
    read = read_as_chat(train, readings[TRAIN], meter, request.mapping)
    first, second, left_out, mended = read.report, None, read.left_out, [*mark, *read.mended]
    if test.exists():
        _strip_mark(test)
        given = read_as_chat(test, readings[TEST], meter, shape=read.shape, minimum_rows=1)
        second, left_out, looks_like = given.report, left_out + given.left_out, given.looks_like
        mended += [f"In the test file: {said}" for said in given.mended]
    else:
        note = _split(train, test, request, first.without(aside["train"]), read.shape)
        if test.exists():
            second = check_file(test, 1, meter, first.unit)
            first = check_file(train, meter=meter, unit=first.unit)
    if second is not None and (leakage := find_leakage(train, test, second.unit)):
        second = second.with_findings([leakage])
    place.write("encoding", {"looks_like": read.looks_like or looks_like})
    note = " ".join((note or VALIDATION_NOTE, *_say_left_out(left_out)))
    write_columns(folder, read.columns)
    write_reports(folder, NO_TOKENIZER, (first, second))
    has_test, said = second is not None, tuple(mended)
    write_manifest(
        folder, Manifest(request.name, request.source, note, has_test, time.time(), read.shape, request.of, said)
    )
    if any(aside.values()):
        write_set_aside(folder, aside)
    sha256 = hash_files(train, test if second is not None else None)
    move_into_place(folder, sha256)
    return sha256


def _say_left_out(rows: int) -> list[str]:
    if not rows:
        return []
    return [f"{'1 row is' if rows == 1 else f'{rows:,} rows are'} left out, as the mapping says."]


def _split(train: Path, test: Path, request: Request, report: Report, shape: Shape) -> str:
    """Split test rows off a checked file, if nothing is wrong with it; returns what was done, in words."""
    if not shape.is_recognised and shape.columns:
        return "The test rows are split off when it is known which column is what."
    if report.errors:
        return "The test rows are split off when the errors are gone."
    percent = DEFAULT_PERCENT if request.test_percent is None else request.test_percent
    return split(train, test, percent, request.seed)


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
