"""What is idle, what ending it saves, and after how many idle hours something ends by itself."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.azureml.reader import Snapshot
from core.teardown import due, idle
from core.teardown.due import Timed
from core.teardown.idle import Idle, Use
from pages.parts.kit import reads
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error

HOURS = {"Keep it": 0, "1 h": 1, "4 h": 4, "12 h": 12, "1 day": 24}
_EVERY_S = 300.0
_THEN = {"endpoint": "Delete it", "compute": "Zero minimum nodes"}


def choose_hours(label: str, *, key: str, now: int = 0) -> int:
    """Draw after how many idle hours something ends by itself; returns them, 0 for never."""
    names = {hours: name for name, hours in HOURS.items()}
    return HOURS[
        st.segmented_control(label, list(HOURS), default=names.get(now, "Keep it"), required=True, key=key) or "Keep it"
    ]


def draw_proposals() -> None:
    """Draw what is idle with the way to end it, and folded, what is in use or not known."""
    _follow_changes()
    found = _read_idle()
    judged = found.value or []
    ends = [each for each in judged if each.use is Use.IDLE]
    stays = [each for each in judged if each.use is not Use.IDLE]
    if ends:
        st.header("Idle", anchor=False)
    for each in ends:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"idle-{each.key}"):
            st.text(each.words, width="stretch")
            _draw_end(each)
            draw_when_idle(each.timed)
    if stays or found.error:
        unknown = sum(each.use is Use.UNKNOWN for each in stays)
        counts = {"in use": len(stays) - unknown, "not known whether idle": unknown}
        label = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "not known"
        with st.expander(f"When idle: {label}", icon=":material/hourglass_disabled:", key="not-idle"):
            for each in stays:
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.text(f"{each.timed.name} · {each.use} · {each.why}", width="stretch")
                    draw_when_idle(each.timed)
            if found.error:
                st.text(f"{found.error.message} {found.error.hint}")


def draw_lines() -> None:
    """Draw a line for each thing that is idle, which leads to where it can be ended."""
    for each in _read_idle().value or ():
        if each.use is Use.IDLE:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(each.words)
                link("teardown", pick=each.key).draw("Zero nodes…" if each.nodes else "Delete…", icon="hourglass_empty")


def _draw_end(each: Idle) -> None:
    name = each.timed.name
    if each.timed.kind == "endpoint":
        link("teardown", pick=each.key).draw("Delete…", icon="delete_forever")
        return
    question = Confirm(
        title=f"Let {name} keep no node?",
        yes="Set the minimum to zero",
        keep="Keep its nodes",
        lines=(
            f"Made by {each.timed.created_by or 'nobody known'}. Jobs on it go on.",
            "The next run waits some minutes for a node.",
        ),
        icon="hourglass_empty",
    )
    alias = ui().alias or ""
    action("Zero nodes…", operations.start_scale_to_zero, alias, name, key=f"zero-{name}", confirm=question)


def draw_when_idle(timed: Timed) -> None:
    """Draw what happens to an endpoint or a cluster by itself when idle, and the way to change that."""
    asked = operations.find_operation_for(ui().alias or "", timed.name, "set_idle")
    choice, key = idle.read_choice(timed), f"{timed.kind}-{timed.name}"
    then, without = _THEN[timed.kind], "request" if timed.kind == "endpoint" else "job"
    with st.popover("When idle", icon=":material/hourglass_empty:", key=f"when-idle-{key}"):
        if choice.problem:
            st.text(f"Not obeyed: {choice.problem}")
        st.text(f"Now: {then.lower()} after {choice.hours} h." if choice.hours else "Now: it is kept.")
        hours = choose_hours(f"After so long without a {without}", key=f"idle-hours-{key}", now=choice.hours or 0)
        is_so = hours == (choice.hours or 0) and not choice.problem
        action(
            f"{then} after {hours} h" if hours else "Keep it when idle",
            operations.start_set_idle,
            ui().alias or "",
            timed.kind,
            timed.name,
            hours,
            key=f"set-idle-{key}",
            icon="hourglass_empty",
            off="It is being changed." if asked and not asked.finished else "It is so already." if is_so else "",
        )
        st.caption("Only where it is known to be idle; not known is never taken for idle.")
    if asked is not None and asked.state == "failed":
        draw_operation_error(asked, key=f"idle-{key}")


def draw_when_idle_of(endpoint: str) -> None:
    """Draw the same on an endpoint's own page."""
    _follow_changes()
    if timed := reads.read(due.find_timed, "endpoint", endpoint, max_age_s=1.0).value:
        draw_when_idle(timed)


def _read_idle() -> Snapshot[list[Idle]]:
    """Return what is idle, read anew when any operation of this home has ended: however soon after its click."""
    ended = tuple(each.id for each in operations.list_operations(ui().alias, active=False))
    return reads.read(idle.list_idle, max_age_s=_EVERY_S, phase=ended)


def _follow_changes() -> None:
    """Have the page drawn again when a change of what happens when idle has ended."""
    live(_list_changes, key="idle-changes", run_every=1.0 if _list_changes() else None)


def _list_changes() -> tuple[str, ...]:
    active = operations.list_operations(ui().alias, active=True)
    return tuple(each.id for each in active if each.kind in {"set_idle", "scale_to_zero"})
