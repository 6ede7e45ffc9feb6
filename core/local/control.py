"""Starts, finds and ends what belongs to a home, from outside its server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import LocalWorkspaceDown
from core.home import Home
from core.local import processes, shim
from core.local.home_check import check_home
from core.local.wire.auth import Gatekeeper
from core.locks import is_held
from core.pids import lives
from core.programs import start_detached

START_WAIT_S = 30.0
STOP_WAIT_S = 15.0
_LOG_TAIL_LINES = 15


def start(home: Home) -> str:
    """Start the server detached where none runs, wait until it answers, and say where it is."""
    check_home(home.path)
    home.create()
    if find_health(home):
        return f"Runs already: {describe(home)}."
    started = start_detached(["-m", "core.local", "serve"], home, home.logs / "server.out", append=True)
    until = time.monotonic() + START_WAIT_S
    while time.monotonic() < until:
        if find_health(home):
            return f"Started: {describe(home)}."
        if started.poll() not in (None, 0):
            break
        time.sleep(0.05)
    raise LocalWorkspaceDown(
        "The local workspace did not start.",
        f"Read {home.logs / 'server.out'} and {home.logs / 'server.log'}.",
        "\n".join(processes.read_tail(home.logs / "server.out", _LOG_TAIL_LINES)),
    )


def stop(home: Home) -> list[str]:
    """End the server first, so that it starts nothing again, then every trainer and scorer; say what was ended."""
    ended, goes_on = [], False
    if is_served(home):
        ended.append(_stop_server(home))
    for folder in list_live_folders(home):
        gone = processes.stop(folder)
        ended.append(f"{'Ended' if gone else 'Could not end'} {_name_of(home, folder)}.")
        goes_on |= folder.is_relative_to(home.runs)
    if goes_on:
        ended.append("A run that was ended goes on from its last checkpoint when the local workspace is started again.")
    return ended


def read_status(home: Home) -> tuple[list[str], bool]:
    """Return what runs, in lines, and whether the server answers."""
    health = find_health(home)
    if health:
        lines = [f"Server: {describe(home)}, since {health['started_at']}."]
    elif is_served(home):
        lines = [f"Server: runs but does not answer at {home.url()}."]
    else:
        lines = ["Server: not running."]
    lines += [f"Runs: {_name_of(home, folder)}." for folder in list_live_folders(home)]
    return [f"Home: {home.path}", *lines], health is not None


def is_served(home: Home) -> bool:
    """Tell whether a server holds this home's lock."""
    return is_held(home.server_lock)


def find_health(home: Home, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """Return what the home's server says of itself, None where it does not answer or is another home's."""
    token = Gatekeeper(home.secret(), home.port()).sign_token(home.url(), 60)
    connection = http.client.HTTPConnection("127.0.0.1", home.port(), timeout=timeout_s)
    try:
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if response.status == 200 and answer.get("home") == str(home.path) else None


def describe(home: Home) -> str:
    """Return the server's address and process in words."""
    pid = _read_server_file(home).get("pid")
    return f"{home.url()}, process {pid}" if pid else home.url()


def list_live_folders(home: Home) -> Iterator[Path]:
    """Yield the step folders in which a trainer or scorer lives."""
    for root in (home.runs, home.deployments):
        for lock in sorted(root.rglob(shim.LOCK_NAME)):
            if processes.is_alive(lock.parent):
                yield lock.parent


def _stop_server(home: Home) -> str:
    who = describe(home)
    for ask, patience_s in ((signal.SIGTERM, STOP_WAIT_S), (signal.SIGKILL, STOP_WAIT_S)):
        record = _read_server_file(home)
        if record and lives(int(record["pid"]), record["start_time"]):
            os.kill(int(record["pid"]), ask)
            os.kill(int(record["pid"]), signal.SIGCONT)  # a suspended server could not end
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if not is_served(home):
                home.server_file.unlink(missing_ok=True)
                return f"Ended the server ({who})."
            time.sleep(0.05)
    return f"Could not end the server ({who})."


def _read_server_file(home: Home) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(home.server_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record


def _name_of(home: Home, folder: Path) -> str:
    if folder.is_relative_to(home.deployments):
        return f"the scorer of {folder.relative_to(home.deployments)}"
    return f"the step {folder.relative_to(home.runs)}"
