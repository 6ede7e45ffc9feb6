"""When an endpoint is deleted by itself: chosen before a deploy, changed while it answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from core import operations
from core.operations import Operation
from core.serving.endpoints import EndpointView
from core.teardown.due import as_timed
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error

_LIVES = {"1 h": timedelta(hours=1), "8 h": timedelta(hours=8), "1 day": timedelta(days=1), "Never": None}


def choose_end(*, billed: bool, key: str) -> datetime | None:
    """Draw how long something stays; returns when it ends, to the minute, or None for never."""
    kept = st.segmented_control(
        "How long it stays",
        list(_LIVES),
        default="8 h" if billed else "Never",
        required=True,
        key=key,
        label_visibility="collapsed",
    )
    return end_after(kept)


def end_after(kept: str | None) -> datetime | None:
    """Return when something ends that stays for this choice."""
    lives = _LIVES[kept or "8 h"]
    return None if lives is None else (datetime.now(UTC) + lives).replace(second=0, microsecond=0)


def draw_delete_at(endpoint: EndpointView) -> None:
    """Draw when the endpoint is deleted and the way to change that; the tag on the endpoint is the truth."""
    found = reads.find_connection()
    if found is None:
        return
    asked = operations.find_operation_for(ui().alias or "", endpoint.name, "delete_at")
    with st.popover("Delete at", icon=":material/timer:", key="delete-at"):
        st.text(f"Now: {describe_end(endpoint)}.")
        chosen = choose_end(billed=found.costs_money, key="new-life")
        strict = st.checkbox(
            "Even if it is in use",
            value=as_timed("endpoint", endpoint).strict,
            key="delete-at-strict",
            disabled=chosen is None,
            help="Else an endpoint that answered in the last 15 minutes is kept for an hour, once.",
        )
        never = Confirm(
            title="Never delete this endpoint by itself?",
            yes="Never delete it",
            keep="Keep its end",
            lines=(f"{endpoint.name} bills until you delete it.",),
            icon="timer_off",
        )
        label = f"Delete it at {words.plain(words.moment(chosen))}" if chosen else "Never delete it by itself"
        action(
            label,
            _set_end,
            endpoint.name,
            chosen,
            strict and chosen is not None,
            key="set-delete-at",
            icon="timer",
            off="It is being changed." if asked is not None and not asked.finished else "",
            confirm=never if found.costs_money and chosen is None else None,
        )
    if asked is not None and asked.state == "failed":
        draw_operation_error(asked, key="delete-at")


def describe_end(endpoint: EndpointView) -> str:
    """Return "deleted at 15:00, even if it is in use", "no delete-at", or why one that stands there is not obeyed."""
    timed = as_timed("endpoint", endpoint)
    if timed.verdict.ignored:
        return f"never deleted: {timed.verdict}"
    if timed.delete_at is None:
        return "no delete-at"
    return f"deleted at {words.moment(timed.delete_at)}{', even if it is in use' if timed.strict else ''}"


def _set_end(name: str, at: datetime | None, strict: bool) -> Operation:
    begun = operations.start_set_delete_at(ui().alias or "", "endpoint", name, at, strict=strict)
    reads.forget(operations.list_everything)
    return begun
