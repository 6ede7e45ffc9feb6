"""What a page says while its dashboard does not answer. Drawn hidden: by then nothing can be drawn any more."""

from __future__ import annotations

import json
from http import HTTPStatus

import streamlit as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SENTENCE = """
<div class="lost" role="alert"><strong>The dashboard does not answer.</strong>
Runs and endpoints go on without it. If it was ended, start it again with <code>make run</code>; this page comes back by
itself.</div>
"""
_STYLE = """
.lost { display: none; padding: 0.5rem 0.75rem; font: 1rem var(--st-font); color: var(--st-text-color);
  background: var(--st-orange-background-color); border: 1px solid var(--st-border-color);
  border-radius: var(--st-base-radius); }
[data-test-connection-state="PINGING_SERVER"] .lost,
[data-test-connection-state="DISCONNECTED_FOREVER"] .lost { display: block; visibility: hidden;
  animation: say-lost 0s 2s forwards; }  /* a connection that breaks and is back at once needs no word */
@keyframes say-lost { to { visibility: visible; } }
"""
_element = st.components.v2.component("tunedeck.lost", html=_SENTENCE, css=_STYLE, isolate_styles=False)


def say_when_lost() -> None:
    """Have the page say so when it loses its dashboard; takes no room."""
    _element(key="lost", width="content")


class NoDialogs:
    """Tells browsers to open none of Streamlit's own dialogs, such as "Are you connected to the internet?"."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Change the one answer, `_stcore/host-config`, on its way out."""
        if scope.get("method") != "GET" or not str(scope.get("path", "")).endswith("/_stcore/host-config"):
            await self._app(scope, receive, send)
            return
        begun: list[Message] = []

        async def change(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
                begun.append(message)
                return
            if not begun:  # a page's own path beneath which there is none
                await send(message)
                return
            body = json.dumps({**json.loads(message["body"]), "blockErrorDialogs": True}).encode()
            headers = [pair for pair in begun[0]["headers"] if pair[0].lower() != b"content-length"]
            await send({**begun[0], "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({**message, "body": body})

        await self._app(scope, receive, change)
