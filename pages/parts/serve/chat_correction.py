"""The answer that was wanted in the place of one that was given: a row to be learned, in the data's next version."""

from __future__ import annotations

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, Edit
from core.serving import endpoints
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, drawer, open_dialog
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.serve.chat_questions import find_data, find_run
from pages.parts.serve.chat_state import Chat, Reply, Turn


def draw_correction(history: Chat, turn: Turn, reply: Reply, key: str) -> None:
    """Draw the way to correct an answer, and the panel in which that is done."""
    if reply.error is None:
        action("Correct this answer…", open_dialog, key, key=f"open-{key}", type="tertiary", icon="edit_note")
        drawer(key, "Correct this answer", lambda: _draw(history, turn, reply, key), icon="edit_note")


def _draw(history: Chat, turn: Turn, reply: Reply, key: str) -> None:
    st.text(turn.question)
    if turn.row:
        st.text("This is a test question. A model that had learned its answer could no longer be tested with it.")
        return
    known = reads.read(endpoints.list_endpoints, max_age_s=5.0)
    if not ready(known, "Looking for its endpoint…", (90,), key=f"{key}-endpoints"):
        return
    endpoint = next((one for one in known.value if one.name == reply.endpoint), None)
    if endpoint is None:
        draw_empty(f"Endpoint '{reply.endpoint}' is gone, and with it what says which data its model was trained on.")
        return
    run = find_run(endpoint)
    if run and not ready(run, "Looking for the data that it was trained on…", (90,), key=f"{key}-run"):
        return
    trained_on = find_data(endpoint)
    if trained_on is None:
        draw_empty("The data that this model was trained on is not on this machine, so nothing can be added to it.")
        return
    dataset = datasets.find_latest(trained_on)
    kept = datasets.find_answer(dataset.key, turn.prompt)
    if kept:
        _draw_kept(dataset, kept, history, reply, key)
    elif reply.wanted:
        st.caption("What you wrote before is in a version already, or was undone. To change it there, edit its row.")
    with st.form(f"{key}-form", border=False):
        answer = _answer_of(kept) if kept else reply.wanted or reply.answer
        st.text_area("The answer that was wanted", answer, key=f"{key}-answer", height=160)
        st.caption("Learned is this answer alone; what was said before is read with it.")
        over = kept.id if kept else 0
        keep = (dataset, history, turn, reply, over, key)
        action("Keep this answer", _keep, *keep, key=f"keep-{key}", type="primary", in_form=True)


def _draw_kept(dataset: ChatDataset, kept: Edit, history: Chat, reply: Reply, key: str) -> None:
    with st.container(border=True):
        st.caption(words.plain(f"Waits for the next version of '{dataset.name}':"))
        st.text(_answer_of(kept))
        with st.container(horizontal=True, vertical_alignment="center"):
            link("data", data=dataset.key).draw("Make that version on Data", icon="arrow_forward")
            action("Undo", _undo, kept, history, reply, key=f"undo-{key}", type="tertiary", icon="undo")


def _answer_of(kept: Edit) -> str:
    return str(kept.row["messages"][-1]["content"]) if kept.row else ""


def _keep(dataset: ChatDataset, history: Chat, turn: Turn, reply: Reply, over: int, key: str) -> None:
    wanted = str(st.session_state[f"{key}-answer"])
    datasets.add_answer(dataset.key, turn.prompt, wanted, over)
    reply.wanted = wanted
    history.save()


def _undo(kept: Edit, history: Chat, reply: Reply) -> None:
    datasets.undo([kept])
    reply.wanted = ""
    history.save()
