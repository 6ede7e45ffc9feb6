"""The list of runs: search, states, a table for looking, radios for opening, and curves laid over each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core import overview
from core.azureml.reader import Snapshot
from core.runs.metrics import RunMetrics
from core.runs.states import Run
from core.words import duration
from pages.parts.kit import charts, reads, words
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, ready
from pages.parts.kit.state import ui

_CURVE = 200  # points of a run's curve in the table
_PER_PAGE = 8


def draw_list() -> None:
    """Draw all runs of this workspace."""
    st.title("Runs", anchor=False)
    snapshot = reads.read(overview.read_runs, max_age_s=2.0)
    if not ready(snapshot, "Reading the runs…", (44, 220, 160), key="runs"):
        return
    if not snapshot.value:
        if snapshot.error is not None:  # there were none when it last answered, which says nothing of now
            draw_error(snapshot.error, key="runs")
        else:
            draw_empty("No runs yet.", link("launch"), "Go to Launch")
        return
    found = _filter(snapshot.value)
    if not found:
        st.text("No run matches. Clear the search or the states.")
    else:
        _draw_found(found, snapshot.value)
    ended = sum(run.finished for run in snapshot.value)
    if ended >= overview.ENDED_SHOWN:
        st.caption(f"Of the runs that have ended, the newest {ended} are listed and searched.")


def _draw_found(found: Sequence[Run], runs: Sequence[Run]) -> None:
    pages = -(-len(found) // _PER_PAGE)

    def shown() -> Sequence[Run]:
        first = (ui().runs_page - 1) * _PER_PAGE
        return found[first : first + _PER_PAGE]

    def draw() -> object:
        now = reads.read(overview.read_runs, max_age_s=2.0).value or ()
        newest = {run.name: run for run in now}
        table = st.container()
        ui().runs_page = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
        with table:
            rest = draw_table([newest.get(run.name, run) for run in shown()])
        return _states_of(now), ui().runs_page, rest

    rest = is_at_rest(shown())
    every_s = None if rest and all(run.finished for run in found) else 2.0
    live(draw, key="runs", run_every=every_s, token=(_states_of(runs), ui().runs_page, rest))
    _draw_opener(shown())
    if len(found) > 1:
        _draw_comparison(found)


def _states_of(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return [(run.name, run.state_word) for run in runs]


def _filter(runs: Sequence[Run]) -> list[Run]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search runs",
            type="search",
            live=True,
            key="q",
            bind="query-params",
            width=280,
            placeholder="name, model, data",
        ).lower()
        states = st.pills(
            "Show",
            ["Active", "Completed", "Failed", "Cancelled"],
            selection_mode="multi",
            key="state",
            bind="query-params",
        )
    wanted = set(states or ())
    return [
        run
        for run in runs
        if (not text or text in f"{run.title} {run.name} {run.model} {run.dataset} {run.display_name}".lower())
        and (not wanted or run.state_word in wanted or ("Active" in wanted and not run.finished))
    ]


def is_at_rest(runs: Sequence[Run]) -> bool:
    """Whether nothing of these runs can change in a list: they have ended, and all that they measured is read."""
    return all(run.finished and reads.is_final(run, reads.read_measures(run)) for run in runs)


def draw_table(runs: Sequence[Run]) -> bool:
    """Draw runs in a table with their loss and its curve; returns whether they are at rest (`is_at_rest`)."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        measured = reads.read_measures(run)
        losses = [point.value for point in measured.value.get("loss").points[-_CURVE:]] if measured.value else []
        rows.append(
            {
                "Run": run.title or run.name,
                "State": run.state_word,
                "Train loss": _loss_words(run, measured, losses),
                "Curve": losses,
                "Model": run.model,
                "Data": run.dataset,
                "Took": duration(run.seconds) if run.seconds is not None else "",
                "Started": words.moment(run.started_at) if run.started_at else "not started",
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"Curve": st.column_config.LineChartColumn(width="medium")},
        alt="; ".join(f"{row['Run']}: {row['State']}, loss {row['Train loss']}" for row in rows),
        key="runs-table",
    )
    return is_at_rest(runs)


def _loss_words(run: Run, measured: Snapshot[RunMetrics], losses: Sequence[float]) -> str:
    """Return the last loss; of a run that has ended only one that was read after its end."""
    if not measured.has_value or (run.settled and not reads.is_final(run, measured)):
        return "not read" if measured.error else "…"
    if losses:
        return words.format_loss(losses[-1])
    return "not measured" if run.finished else "none yet"


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
    by_name = {run.name: run for run in runs}
    titles = Counter(run.title for run in runs)
    labels = {run.name: run.title if titles[run.title] == 1 else f"{run.title} ({run.name})" for run in runs}
    with st.expander("Compare runs", icon=":material/compare_arrows:"):
        chosen = st.multiselect(
            "Runs to compare",
            list(by_name),
            format_func=lambda name: labels.get(name, name),
            max_selections=charts.MOST_COMPARED,
            key="compare",
        )
        if len(chosen) < 2:
            st.text(f"Choose two to {charts.MOST_COMPARED} runs to lay their train loss over each other.")
            return
        compared = {labels[name]: by_name[name] for name in chosen}
        rest = is_at_rest(list(compared.values()))
        live(lambda: _draw_curves(compared), key="curves", run_every=None if rest else 2.0, token=rest)


def _draw_curves(runs: Mapping[str, Run]) -> bool:
    """Draw the train loss of runs over each other, and say of each that cannot be drawn why."""
    curves, missing = {}, {}
    for label, run in runs.items():
        measured = reads.read_measures(run)
        if measured.value is None:
            missing[label] = "its loss could not be read." if measured.error else "its loss is being read."
            continue
        loss = measured.value.get("loss")
        if reason := charts.explain_no_curve(loss):
            missing[label] = reason
        else:
            curves[label] = loss
    if curves:
        charts.draw_comparison([charts.Line(label, loss) for label, loss in curves.items()], smoothing=0.6)
    for label, reason in missing.items():
        st.text(f"{label} is not drawn: {reason}")
    return is_at_rest(list(runs.values()))
