"""Finds the local workspace of a home, and starts it where it does not run. Talks to it only over HTTP."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core import home as homes
from core.azureml.cloud import CURRENT_CLOUD, LocalCredential, local_cloud
from core.azureml.settings import Settings, local_settings
from core.errors import LocalWorkspaceDown
from core.home import Home
from core.locks import tried
from core.programs import start_detached


def ensure_local(home: Home | None = None, timeout_s: float = 30.0) -> Settings:
    """Return the local workspace's settings once it answers; start it if it does not. Blocks: not for a page's path.

    Raises LocalWorkspaceDown with the end of its log.
    """
    home = (home or homes.current()).create()
    if ask_health(home):
        return local_settings()
    deadline = time.monotonic() + timeout_s
    with _starting(home, deadline):
        if ask_health(home):
            return local_settings()  # another process was first
        server = _start(home)
        while time.monotonic() < deadline:
            if ask_health(home):
                return local_settings()
            if server.poll() is not None:
                raise _down(home, f"It ended at once, with exit status {server.returncode}.")
            time.sleep(0.1)
    raise _down(home, f"It was started {timeout_s:.0f} s ago and does not answer yet.")


def ask_health(home: Home, timeout_s: float = 1.0) -> dict[str, Any]:
    """Return what the local workspace says of itself, {} where it does not answer.

    Raises LocalWorkspaceDown where something else answers on the home's port.
    """
    import requests

    token = LocalCredential(home).get_token(local_cloud(home).scope).token
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(
                f"{home.url()}/health", headers={"Authorization": f"Bearer {token}"}, timeout=(0.5, timeout_s)
            )
            health = answer.json() if answer.ok else {}
        except requests.RequestException:
            return {}
    if not isinstance(health, dict) or Path(str(health.get("home", ""))) != home.path:
        raise LocalWorkspaceDown(
            f"Something else answers on 127.0.0.1:{home.port()}, where the local workspace of this home belongs.",
            "End that program, then start the local workspace: `python -m core.local serve`.",
            f"status {answer.status_code}\n{answer.text[:500]}",
        )
    return health


@contextmanager
def _starting(home: Home, deadline: float) -> Iterator[None]:
    """Hold the lock under which a server is started, so that two dashboards start one."""
    while True:
        with tried(home.path / "starting.lock") as mine:
            if mine:
                yield
                return
        if time.monotonic() > deadline:
            raise _down(home, "Another process has been starting it for too long.")
        time.sleep(0.1)


def _start(home: Home) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != CURRENT_CLOUD}
    arguments = ["-m", "core.local", "serve"]
    return start_detached(arguments, home, _log_path(home), environment=environment, append=True)


def _log_path(home: Home) -> Path:
    return home.logs / "local-workspace.log"


def _down(home: Home, why: str) -> LocalWorkspaceDown:
    path = _log_path(home)
    tail = path.read_bytes()[-4000:].decode("utf-8", "replace") if path.exists() else ""
    return LocalWorkspaceDown(
        f"The local workspace does not answer on 127.0.0.1:{home.port()}. {why}",
        "Start it by hand to see why: `python -m core.local serve`. Runs and data are kept.",
        tail,
    )
