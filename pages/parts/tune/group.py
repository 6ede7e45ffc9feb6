"""A group of runs that try several values: all of them in a table, the eval loss over the values, and their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st

from core import operations, overview
from core.recipe import Value
from core.runs.comparison import FACTS, MOST_COMPARED, Compared, Setting, list_settings
from core.runs.states import Run
from core.words import duration
from pages.parts.kit import charts, reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.elements.figure import draw_figure
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.look import LIGHT
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.kit.state import ui
from pages.parts.tune.compare import read_compared, rests

_SHOWN = ("Train loss", "Eval loss", "Test loss")
_FAR = 8  # times: values as far apart are chosen by their ratio
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
_EVERY_S = 3.0
_AWAITED_S = 1800.0


def draw_group(group: str) -> list[str]:
    """Draw the runs of a group; returns the names of those to compare, the lowest eval losses where they are many."""
    snapshot = reads.read(overview.read_group, group, max_age_s=_EVERY_S)
    if not ready(snapshot, "Reading the group…", (220, 260), key="group"):
        end_page()
    runs = snapshot.value
    if not runs:
        place = found.title if (found := reads.find_connection()) else ui().alias
        draw_empty(f"There is no group '{group}' in {place}.", link("runs"), "See all runs")
        end_page()
    _draw_cancel(group, runs)

    def draw() -> object:
        now = reads.read(overview.read_group, group, max_age_s=_EVERY_S).value or runs
        compared = read_compared(now)
        _draw_all(compared)
        return _token(compared)

    compared = read_compared(runs)
    at_rest = all(map(_rests, compared))
    live(draw, key="group", run_every=None if at_rest else _EVERY_S, token=_token(compared))
    chosen = _choose(compared)
    if len(chosen) < len(runs):
        st.text(f"Of {len(runs)} runs, the {len(chosen)} with the lowest eval loss are compared.")
    return chosen


def _token(compared: Sequence[Compared]) -> object:
    return [(one.run.name, one.run.state, _rests(one)) for one in compared], _choose(compared)


def _rests(one: Compared) -> bool:
    """Whether nothing of a run can change: of one just completed the evaluation may come."""
    may_come = one.run.completed and one.evaluation is None and words.since(one.run.ended_at) < _AWAITED_S
    return rests(one) and not may_come


def _choose(compared: Sequence[Compared]) -> list[str]:
    if len(compared) <= MOST_COMPARED:
        return [one.run.name for one in compared]
    return [one.run.name for one in sorted(compared, key=_loss)[:MOST_COMPARED]]


def _loss(one: Compared) -> float:
    loss = one.last("eval_loss")
    return float("inf") if loss is None or loss != loss else loss


def _draw_cancel(group: str, runs: Sequence[Run]) -> None:
    active = [run for run in runs if not run.finished]
    if not active:
        return
    label = f"Cancel {words.plural(len(active), 'run')}"
    question = Confirm(
        title=f"{label} of {group}?",
        yes=label,
        keep="Keep running",
        lines=("Those that ended stay. Logged metrics stay; the others leave no model.",),
        icon="stop_circle",
    )
    names = [run.name for run in active]
    action(
        label, operations.start_cancel_all, ui().alias, names, key="cancel-all", icon="stop_circle", confirm=question
    )


def _draw_all(compared: Sequence[Compared]) -> None:
    tried = [setting for setting in list_settings([one.run for one in compared]) if setting.differs]
    facts = [fact for fact in FACTS if fact.label in _SHOWN]
    took = next(fact for fact in FACTS if fact.label == "Took")
    rows = []
    for place, one in enumerate(compared):
        values = [(fact.label, fact.read(one), fact.why(one)) for fact in facts]
        rows.append(
            {
                "Run": one.label,
                "State": one.run.state_word,
                **{setting.label: str(setting.values[place]) for setting in tried},
                **{label: why if value is None else words.format_loss(value) for label, value, why in values},
                "Took": took.why(one) if one.run.seconds is None else duration(one.run.seconds),
            }
        )
    alt = "; ".join(f"{row['Run']}: {row['State']}, eval loss {row['Eval loss']}" for row in rows)
    st.dataframe(rows, hide_index=True, alt=alt, key="group-table")
    ended = [place for place, one in enumerate(compared) if _loss(one) < float("inf")]
    if tried and len({tried[0].values[place] for place in ended}) > 1:
        _draw_chart(compared, tried, ended)


def _draw_chart(compared: Sequence[Compared], tried: Sequence[Setting], ended: Sequence[int]) -> None:
    first, second = tried[0], tried[1] if len(tried) > 1 else None
    lines = dict[str, list[tuple[Value, float]]]()
    for place in ended:
        name = str(second.values[place]) if second else ""
        lines.setdefault(name, []).append((first.values[place], _loss(compared[place])))
    best = compared[min(ended, key=lambda place: _loss(compared[place]))]
    alt = f"The lowest eval loss, {words.format_loss(_loss(best))}, is that of {best.label}."
    figure = tried_figure(lines, first.label, second.label if second else "")
    draw_figure(figure.to_json(), key="chart-tried", alt=alt)


def tried_figure(lines: Mapping[str, Sequence[tuple[Value, float]]], setting: str, second: str) -> go.Figure:
    """Return eval losses over the values of a setting; where these are numbers, along a logarithm if they are far.

    lines: points by the value of the second setting.
    """
    figure = charts.blank_figure(setting, setting, "Eval loss at the end")
    values = {value for points in lines.values() for value, _ in points}
    numbers = sorted(value for value in values if isinstance(value, int | float))
    if len(numbers) < len(values):
        figure.update_xaxes(type="category")
    else:
        kind = "log" if numbers[0] > 0 and numbers[-1] / numbers[0] >= _FAR else "linear"
        figure.update_xaxes(type=kind, tickvals=numbers, ticktext=list(map(words.exact, numbers)))
    for number, (name, points) in enumerate(lines.items()):
        figure.add_scatter(
            x=[value for value, _ in points],
            y=[loss for _, loss in points],
            name=f"{second} {name}",
            mode="lines+markers",
            line={"color": LIGHT.series[number % len(LIGHT.series)], "width": 2.25},
            marker={"symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 9},
            hovertemplate="%{y:.3g}",
        )
    figure.update_layout(showlegend=len(lines) > 1)
    return figure
