"""A real Streamlit server with a script of a test, and what a browser tells it and hears, without a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from tests.pages.conftest import REPOSITORY, free_port
from tests.waiting import wait_until


@contextmanager
def serve(folder: Path, app: str, **environment: str) -> Iterator[ClientConnection]:
    (folder / "app.py").write_text(app, encoding="utf-8")
    port = free_port()
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.port",
            str(port),
            "--server.headless",
            "true",
            "--runner.fastReruns",
            "false",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with closing(_connect(port)) as session:
            yield session
    finally:
        server.kill()
        server.wait()


def _connect(port: int) -> ClientConnection:
    def attempt() -> ClientConnection | None:
        with suppress(OSError):
            return connect(f"ws://127.0.0.1:{port}/_stcore/stream", max_size=None, proxy=None)
        return None

    return wait_until(attempt, "Streamlit's answer")


def ask(session: ClientConnection, page: str = "", fragment: str = "", patience_s: float = 60.0) -> list[ForwardMsg]:
    """Ask for a page, as a click does, or for a fragment, as its timer does; returns what a run sends until its end."""
    asked = BackMsg()
    asked.rerun_script.page_script_hash = page
    asked.rerun_script.fragment_id = fragment
    asked.rerun_script.is_auto_rerun = bool(fragment)
    session.send(asked.SerializeToString())
    sent: list[ForwardMsg] = []
    while not sent or sent[-1].WhichOneof("type") != "script_finished":
        sent.append(ForwardMsg.FromString(session.recv(timeout=patience_s)))
    return sent


def find_timer(sent: list[ForwardMsg]) -> str:
    """Return the id of the fragment that a run drew, which its timer asks for."""
    return next(each.delta.fragment_id for each in sent if each.delta.fragment_id)
