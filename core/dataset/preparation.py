"""Data on its way into the home: a folder and, for big data, a process of its own; both are found after a restart."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core import errors, home
from core.dataset import files, formats
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.files import TRAIN, Workplace
from core.dataset.findings import Finding, in_order, make_finding
from core.dataset.look import Row, read_row
from core.dataset.progress import Progress
from core.dataset.rows import Problem, check_row, read_line
from core.dataset.server_files import show
from core.dataset.shapes import Shape, converter, recognise, with_mapping
from core.dataset.worker import check_further, prepare
from core.errors import NotFound, TunedeckError
from core.programs import start_detached

PREVIEWED_ROWS = 50
_workers: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Preparation:
    """Data being fetched or checked. words: "Checked 120,000 of 207,865 rows · 14 s left"."""

    id: str
    state: Literal["running", "done", "failed", "cancelled"]
    words: str
    fraction: float | None
    dataset: ChatDataset | None = None
    message: str = ""
    hint: str = ""
    detail: str = ""
    error: str = "BadInput"  # which of core.errors it is
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class Preview:
    """The first 50 rows of data that is still being checked, as they will be, and what is wrong with them."""

    shape: Shape
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def read_preparation(preparation_id: str) -> Preparation:
    """Return how far a preparation is; cheap, for a live fragment. Raises NotFound."""
    place = _find_place(preparation_id)
    if place is None:
        raise NotFound(f"There is no preparation '{show(preparation_id)}' any more.", "Choose the data again.")
    if worker := _workers.get(preparation_id):
        worker.poll()  # takes its exit status, so that no zombie stays
    request = place.read("request")
    alive = place.is_alive()  # asked before the result: a worker that ends in between has left one
    result = place.read("result")
    if place.read("cancelled"):
        return Preparation(place.id, "cancelled", "Cancelled.", None)
    if "sha256" in result:
        found = find_dataset(result["sha256"], Path(request["tokenizer"]) if request.get("tokenizer") else None)
        return Preparation(place.id, "done", "Checked.", 1.0, found)
    if result:
        message, hint, detail, error = (str(result[name]) for name in ("message", "hint", "detail", "error"))
        return Preparation(place.id, "failed", message, None, None, message, hint, detail, error)
    if not alive:
        log = place.log.read_text(encoding="utf-8", errors="replace")[-4000:] if place.log.exists() else ""
        ended = "The check of the data ended without a result."
        return Preparation(place.id, "failed", ended, None, None, ended, "Start it again.", log)
    told = place.read("progress")
    if not told:
        return Preparation(place.id, "running", f"Starting with {request['name']}…", None)
    now = Progress(**told)
    words = now.words if now.rows else f"{now.verb} {request['name']}…"
    return Preparation(place.id, "running", words, now.fraction, progress=now)


def cancel_preparation(preparation_id: str) -> None:
    """End it; nothing of it is kept."""
    if place := _find_place(preparation_id):
        place.write("cancelled", {"at": time.time()})
        place.end_worker()
        place.clear()


def read_preview(preparation_id: str) -> Preview | None:
    """Return the first rows of data on its way, None where none has come yet. Raises BadInput on damaged files."""
    place = _find_place(preparation_id)
    if place is None:
        return None
    request = place.read("request")
    given = (request.get("paths") or {}).get(TRAIN)
    found = next(
        (
            path
            for path in (Path(given) if given else place.path / TRAIN, place.path / "data" / TRAIN)
            if path.is_file()
        ),
        None,
    )
    if found is None:
        return None
    name = str((request.get("file_names") or {}).get(TRAIN, ""))
    return preview_lines(formats.read_first(found, name, PREVIEWED_ROWS), request.get("mapping"))


def preview_lines(lines: list[bytes], mapping: Mapping[str, str] | None = None) -> Preview:
    """Return the first lines of a file as rows, with what is wrong with them."""
    numbered = [(number, raw) for number, raw in enumerate(lines, start=1) if raw.strip()]
    read = [read_line(number, raw.removeprefix(b"\xef\xbb\xbf")) for number, raw in numbered]
    shape = recognise([row for row, _ in read])
    shape = with_mapping(mapping, shape.columns) if mapping else shape
    change, rows, problems = converter(shape), [], []
    for (number, raw), (row, problem) in zip(numbered, read, strict=True):
        if row is not None and not shape.is_contract:
            row = change(row)
            raw = json.dumps(row).encode()
        found = [problem] if problem else check_row(number, row or {})
        problems += found
        rows.append(read_row(number, raw))
    return Preview(shape, tuple(rows), _group(problems))


def _group(problems: list[Problem]) -> tuple[Finding, ...]:
    groups: dict[str, list[Problem]] = {}
    for one in problems:
        groups.setdefault(one.code, []).append(one)
    return in_order(
        make_finding(
            code,
            len({one.line for one in some}),
            dict.fromkeys(one.line for one in some),
            some[0].field,
            some[0].message,
            some[0].fix,
        )
        for code, some in groups.items()
    )


def _find_place(preparation_id: str) -> Workplace | None:
    """Return the folder of a preparation, None where there is none: the id is of an address, so any text."""
    known = re.fullmatch(r"[0-9a-f]{12}", preparation_id)
    place = Workplace(preparation_id)
    return place if known and place.path.is_dir() else None


def make_place(request: Mapping[str, Any]) -> Workplace:
    """Make the folder of a new preparation."""
    files.remove_old_workplaces()
    place = Workplace(secrets.token_hex(6))
    place.create(request)
    return place


def start_worker(place: Workplace) -> Preparation:
    """Do what the request says in a process of its own."""
    hub = home.current().path / "hub"
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = {"HF_HOME": str(hub), **os.environ, **quiet, "TOKENIZERS_PARALLELISM": "true"}
    lock = place.open_lock()
    try:
        arguments = ["-m", "core.dataset.worker", place.id]
        # The worker holds the lock, which is free once it has ended, however it ended.
        worker = start_detached(arguments, home.current(), place.log, environment=environment, pass_fds=[lock])
        place.write("process", {"pid": worker.pid})  # of a session of its own, so also its group
        _workers[place.id] = worker
    finally:
        os.close(lock)
    return read_preparation(place.id)


def prepare_here(place: Workplace) -> Preparation:
    """Do what the request says here and now: small data, that would take longer to start a process for."""
    try:
        key = prepare(place)
        check_further(place, key)
        place.write("result", {"sha256": key})
    except TunedeckError as error:
        place.write_error(error)
    finally:
        place.clear()
    return read_preparation(place.id)


def wait(started: Preparation, progress: Callable[[Preparation], None] | None = None) -> ChatDataset:
    """Return the data set when it is there; raises the error that ended it."""
    now = started
    while now.state == "running":
        time.sleep(0.1)
        now = read_preparation(now.id)
        if progress:
            progress(now)
    if now.dataset is None:
        kind: type[TunedeckError] = getattr(errors, now.error)
        raise kind(now.message or now.words, now.hint, now.detail)
    return now.dataset
