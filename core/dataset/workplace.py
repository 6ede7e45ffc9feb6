"""The folder in which a data set is prepared, and the request for it.

datasets/.preparing/<id>/   what is being fetched or checked: request.json, progress.json, result.json, alive.lock,
                            and the files as they were given, for a while: they may be read again
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from core import home
from core.dataset.edits import Edit
from core.dataset.store import TEST, TRAIN
from core.errors import TunedeckError
from core.locks import is_held

_DAY_S = 24 * 3600.0
_HOUR_S = 3600.0
SourceKind = Literal["upload", "path", "hub", "asset", "repair"]


@dataclass(frozen=True)
class HubPart:
    """A part of a Hugging Face data set: the first `rows`, else the first `percent`. test_split None: guessed."""

    name: str
    config: str | None
    split: str
    test_split: str | None
    percent: float
    rows: int | None


@dataclass(frozen=True)
class Request:
    """What to make a data set of, and how.

    tokenizer: a model's folder, to count lengths with. mapping: the operator's own, of row_shapes.PARTS to columns.
    test_percent, seed: how test rows are chosen if there is no test file; None: 10%. file_names: what train.jsonl
    and test.jsonl were called; paths: where they are, if not in the workplace. encoding: that the operator named for
    text that is not UTF-8. of: which data set is copied with the findings of `codes` repaired, or with `edits`.
    """

    kind: SourceKind
    name: str
    source: str
    tokenizer: Path | None = None
    mapping: Mapping[str, str] | None = None
    test_percent: float | None = None
    seed: int = 0
    file_names: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    hub: HubPart | None = None
    encoding: str = ""
    of: str = ""
    codes: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


class Workplace:
    """The folder of one preparation. Its worker holds the lock for as long as it lives."""

    def __init__(self, preparation_id: str) -> None:
        self.id = preparation_id
        self.path = _root() / preparation_id

    @classmethod
    def create(cls, request: Request) -> Self:
        """Make the folder of a new preparation, with its request; old ones are removed."""
        remove_old_workplaces()
        place = cls(secrets.token_hex(6))
        place.path.mkdir(parents=True)
        place.write("request", asdict(request) | {"tokenizer": str(request.tokenizer) if request.tokenizer else None})
        return place

    @classmethod
    def find(cls, preparation_id: str) -> Self | None:
        """Return the folder of a preparation, None if there is none: the id comes from a URL, so it may be any text."""
        is_id = re.fullmatch(r"[0-9a-f]{12}", preparation_id)
        place = cls(preparation_id)
        return place if is_id and place.path.is_dir() else None

    @property
    def log(self) -> Path:
        """Return where the worker's output goes."""
        return self.path / "worker.log"

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one of its files atomically."""
        home.write_atomically(self.path / f"{name}.json", json.dumps(content, ensure_ascii=False))

    def write_error(self, error: TunedeckError) -> None:
        """Leave an error as the result."""
        kept = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "detail": error.detail}
        self.write("result", kept)

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of one of its files, {} if it is not there."""
        path = self.path / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def read_request(self) -> Request:
        """Return the request; that of an earlier version, whose worker still runs, may have other fields."""
        kept = {name: value for name, value in self.read("request").items() if name in Request.__dataclass_fields__}
        tokenizer = Path(kept["tokenizer"]) if kept.get("tokenizer") else None
        hub = HubPart(**kept["hub"]) if kept.get("hub") else None
        codes, edits = tuple(kept.get("codes", ())), tuple(Edit(**edit) for edit in kept.get("edits", ()))
        return Request(**kept | {"tokenizer": tokenizer, "hub": hub, "codes": codes, "edits": edits})

    @property
    def lock(self) -> Path:
        """What the worker holds as long as it lives."""
        return self.path / "alive.lock"

    def is_alive(self) -> bool:
        """Tell whether the worker lives."""
        return is_held(self.lock)

    def end_worker(self) -> None:
        """End the worker, if it lives: while the lock is held, the process id is the worker's."""
        pid = self.read("process").get("pid")
        if pid and self.is_alive():
            os.killpg(pid, signal.SIGKILL)
            while self.is_alive():
                time.sleep(0.01)

    @property
    def sources(self) -> list[Path]:
        """Return the files as they were given: the training file, and the test file if there is one."""
        return [path for path in (self.path / TRAIN, self.path / TEST) if path.is_file()]

    def clear(self) -> None:
        """Remove the data; the small files that say what happened stay."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix not in (".json", ".lock", ".log"):
                path.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the disk knows no such names. Neither is ever written in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def remove_old_workplaces() -> None:
    """Remove the files of preparations that are older than an hour, and all of them after a day."""
    for path in _root().glob("*"):
        place, age_s = Workplace(path.name), time.time() - path.stat().st_mtime
        if age_s < _HOUR_S or place.is_alive():
            continue
        if age_s > _DAY_S:
            shutil.rmtree(path, ignore_errors=True)
        else:
            place.clear()


def _root() -> Path:
    return home.current().datasets / ".preparing"
