"""What waits for the next version of a data set, and the form of a row that is opened. The data itself stays."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, DataFile, Edit, Row
from core.errors import Conflict
from pages.parts.data import forms as data_forms
from pages.parts.data.repair import describe_change
from pages.parts.kit import words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.state import ui

_SHOWN = 3
_EDITED_CHARACTERS = 100_000


@dataclass(frozen=True)
class _Form:
    """A row that is being edited, as it was when that began. over: the edit that waited for it then, 0: none."""

    key: str
    file: DataFile
    line: int
    over: int
    row: Row
    name: str = field(default_factory=lambda: f"edit-{secrets.token_hex(4)}")


def draw(dataset: ChatDataset, tokenizer: Path | None) -> None:
    """Draw what waits for the next version, and the way to it; nothing where nothing waits."""
    edits = datasets.list_edits(dataset.key)
    if not edits:
        return
    count = Counter(edit.word for edit in edits)
    said = ", ".join(
        f"{words.plural(count[word], 'row')} {word}" for word in ("left out", "edited", "added") if count[word]
    )
    with st.container(border=True, key="edits"):
        st.text(f"{said}, not in this data yet: a copy takes them up, and this data stays.")
        with st.container(horizontal=True):
            action("Make the copy", _make, dataset, edits, tokenizer, key="make-copy", icon="content_copy")
            confirm = Confirm("Undo all?", "Undo all", "Keep them", (f"{said}: all of it is taken back.",), icon="undo")
            action("Undo all", datasets.undo, edits, key="undo-all", icon="undo", confirm=confirm)
        with st.expander("See each change", icon=":material/difference:", key="edits-each"):
            pages = -(-len(edits) // _SHOWN)
            at = st.pagination(pages, key=f"edits-page-{pages}") if pages > 1 else 1
            for edit in edits[(at - 1) * _SHOWN : at * _SHOWN]:
                _draw_edit(dataset, edit)


def remind(dataset: ChatDataset) -> None:
    """Say beside "Use this data" that it has not what waits for its next version."""
    if edits := datasets.list_edits(dataset.key):
        said = f"Not in this data: {words.plural(len(edits), 'change')}, until the copy is made."
        st.caption(said, width="content")


def is_open() -> bool:
    """Tell whether a row is being edited."""
    return ui().view.get("edit") is not None


def draw_row(dataset: ChatDataset, file: DataFile, row: Row) -> None:
    """Draw what waits for a row that is opened, and how to change it."""
    edit = datasets.find_edit(dataset.key, file, row.line)
    if edit:
        _draw_edit(dataset, edit, ", in the copy")
    form: _Form | None = ui().view.get("edit")
    if form and (form.key, form.file, form.line) == (dataset.key, file, row.line):
        _draw_form(form)
        return
    over = edit.id if edit else 0
    with st.container(horizontal=True):
        if edit is None or edit.row is not None:
            place = (dataset.key, file, row.line, over)
            action("Leave this row out", datasets.leave_out, *place, key="leave-out", icon="block")
        long = "This row is too long to be edited here." if len(row.text) > _EDITED_CHARACTERS else ""
        form = _Form(dataset.key, file, row.line, over, datasets.row_to_edit(row, edit))
        action("Edit this row", _open, form, key="edit-row", icon="edit", off=long)


def _draw_edit(dataset: ChatDataset, edit: Edit, where: str = "") -> None:
    (change,) = datasets.list_edited(dataset, [edit])
    with st.container(horizontal=True, vertical_alignment="center"):
        place = f"{dataset.unit_of(edit.file)} {words.number(edit.line)}" if edit.line else "a new row"
        place += " of the test rows" if edit.line and edit.file == "test" else ""
        st.caption(f"{place} · {edit.word}{where}", width="stretch")
        action(f"Undo: {place}", datasets.undo, [edit], key=f"undo-{edit.id}{where}", icon="undo", type="tertiary")
    if edit.row is not None:
        st.code(words.visible(describe_change(change)), language=None, wrap_lines=True)


def _open(form: _Form | None) -> None:
    ui().view["edit"] = form


def _draw_form(form: _Form) -> None:
    """Draw a field for each message; for a row that is no conversation one for the whole line."""
    row = form.row
    messages = row.read()["messages"] if row.messages else []
    with st.form(form.name):
        for number, message in enumerate(messages):
            label = f"Message {number + 1} ({message['role']})"
            st.text_area(label, message.get("content") or "", key=f"{form.name}-{number}")
            if message.get("tool_calls"):
                st.caption("Its calls of tools stay as they are:")
                calls = json.dumps(message["tool_calls"], ensure_ascii=False, indent=1)
                st.code(words.visible(calls), language=None, wrap_lines=True)
        if not messages:
            st.text_area("The row as JSON", row.text, key=f"{form.name}-0", height=240)
        with st.container(horizontal=True):
            action("Keep the edit", _keep, form, key="keep-edit", icon="check", type="primary", in_form=True)
            action("Discard the edit", _open, None, key="discard-edit", icon="close", in_form=True)


def _keep(form: _Form) -> None:
    typed = [str(st.session_state[f"{form.name}-{number}"]) for number in range(len(form.row.messages) or 1)]
    try:
        datasets.edit_row(form.key, form.file, form.line, datasets.retype(form.row, typed), form.over)
    except Conflict:
        now = datasets.find_edit(form.key, form.file, form.line)
        _open(replace(form, over=now.id if now else 0))  # what was typed stays, to be kept knowingly
        raise
    _open(None)


def _make(dataset: ChatDataset, edits: list[Edit], tokenizer: Path | None) -> None:
    data_forms.remember_copy(datasets.start_edited(dataset, edits, tokenizer))
