"""The turns of a chat: questions, answers with their timing and raw exchange, and an answer as it is written.

Whatever a model or a row says is drawn with `st.text`: as Markdown it could load an image from anywhere.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

import streamlit as st

from core.azureml.connection import Connection
from core.errors import TunedeckError
from core.serving import chat
from core.serving.chat import Delta, Sampling, Stats
from core.serving.endpoints import EndpointView
from core.words import duration
from pages.parts.kit import words
from pages.parts.kit.action import action
from pages.parts.kit.elements.copy_button import draw_copy
from pages.parts.kit.guard import caught
from pages.parts.kit.notices import draw_error
from pages.parts.serve.chat_correction import draw_correction
from pages.parts.serve.chat_state import Chat, Reply, Turn

_PATIENCE_S = 0.15
Heard = Delta | TunedeckError | None


def draw_turns(history: Chat, *, can_ask: bool) -> None:
    """Draw everything that was said."""
    for number, turn in enumerate(history.turns):
        _draw_question(turn)
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            for place, reply in zip(_places(turn), turn.replies, strict=True):
                with place:
                    _draw_reply(reply, f"{history.id}-{number}-{reply.endpoint}", named=len(turn.replies) > 1)
                    with st.container(horizontal=True, gap="small"):
                        if can_ask and number == len(history.turns) - 1 and reply is turn.replies[0]:
                            action("Ask again", history.ask_again, key="again", type="tertiary", icon="refresh")
                        _draw_takeaway(reply, f"{history.id}-{number}-{reply.endpoint}")
                        draw_correction(history, turn, reply, f"correct-{history.id}-{number}-{reply.endpoint}")
            _draw_row(turn, number)


def _places(turn: Turn) -> Sequence[st.delta_generator.DeltaGenerator]:
    return (
        st.columns(len(turn.replies), gap="medium") if len(turn.replies) > 1 else [st.container() for _ in turn.replies]
    )


def _draw_question(turn: Turn) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.text(turn.question)
        if turn.row:
            st.caption(f"Test row {turn.row}, asked on its own")


def _draw_reply(reply: Reply, key: str, *, named: bool) -> None:
    if named:
        st.markdown(f"**{words.plain(reply.endpoint)}**")
    if reply.answer:
        st.text(reply.answer)
    if reply.error is not None:
        draw_error(reply.error, key=f"turn-{key}")
    elif not reply.answer:
        st.caption("Stopped before the first word." if reply.stopped else "The answer is empty.")
    if line := stats_words(reply.stats, reply.stopped):
        st.caption(words.plain(line))
    if reply.wanted:
        st.caption("What you wrote in its place:")
        st.text(reply.wanted)


def _draw_row(turn: Turn, number: int) -> None:
    """Draw what a test row expects, and what the base model said to it when the run was evaluated."""
    if not turn.expected:
        return
    with st.expander(f"Expected answer (test row {turn.row})", expanded=True, key=f"expected-{number}"):
        if not turn.base:
            st.text(turn.expected)
            return
        expected, base = st.columns(2, gap="medium")
        with expected:
            st.markdown("**Expected**")
            st.text(turn.expected)
        with base:
            st.markdown("**Base model, in the evaluation**")
            st.text(turn.base)


def stats_words(stats: Stats | None, stopped: bool = False) -> str:
    """Return "77 ms to first token · 112 tok/s · 14 tokens"."""
    parts = []
    if stats is not None:
        if stats.first_token_s is not None:
            parts.append(f"{stats.first_token_s * 1000:,.0f} ms to first token")
        if stats.tokens_per_s is not None:
            parts.append(f"{stats.tokens_per_s:,.0f} tok/s")
        parts.append(words.plural(stats.tokens, "token"))
        if stats.finish_reason == "length":
            parts.append("cut at max tokens")
    if stopped:
        parts.append("stopped")
    return " · ".join(parts)


def _draw_takeaway(reply: Reply, key: str) -> None:
    """Draw the ways to take an answer away: its text, the raw exchange, the request as a program."""
    if reply.answer:
        draw_copy(reply.answer, key=f"copy-{key}")
    exchange = reply.exchange
    if exchange is None:
        return
    with st.popover("Request", icon=":material/data_object:", type="tertiary", key=f"request-{key}"):
        st.text(f"POST {exchange.url}, answered {exchange.status}. The key is not shown.")
        shown = st.segmented_control(
            "Show",
            ["Request", "Answer", "curl", "Python"],
            default="Request",
            required=True,
            key=f"raw-{key}",
            label_visibility="collapsed",
        )
        if shown == "Request":
            st.json(dict(exchange.request))
        elif shown == "Answer":
            st.code(exchange.answer, language="json", height=280, wrap_lines=True)
        elif shown == "curl":
            st.code(exchange.to_curl(), language="bash", wrap_lines=True)
        else:
            st.code(exchange.to_python(), language="python")


def stream_answer(conn: Connection, asked: Sequence[EndpointView], history: Chat, sampling: Sampling) -> None:
    """Ask what waits, of one endpoint or of two at once, and draw the answers as they are written.

    What was written so far is kept when it is stopped. A thread talks to each endpoint: were the script itself to wait
    for a silent one, its Stop could not be heard.
    """
    turn, history.waiting = history.waiting, None
    if turn is None:
        return
    turn.replies = [Reply(endpoint.name, stopped=True) for endpoint in asked]  # until the end of each is heard
    history.turns.append(turn)
    _draw_question(turn)
    stop = threading.Event()
    heard = [_begin_talk(conn, endpoint, turn, sampling, stop) for endpoint in asked]
    try:
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            _draw_while(turn, heard)
    finally:
        stop.set()
        history.save()
    st.rerun()


def _begin_talk(
    conn: Connection, endpoint: EndpointView, turn: Turn, sampling: Sampling, stop: threading.Event
) -> queue.Queue[Heard]:
    pieces: queue.Queue[Heard] = queue.Queue()

    def talk() -> None:
        with caught(pieces.put):
            for delta in chat.stream_chat(conn, endpoint, turn.prompt, sampling, stop):
                pieces.put(delta)
        pieces.put(None)

    threading.Thread(target=talk, name="chat", daemon=True).start()
    return pieces


def _draw_while(turn: Turn, heard: Sequence[queue.Queue[Heard]]) -> None:
    boxes = []
    for place, reply in zip(_places(turn), turn.replies, strict=True):
        with place:
            if len(turn.replies) > 1:
                st.markdown(f"**{words.plain(reply.endpoint)}**")
            boxes.append(st.empty())
    began = time.monotonic()
    while any(reply.stopped for reply in turn.replies):
        for reply, pieces, box in zip(turn.replies, heard, boxes, strict=True):
            if not reply.stopped:
                continue
            if _take(reply, pieces) and reply.answer:
                box.text(reply.answer)
            elif not reply.answer:
                why = reply.waiting or "Waiting for the first word"
                box.caption(f"{why}… {duration(time.monotonic() - began)}")


def _take(reply: Reply, pieces: queue.Queue[Heard]) -> bool:
    """Wait a moment for an endpoint and take what it said; tells whether that was anything."""
    try:
        found = [pieces.get(timeout=_PATIENCE_S)]
    except queue.Empty:
        return False
    while not pieces.empty():
        found.append(pieces.get_nowait())
    for piece in found:
        if piece is None:
            reply.stopped = False
        elif isinstance(piece, TunedeckError):
            reply.error = piece
        else:
            reply.answer, reply.waiting = reply.answer + piece.text, piece.waiting
            reply.stats, reply.exchange = piece.stats or reply.stats, piece.exchange or reply.exchange
    return True
