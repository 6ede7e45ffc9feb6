"""The answer that was wanted in the place of one that was given: a row to be learned, in the data's next version."""

from __future__ import annotations

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, Edit
from core.serving import endpoints
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, drawer, open_dialog
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.serve.chat_questions import find_data
from pages.parts.serve.chat_state import Reply, Turn


def draw_correction(turn: Turn, reply: Reply, key: str) -> None:
    """Draw the way to correct an answer, and the panel in which that is done."""
    if reply.error is None:
        action("Correct this answer…", open_dialog, key, key=f"open-{key}", type="tertiary", icon="edit_note")
        drawer(key, "Correct this answer", lambda: _draw(turn, reply, key), icon="edit_note")


def _draw(turn: Turn, reply: Reply, key: str) -> None:
    st.text(turn.question)
    if turn.row:
        st.text("This is a test question. A model that had learned its answer could no longer be tested with it.")
        return
    known = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    trained_on = next((find_data(one) for one in known if one.name == reply.endpoint), None)
    if trained_on is None:
        draw_empty("The data that this model was trained on is not on this machine, so nothing can be added to it.")
        return
    dataset = datasets.find_latest(trained_on)
    kept = datasets.find_answer(dataset.key, turn.prompt)
    if kept:
        _draw_kept(dataset, kept, key)
    with st.form(f"{key}-form", border=False):
        answer = _answer_of(kept) if kept else reply.answer
        st.text_area("The answer that was wanted", answer, key=f"{key}-answer", height=160)
        st.caption("Learned is this answer alone; what was said before is read with it.")
        over = kept.id if kept else 0
        action("Keep this answer", _keep, dataset, turn, over, key, key=f"keep-{key}", type="primary", in_form=True)


def _draw_kept(dataset: ChatDataset, kept: Edit, key: str) -> None:
    with st.container(border=True):
        st.caption(words.plain(f"Waits for the next version of '{dataset.name}':"))
        st.text(_answer_of(kept))
        with st.container(horizontal=True):
            link("data", data=dataset.key).draw("Make that version on Data", icon="arrow_forward")
            action("Undo", datasets.undo, [kept], key=f"undo-{key}", type="tertiary", icon="undo")


def _answer_of(kept: Edit) -> str:
    return str(kept.row["messages"][-1]["content"]) if kept.row else ""


def _keep(dataset: ChatDataset, turn: Turn, over: int, key: str) -> None:
    datasets.add_answer(dataset.key, turn.prompt, str(st.session_state[f"{key}-answer"]), over)
