"""Caps on a page: the workspace's with what bills against them, that of a run or an endpoint, what a start meets."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import operations
from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.reader import Snapshot
from core.operations import Operation
from core.runs.states import JobState, Run
from core.serving.endpoints import EndpointView
from core.teardown import caps, inventory
from core.teardown.caps import Cap, Capped, Limits, Wanted
from core.teardown.inventory import Inventory
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.kit.notices import draw_error, draw_warning
from pages.parts.kit.state import ui
from pages.parts.kit.summary import Summary
from pages.parts.operate.follow import follow_change

_CAPS = (caps.read_limits, caps.find_capped)
_THEN = {"run": "Cancel it then", "endpoint": "Delete it then"}
_ENDED = {"run": "it is cancelled", "endpoint": "it is deleted"}


def draw_limits(conn: Connection, inventory: Inventory) -> None:
    """Draw the caps of a workspace that costs money, what bills against them, and the way to change them."""
    if not conn.costs_money:
        return
    changing = follow_change("cap", conn.settings.workspace_name, _CAPS, key="limits")
    snapshot = reads.read(caps.read_limits, max_age_s=15.0)
    limits: Limits = snapshot.value or Limits()
    for problem in limits.problems:
        draw_warning(problem)
    _draw_hour(limits, inventory)
    _draw_day(limits)
    if snapshot.error:
        draw_error(snapshot.error, key="limits-unread")
    if snapshot.value is None:
        return
    with st.popover("Limits", icon=":material/speed:", key="limits"):
        st.text("The most that may bill here. Who starts something is held to it, from whichever Tunedeck.")
        st.caption("A tag of the workspace; 0 for none. A day's only warns.")
        hour, day = _key_of(limits.hour, "limit-hour"), _key_of(limits.day, "limit-day")
        _choose_amount(f"Per hour, {inventory.currency}", limits.hour, hour)
        _choose_amount(f"Per day, {inventory.currency}", limits.day, day)
        currency = inventory.currency
        action("Set the limits", _set_limits, conn, currency, hour, day, key="set-limits", icon="speed", off=changing)
        if limits.by:
            st.caption(words.plain(f"Set by {limits.by}."))


def _draw_hour(limits: Limits, inventory: Inventory, *, bar: bool = True) -> None:
    cap = limits.hour
    if cap is None:
        return
    said = f"{inventory.words} bills, of at most {cap.words}/h"
    share = min(1.0, sum(amount.per_hour or 0.0 for amount in inventory.amounts) / cap.amount)
    if {amount.currency for amount in inventory.amounts} - {cap.currency}:
        draw_warning(f"{said}. Currencies are not converted, so it is not held.")
        return
    if bar:
        st.progress(share, text=words.plain(said))
    if share >= 1.0:
        draw_warning(f"{said}: nothing more is started.", "Delete something, or raise the cap.")


def _draw_day(limits: Limits) -> None:
    cost = reads.read(caps.read_day, max_age_s=30.0).value if limits.day else None
    if cost and limits.day and caps.judge(limits.day, cost, None, ends=False).reached:
        draw_warning(f"Since midnight UTC about {cost.words} was seen to bill here: a day's cap is {limits.day.words}.")


def _choose_amount(label: str, cap: Cap | None, key: str, **kept: Any) -> None:
    st.number_input(label, 0.0, 1e8, cap.amount if cap else 0.0, format="%.2f", key=key, **kept)


def _key_of(cap: Cap | None, name: str) -> str:
    """Return a key for the field of a cap that others may change: the field begins anew with what they set."""
    return f"{name}-{cap.tag}" if cap else name


def _cap_in(key: str, currency: str) -> Cap | None:
    amount = float(st.session_state.get(key) or 0.0)
    return Cap(amount, currency) if amount else None


def _set_limits(conn: Connection, currency: str, *fields: str) -> Operation:
    hour, day = (_cap_in(key, currency) for key in fields)
    return operations.start_set_limits(conn.alias, conn.settings.workspace_name, hour, day)


def draw_reached(conn: Connection, summary: Summary) -> None:
    """Draw which caps are reached: of the workspace, and of what goes on and has one of its own."""
    if not conn.costs_money:
        return
    limits = reads.read(caps.read_limits, max_age_s=60.0).value
    if limits and summary.inventory.value:
        _draw_hour(limits, summary.inventory.value, bar=False)
        _draw_day(limits)
    for found in (*summary.active_runs, *(summary.endpoints.value or ())):
        if warning := _find_warning(found):
            draw_warning(f"{found.title if isinstance(found, Run) else found.name}: {warning}")


# One run or endpoint ---------------------------------------------------------------------------------------------


def choose_cap(kind: str, *, key: str, currency: str) -> None:
    """Draw the optional cap of a run or an endpoint that is about to start; `read_cap` reads it.

    What is typed stays for the session, as the other settings of a start do: one may look at another page before it.
    """
    with st.expander("Cap", icon=":material/speed:", key=f"{key}-cap"):
        _draw_fields(kind, None, key, currency, persist_state="session")


def read_cap(*, key: str, currency: str) -> tuple[str, bool]:
    """Return the cap that the fields hold now, as its tag, and whether it ends what it is of."""
    cap = _cap_in(f"{key}-amount", currency)
    return cap.tag if cap else "", bool(cap and st.session_state.get(f"{key}-ends"))


def say_cap(kind: str, *, key: str, currency: str) -> str:
    """Return what a question before the start says of the cap that the fields hold."""
    cap = _cap_in(f"{key}-amount", currency)
    then = _ENDED[kind] if st.session_state.get(f"{key}-ends") else "it only warns"
    return f"Its cap is {cap.words}: {then} when that is reached." if cap else "It has no cap."


def _draw_fields(kind: str, known: Capped | None, key: str, currency: str, **kept: Any) -> None:
    cap = known.cap if known else None
    _choose_amount(f"The most it may cost in all, {currency}; 0 for none", cap, f"{key}-amount", **kept)
    st.toggle(
        _THEN[kind],
        bool(known and known.ends),
        key=f"{key}-ends",
        help="Without this, reaching it only warns. It goes on where what is left costs less than a tenth of it.",
        **kept,
    )


def draw_cap(found: Run | EndpointView) -> str:
    """Draw the way to change the cap of a run or an endpoint; returns what is to be warned of, "" for nothing."""
    conn, kind = reads.find_connection(), _kind_of(found)
    if conn is None or not conn.costs_money:
        return ""
    if isinstance(found, Run) and found.finished:
        ended = operations.find_operation_for(conn.alias, found.name, "run_at_cap")
        return ended.steps[0].detail if ended and found.state is JobState.CANCELED else ""
    changing, known = follow_change("cap", found.name, _CAPS, key="cap"), _find_capped(found)
    with st.popover("Cap", icon=":material/speed:", key="cap"):
        if known is None and found.tags.get(tags.CAP):  # fields without it would take the cap away
            if error := _read_capped(found).error:
                draw_error(error, key="cap-unread")
            else:
                st.text("Its cap is being read.")
            return ""
        st.text(known.words if known else "It has no cap.")
        billing = reads.read(inventory.list_billing, max_age_s=15.0).value or Inventory()
        currency = known.cap.currency if known and known.cap else billing.currency
        key = _key_of(known.cap if known else None, f"cap-{found.name}-{bool(known and known.ends)}")
        _draw_fields(kind, known, key, currency)
        action("Set the cap", _set_cap, kind, found.name, currency, key, key="set-cap", icon="speed", off=changing)
    return _find_warning(found)


def _kind_of(found: Run | EndpointView) -> str:
    return "run" if isinstance(found, Run) else "endpoint"


def _find_capped(found: Run | EndpointView) -> Capped | None:
    """Return what came to its cap; nothing is asked of what has none."""
    if not found.tags.get(tags.CAP):
        return None
    known: Capped | None = _read_capped(found).value
    return known


def _read_capped(found: Run | EndpointView) -> Snapshot[Any]:
    return reads.read(caps.find_capped, _kind_of(found), found.name, max_age_s=15.0)


def find_reached(endpoint: EndpointView) -> str:
    """Return why nothing more is started on an endpoint that came to its cap, "" where it did not."""
    known = _find_capped(endpoint)
    return f"{known.words} Raise its cap first." if known and known.reached.reached else ""


def _find_warning(found: Run | EndpointView) -> str:
    known = _find_capped(found)
    return known.words if known and (known.reached is not caps.Reached.NOT_YET or known.problem) else ""


def _set_cap(kind: str, name: str, currency: str, fields: str) -> Operation:
    ends = bool(st.session_state.get(f"{fields}-ends"))
    return operations.start_set_cap(ui().alias or "", kind, name, _cap_in(f"{fields}-amount", currency), ends=ends)


# What is about to start ------------------------------------------------------------------------------------------


def check_start(conn: Connection, wanted: Wanted) -> tuple[str, tuple[str, ...]]:
    """Return why something may not start, "" where it may, and what a person has to accept before."""
    if not conn.costs_money:
        return "", ()
    standing = reads.read(caps.read_standing, max_age_s=15.0).value
    answer = standing.check(wanted) if standing else caps.Answer()
    unknown = "What an hour of it costs is not known." if wanted.price.per_hour is None else ""
    blocked = f"{answer.blocked} {answer.hint} Its limits are on Teardown." if answer.blocked else ""
    return blocked, tuple(filter(None, (unknown, answer.unsure)))
