"""What a browser reports of a file twice, the second time when it was taken already."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def report_twice() -> None:
    import streamlit as st
    from streamlit.runtime.uploaded_file_manager import DeletedFile

    from pages.parts.kit.elements import file_field
    from pages.parts.kit.state import ui

    ui().notes["given-train"] = "the file"
    st.session_state["train-0"] = DeletedFile("taken")
    file_field._take("train", "train-0")
    st.text(ui().notes["given-train"])


def test_a_second_report_of_a_file_that_was_taken_leaves_it_as_it_was_given() -> None:
    app = AppTest.from_function(report_twice).run()
    assert not app.exception
    assert [text.value for text in app.text] == ["the file"]
