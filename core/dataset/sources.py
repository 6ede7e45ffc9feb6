"""Where chat data comes from: the bundled sample, a file, Hugging Face. Big ones are prepared in their own process.

A preparation is a folder of the home, so it is found again after a reload or a restart.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from core import errors, home
from core.dataset import files
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.files import TEST, TRAIN, Workplace
from core.dataset.hub import check_request
from core.dataset.progress import Progress
from core.dataset.worker import check_further, prepare
from core.errors import NotFound, TunedeckError

INLINE_BYTES = 2 * 1024 * 1024  # checked in the page's own process; about 0.1 s
SAMPLE_NAME = "sample"
SAMPLE_SOURCE = "bundled sample"
_SAMPLE = Path(__file__).resolve().parents[1] / "sample"
_REPOSITORY = Path(__file__).resolve().parents[2]
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


def load_sample() -> ChatDataset:
    """Return the bundled sample, copied to the home on first use."""
    found = find_dataset(files.hash_files(_SAMPLE / TRAIN, _SAMPLE / TEST))
    if found is not None:
        return found
    with (_SAMPLE / TRAIN).open("rb") as train, (_SAMPLE / TEST).open("rb") as test:
        return _wait(_start_upload(SAMPLE_NAME, SAMPLE_SOURCE, train, test, None, inline=True))


def start_upload(
    name: str,
    content: bytes | BinaryIO,
    test: bytes | BinaryIO | None = None,
    tokenizer: Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Preparation:
    """Take a JSONL file (and its test file) into the home; a small one is checked at once, a big one in a subprocess.

    tokenizer: the chosen model's folder, so that lengths are counted in its tokens. mapping: the operator's own, of
    shapes.PARTS to columns; without it the shape is recognised.
    """
    stem = re.sub(r"\.(jsonl?|parquet)$", "", Path(name).name)
    return _start_upload(
        stem or "upload", f"uploaded file {Path(name).name}", content, test, tokenizer, inline=False, mapping=mapping
    )


def start_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    percent: float = 100,
    test_split: str | None = None,
    tokenizer: Path | None = None,
) -> Preparation:
    """Fetch the first `percent` of a Hugging Face data set's split in a subprocess; test_split None: guessed."""
    name, config, split = name.strip(), (config or "").strip() or None, split.strip()
    check_request(name, split, percent)
    place = _make_place(
        {
            "kind": "hub",
            "name": Path(name).name,
            "source": f"Hugging Face: {name}, {split}[0%:{percent:g}%]",
            "hub_name": name,
            "config": config,
            "split": split,
            "test_split": (test_split or "").strip() or None,
            "percent": int(percent),
            "tokenizer": str(tokenizer) if tokenizer else None,
        }
    )
    return _start_worker(place)


def read_preparation(preparation_id: str) -> Preparation:
    """Return how far a preparation is; cheap, for a live fragment. Raises NotFound."""
    place = Workplace(preparation_id)
    if not preparation_id.isalnum() or not place.path.is_dir():
        raise NotFound(f"There is no preparation '{preparation_id}' any more.", "Choose the data again.")
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
    place = Workplace(preparation_id)
    if preparation_id.isalnum() and place.path.is_dir():
        place.write("cancelled", {"at": time.time()})
        place.end_worker()
        place.clear()


def from_upload(
    name: str, content: bytes | BinaryIO, test: bytes | BinaryIO | None = None, tokenizer: Path | None = None
) -> ChatDataset:
    """Like start_upload, waiting for its end."""
    return _wait(start_upload(name, content, test, tokenizer))


def from_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    percent: float = 100,
    test_split: str | None = None,
    progress: Callable[[Preparation], None] | None = None,
) -> ChatDataset:
    """Like start_hub, waiting for its end."""
    return _wait(start_hub(name, config, split, percent, test_split), progress)


def _start_upload(
    name: str,
    source: str,
    content: bytes | BinaryIO,
    test: bytes | BinaryIO | None,
    tokenizer: Path | None,
    *,
    inline: bool,
    mapping: Mapping[str, str] | None = None,
) -> Preparation:
    request = {"kind": "upload", "name": name, "source": source, "tokenizer": str(tokenizer) if tokenizer else None}
    place = _make_place({**request, "mapping": dict(mapping) if mapping else None})
    size = _spool(content, place.path / TRAIN) + (_spool(test, place.path / TEST) if test is not None else 0)
    if size > INLINE_BYTES and not inline:
        return _start_worker(place)
    try:
        key = prepare(place)
        check_further(place, key)
        place.write("result", {"sha256": key})
    except TunedeckError as error:
        place.write_error(error)
    finally:
        place.clear()
    return read_preparation(place.id)


def _make_place(request: Mapping[str, Any]) -> Workplace:
    files.remove_old_workplaces()
    place = Workplace(secrets.token_hex(6))
    place.create(request)
    return place


def _spool(content: bytes | BinaryIO, path: Path) -> int:
    source = BytesIO(content) if isinstance(content, bytes) else content
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell()


def _start_worker(place: Workplace) -> Preparation:
    hub = home.current().path / "hub"
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = {"HF_HOME": str(hub), **os.environ, **quiet, "TOKENIZERS_PARALLELISM": "true"}
    environment |= {"PYTHONPATH": str(_REPOSITORY), "TUNEDECK_HOME": str(home.current().path)}
    lock = place.open_lock()
    try:
        with place.log.open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "core.dataset.worker", place.id],
                cwd=_REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock],  # held by the worker, and so free when it has ended however it ended
            )
        place.write("process", {"pid": worker.pid})  # of a session of its own, so also its group
        _workers[place.id] = worker
    finally:
        os.close(lock)
    return read_preparation(place.id)


def _wait(started: Preparation, progress: Callable[[Preparation], None] | None = None) -> ChatDataset:
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
