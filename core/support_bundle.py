"""`make report`: an archive with versions, the ends of the logs and the last errors, without what is nobody's business.

Tokens, keys, signatures, mail addresses, ids, names of workspaces and the way to the home folder are taken out before
anything is written. Talks to nobody: it reads the home folder, whether or not anything runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from core import home as homes
from core.alerts.address import parse_address
from core.alerts.settings import read_settings
from core.azureml.service_errors import scrub
from core.azureml.settings import list_settings
from core.errors import TunedeckError
from core.home import Home
from core.operations import list_operations

LOG_BYTES = 200_000
ERRORS = 20
_LOGS = ("server.log", "server.log.1", "server.out", "dashboard.log")
_REQUIREMENTS = homes.REPOSITORY / "requirements.txt"
_GUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_LONG = re.compile(r"(?<![\w/.-])[A-Za-z0-9+/_-]{40,}={0,2}(?![\w/.-])")  # keys; digests go with them


class Redactor:
    """Takes out what a stranger should not read; the same thing has the same stand-in everywhere."""

    def __init__(self, home: Home) -> None:
        self._names: dict[str, str] = {str(home.path): "(home)", str(Path.home()): "~"}
        with contextlib.suppress(OSError):  # a home that cannot be read has no secret to tell
            self._names[home.secret()] = "(secret)"
        if webhook := read_settings(home).webhook:
            path = parse_address(webhook.url, inside=True).path
            self._names |= {webhook.url: "(webhook)", webhook.secret: "(secret)"}
            self._names |= {path: "(webhook)"} if len(path) > 1 else {}
        number = 0
        for known in list_settings():
            if known.kind != "local":
                number += 1
                self._names |= {
                    known.alias: f"alias-{number}",
                    known.resource_group: f"group-{number}",
                    known.workspace_name: f"workspace-{number}",
                }
        self._ids: dict[str, str] = {homes.SUBSCRIPTION_ID: homes.SUBSCRIPTION_ID}

    def clean(self, text: str) -> str:
        """Return the text without them."""
        for name in sorted(filter(None, self._names), key=len, reverse=True):
            edge = r"(?<![\w-])" if name[0].isalnum() else ""
            text = re.sub(f"{edge}{re.escape(name)}(?![\\w-])", self._names[name], text)
        text = _GUID.sub(lambda found: self._ids.setdefault(found[0].lower(), f"id-{len(self._ids)}"), scrub(text))
        return _LONG.sub("(hidden)", _MAIL.sub("(mail)", text))


def write_report(home: Home, folder: Path | None = None) -> Path:
    """Write the archive (0600) and return its path."""
    redactor, now = Redactor(home), datetime.now(UTC)
    target = (folder or home.path / "reports") / f"tunedeck-report-{now:%Y%m%d-%H%M%S}.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _parts(home):
            archive.writestr(name, redactor.clean(text))
    return target


def _parts(home: Home) -> Iterable[tuple[str, str]]:
    yield "versions.txt", "\n".join(_versions()) + "\n"
    yield "home.txt", "\n".join(_sizes(home)) + "\n"
    yield "errors.json", json.dumps(_errors(), indent=1, ensure_ascii=False)
    for name in _LOGS:
        if text := _end_of(home.logs / name):
            yield f"logs/{name}", text
    for path in sorted(home.deployments.glob("*/*/std_log.txt")):
        yield f"logs/{path.parent.parent.name}-{path.parent.name}.txt", _end_of(path)
    for path in sorted(home.runs.glob("*/*/error.json"), key=lambda each: each.stat().st_mtime)[-ERRORS:]:
        yield f"runs/{path.parent.parent.name}-{path.parent.name}.json", _end_of(path)


def _versions() -> Iterable[str]:
    yield f"Python {sys.version.split()[0]}, {platform.platform()}, {os.cpu_count()} cores"
    names = re.findall(r"^([\w.-]+)==", _REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    for name in ["torch", *names]:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} is not installed"


def _sizes(home: Home) -> Iterable[str]:
    for path in sorted(home.path.iterdir()) if home.path.is_dir() else ():
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        yield f"{path.name}: {len(files)} files, {sum(each.stat().st_size for each in files)} bytes"


def _errors() -> list[dict[str, object]]:
    failed = [each for each in list_operations(limit=500) if each.error]
    return [
        {"kind": each.kind, "at": str(each.created_at), "connection": each.connection, "error": vars(each.error)}
        for each in failed[:ERRORS]
    ]


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def main() -> int:
    """Write a report of this process's home and say where it is."""
    try:
        path = write_report(homes.current())
    except TunedeckError as error:
        print(error, file=sys.stderr)
        return 1
    with zipfile.ZipFile(path) as archive:
        print(f"{path}: {', '.join(archive.namelist())}.")
    print("Keys, tokens, addresses and names were taken out. Read it before you hand it on.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
