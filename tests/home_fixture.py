"""Homes that Tunedeck wrote, kept as text: whatever the code becomes, it has to open them and carry them on.

    python -m tests.home_fixture tests/data/home_1    keep a home as the code of today writes it; takes a minute

A kept home is never written again: what a later Tunedeck writes differently becomes another one beside it.

    ledger.sql workspace.sql    the two databases; {HOME} and {PORT} stand for what differs from place to place,
                                {WORKSPACE} for a long word
    files.json                  files by path: text, small binary ones, and those of which only the name matters
    told.json                   what the code that wrote it read in it
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from core.azureml.settings import list_settings
from core.home import Home
from core.launch.drafts import find_latest_draft
from core.operations import Operation, list_operations, list_receipts
from core.operations.ledger import Ledger
from core.runs.throughput import list_paces
from core.serving.transcripts import find_transcript
from core.teardown.receipts import Receipt
from tests import environment, home_story
from tests.tiny_model import NAME, build_tiny_model

DATA = Path(__file__).with_name("data")
DATABASES = ("ledger", "workspace")
TEXT_BYTES, BINARY_BYTES = 4096, 1024  # of larger files only the name is kept
WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    "/providers/Microsoft.MachineLearningServices/workspaces/local"
)
FAKE_SECRET, FAKE_BOOT = "fa4e" * 16, "00000000-0000-4000-8000-00000000fa4e"
_LEFT_OUT = re.compile(
    r"logs/|tls/|base-models/|\.db|\.lock$|__pycache__|\.preparing/|\.exit\.reserved|shim_log|disk-reserve"
    r"|^(address|server)\.json$"
)
_MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:tmp|work|root|home|Users)/[\w.-]+")
_BOOT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=:\d)")
_SECRET = re.compile(r'"(?P<name>primaryKey|secondaryKey|secret)":"(?P<value>[^"]+)"')


def restore_home(target: Path, name: str = "home_0") -> Home:
    """Put a kept home into an empty folder, as the power cut left it, with a port of its own; nobody serves it yet."""
    kept, home = DATA / name, Home(target).create()
    files = json.loads((kept / "files.json").read_text(encoding="utf-8"))
    places = {"{HOME}": str(home.path), "{PORT}": str(home.port()), "{WORKSPACE}": WORKSPACE}
    for path, text in files["text"].items():
        _write(home.path / path, _replace(text, places).encode())
    for path, content in files["base64"].items():
        _write(home.path / path, base64.b64decode(content))
    for path in files["names"]:
        _write(home.path / path, b"Only the name of this file was kept.\n")
    (home.path / "secret").chmod(0o600)
    for database in DATABASES:
        script = _replace((kept / f"{database}.sql").read_text(encoding="utf-8"), places)
        connection = sqlite3.connect(home.path / f"{database}.db")
        connection.executescript(script)
        connection.close()
    build_tiny_model(home.base_models)
    return home


def read_told(name: str = "home_0") -> dict[str, Any]:
    """Return what the code that wrote a kept home read in it; `read_home` is the same for the code of now."""
    told: dict[str, Any] = json.loads((DATA / name / "told.json").read_text(encoding="utf-8"))
    return told


def read_home(home: Home) -> dict[str, Any]:
    """Return what this process's home remembers, in plain words: no class of ours, so that it can be compared."""
    talk, draft = find_transcript(home_story.TALK, "local"), find_latest_draft("local")
    found = {
        "operations": [tell(each) for each in reversed(list_operations())],
        "draft": asdict(draft) if draft else None,
        "receipts": [tell_receipt(receipt) for receipt in reversed(list_receipts())],
        "talk": [(turn["question"], turn["replies"][0]["answer"]) for turn in talk.turns] if talk else None,
        "seen": Ledger(home).list_seen(),
        "speeds": [pace.tokens_per_s for pace in list_paces("local", NAME, "this-machine")],
        "workspaces": [asdict(settings) for settings in list_settings()],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def tell(operation: Operation) -> dict[str, Any]:
    """Return what is shown of an operation."""
    steps = [f"{step.name}: {step.title}, {word(step.state)}. {step.detail}".strip() for step in operation.steps]
    return {
        "number": operation.number, "id": operation.id, "kind": word(operation.kind), "title": operation.title,
        "subject": operation.subject, "connection": operation.connection, "state": word(operation.state),
        "outcome": word(operation.outcome), "error": operation.error.message if operation.error else "",
        "user": operation.user, "created_at": str(operation.created_at), "steps": steps,
    }  # fmt: skip


def tell_receipt(receipt: Receipt) -> dict[str, Any]:
    """Return what is shown of a receipt; what is gone was called "removed" by the first code that kept a home."""
    told = asdict(receipt)
    gone = told.pop("gone")
    return {**told, "removed": gone}


def keep_home(home: Home, target: Path) -> None:
    """Write a home that nobody serves as text, without what is secret or of this machine."""
    found = [path for path in sorted(home.path.rglob("*")) if path.is_file()]
    files: dict[str, Any] = {"text": {}, "base64": {}, "names": []}
    for path in found:
        name = path.relative_to(home.path).as_posix()
        if not _LEFT_OUT.search(name):
            _keep_file(home, path, name, files)
    target.mkdir(parents=True)
    for database in DATABASES:
        _dump(target / f"{database}.sql", [_clean(home, _read_sql(home.path / f"{database}.db"))])
    _dump(target / "files.json", [json.dumps(files, indent=0, ensure_ascii=False)])
    _dump(target / "told.json", [json.dumps(read_home(home), indent=0, ensure_ascii=False)])
    wrong = [path.name for path in target.iterdir() if _MACHINE_PATH.search(path.read_text(encoding="utf-8"))]
    assert not wrong, f"a path of this machine is in {wrong}"


def _keep_file(home: Home, path: Path, name: str, files: dict[str, Any]) -> None:
    content = path.read_bytes()
    if b"\0" in content and len(content) <= BINARY_BYTES:
        files["base64"][name] = base64.b64encode(content).decode()
        return
    text = _clean(home, content.decode(errors="replace"))
    if b"\0" in content or len(content) > TEXT_BYTES or _MACHINE_PATH.search(text):
        files["names"].append(name)
    else:
        files["text"][name] = FAKE_SECRET if name == "secret" else text


def _read_sql(path: Path) -> str:
    connection = sqlite3.connect(path)
    version = connection.execute("pragma user_version").fetchone()[0]
    if path.stem == "workspace":  # not committed; the next server forgets what ended a day ago
        connection.execute("delete from documents where kind = 'operation' and body not like '%\"InProgress\"%'")
    lines = [*connection.iterdump(), f"pragma user_version = {version};"]
    connection.close()
    return "\n".join(lines)


def _clean(home: Home, text: str) -> str:
    """Put placeholders for where this home is, and fixed values for keys and for the start of this machine."""
    text = text.replace(str(home.path), "{HOME}").replace(f"127.0.0.1:{home.port()}", "127.0.0.1:{PORT}")
    text = text.replace(WORKSPACE, "{WORKSPACE}")
    return _SECRET.sub(r'"\g<name>":"fa4e-\g<name>"', _BOOT.sub(FAKE_BOOT, text))


def _replace(text: str, places: dict[str, str]) -> str:
    for placeholder, value in places.items():
        text = text.replace(placeholder, value)
    return text


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _dump(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def word(value: object) -> str:
    """Return a state or a kind as the text that is kept, whatever it is in the code."""
    return str(value.value if isinstance(value, Enum) else value)


def main(target: Path) -> int:
    """Live the story in a new home and keep it."""
    assert not target.exists(), f"{target} is there: a kept home is never written again"
    users, place = environment.enter(), Path(tempfile.mkdtemp(prefix="tunedeck-home-"))
    os.environ.update(TUNEDECK_HOME=str(place), LOGNAME="operator")
    try:
        home = Home(place).create()
        home_story.live(home)
        keep_home(home, target)
    finally:
        shutil.rmtree(place)
        shutil.rmtree(users, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
