"""What a run has measured and cost so far, as tiles; and what is said in the place of a measure that is not there."""

from __future__ import annotations

import streamlit as st

from core.azureml.reader import Snapshot
from core.catalog import compute
from core.catalog.prices import money
from core.runs.metrics import RunMetrics
from core.runs.states import JobState, Run
from core.words import duration
from pages.parts.kit import reads, words
from pages.parts.kit.tiles import draw_tile


def draw_tiles(run: Run, measured: RunMetrics, missing: str) -> None:
    """Draw loss, speed and cost; `missing` (`say_missing`) stands where nothing is measured."""
    train, evaluated = measured.get("loss"), measured.get("eval_loss")
    speed = measured.get("tokens_per_second")
    with st.grid(4, min_column_width=160):
        trend = train.find_trend()
        moves = trend is not None and abs(trend[0]) >= 0.005
        change = f"{trend[0]:+.2f} in {words.plural(trend[1], 'step')}" if trend and moves else None
        change = f"the same for {words.plural(trend[1], 'step')}" if trend and not moves else change
        draw_tile(
            "Train loss",
            words.format_loss(train.last.value) if train.last else missing,
            change,
            colour="inverse" if moves else "off",
            help="Below: the mean of the newest values, 10 at most, against as many before." if trend else None,
        )
        best = evaluated.best
        draw_tile(
            "Eval loss",
            words.format_loss(evaluated.last.value) if evaluated.last else missing,
            f"best {words.format_loss(best.value)}, step {best.step}" if best else None,
        )
        average, pace_s = speed.average(), train.find_pace()
        if average is None and pace_s is not None:
            draw_tile("Speed", f"{pace_s:.2g} s/step", help="No tokens are logged: the time between the newest points.")
        else:
            draw_tile(
                "Speed",
                missing if average is None else f"{words.number(average)} tok/s",
                help="The mean of the newest values, 10 at most: a batch of few tokens is slower than others.",
            )
        cost, machine_time = _cost_so_far(run)
        draw_tile("Cost" if run.finished else "Cost so far", cost, machine_time)


def _cost_so_far(run: Run) -> tuple[str, str | None]:
    if run.whole_s is None:
        return find_cost(run)[1], "when it ended is not known" if run.started_at else None
    return find_cost(run)[1], f"machine time {duration(run.whole_s)}"


def find_cost(run: Run) -> tuple[float | None, str, str]:
    """Return what a run came to until now at list price, it in words, and the currency; None: why it is not known."""
    if run.started_at is None:
        return None, "never begun" if run.finished else "not begun", ""
    if run.seconds is None:
        return None, "unknown", ""
    found = reads.read(compute.get_compute, run.compute, max_age_s=300.0).value if run.compute else None
    nodes = int(run.parameters.get("num_nodes_finetune") or 1)
    if found is None or found.price.per_hour is None:
        return None, "price unknown", ""
    cost = found.price.per_hour * (nodes * run.seconds + run.evaluated_s) / 3600  # its evaluation takes one node
    return cost, money(cost, found.price.currency), found.price.currency


def say_missing(run: Run, measured: Snapshot[RunMetrics]) -> str:
    """Return what stands in the place of a measure that is not there."""
    if not measured.has_value:
        return "not read" if measured.error else "…"
    if run.finished:
        return "not measured" if reads.is_final(run, measured) else "…"
    return "none yet"


def say_no_measure(what: str, run: Run, missing: str) -> str:
    """Return why a chart is empty: not read, not measured or not yet."""
    if missing == "none yet":
        running = next((stage.title for stage in run.stages if stage.state is JobState.RUNNING), "")
        return f"No {what} yet. {running or 'The run'} is {'running' if running else run.state_word.lower()}."
    said = {"not measured": f"This run logged no {what}.", "not read": f"The {what} could not be read."}
    return said.get(missing, f"Reading the {what}…")
