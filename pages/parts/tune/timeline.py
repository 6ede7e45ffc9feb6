"""The time of each stage of a run as a bar, all on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go
import streamlit as st

from core.runs.states import Stage
from core.runs.timeline import BETWEEN, Bar, make_timeline
from core.words import duration
from pages.parts.kit import charts
from pages.parts.kit.elements.figure import draw_figure
from pages.parts.kit.look import LIGHT

_ROW, _FRAME = 26, 52  # px
_UNITS = (("Days", 86400, 2 * 86400), ("Hours", 3600, 2 * 3600), ("Minutes", 60, 120), ("Seconds", 1, 0))
_STEPS = 300  # a running stage is drawn anew when it grew by this part of the whole


def draw_timeline(stages: Sequence[Stage], *, run: str) -> None:
    """Draw how long each stage took; one that runs grows."""
    bars = make_timeline(stages, _coarse_now(stages))
    if not bars:
        return
    st.header("Timeline", anchor=False)
    draw_figure(
        charts.to_json(timeline_figure, bars, run),
        key=f"chart-timeline-{run}",
        alt=describe_timeline(bars),
        height=_FRAME + _ROW * len(bars),
    )


def _coarse_now(stages: Sequence[Stage]) -> datetime:
    now = datetime.now(UTC)
    begun = min((stage.started for stage in stages if stage.started), default=now)
    grain = max(1.0, (now - begun).total_seconds() // _STEPS)
    return begun + timedelta(seconds=(now - begun).total_seconds() // grain * grain)


def describe_timeline(bars: Sequence[Bar]) -> str:
    """Say which stage took the most of the time."""
    whole = max(end for bar in bars for _, end in bar.spans)
    most = max(bars, key=lambda bar: bar.seconds)
    name, took = (most.title, "takes" if most.running else "took")
    name, took = ("What lies between stages", "takes") if name == BETWEEN else (name, took)
    far = " until now" if any(bar.running for bar in bars) else ""
    return f"{name} {took} the most time{far}: {duration(most.seconds)} of {duration(whole)}."


def timeline_figure(bars: Sequence[Bar], run: str) -> go.Figure:
    """Return a bar for each stage, the first on top; its time stands in words beside its name."""
    whole = max(end for bar in bars for _, end in bar.spans)
    unit, length = next((name, length) for name, length, least in _UNITS if whole >= least)
    figure = charts.blank_figure(run, f"{unit} since the first start", "", height=_FRAME + _ROW * len(bars))
    colours = {"Failed": LIGHT.bad, "Cancelled": LIGHT.quiet, "Cancelling": LIGHT.quiet, "": LIGHT.quiet}
    for bar in bars:
        colour = LIGHT.series[1] if bar.running else colours.get(bar.word, LIGHT.series[0])
        figure.add_bar(
            orientation="h",
            y=[_label(bar)] * len(bar.spans),
            base=[start / length for start, _ in bar.spans],
            x=[max(end - start, whole / 500) / length for start, end in bar.spans],
            marker={"color": colour},
            hoverinfo="skip",
        )
    figure.update_layout(barmode="overlay", bargap=0.35, showlegend=False, hovermode=False, dragmode=False)
    figure.update_xaxes(showgrid=True, rangemode="tozero", fixedrange=True)
    figure.update_yaxes(
        type="category", autorange="reversed", showgrid=False, fixedrange=True, tickfont={"color": LIGHT.text}
    )
    return figure


def _label(bar: Bar) -> str:
    """Return its name, what became of it unless it ended well, and its time."""
    state = "running" if bar.running else bar.word.lower() if bar.word not in ("", "Completed") else ""
    return " · ".join(filter(None, (bar.title, state, duration(bar.seconds))))
