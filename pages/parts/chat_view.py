"""The chat page's pieces: turns with their timing and raw exchange, an answer as it is written, questions to try.

Whatever a model or a row says is drawn with `st.text`: as Markdown it could load an image from anywhere.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from core import chat, dataset, endpoints, operations, overview, tags
from core.chat import Delta, Sampling, Stats
from core.connection import Connection
from core.endpoints import EndpointView
from core.errors import TunedeckError
from pages.parts import reads, words
from pages.parts.action import action
from pages.parts.chat_state import Chat, Turn
from pages.parts.deploy_view import draw_endpoint_badge
from pages.parts.links import link
from pages.parts.live import live
from pages.parts.notices import caught, draw_empty, draw_error, end_page, ready
from pages.parts.state import set_url_id, ui

_PATIENCE_S = 0.15


def find_first_endpoint() -> str:
    """Return the newest endpoint that answers and put it into the URL; says what is missing and ends the page."""
    snapshot = reads.read(endpoints.list_endpoints, max_age_s=3.0)
    found: Sequence[EndpointView] = snapshot.value or ()
    if not found:
        st.title("Chat", anchor=False)
        if ready(snapshot, "Looking for endpoints…", (56, 56), key="endpoints"):
            draw_empty("Nothing is live.", link("deploy"), "Deploy a model")
        end_page()
    name = next((endpoint.name for endpoint in found if endpoint.live), found[0].name)
    set_url_id("endpoint", name)
    return name


def draw_head(name: str, endpoint: EndpointView | None) -> tuple[Sampling, str]:
    """Draw the title, which endpoint, its state and the sampling; returns the sampling and the system prompt."""
    known: Sequence[EndpointView] = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    names = list(dict.fromkeys([name, *(one.name for one in known)]))
    if st.session_state.get("chat-endpoint") not in (None, name):
        chosen = st.session_state["chat-endpoint"]
        if ui().notes.get("chat-shown") == name:  # the operator chose another one; else the link did
            set_url_id("endpoint", chosen)
            st.rerun()
    ui().notes["chat-shown"] = name
    st.session_state["chat-endpoint"] = name
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title("Chat", anchor=False, width="content")
        st.selectbox("Endpoint", names, key="chat-endpoint", label_visibility="collapsed", width=260)
        if endpoint is not None:
            draw_endpoint_badge(endpoint)
        st.space("stretch")
        return draw_sampling()


def draw_deleted(name: str, history: Chat) -> None:
    """Say that the endpoint went away under the page; what was said stays."""
    with st.container(border=True, gap="small", key="deleted"):
        st.badge("Deleted", icon=":material/cloud_off:", color="orange")
        st.text(overview.describe_deletion(ui().alias or "", name))
        st.text("Your chat is kept. Export it, or deploy again." if history.turns else "Deploy again to talk to it.")
        link("deploy").draw("Deploy again", icon="cloud_upload")


def draw_not_live(endpoint: EndpointView) -> None:
    """Say why an endpoint does not answer, and the way to change that."""
    up = [one for one in endpoint.deployments if one.up]
    with st.container(border=True, gap="small", key="not-live"):
        if up:
            st.text(f"{endpoint.name} is up but gets no traffic.")
            target = up[0].name
            action(f"Send 100% to {words.plain(target)}", operations.start_set_traffic, ui().alias or "", endpoint.name,
                   {target: 100}, key="traffic", icon="alt_route", type="primary")  # fmt: skip
        else:
            st.text(f"{endpoint.name} does not answer yet: {endpoint.state_word.lower()}.")
            link("deploy", endpoint=endpoint.name).draw("See how far it is", icon="arrow_forward")

    def look() -> object:
        found = reads.read(endpoints.get_endpoint, endpoint.name, max_age_s=2.0).value
        return found.live if found else None

    live(look, key="wait-live", run_every=2.0)


def draw_export(history: Chat) -> None:
    """Draw the way to take the transcript away."""
    if history.turns:
        st.download_button("Export", history.to_json, file_name=f"chat-{history.endpoint}.json", key="export",
                           mime="application/json", icon=":material/download:", on_click="ignore",
                           type="tertiary")  # fmt: skip


def draw_sampling() -> tuple[Sampling, str]:
    """Draw how words are drawn; returns it with the system prompt."""
    with st.popover("Sampling", icon=":material/tune:", key="sampling"):
        temperature = st.slider("Temperature", 0.0, 2.0, 0.6, 0.1, key="temperature", persist_state="session",
                                help="0 takes the likeliest word each time.")  # fmt: skip
        top_p = st.slider("Top p", 0.05, 1.0, 0.9, 0.05, key="top-p", persist_state="session",
                          help="Draws only from the likeliest words that together reach this share.")  # fmt: skip
        longest = st.number_input("Max tokens", 1, 2048, 200, 50, key="max-tokens", persist_state="session")
        system = st.text_area("System prompt", key="system", persist_state="session", height=90,
                              placeholder="Empty: none is sent")  # fmt: skip
    return Sampling(temperature, top_p, int(longest or 200)), (system or "").strip()


def draw_turns(history: Chat, *, can_ask: bool) -> None:
    """Draw everything that was said."""
    for number, turn in enumerate(history.turns):
        draw_question(turn)
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            if turn.answer:
                st.text(turn.answer)
            if turn.error is not None:
                draw_error(turn.error, key=f"turn-{number}")
            elif not turn.answer:
                st.caption("Stopped before the first word." if turn.stopped else "The answer is empty.")
            if line := stats_words(turn.stats, turn.stopped):
                st.caption(words.plain(line))
            with st.container(horizontal=True, gap="small"):
                if can_ask and number == len(history.turns) - 1:
                    action("Ask again", history.ask_again, key="again", type="tertiary", icon="refresh")
                _draw_exchange(turn, number)
            if turn.expected:
                with st.expander(f"Expected answer (test row {turn.row})", expanded=True, key=f"expected-{number}"):
                    st.text(turn.expected)


def draw_question(turn: Turn) -> None:
    """Draw what was asked."""
    with st.chat_message("user", avatar=":material/person:"):
        st.text(turn.question)
        if turn.row:
            st.caption(f"Test row {turn.row}, asked on its own")


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


def _draw_exchange(turn: Turn, number: int) -> None:
    exchange = turn.exchange
    if exchange is None:
        return
    with st.popover("Request", icon=":material/data_object:", type="tertiary", key=f"request-{number}"):
        st.text(f"POST {exchange.url}, answered {exchange.status}. The key is not shown.")
        shown = st.segmented_control("Show", ["Request", "Answer", "curl", "Python"], default="Request", required=True,
                                     key=f"raw-{number}", label_visibility="collapsed")  # fmt: skip
        if shown == "Request":
            st.json(dict(exchange.request))
        elif shown == "Answer":
            st.code(exchange.answer, language="json", height=280, wrap_lines=True)
        elif shown == "curl":
            st.code(exchange.to_curl(), language="bash", wrap_lines=True)
        else:
            st.code(exchange.to_python(), language="python")


def stream_answer(conn: Connection, endpoint: EndpointView, history: Chat, sampling: Sampling) -> None:
    """Ask what waits and draw the answer as it is written; what was written so far is kept when it is stopped.

    A thread talks to the endpoint: were the script itself to wait for a silent endpoint, its Stop could not be heard.
    """
    turn, history.waiting = history.waiting, None
    if turn is None:
        return
    history.turns.append(turn)
    draw_question(turn)
    stop = threading.Event()
    pieces: queue.Queue[Delta | TunedeckError | None] = queue.Queue()

    def talk() -> None:
        with caught(pieces.put):
            for delta in chat.stream_chat(conn, endpoint, turn.prompt, sampling, stop):
                pieces.put(delta)
        pieces.put(None)

    threading.Thread(target=talk, name="chat", daemon=True).start()
    turn.stopped = True  # until the end is heard: a stopped script never comes back here
    try:
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            _draw_while(turn, pieces)
        turn.stopped = False
    finally:
        stop.set()
    st.rerun()


def _draw_while(turn: Turn, pieces: queue.Queue[Delta | TunedeckError | None]) -> None:
    box = st.empty()
    began = time.monotonic()
    while True:
        try:
            heard = [pieces.get(timeout=_PATIENCE_S)]
        except queue.Empty:
            heard = []
            if not turn.answer:
                box.caption(f"Waiting for the first word… {words.duration(time.monotonic() - began)}")
        while not pieces.empty():
            heard.append(pieces.get_nowait())
        for piece in heard:
            if piece is None:
                return
            if isinstance(piece, TunedeckError):
                turn.error = piece
                continue
            turn.answer += piece.text
            turn.stats, turn.exchange = piece.stats or turn.stats, piece.exchange or turn.exchange
        if heard and turn.answer:
            box.text(turn.answer)


def draw_suggestions(history: Chat, endpoint: EndpointView) -> None:
    """Draw questions to try: one that anybody would ask, and a random row of the test split."""
    with st.container(horizontal=True, gap="small", key="suggestions"):
        found = _find_test_rows(endpoint)
        if found is not None:
            action("Random test row", _ask_random_row, history, *found, key="random-row", icon="casino")
            for number, question in enumerate(_first_questions(*found)):
                action(words.plain(question), history.ask, question, key=f"try-{number}")
        else:
            action("What is your name?", history.ask, "What is your name?", key="try-name")
        if history.turns:
            action("Clear", history.clear, key="clear", icon="delete_sweep")


def _find_test_rows(endpoint: EndpointView) -> tuple[Path, int] | None:
    """Return the test file of the run behind an endpoint and its rows, where this home has it."""
    run = reads.read(overview.read_run, endpoint.run, max_age_s=600.0).value if endpoint.run else None
    known = dataset.find_dataset(run.tags.get(tags.DATASET_KEY, "")) if run else None
    if known is None or known.test_path is None or not known.test_rows:
        return None
    return known.test_path, known.test_rows


def _first_questions(path: Path, rows: int) -> Sequence[str]:
    found = []
    for row in dataset.read_rows(path, 0, min(rows, 12)):
        prompt, _ = chat.split_row(row.messages) if row.messages else ([], "")
        if prompt and len(prompt[-1]["content"]) <= 48:
            found.append(prompt[-1]["content"])
    return found[:2]


def _ask_random_row(history: Chat, path: Path, rows: int) -> None:
    number = random.randrange(rows)
    for row in dataset.read_rows(path, number, 1):
        prompt, expected = chat.split_row(row.messages)
        history.ask_row(number + 1, list(prompt), expected)
