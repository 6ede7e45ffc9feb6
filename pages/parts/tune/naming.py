"""A run's name and note: given at Launch or later, and the same for every Tunedeck."""

from __future__ import annotations

import streamlit as st

from core import operations, overview
from core.azureml import tags
from core.errors import BadInput
from core.operations import Operation
from core.runs.states import Run
from core.runs.titles import check_title
from pages.parts.kit.action import action
from pages.parts.kit.state import ui
from pages.parts.operate.follow import follow_change


def draw_rename(run: Run) -> None:
    """Draw the way to give a run another name and a note; Enter in the name saves."""
    changing = follow_change("rename", run.name, (overview.read_runs,), key="rename")
    note = run.tags.get(tags.NOTE, "")
    key = f"rename-{run.name}-{hash((run.title, note))}"  # fields anew where another named it
    with st.popover("Rename", icon=":material/edit:", key="rename"), st.form(f"{key}-form", border=False):
        st.text_input("Name", run.title, key=f"{key}-title")
        st.text_input("Note", note, key=f"{key}-note", help="Both are tags of the run: whoever works here reads them.")
        action("Save", _rename, run.name, key, key="save-name", icon="check", off=changing, in_form=True)


def draw_note(run: Run) -> None:
    """Draw a run's note, where it has one."""
    if note := run.tags.get(tags.NOTE):
        st.text(note)


def _rename(run: str, key: str) -> Operation:
    fields = st.session_state
    return operations.start_rename(ui().alias or "", run, fields[f"{key}-title"], fields[f"{key}-note"])


def draw_first_name(draft_id: str) -> str:
    """Draw the field for the name of the run that is about to start; returns why it cannot be, "" if it can."""
    st.text_input("Name", key=_first(draft_id), placeholder="Two words are made up", help="You can rename it later.")
    return find_problem(draft_id)


def find_problem(draft_id: str) -> str:
    """Return why what was typed cannot be the run's name, "" where it can."""
    try:
        check_title(read_first_name(draft_id) or "none")
    except BadInput as error:
        return f"{error.message} {error.hint}"
    return ""


def read_first_name(draft_id: str) -> str:
    """Return the name that was typed for the run, "" for none."""
    return str(st.session_state.get(_first(draft_id)) or "").strip()


def _first(draft_id: str) -> str:
    return f"first-name-{draft_id}"
