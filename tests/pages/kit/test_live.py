"""Parts that draw themselves again leave nothing behind for the whole run that follows."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def test_a_page_is_not_drawn_into_the_strip_that_was_drawn_just_before_it() -> None:
    app = AppTest.from_function(_script).run()
    assert [text.value for text in app.main.text] == ["the page"]
    assert {text.value for text in app.text} == {"left in the strip", "the page"}


def _script() -> None:
    import streamlit as st

    from pages.parts.kit.live import begin_whole_run

    st.bottom.__enter__()  # as Streamlit leaves it to a whole run on the thread of the strip's fragment
    st.text("left in the strip")
    begin_whole_run()
    st.text("the page")
