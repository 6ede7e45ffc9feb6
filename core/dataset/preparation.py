"""Data on its way into the home: in a folder and, if it is big, a process of its own; both survive a restart."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from core import errors, home
from core.dataset.allowed_files import show
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.checks.line_check import BOM, Problem, check_row, read_line, to_line
from core.dataset.columns import Columns
from core.dataset.files import file_formats
from core.dataset.findings import Finding, in_order
from core.dataset.forms.row_shapes import Shape, converter, recognise, with_mapping
from core.dataset.progress import Progress
from core.dataset.row_pages import Row, read_row
from core.dataset.store import TRAIN
from core.dataset.worker import prepare, run_longer_checks
from core.dataset.workplace import Workplace
from core.errors import NotFound, TunedeckError
from core.locks import held
from core.programs import start_detached

PREVIEWED_ROWS = 50
_workers: dict[str, subprocess.Popen[bytes]] = {}


class PreparationState(StrEnum):
    """How a preparation stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self is not PreparationState.RUNNING


@dataclass(frozen=True)
class Preparation:
    """Data being fetched or checked. words: "Checked 120,000 of 207,865 rows · 14 s left".

    fraction: how much is done, from 0 to 1. dataset: where it is done. error: why it failed. looks_like: the codec that
    a file seems to be in which is not UTF-8.
    """

    id: str
    state: PreparationState
    words: str
    fraction: float | None = None
    dataset: ChatDataset | None = None
    error: TunedeckError | None = None
    looks_like: str = ""


@dataclass(frozen=True)
class Preview:
    """The first 50 rows of data that is being checked, as they will be, and what is wrong with them."""

    shape: Shape
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def read_preparation(preparation_id: str) -> Preparation:
    """Return how far a preparation is; cheap enough for a live fragment. Raises NotFound."""
    place = Workplace.find(preparation_id)
    if place is None:
        raise NotFound(f"There is no preparation '{show(preparation_id)}' any more.", "Choose the data again.")
    if worker := _workers.get(preparation_id):
        worker.poll()  # collects its exit status, so that it is no zombie
    request = place.read_request()
    alive = place.is_alive()  # read before the result: a worker that ends in between has left one
    result = place.read("result")
    if place.read("cancelled"):
        return Preparation(place.id, PreparationState.CANCELLED, "Cancelled.")
    if "sha256" in result:
        dataset = find_dataset(result["sha256"], request.tokenizer)
        looks_like = str(place.read("encoding").get("looks_like", ""))
        return Preparation(place.id, PreparationState.DONE, "Checked.", 1.0, dataset, looks_like=looks_like)
    if result or not alive:
        error = _read_error(result) if result else _explain_end(place)
        return Preparation(place.id, PreparationState.FAILED, error.message, error=error)
    now = Progress.from_json(place.read("progress"))
    verb = f"{now.verb} {request.name}…" if now.verb else f"Starting with {request.name}…"
    return Preparation(place.id, PreparationState.RUNNING, now.words if now.rows else verb, now.fraction)


def cancel_preparation(preparation_id: str) -> None:
    """Cancel a preparation; none of its data is kept."""
    if place := Workplace.find(preparation_id):
        place.write("cancelled", {"at": time.time()})
        place.end_worker()
        place.clear()


def read_preview(preparation_id: str) -> Preview | None:
    """Return the first rows of data on its way, None if there are none yet. Raises BadInput on damaged files."""
    place = Workplace.find(preparation_id)
    if place is None:
        return None
    request = place.read_request()
    path = Path(request.paths.get(TRAIN, place.path / TRAIN))
    if not path.is_file():
        return None
    name = request.file_names.get(TRAIN, "")
    lines = file_formats.read_first(path, name, PREVIEWED_ROWS, request.encoding)
    return preview_lines(lines, request.mapping)


def preview_lines(lines: list[bytes], mapping: Mapping[str, str] | None = None) -> Preview:
    """Return the first lines of a file as rows, with what is wrong with them."""
    numbered = [(number, raw.removeprefix(BOM)) for number, raw in enumerate(lines, start=1) if raw.strip()]
    read = [read_line(number, raw) for number, raw in numbered]
    shape = recognise([row for row, _ in read])
    shape = with_mapping(mapping, shape.columns) if mapping else shape
    change, rows = converter(shape), []
    problems: dict[str, list[Problem]] = {}
    for (number, raw), (row, unreadable) in zip(numbered, read, strict=True):
        changed = row if row is None else change(row)
        if row is not None and changed is None:
            continue  # the mapping leaves it out
        if changed is not row:
            raw = to_line(changed)
        for problem in [unreadable] if unreadable else check_row(number, changed or {}):
            problems.setdefault(problem.code, []).append(problem)
        rows.append(read_row(number, raw))
    return Preview(shape, tuple(rows), in_order(_group(code, group) for code, group in problems.items()))


def read_first_as(columns: Columns, mapping: Mapping[str, str]) -> Row | None:
    """Return the first row of data as a mapping makes it, None where that leaves all of the first rows out."""
    change = converter(with_mapping(mapping))
    changed = (change(json.loads(text)) for text in columns.first)
    return next((read_row(1, to_line(row)) for row in changed if row is not None), None)


def _group(code: str, problems: list[Problem]) -> Finding:
    lines = tuple(dict.fromkeys(problem.line for problem in problems))
    return Finding(code, problems[0].said(), len(lines), lines)


def _read_error(result: Mapping[str, str]) -> TunedeckError:
    kind: type[TunedeckError] = getattr(errors, result["error"])
    return kind(result["message"], result["hint"], result["detail"])


def _explain_end(place: Workplace) -> TunedeckError:
    log = place.log.read_text(encoding="utf-8", errors="replace")[-4000:] if place.log.exists() else ""
    return TunedeckError("The check of the data ended without a result.", "Start it again.", log)


def start_worker(place: Workplace) -> Preparation:
    """Carry out the request in a process of its own."""
    hub = home.current().path / "hub"
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = {"HF_HOME": str(hub), **os.environ, **quiet, "TOKENIZERS_PARALLELISM": "true"}
    with held(place.lock) as lock:
        arguments = ["-m", "core.dataset.worker", place.id]
        # The worker holds the lock, which is free once it has ended, however it ended.
        worker = start_detached(arguments, home.current(), place.log, environment=environment, pass_fds=[lock])
        place.write("process", {"pid": worker.pid})  # of a session of its own, so also its group
        _workers[place.id] = worker
    return read_preparation(place.id)


def prepare_here(place: Workplace) -> Preparation:
    """Carry out the request in this process: for small data, starting another would take longer."""
    try:
        key = prepare(place)
        run_longer_checks(place, key)
        place.write("result", {"sha256": key})
    except TunedeckError as error:
        place.write_error(error)
        place.clear()
    return read_preparation(place.id)
