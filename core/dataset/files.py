"""Where chat data lies in the home: one folder per content hash, written once.

datasets/<sha256>/          train.jsonl, test.jsonl, *.index, dataset.json, report-<tokenizer>.json
datasets/.preparing/<id>/   what is being fetched or checked: request.json, progress.json, result.json, alive.lock
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import home
from core.dataset.check import Report, finding_from_json
from core.dataset.findings import Finding
from core.dataset.tokens import mark_of
from core.errors import TunedeckError
from core.locks import is_held

TRAIN, TEST = "train.jsonl", "test.jsonl"
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Manifest:
    """What a data set's folder says of itself. created_at: seconds since 1970."""

    name: str
    source: str
    split_note: str
    has_test: bool
    created_at: float
    shape: dict[str, Any] | None = None


def folder_of(sha256: str) -> Path:
    """Return the folder of a content hash, which may not exist."""
    return home.current().datasets / sha256


def is_hash(text: str) -> bool:
    """Tell whether `text` can be a content hash: it becomes part of a path."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def hash_files(train: Path, test: Path | None) -> str:
    """Return the sha256 of a data set: of its training file, a zero byte, and its test file."""
    digest = hashlib.sha256()
    for path in (train, test):
        if path is not None:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        digest.update(b"\0")
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write what the folder holds; a folder without this is not a data set."""
    home.write_atomically(folder / "dataset.json", json.dumps(asdict(manifest), indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return what a folder holds, None where it is no data set."""
    path = folder / "dataset.json"
    return Manifest(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def tokenizer_mark(tokenizer: Path | None) -> str:
    """Return the name under which reports made with a tokenizer are kept."""
    return mark_of(tokenizer)


def write_reports(folder: Path, mark: str, train: Report, test: Report | None) -> None:
    """Keep what the checks of both files found."""
    kept = {"train": train.to_json(), "test": test.to_json() if test else None}
    home.write_atomically(folder / f"report-{mark}.json", json.dumps(kept))


def find_report_mark(folder: Path, wanted: str) -> str | None:
    """Return the tokenizer mark of the best reports there are: those wanted, estimates, any."""
    marks = [path.stem.removeprefix("report-") for path in sorted(folder.glob("report-*.json"))]
    return next((mark for mark in (wanted, tokenizer_mark(None), *marks) if mark in marks), None)


def read_reports(folder: Path, mark: str) -> tuple[Report, Report | None] | None:
    """Return the kept reports, None where none was made with that tokenizer."""
    path = folder / f"report-{mark}.json"
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Report.from_json(kept["train"]), Report.from_json(kept["test"]) if kept["test"] else None


def read_findings(folder: Path, file: str) -> list[Finding]:
    """Return what the longer checks found in a file, "train" or "test"; nothing where they have not ended."""
    found: list[Finding] = []
    for name in ("text", "near"):
        path = folder / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            found += [finding_from_json(one) for one in kept.get(file, ())]
    return found


def move_into_place(folder: Path, sha256: str) -> Path:
    """Make a prepared folder the data set of its hash; content that is there already stays and takes the new name."""
    target = folder_of(sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:  # it is there already, and not empty
        for path in folder.glob("*.json"):
            path.replace(target / path.name)
        shutil.rmtree(folder, ignore_errors=True)
    return target


class Workplace:
    """The folder of one preparation. Its lock is held by the worker for as long as that lives."""

    def __init__(self, preparation_id: str) -> None:
        self.id = preparation_id
        self.path = home.current().datasets / ".preparing" / preparation_id

    @property
    def log(self) -> Path:
        """Return where the worker's own words go."""
        return self.path / "worker.log"

    def create(self, request: Mapping[str, Any]) -> None:
        """Make the folder and say what is to be done there."""
        self.path.mkdir(parents=True)
        self.write("request", request)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one of its files so that a reader sees all of it or nothing."""
        home.write_atomically(self.path / f"{name}.json", json.dumps(content, ensure_ascii=False))

    def write_error(self, error: TunedeckError) -> None:
        """Leave an error as the result."""
        kept = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "detail": error.detail}
        self.write("result", kept)

    def read(self, name: str) -> dict[str, Any]:
        """Return one of its files, {} where it is not there."""
        path = self.path / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def open_lock(self) -> int:
        """Take the lock and return its descriptor, which the worker inherits."""
        descriptor = os.open(self.path / "alive.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def is_alive(self) -> bool:
        """Tell whether the worker lives."""
        return is_held(self.path / "alive.lock")

    def end_worker(self) -> None:
        """End the worker, if it lives: while the lock is held the process id is its own."""
        pid = self.read("process").get("pid")
        if pid and self.is_alive():
            os.killpg(pid, signal.SIGKILL)
            while self.is_alive():
                time.sleep(0.01)

    def clear(self) -> None:
        """Remove what was fetched or copied; the small files that say what happened stay."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix not in (".json", ".lock", ".log"):
                path.unlink(missing_ok=True)


def remove_old_workplaces(older_than_s: float = 24 * 3600) -> None:
    """Remove what preparations of an earlier day left behind."""
    root = home.current().datasets / ".preparing"
    for path in root.iterdir() if root.is_dir() else ():
        place = Workplace(path.name)
        if time.time() - path.stat().st_mtime > older_than_s and not place.is_alive():
            shutil.rmtree(path, ignore_errors=True)
