"""A run's name and note: given at Launch or later, and the same for every Tunedeck."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import operations, overview
from core.azureml import tags
from core.errors import BadInput
from core.launch.drafts import Draft
from core.operations import Operation
from core.runs.states import Run
from core.runs.titles import check_note, check_title
from pages.parts.kit import fields, words
from pages.parts.kit.action import action, draw_error_of
from pages.parts.kit.state import ui
from pages.parts.operate.follow import follow_change
from pages.parts.setup import choices


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


def draw_first_name(draft: Draft) -> None:
    """Draw the fields for the name, the note and the tags of the run that is about to start, all kept in its draft."""
    with st.grid(3, min_column_width=180, gap="small"):
        _draw_kept(draft, "title", "Name", placeholder="Two words are made up", help="You can rename it later.")
        _draw_kept(draft, "note", "Note", placeholder="What this run is to show")
        _draw_kept(draft, "labels", "Tags", placeholder="name, name=value")
    with st.container():  # of its own, as in `frame._draw_page`: it comes and goes
        if problem := find_problem(draft):
            st.markdown(f":material/error: {words.plain(problem)}")


def _draw_kept(draft: Draft, choice: str, label: str, **options: Any) -> None:
    field = fields.place(f"{choice}-{draft.id}", getattr(draft, choice))
    with st.container():
        st.text_input(label, field.value, **options, **fields.follow(field, label, _keep, draft.id, choice))
        draw_error_of(field.name)


def _keep(text: str, draft_id: str, choice: str) -> None:
    choices.save(draft_id, **{choice: text.strip()})


def find_problem(draft: Draft) -> str:
    """Return why what was typed cannot be the run's name, note or tags, "" where it can."""
    try:
        check_title(draft.title or "none")
        check_note(draft.note)
        tags.parse_labels(draft.labels)
    except BadInput as error:
        return f"{error.message} {error.hint}"
    return ""
