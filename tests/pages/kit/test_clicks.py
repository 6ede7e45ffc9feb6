"""A click on a link, then a timer of the page that was left, told to a real Streamlit server in its own words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from tests.pages.conftest import REPOSITORY, free_port
from tests.waiting import wait_until

APP = """
import os
import streamlit as st
from pages.parts.kit.clicks import let_clicks_win

if os.environ["GUARD"] == "yes":
    let_clicks_win()
st.navigation([st.Page(lambda: None, title="First", url_path="first", default=True),
               st.Page(lambda: None, title="Second", url_path="second")]).run()

@st.fragment(run_every=600)
def pulse():
    st.text("beats on each page")

pulse()
"""


@contextmanager
def serve(folder: Path, guard: str) -> Iterator[ClientConnection]:
    (folder / "app.py").write_text(APP, encoding="utf-8")
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
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "GUARD": guard},
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


def ask(session: ClientConnection, page: str = "", fragment: str = "") -> list[ForwardMsg]:
    """Ask for a page, as a click does, or for a fragment, as its timer does; returns what a run sends until its end."""
    asked = BackMsg()
    asked.rerun_script.page_script_hash = page
    asked.rerun_script.fragment_id = fragment
    asked.rerun_script.is_auto_rerun = bool(fragment)
    session.send(asked.SerializeToString())
    sent: list[ForwardMsg] = []
    while not sent or sent[-1].WhichOneof("type") != "script_finished":
        sent.append(ForwardMsg.FromString(session.recv(timeout=2.0 if fragment else 20.0)))
    return sent


def _started(sent: list[ForwardMsg]) -> str:
    return next(each.new_session.page_script_hash for each in sent if each.WhichOneof("type") == "new_session")


def _pages_and_timer(sent: list[ForwardMsg]) -> tuple[dict[str, str], str]:
    shown = next(each.navigation for each in sent if each.WhichOneof("type") == "navigation")
    timer = next(each.delta.fragment_id for each in sent if each.delta.fragment_id)
    return {page.url_pathname or "first": page.page_script_hash for page in shown.app_pages}, timer


@pytest.mark.parametrize("guard", ["yes", "no"])
def test_a_late_timer_fetches_the_left_page_back_only_in_streamlit_alone(tmp_path: Path, guard: str) -> None:
    """If 'no' fails, Streamlit has mended it: delete pages/parts/kit/clicks.py and mark decision 0006."""
    with serve(tmp_path, guard) as session:
        pages, timer = _pages_and_timer(ask(session))
        assert _started(ask(session, pages["second"])) == pages["second"]
        if guard == "yes":
            with pytest.raises(TimeoutError):
                ask(session, pages["first"], timer)
            assert _started(ask(session, pages["second"], timer)) == pages["second"], "its own timer is heard"
            assert _started(ask(session, pages["first"])) == pages["first"], "a click back is heard"
            assert _started(ask(session, pages["first"], timer)) == pages["first"]
        else:
            assert _started(ask(session, pages["first"], timer)) == pages["first"]


@pytest.mark.parametrize(
    ("guard", "waiting", "then"),
    [
        ("yes", "page_script_hash='clicked'", "clicked"),
        ("no", "page_script_hash='clicked'", "script's"),
        ("yes", "page_script_hash='left', fragment_id='timer', is_auto_rerun=True", "script's"),
    ],
)
def test_a_script_that_asks_for_a_page_pushes_a_timer_aside_and_no_click(guard: str, waiting: str, then: str) -> None:
    """In a process of its own, as the guard stays where it was put."""
    code = (
        "import threading\n"
        "from streamlit.runtime.scriptrunner import add_script_run_ctx\n"
        "from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests\n"
        "from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext\n"
        "from pages.parts.kit.clicks import let_clicks_win\n"
        f"if '{guard}' == 'yes': let_clicks_win()\n"
        "requests = ScriptRequests()\n"
        f"requests.request_rerun(RerunData({waiting}))\n"
        'script = threading.Thread(target=requests.request_rerun, args=[RerunData(page_script_hash="script\'s")])\n'
        "add_script_run_ctx(script, ScriptRunContext.__new__(ScriptRunContext))\n"
        "script.start(); script.join()\n"
        "print(requests.on_scriptrunner_ready().rerun_data.page_script_hash)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.split()[-1] == then
