"""Base models that an operator adds to the local workspace: looked at, fetched and removed by the workspace's program.

It is spoken to by its command line and by the state that it writes into its work folder, as docs/decisions/0018 says.
The token of the hub is in the environment that the program inherits, and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import errors
from core.azureml.connection import Connection
from core.catalog.base_models import BaseModel
from core.catalog.kept import Kept
from core.engine.model_look import Look
from core.errors import TunedeckError, Unreachable
from core.home import REPOSITORY, Home
from core.stored import parse_fields

ADDED_TAG = "tunedeck.added"  # of a model that an operator added: where it came from
LOOK_S = 300.0  # the longest that a look may take: a slow line, and a machine that trains
BUNDLED, BUNDLED_BYTES = "SmolLM2", 92_871_040  # what `make run` fetches, and how much that is
_PROGRAM = (sys.executable, "-m", "core.local")


def look_at(conn: Connection, source: str, revision: str = "") -> Look:
    """Return what a model is and whether it can be added; fetches no weights. Raises what the program says."""
    answer = _run(conn.home, "add-model", "--look", "--revision", revision, "--", source)
    return parse_fields(Look, answer)


def remove(conn: Connection, name: str, version: str) -> None:
    """Have a model that was added deleted, and forget it; raises what the program says."""
    _run(conn.home, "remove-model", "--", name, version)
    Kept(conn.home, conn.alias).drop_model((conn.settings.registry_name, name, version))


def work_folder(home: Home, source: str, revision: str) -> Path:
    """Return where the program fetches a model, and writes down how far it is."""
    return home.base_models / ".adding" / hashlib.sha256(f"{source}@{revision}".encode()).hexdigest()[:16]


def make_command(source: str, revision: str, folder: Path) -> Sequence[str]:
    """Return what is started to fetch a model, after the interpreter."""
    return ["-m", "core.local", "add-model", "--revision", revision, "--work", str(folder), "--", source]


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state that the program wrote last, {} where there is none."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state


def forget_error(folder: Path) -> None:
    """Let the next start be heard of anew; what was fetched stays."""
    (folder / "state.json").unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Delete what was fetched so far."""
    shutil.rmtree(folder, ignore_errors=True)


def to_error(said: Mapping[str, str]) -> TunedeckError:
    """Return the error that the program names."""
    kind: type[TunedeckError] = getattr(errors, str(said.get("kind")), TunedeckError)
    return kind(said.get("message", "It failed."), said.get("hint", ""), said.get("detail", ""))


def has_models(conn: Connection) -> bool:
    """Tell whether this machine has a base model."""
    return any(conn.home.base_models.glob("*/*/tunedeck.json"))


def can_train() -> bool:
    """Tell whether PyTorch is there, which trainer and scorer are made of."""
    return importlib.util.find_spec("torch") is not None


def was_added(model: BaseModel) -> bool:
    """Tell whether an operator added a model, who may remove it again."""
    return ADDED_TAG in model.tags


def _run(home: Home, command: str, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "TUNEDECK_HOME": str(home.path)}
    try:
        ended = subprocess.run(
            [*_PROGRAM, command, "--json", *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LOOK_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"It was looked at for {LOOK_S:.0f} s without an end.", "Try again later.") from error
    try:
        said: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise TunedeckError("The model could not be looked at.", "Try again.", ended.stderr[-2000:]) from error
    if ended.returncode:
        raise to_error(said)
    return said
