"""What a home takes on the disk, by what it is for, and what of that can go. Works with and without a server.

A file with several names counts once, for the first kind it is found in: steps, outputs and registered models hand
weights on as hard links.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.home import Home
from core.local.jobs.job import Status
from core.local.jobs.steps import HANDED_ON
from core.locks import is_held

KINDS = (
    ("base-models", "Base models"),
    ("blobs", "Data and tuned models"),
    ("runs", "Runs: logs, metrics, checkpoints"),
    ("deployments", "Deployments: logs"),
    ("datasets", "Data sets of the dashboard"),
    ("logs", "Logs of server and dashboard"),
    ("", "Everything else: what is remembered, settings, the disk reserve"),
)


@dataclass(frozen=True)
class Use:
    """Bytes on the disk of one kind, and the files they are in."""

    title: str
    size_bytes: int
    files: int


@dataclass(frozen=True)
class Leftover:
    """Something nobody needs any more."""

    path: Path
    why: str
    size_bytes: int


def read_usage(home: Home) -> list[Use]:
    """Return what each kind takes, in the order of KINDS; base models that several homes share are not counted."""
    seen: set[tuple[int, int]] = set()
    uses = []
    for folder, title in KINDS:
        size = count = 0
        for path in _files(home.path / folder):
            status = path.lstat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                size, count = size + status.st_blocks * 512, count + 1
        uses.append(Use(title, size, count))
    return uses


def find_leftovers(home: Home) -> list[Leftover]:
    """Return what can go: checkpoints and weights in the folders of runs that are over, halves of uploads and fetches.

    Outputs, registered models, data, logs and metrics are never among it.
    """
    found = []
    for job in _jobs_that_are_over(home):
        for outputs in (home.runs / job).glob("*/outputs"):
            found += [
                _leftover(outputs / name, f"{name} of the run {job}, which is over")
                for name in ("checkpoints", *HANDED_ON)
                if (outputs / name).is_dir()
            ]
        if (home.runs / job / "placing").is_dir():
            found.append(_leftover(home.runs / job / "placing", f"half-placed outputs of the run {job}"))
    fetches = home.base_models.glob(".adding/*")
    return found + [_leftover(each, "a half-fetched base model") for each in fetches if not is_held(each / "lock")]


def prune(home: Home) -> list[Leftover]:
    """Delete what find_leftovers names; return it."""
    gone = find_leftovers(home)
    for each in gone:
        shutil.rmtree(each.path, ignore_errors=True)
    return gone


def size_words(size_bytes: int) -> str:
    """Return bytes as "1.2 GiB" or "35 MiB"."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def _leftover(path: Path, why: str) -> Leftover:
    """Count what deleting a folder frees: files without another name."""
    sizes = [status.st_blocks * 512 for each in _files(path) if (status := each.lstat()).st_nlink == 1]
    return Leftover(path, why, sum(sizes))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _folders, names in os.walk(folder):
        for name in names:
            yield Path(parent) / name


def _jobs_that_are_over(home: Home) -> list[str]:
    """Read without writing: the server of this home may be at work, and a job that is over does not change."""
    if not home.workspace_db.exists():
        return []
    connection = sqlite3.connect(f"{home.workspace_db.as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT body FROM documents WHERE kind = 'job'").fetchall()
    finally:
        connection.close()
    return [job["name"] for (body,) in rows if Status((job := json.loads(body))["run"]["status"]).finished]
