"""The pieces of the overview: the two cards of a newcomer, the next action, what bills and what ran."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import overview
from core.azureml.settings import LOCAL
from core.overview import NextStep
from core.teardown.inventory import Inventory
from core.words import duration
from pages.parts.home.bills import draw_bills
from pages.parts.kit import words
from pages.parts.kit.action import action, link_button
from pages.parts.kit.elements.table import draw_table
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_error
from pages.parts.kit.summary import Summary, read_summary
from pages.parts.kit.tiles import draw_tile
from pages.parts.operate import idle
from pages.parts.setup import choices
from pages.parts.tune.run_columns import list_columns, make_row
from pages.parts.tune.run_list import is_at_rest

_SHOWN_RUNS = 5
# The page of a step, what its link carries, and the button's words.
_NEXT = {
    NextStep.END_A_BILL: ("teardown", "pick", "See what bills"),
    NextStep.LOOK_AT_FAILURE: ("runs", "run", "See why"),
    NextStep.WATCH: ("runs", "run", "Watch the run"),
    NextStep.DEPLOY: ("deploy", "run", "Deploy this model"),
    NextStep.CHAT: ("chat", "endpoint", "Chat with it"),
    NextStep.CHOOSE_MODEL: ("model", "draft", "Choose model and compute"),
    NextStep.CHOOSE_DATA: ("data", "draft", "Choose the data"),
    NextStep.LAUNCH: ("launch", "draft", "Go to Launch"),
    NextStep.BEGIN: ("model", "", "Start a new run"),
}


def draw_newcomer() -> None:
    """Draw the two ways in."""
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        st.header("On this machine")
        st.markdown("Fine-tune a small chat model for real, here. Free, no account, a few minutes.")
        action("Start on this machine", choices.begin, LOCAL, key="start-here", type="primary", icon="lan")
    with right.container(border=True, height="stretch"):
        st.header("On Azure")
        st.markdown("Use your Azure Machine Learning workspace. You see each price before anything starts.")
        link_button("Connect Azure", link("connect", where="Azure"), key="connect-azure", icon="cloud")


def draw_next(summary: Summary) -> DeltaGenerator:
    """Draw the next action, or its outline while it is not known; returns where `draw_now` says what it is about."""
    found = summary.next_action()
    if found is None:
        failed = next((look.error for look in (summary.endpoints, summary.inventory) if look.error), None)
        if failed:
            draw_error(failed, key="next")
        else:
            st.skeleton(72)
        return st.container()
    page, shows, button = _NEXT[found.step]
    target = link(page, **({shows: found.subject} if shows else {}))
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        place = st.container(width="stretch")
        link_button(button, target, key="next", type="primary", icon="arrow_forward")
    return place


def runs_rest(summary: Summary) -> bool:
    """Whether nothing of the runs that are shown can change."""
    return is_at_rest((summary.runs.value or [])[:_SHOWN_RUNS])


def read_now_token(summary: Summary, rest: bool) -> object:
    """Return what the next action and the menu stand on, which are not drawn again by themselves."""
    found = summary.next_action()
    told = (found.step, found.subject) if found else None
    return (
        overview.describe_active(summary.active_runs),
        len(summary.live_endpoints),
        bool(summary.inventory.value),
        told,
        rest,
    )


def draw_now(next_place: DeltaGenerator) -> object:
    """Draw the sentence of the next action, the tiles, what bills and the newest runs."""
    summary = read_summary()
    if found := summary.next_action():
        next_place.markdown(f"**Next:** {words.plain(found.sentence)}")
    _draw_tiles(summary)
    draw_bills(summary)
    idle.draw_lines()
    rest = True
    if summary.runs.value:
        st.header("Recent runs")
        shown, columns = summary.runs.value[:_SHOWN_RUNS], list_columns((), sortable=False)
        alt = f"The newest runs; the first is {shown[0].title}"
        draw_table(columns, [make_row(run, columns) for run in shown], key="runs-table", alt=alt)
        rest = is_at_rest(shown)
    return read_now_token(summary, rest)


def _draw_tiles(summary: Summary) -> None:
    inventory = summary.inventory.value
    with st.grid(4, min_column_width=160):
        running = sum(run.state_word == "Running" for run in summary.active_runs)
        others = overview.describe_active(summary.active_runs, without="Running") or None
        draw_tile("Running", running, others)
        known = summary.endpoints.has_value
        draw_tile("Live endpoints", len(summary.live_endpoints) if known else "…")
        if inventory is None:
            draw_tile("Billing now", "…")
            draw_tile("Next deletion", "…")
            return
        amounts = " + ".join(amount.words for amount in inventory.amounts)
        so_far = f"{inventory.cost.words} so far" if inventory.billing else None
        unknown = f"+ {inventory.unknown} unknown" if amounts and inventory.unknown else None
        draw_tile("Billing now", amounts or inventory.words, unknown or so_far)
        draw_tile("Next deletion", _next_deletion(inventory))


def _next_deletion(inventory: Inventory) -> str:
    found = overview.find_next_deletion(inventory)
    return f"in {duration(found[1])}" if found else "none"
