"""Questions before an action."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def _script() -> None:
    import streamlit as st

    from pages.parts.kit.action import Confirm, action, draw_open_dialog

    ticks = tuple(st.session_state.setdefault("warnings", ["One", "Two"]))
    done = st.session_state.setdefault("done", [])
    action("Go", done.append, 1, key="go", confirm=Confirm("Go?", "Yes", "No", ticks=ticks))
    draw_open_dialog()


def test_a_warning_that_takes_the_place_of_a_ticked_one_is_not_ticked() -> None:
    app = AppTest.from_function(_script).run()
    app.button(key="go").click().run()
    app.checkbox[0].check()
    app.button(key="go-yes").click().run()
    assert app.session_state["done"] == []
    app.session_state["warnings"] = ["Another", "Two"]
    app.run()
    app.checkbox[1].check()
    app.button(key="go-yes").click().run()
    assert [tick.value for tick in app.checkbox] == [False, True]
    assert app.session_state["done"] == []
