"""The changes of the ledger in a table, and one of them: its steps, what it is about, the way to try it again."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.operations import Operation
from pages.parts.kit import words
from pages.parts.kit.action import action
from pages.parts.kit.elements.table import Column, Row, draw_table
from pages.parts.kit.links import Link, link
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation

_RUNS = ("launch", "cancel", "run_at_cap")
_ENDPOINTS = ("deploy", "traffic", "expire", "idle_deletion", "endpoint_at_cap")
_COLUMNS = (Column("What"), Column("Outcome"), Column("When", "short"), Column("Who", from_px=560))


def draw_changes() -> bool:
    """Draw the newest changes, a row of which opens one; returns whether one is under way."""
    known = operations.list_operations(ui().alias, limit=100)
    rows = [
        Row(
            one.id,
            link("activity", change=one.id),
            (one.title, one.outcome, words.moment(one.created_at), one.user),
        )
        for one in known
    ]
    alt = f"{words.plural(len(rows), 'change')}; the newest is {known[0].title}, {known[0].outcome}"
    draw_table(_COLUMNS, rows, key="changes-table", alt=alt)
    return any(not one.finished for one in known)


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
