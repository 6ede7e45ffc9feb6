"""An option that was given another label, of which the browser still reports the old one."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest


def _script() -> None:
    import streamlit as st

    from pages.parts.kit import fields

    labels = st.session_state.setdefault("labels", {"a": "Calm", "b": "Bright"})
    chosen = st.session_state.setdefault("chosen", ["b"])
    field = fields.place("colour", chosen[-1], list(labels))
    for draw in (st.selectbox, st.radio):
        if st.session_state["draws"] == draw.__name__:
            options = fields.follow(field, "Colour", chosen.append)
            draw("Colour", field.among, field.index, format_func=lambda name: labels.get(name, name), **options)


@pytest.mark.parametrize("kind", ["selectbox", "radio"])
def test_an_old_label_is_no_choice_and_the_field_shows_the_new_one(kind: str) -> None:
    app = AppTest.from_function(_script)
    app.session_state["draws"] = kind
    app.run()
    app.session_state["labels"] = {"a": "Calm", "b": "Brighter"}
    (field,) = app.run().get(kind)
    report(field, "Bright")
    assert app.session_state["chosen"] == ["b"]
    (field,) = app.get(kind)
    assert (field.options[field.index], field.value) == ("Brighter", "b")
    field.set_value("a").run()
    assert app.session_state["chosen"] == ["b", "a"]


def report(field: Any, label: str) -> None:
    """Report a label as the browser does that was shown no other one."""
    field.options = [*field.options, label]
    field.set_value(label).run()
