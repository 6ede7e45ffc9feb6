"""Parts that draw themselves again leave nothing behind for the whole run that follows."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.pages.kit.streamlit_server import ask, find_timer, serve

RESTS = """
import streamlit as st
from pages.parts.kit.live import REST, live

looks = st.session_state.setdefault("looks", [])

def look():
    looks.append(1)
    return False if len(looks) < 3 else REST

live(look, key="pulse", run_every=600, token=False)
"""


def test_a_page_is_not_drawn_into_the_strip_that_was_drawn_just_before_it() -> None:
    app = AppTest.from_function(_script).run()
    assert [text.value for text in app.main.text] == ["the page"]
    assert {text.value for text in app.text} == {"left in the strip", "the page"}


def test_a_part_that_rests_ends_its_timer_and_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    with serve(tmp_path, RESTS) as session:
        timer = find_timer(ask(session))
        second, third = ask(session, fragment=timer), ask(session, fragment=timer)
    assert not any(each.HasField("stop_auto_rerun") for each in second)
    assert [list(each.stop_auto_rerun.fragment_ids) for each in third if each.HasField("stop_auto_rerun")] == [[timer]]
    assert third[-1].script_finished == third[-1].FINISHED_FRAGMENT_RUN_SUCCESSFULLY  # no whole run is asked for


def _script() -> None:
    import streamlit as st

    from pages.parts.kit.live import begin_whole_run

    st.bottom.__enter__()  # as Streamlit leaves it to a whole run on the thread of the strip's fragment
    st.text("left in the strip")
    begin_whole_run()
    st.text("the page")
