"""One change of the ledger on the activity page: its steps, what it is about, and the way to try it again."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.operations import Operation
from pages.parts.kit import words
from pages.parts.kit.action import action
from pages.parts.kit.links import Link, link
from pages.parts.kit.live import live
from pages.parts.kit.steps import draw_operation

_RUNS = ("launch", "cancel", "run_at_cap")
_ENDPOINTS = ("deploy", "traffic", "expire", "idle_deletion", "endpoint_at_cap")


def draw_change(operation: Operation) -> None:
    """Draw a change; while it is under way it is drawn again and again."""
    st.header(words.plain(operation.title), anchor=False)

    def draw() -> object:
        now = operations.get_operation(operation.id)
        draw_operation(now, key="activity")
        return now.state

    live(draw, key="change-steps", run_every=None if operation.finished else 1.0, token=operation.state)
    with st.container(horizontal=True, vertical_alignment="center"):
        if operation.state == "failed":
            action(
                "Try again",
                operations.retry_operation,
                operation.id,
                key="retry-change",
                icon="refresh",
                then=lambda again: link("activity", change=again.id),
                help="Each step looks first at what is already so; nothing is sent twice.",
            )
        if target := _find_subject(operation):
            target.draw(f"Open {words.plain(operation.subject)}", icon="arrow_forward")


def _find_subject(operation: Operation) -> Link | None:
    """Return the page of what a change is about."""
    if operation.kind in _RUNS:
        return link("runs", run=operation.subject)
    if operation.kind in _ENDPOINTS or operation.change.writes == ("endpoint", operation.subject.lower()):
        return link("deploy", endpoint=operation.subject)
    return link("teardown", operation=operation.id) if operation.kind == "teardown" else None
