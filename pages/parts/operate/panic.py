"""Delete everything I made: one button, one question that names all of it, and the workspace's name to type."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.azureml.connection import Connection
from core.operations import Operation
from core.operations.panic import PanicPlan
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.links import link

_ASKED = "panic"
_SHOWN = 12


def read_plan(conn: Connection) -> PanicPlan:
    """Say what would go."""
    return operations.plan_panic(conn)


def draw_panic(conn: Connection) -> None:
    """Draw the button, and once it is asked for what would go."""
    st.header("Everything I made", anchor=False)
    st.caption("Your jobs are cancelled; your endpoints, clusters and instances are deleted. Models and data stay.")
    found = reads.read(read_plan, max_age_s=60.0)
    plan = found.value
    off = found.error.message if found.error and plan is None else "" if plan else "Reading what you made…"
    action(
        "Delete everything I made…",
        _start,
        conn,
        key=_ASKED,
        icon="delete_forever",
        off=off or ("" if plan and plan.keys else "Nothing here that bills was made by you through Tunedeck."),
        confirm=_question(plan) if plan else None,
        then=lambda begun: link("teardown", operation=begun.id),
    )


def _start(conn: Connection, typed: str = "") -> Operation:
    return operations.start_panic(operations.Ledger(), conn, typed)


def _question(plan: PanicPlan) -> Confirm:
    stays = [f"Stays: {line}" for line in plan.stays]
    lines = ["It cannot be undone.", *_first(plan.lines), *_first(stays), *plan.problems]
    return Confirm(
        title=f"Delete {words.plural(len(plan.keys), 'thing')} in {plan.workspace}?",
        yes="Delete everything I made",
        keep="Keep it",
        lines=tuple(lines),
        type_name=plan.workspace,
        icon="delete_forever",
    )


def _first(lines: tuple[str, ...] | list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
