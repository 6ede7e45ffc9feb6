"""A field for a file of the browser. What is given lies in the home at once, and this process lets go of it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from core import dataset as datasets
from core.dataset import GivenFile
from core.errors import BadInput, NotFound
from pages.parts.kit import words
from pages.parts.kit.action import action, draw_error_of, on_change
from pages.parts.kit.state import ui

MOST_MB = datasets.MAX_BROWSER_BYTES // 1_000_000


def draw_file(label: str, name: str, types: Sequence[str]) -> GivenFile | None:
    """Draw the field, or the file that was given; returns the latter. No fragment may stand round it."""
    given: GivenFile | None = ui().notes.get(f"given-{name}")
    if given is not None and not datasets.is_kept(given):
        ui().notes.pop(f"given-{name}")
        ui().errors[name] = NotFound(f"{words.visible(given.name)} is no longer kept here.", "Choose it again.")
        given = None
    if given is not None:
        with st.container(gap="xxsmall"):
            st.markdown(f":small[{label}]")
            with st.container(border=True, horizontal=True, vertical_alignment="center"):
                st.text(f"{words.visible(given.name)} · {words.size(given.size)}")
                action("Choose another", let_go, name, key=f"other-{name}", icon="close")
        return given
    key = f"{name}-{_turn(name)}"
    st.file_uploader(label, types, key=key, max_upload_size=MOST_MB, **on_change(name, _take, name, key))
    draw_error_of(name)
    return None


def let_go(name: str) -> None:
    """Remove the file that was given, and draw the field again."""
    if given := ui().notes.pop(f"given-{name}", None):
        datasets.forget_given(given)


def _take(name: str, key: str) -> None:
    """Bring the file into the home. Streamlit would keep it, and a copy for each reader, as long as the tab is open."""
    file = st.session_state.get(key)
    if not isinstance(file, UploadedFile):  # none, or a second report of one that was taken: Streamlit's DeletedFile
        return
    let_go(name)
    try:
        if file.size > datasets.MAX_BROWSER_BYTES:
            raise BadInput(f"The file is larger than {MOST_MB} MB.", "Take it by its path on the server.")
        ui().notes[f"given-{name}"] = datasets.keep_given(file.name, file)
    finally:
        ui().notes[f"turn-{name}"] = _turn(name) + 1  # the field that still holds the file is drawn no more
        context = get_script_run_ctx()
        if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)


def _turn(name: str) -> int:
    return int(ui().notes.get(f"turn-{name}", 0))
