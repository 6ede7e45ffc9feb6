"""A click on a link, then a timer of the page that was left, told to a real Streamlit server in its own words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.pages.conftest import REPOSITORY
from tests.pages.kit.streamlit_server import ask, find_timer, serve

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


def _started(sent: list[ForwardMsg]) -> str:
    return next(each.new_session.page_script_hash for each in sent if each.WhichOneof("type") == "new_session")


def _pages_and_timer(sent: list[ForwardMsg]) -> tuple[dict[str, str], str]:
    shown = next(each.navigation for each in sent if each.WhichOneof("type") == "navigation")
    return {page.url_pathname or "first": page.page_script_hash for page in shown.app_pages}, find_timer(sent)


@pytest.mark.parametrize("guard", ["yes", "no"])
def test_a_late_timer_fetches_the_left_page_back_only_in_streamlit_alone(tmp_path: Path, guard: str) -> None:
    """If 'no' fails, Streamlit has mended it: delete pages/parts/kit/clicks.py and mark decision 0006."""
    with serve(tmp_path, APP, GUARD=guard) as session:
        pages, timer = _pages_and_timer(ask(session))
        assert _started(ask(session, pages["second"])) == pages["second"]
        if guard == "yes":
            with pytest.raises(TimeoutError):
                ask(session, pages["first"], timer, patience_s=2.0)
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
