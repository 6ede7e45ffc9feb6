"""Chat: hear what the tuned model says, with its timing and the raw exchange."""

import streamlit as st

from core.errors import NotFound
from core.serving import endpoints
from pages.parts.kit import reads
from pages.parts.kit.elements.typed import keep_typed
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.kit.state import url_id
from pages.parts.serve import chat as view
from pages.parts.serve.chat_questions import draw_questions
from pages.parts.serve.chat_state import chat_with
from pages.parts.serve.chat_turns import draw_turns, stream_answer

conn = reads.find_connection()
if conn is None:
    st.title("Chat", anchor=False)
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

name = url_id("endpoint")
if not name:
    name = view.find_first_endpoint()
history = chat_with(name, url_id("chat"))
snapshot = reads.read(endpoints.get_endpoint, name, max_age_s=3.0)
gone = isinstance(snapshot.error, NotFound)
endpoint = None if gone else snapshot.value

choices = view.draw_head(name, endpoint)
view.draw_unknown_chat(history)
if gone:
    view.draw_deleted(name, history)
elif endpoint is None:
    if not ready(snapshot, "Reading the endpoint…", (72, 72), key="endpoint") and not history.turns:
        end_page()
elif not endpoint.live:
    view.draw_not_live(endpoint)

can_ask = endpoint is not None and endpoint.live
if not history.turns and can_ask and history.waiting is None:
    st.text("Ask what the data taught. Try one of the questions below.")
draw_turns(history, can_ask=can_ask)
view.draw_keeping(history)

with st.bottom:
    if can_ask and endpoint is not None:
        with st.container(horizontal=True, gap="small", key="suggestions"):
            draw_questions(history, endpoint)
    question = st.chat_input(f"Message {name}", submit_mode="stop", key="message", disabled=not can_ask)
    keep_typed(f"{conn.alias}/{name}", len(history.turns))
if question:
    history.ask(question, choices.system)
if endpoint is not None and can_ask:
    asked = [endpoint, choices.beside] if choices.beside else [endpoint]
    stream_answer(conn, asked, history, choices.sampling)
