"""The list of runs: search, states, a table for looking, radios for opening, and curves laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core import metrics, overview
from core.metrics import Series
from core.run_states import Run
from pages.parts import charts, reads, words
from pages.parts.links import link
from pages.parts.live import live
from pages.parts.notices import draw_empty, ready
from pages.parts.state import ui

_PER_PAGE = 8
_ACTIVE = ("Queued", "Preparing", "Running", "Finalising", "Cancelling")


def draw_list() -> None:
    """Draw all runs of this workspace."""
    st.title("Runs", anchor=False)
    snapshot = reads.read(overview.read_runs, max_age_s=2.0)
    if not ready(snapshot, "Reading the runs…", (44, 220, 160), key="runs"):
        return
    if not snapshot.value:
        draw_empty("No runs yet.", link("launch"), "Go to Launch")
        return
    found = _filter(snapshot.value)
    if not found:
        st.text("No run matches. Clear the search or the states.")
        return
    pages = -(-len(found) // _PER_PAGE)

    def shown() -> list[Run]:
        first = (ui().runs_page - 1) * _PER_PAGE
        return found[first : first + _PER_PAGE]

    def draw() -> object:
        newest = {run.name: run for run in reads.read(overview.read_runs, max_age_s=2.0).value or ()}
        table = st.container()
        ui().runs_page = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
        with table:
            _draw_table([newest.get(run.name, run) for run in shown()])
        return len(newest), ui().runs_page

    live(draw, key="runs", run_every=2.0 if any(not run.finished for run in found) else None)
    _draw_opener(shown())
    if len(found) > 1:
        _draw_comparison(found)


def _filter(runs: Sequence[Run]) -> list[Run]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Search runs", type="search", live=True, key="q", bind="query-params", width=280,
                             placeholder="name, model, data").lower()  # fmt: skip
        states = st.pills("Show", ["Active", "Completed", "Failed", "Cancelled"], selection_mode="multi", key="state",
                          bind="query-params")  # fmt: skip
    wanted = set(states or ())
    return [
        run
        for run in runs
        if (not text or text in f"{run.title} {run.name} {run.model} {run.dataset} {run.display_name}".lower())
        and (not wanted or run.state_word in wanted or ("Active" in wanted and run.state_word in _ACTIVE))
    ]


def _draw_table(runs: Sequence[Run]) -> None:
    rows: list[dict[str, Any]] = []
    for run in runs:
        loss = _read_loss(run)
        seconds = words.since(run.started_at) - (words.since(run.ended_at) if run.ended_at else 0.0)
        rows.append(
            {
                "Run": run.title or run.name,
                "State": run.state_word,
                "Train loss": words.format_loss(loss.last.value) if loss.last else "",
                "Curve": loss.values[-200:],
                "Model": run.model,
                "Data": run.dataset,
                "Took": words.duration(seconds) if run.started_at else "",
                "Started": words.moment(run.started_at or run.created_at),
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"Curve": st.column_config.LineChartColumn(width="medium")},
        alt="; ".join(f"{row['Run']}: {row['State']}, loss {row['Train loss'] or 'not measured'}" for row in rows),
        key="runs-table",
    )


def _read_loss(run: Run) -> Series:
    if run.recorded:
        return Series("loss")
    found = reads.read(metrics.read_metrics, run.name, max_age_s=600.0 if run.finished else 2.0).value
    return found.get("loss") if found else Series("loss")


def _draw_opener(runs: Sequence[Run]) -> None:
    by_name = {run.name: run for run in runs}
    opened = st.radio(
        "Open a run",
        list(by_name),
        index=None,
        format_func=lambda name: words.plain(by_name[name].title or name),
        captions=[words.plain(f"{run.state_word} · {words.moment(run.created_at)} · {run.model}") for run in runs],
        key="open-run",
    )
    if opened:
        link("runs", run=opened).go()


def _draw_comparison(runs: Sequence[Run]) -> None:
    by_name = {run.name: run for run in runs if not run.recorded}
    with st.expander("Compare runs", icon=":material/compare_arrows:"):
        chosen = st.multiselect(
            "Runs to compare",
            list(by_name),
            format_func=lambda name: by_name[name].title,
            max_selections=6,
            key="compare",
        )
        curves = {by_name[name].title: _read_loss(by_name[name]).points for name in chosen}
        if len(curves) > 1:
            charts.draw_comparison(curves, smoothing=0.6)
        else:
            st.text("Choose two to six runs to lay their train loss over each other.")
