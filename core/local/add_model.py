"""Adds a base model to this home's registry: looks at it, fetches it, checks it again, and gives it its name by rename.

A program of its own, `python -m core.local add-model`: it imports the trainer's libraries and reads files of strangers.
What it has fetched it goes on with after it was killed; how far it is stands in `state.json` of its work folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from core import home as homes
from core.engine.disk import place_tree
from core.engine.model_check import ModelCheck, Space
from core.engine.model_look import Line, Look
from core.errors import BadInput, Conflict, NotFound, TunedeckError
from core.home import Home
from core.local import base_model
from core.local import machine as machines
from core.local.model_registry import MANIFEST, ModelRegistry, RegistryModel
from core.local.model_source import SMALL, Source, open_source
from core.locks import tried
from core.pids import start_time_of
from core.words import duration, size

ADDING = ".adding"
SOURCE = "source"  # property of a model that was added here: the place it came from
STATE = "state.json"
_HEADER = 8
_LARGEST_HEADER = 100 << 20
_SAY_EVERY_S = 0.5
_SPARE = 200 << 20  # bytes left free on the disk


def look_at(home: Home, source: Source) -> Look:
    """Fetch what is small, and of the weights their headers alone; return what would be wrong with the model."""
    home.create()
    with tempfile.TemporaryDirectory(dir=home.path, prefix=".look-") as folder:
        for file in source.files.values():
            _write_head(source, file.name, Path(folder) / file.name)
        check = ModelCheck(Path(folder), _read_space())
        lines = check.ask()
    size_bytes = sum(file.size for file in source.files.values())
    free = shutil.disk_usage(home.base_models).free
    said = f"It takes {size(size_bytes)}; {size(free)} are free"
    enough = size_bytes + _SPARE < free
    lines.append(Line("Disk", "ok", said) if enough else Line("Disk", "failed", f"{said}.", "Free some space."))
    name, version = _choose_name(home, source)
    revision = source.commit if source.on_hub else ""
    return Look(source.title, revision, name, version, size_bytes, tuple(lines), check.tags)


def add(home: Home, source: Source, work: Path) -> tuple[str, str]:
    """Bring a model into the registry; return name and version. Raises BadInput with the first thing that is wrong."""
    for model in _list_models(home):
        if (model.properties.get(SOURCE), model.properties.get("commit")) == (source.place, source.commit):
            return model.name, model.version
    _say(work, "Looking at it")
    look = look_at(home, source)
    _refuse(look.lines)
    staged = work / "model"
    staged.mkdir(parents=True, exist_ok=True)
    _fetch(source, staged, work)
    _say(work, "Checking what was fetched", 1.0)
    check = ModelCheck(staged, _read_space())
    _refuse(check.ask())
    manifest = _make_manifest(source, look, check.tags)
    homes.write_atomically(staged / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    folder = home.base_models / look.name / look.version
    folder.parent.mkdir(exist_ok=True)
    place_tree(staged, folder)
    return look.name, look.version


def remove(home: Home, name: str, version: str) -> None:
    """Take a model that was added out of the registry, and delete it; raises NotFound and Conflict."""
    found = next((each for each in _list_models(home) if (each.name, each.version) == (name, version)), None)
    if found is None or found.folder is None:
        raise NotFound(f"There is no base model {name} {version} on this machine.")
    if SOURCE not in found.properties:
        raise Conflict(f"{name} {version} was not added by you: it stays.", "Delete its folder by hand.")
    gone = home.base_models / f".{name}-{version}.removed"
    shutil.rmtree(gone, ignore_errors=True)
    found.folder.rename(gone)
    shutil.rmtree(gone)


def run(home: Home, source: str, revision: str, work: Path | None = None) -> str:
    """Add a model, and say how that went. work: where its progress and its end are written, and left.

    Another process that adds the same is not disturbed. Raises what `add` raises.
    """
    key = hashlib.sha256(f"{source}@{revision}".encode()).hexdigest()[:16]
    folder = work or home.base_models / ADDING / key
    folder.mkdir(parents=True, exist_ok=True)
    with tried(folder / "lock") as mine:
        if not mine:
            return "Another process adds it already."
        try:
            if source == base_model.SHORT_NAME:
                base_model.ensure_base_model(home, report=partial(_say, folder))
                name, version = base_model.NAME, base_model.VERSION
            else:
                name, version = add(home, open_source(source, revision), folder)
        except TunedeckError as error:
            fields = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            _write_state(folder, {"error": {**fields, "detail": error.detail}})
            raise
        _write_state(folder, {"name": name, "version": version})
    if work is None:
        shutil.rmtree(folder)
    return f"Added {name} {version}."


def _list_models(home: Home) -> list[RegistryModel]:
    return ModelRegistry(home.base_models, machines.Machine(1, 1.0)).list_models()


def _read_space() -> Space:
    machine = machines.measure()
    return Space(int(machine.memory_gib * 1024**3), int(machine.card_gib * 1024**3))


def _refuse(lines: Iterable[Line]) -> None:
    if failed := [line for line in lines if line.state == "failed"]:
        others = "\n".join(f"{line.name}: {line.said}" for line in failed)
        raise BadInput(failed[0].said, failed[0].hint, others)


def _write_head(source: Source, name: str, path: Path) -> None:
    """Write a small file as it is; of weights their header, with nothing behind it."""
    whole = source.files[name].size
    if name in SMALL:
        with path.open("wb") as file:
            source.read(name, file.write)
        return
    start = source.read_part(name, 0, _HEADER)
    length = int.from_bytes(start, "little")
    if length > min(_LARGEST_HEADER, whole - _HEADER):
        raise BadInput(f"The weights file {name} is damaged or no safetensors file.", "Choose another model.")
    path.write_bytes(start + source.read_part(name, _HEADER, length))
    os.truncate(path, whole)


def _fetch(source: Source, staged: Path, work: Path) -> None:
    """Fetch every file, the small ones anew and weights from where they broke off, and hold their hashes."""
    files = sorted(source.files.values(), key=lambda file: file.size)
    for stranger in {path.name for path in staged.iterdir()} - source.files.keys():
        (staged / stranger).unlink()
    has = {file.name: _count_kept(source, staged / file.name, file.size) for file in files}
    meter = _Meter(work, sum(file.size for file in files), sum(has.values()))
    for file in files:
        path = staged / file.name
        meter.say(file.name)
        with path.open("ab" if has[file.name] else "wb") as opened:

            def take(piece: bytes, opened: Any = opened, name: str = file.name) -> None:
                opened.write(piece)
                meter.add(len(piece), name)

            source.read(file.name, take, has[file.name])
        if file.sha256:
            _say(work, f"Checking the hash of {file.name}")
            with path.open("rb") as written:
                found = hashlib.file_digest(written, "sha256").hexdigest()
            if found != file.sha256:
                path.unlink()
                said = f"{file.name} did not arrive as the hub has it: its hash differs."
                raise BadInput(said, "Try again: it is fetched anew.", f"{found}, expected {file.sha256}")


def _count_kept(source: Source, path: Path, whole: int) -> int:
    """Return how many bytes of a file are there from an earlier time and good: those of weights from the hub."""
    if not source.on_hub or path.name in SMALL or not path.is_file():
        return 0
    had = path.stat().st_size
    return had if had <= whole else 0


class _Meter:
    """Says how many bytes are there, how fast they come, and for how long still."""

    def __init__(self, work: Path, total: int, done: int) -> None:
        self._work, self._total, self._done, self._first = work, total, done, done
        self._began, self._said = time.monotonic(), 0.0

    def add(self, count: int, name: str) -> None:
        """Count bytes; written down at most twice a second."""
        self._done += count
        if time.monotonic() - self._said >= _SAY_EVERY_S:
            self.say(name)

    def say(self, name: str) -> None:
        """Write down how far the files are, of which one is fetched now."""
        self._said = now = time.monotonic()
        rate = (self._done - self._first) / max(now - self._began, 1e-3)
        left = f", {duration((self._total - self._done) / rate)} left" if now - self._began > 1 and rate else ""
        _say(self._work, f"{size(self._done)} of {size(self._total)}{left} · {name}", self._done / self._total)


def _say(work: Path, said: str, share: float = 0.0) -> None:
    pid = os.getpid()
    _write_state(work, {"said": said, "share": share, "pid": pid, "start_time": start_time_of(pid)})


def _write_state(work: Path, state: dict[str, Any]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    homes.write_atomically(work / STATE, json.dumps(state))


def _choose_name(home: Home, source: Source) -> tuple[str, str]:
    """Return the model's own name with the next version; another's name is left to it."""
    models = _list_models(home)
    for name in _propose_names(source.title):
        versions = [model for model in models if model.name.lower() == name.lower()]
        if all(model.properties.get(SOURCE) == source.place for model in versions):
            taken = [int(model.version) for model in versions if model.version.isdecimal()]
            return name, str(max(taken, default=0) + 1)
    raise AssertionError


def _propose_names(title: str) -> Iterator[str]:
    whole, short = (re.sub(r"[^A-Za-z0-9_.-]+", "-", each).strip("-.")[:100] for each in (title, title.rsplit("/")[-1]))
    yield from (each for each in (short, whole) if each)
    yield from (f"{short or 'model'}-{count}" for count in itertools.count(2))


def _make_manifest(source: Source, look: Look, tags: dict[str, str]) -> dict[str, Any]:
    where = f"from {source.place} at {source.commit[:8]}" if source.on_hub else f"from the folder {source.title}"
    own = {
        "task": "chat-completion",
        "finetuning-tasks": "chat-completion",
        "finetune_compute_allow_list": "local",
        "inference_compute_allow_list": "local",
        "displayName": source.title,
        "author": source.title.rpartition("/")[0],
        "inputModalities": "text",
        "outputModalities": "text",
        "weights_source": f"added by you {where}",
    }
    own["tunedeck.added"] = source.place
    if source.on_hub:
        own["license_link"] = source.place
    said = f"{source.title}, added by you {where}."
    return {
        "name": look.name,
        "version": look.version,
        "description": said,
        "tags": {key: value for key, value in {**own, **tags}.items() if value},
        "properties": {SOURCE: source.place, "commit": source.commit},
    }
