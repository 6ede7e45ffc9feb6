"""Groups of findings of which the operator said that they are no problem here.

datasets/<sha256>/set-aside.json    {"train": ["duplicate"], "test": ["leakage"]}: kinds by file

The next versions of a data set, and its repaired copies, take it over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from core import home
from core.dataset.findings import JUDGED, KINDS, DataFile
from core.errors import BadInput

SetAside = Mapping[DataFile, frozenset[str]]
NOTHING: SetAside = {"train": frozenset(), "test": frozenset()}


def may_be_set_aside(code: str) -> bool:
    """Tell whether a kind of finding can be: warnings and hints, and errors that are a judgement and break no run."""
    return not KINDS[code].severity.blocks or code in JUDGED


def read_set_aside(folder: Path) -> SetAside:
    """Return which kinds are set aside in each file of a data set."""
    path = folder / "set-aside.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {file: frozenset(code for code in kept.get(file, ()) if code in KINDS) for file in NOTHING}


def write_set_aside(folder: Path, aside: SetAside) -> None:
    """Keep which kinds are set aside."""
    kept = {file: sorted(codes) for file, codes in aside.items()}
    home.write_atomically(folder / "set-aside.json", json.dumps(kept) + "\n")


def put_aside(folder: Path, code: str, file: DataFile) -> None:
    """Say that a group of findings is no problem; raises BadInput where a run would break."""
    if not may_be_set_aside(code):
        raise BadInput(f"'{KINDS[code].title}' cannot be set aside: a run would break.", KINDS[code].fix)
    aside = read_set_aside(folder)
    write_set_aside(folder, {**aside, file: aside[file] | {code}})


def take_back(folder: Path, code: str, file: DataFile) -> None:
    """Have a group of findings count again."""
    aside = read_set_aside(folder)
    write_set_aside(folder, {**aside, file: aside[file] - {code}})
