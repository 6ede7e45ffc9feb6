"""Every Plotly chart of the dashboard in one look.

A live chart keeps the reader's zoom because its `uirevision` is the run: the browser resets it only for another run.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import streamlit as st

from core.runs.series import Drawn, Point, Series, smooth
from pages.parts.kit import words
from pages.parts.kit.elements.figure import HEIGHT, NARROW_HEIGHT, draw_figure
from pages.parts.kit.look import LIGHT

_FIGURES_KEPT = 64
_FONT = "Source Sans, Source Sans Pro, sans-serif"


@dataclass(frozen=True)
class Axis:
    """What runs along the bottom of a chart: the optimiser's steps, epochs, or minutes since the first point."""

    kind: str = "Step"  # Step | Epoch | Time
    steps_per_epoch: float = 0.0
    start_ms: int = 0

    @property
    def title(self) -> str:
        """The axis' title with its unit."""
        return {"Step": "Step", "Epoch": "Epoch", "Time": "Minutes since the first step"}[self.kind]

    def place(self, point: Point) -> float:
        """Where a point stands on this axis."""
        if self.kind == "Epoch" and self.steps_per_epoch:
            return point[0] / self.steps_per_epoch
        if self.kind == "Time":
            return (point[2] - self.start_ms) / 60_000
        return point[0]


@dataclass(frozen=True)
class Line:
    """One run's measure in a comparison."""

    title: str
    series: Series
    axis: Axis = Axis()
    is_baseline: bool = False


@lru_cache(_FIGURES_KEPT)
def to_json(make: Callable[..., go.Figure], *args: Hashable) -> str:
    """Return a figure as JSON, made once for all who look at the same points in the same way."""
    return str(make(*args).to_json())


def draw_loss(
    train: Series,
    evaluated: Series,
    *,
    run: str,
    axis: Axis,
    smoothing: float,
    log_y: bool = False,
    marks: tuple[tuple[Point, str], ...] = (),
) -> None:
    """Draw the train loss, raw and smooth, and the eval loss with its best value. marks: points, each with a word."""
    figure = to_json(loss_figure, train.drawn, evaluated.drawn, run, axis, smoothing, log_y, marks)
    draw_figure(figure, key=f"chart-loss-{run}", alt=describe_loss(train, evaluated))


def draw_rate(series: Series, *, run: str, axis: Axis) -> None:
    """Draw the learning rate."""
    alt = "No learning rate yet."
    if series.last is not None:
        peak = max(point.value for point in series.drawn.curve or (series.last,))
        rate = words.format_rate
        alt = f"The learning rate peaks at {rate(peak)} and is now {rate(series.last.value)}."
    figure = to_json(line_figure, series.drawn, run, axis, "Learning rate", "Learning rate", 2, ("tickformat", ".1e"))
    draw_figure(figure, key=f"chart-rate-{run}", alt=alt)


def draw_gradient(series: Series, *, run: str, axis: Axis, smoothing: float) -> None:
    """Draw the gradient norm, raw and smooth."""
    figure = to_json(gradient_figure, series.drawn, run, axis, smoothing)
    last = series.last.value if series.last else None
    draw_figure(figure, key=f"chart-gradient-{run}", alt=f"The gradient norm is now {words.format_loss(last)}.")


def draw_speed(series: Series, *, run: str, axis: Axis) -> None:
    """Draw how many tokens a second are trained on."""
    speed = series.last.value if series.last else 0.0
    figure = to_json(line_figure, series.drawn, run, axis, "Tokens per second", "Speed", 4, ("rangemode", "tozero"))
    draw_figure(figure, key=f"chart-speed-{run}", alt=f"The run trains on {speed:,.0f} tokens a second.")


def draw_comparison(lines: Sequence[Line], *, name: str = "Train loss", smoothing: float) -> None:
    """Draw one measure of up to six runs, told apart by colour and dash; the baseline is grey."""
    ends = [(last.value, line.title) for line in lines if (last := line.series.last)]
    say = words.format_rate if name == "Learning rate" else words.format_loss
    said = [f"{title} ends at {say(value)}" for value, title in sorted(ends)]
    drawn = tuple((html.escape(line.title), line.series.drawn, line.axis, line.is_baseline) for line in lines)
    figure = to_json(comparison_figure, drawn, name, smoothing)
    draw_figure(figure, key="chart-comparison", alt=f"{name}, the lowest end first: {'; '.join(said)}.")


def loss_figure(
    train: Drawn,
    evaluated: Drawn,
    run: str,
    axis: Axis,
    smoothing: float,
    log_y: bool,
    marks: tuple[tuple[Point, str], ...] = (),
) -> go.Figure:
    """Return the train loss, raw and smooth, and the eval loss with its best value, and the marked points."""
    figure = blank_figure(run, axis.title, "Loss", log_y=log_y)
    _add_raw_and_smooth(figure, train.curve, axis, "Train loss", smoothing)
    if evaluated.curve or evaluated.broken:
        _add_eval(figure, evaluated.curve, axis)
    _add_not_numbers(figure, train, axis)
    if marks:
        points, said = zip(*marks, strict=True)
        places, values = _coordinates(points, axis)
        figure.add_scatter(
            x=places,
            y=_to_wire(values),
            mode="markers",
            name="Note",
            text=said,
            marker={"symbol": "triangle-down", "size": 12, "color": LIGHT.bad},
            hovertemplate="%{text}",
        )
    return figure


def line_figure(
    drawn: Drawn, run: str, axis: Axis, title: str, name: str, colour: int, y_axis: tuple[str, str]
) -> go.Figure:
    """Return one measure as a line. y_axis: one more property of it and its value."""
    figure = blank_figure(run, axis.title, title)
    figure.update_yaxes(**dict([y_axis]))
    _add_line(figure, drawn.curve, LIGHT.series[colour], axis, name)
    return figure


def gradient_figure(drawn: Drawn, run: str, axis: Axis, smoothing: float) -> go.Figure:
    """Return the gradient norm, raw and smooth."""
    figure = blank_figure(run, axis.title, "Gradient norm")
    _add_raw_and_smooth(figure, drawn.curve, axis, "Gradient norm", smoothing, colour=LIGHT.series[3])
    _add_not_numbers(figure, drawn, axis)
    return figure


def comparison_figure(lines: tuple[tuple[str, Drawn, Axis, bool], ...], name: str, smoothing: float) -> go.Figure:
    """Return one measure of runs, told apart by colour and dash. lines: title, points, axis, whether the baseline."""
    figure = blank_figure("+".join(title for title, *_ in lines) + name, lines[0][2].title, name)
    styles = iter(zip(LIGHT.series, ("solid", "dot", "dashdot", "longdash", "longdashdot", "dash"), strict=True))
    for title, drawn, axis, is_baseline in lines:
        colour, dash = (LIGHT.quiet, "dash") if is_baseline else next(styles)
        places, values = _coordinates(drawn.curve, axis)
        # the points of an eval loss are few, and one point alone draws no line
        mode = "lines+markers" if len(values) < 3 or name == "Eval loss" else "lines"
        line = {"color": colour, "width": 2.25, "dash": dash}
        y = _to_wire(smooth(values, smoothing))
        figure.add_scatter(x=places, y=y, name=title, mode=mode, line=line, hovertemplate="%{y:.3g}")
        _add_not_numbers(figure, drawn, axis, f"{title}: not a number")
    if name == "Learning rate":
        figure.update_yaxes(tickformat=".1e")
    return figure


def explain_no_curve(series: Series, name: str = "loss", kind: str = "Step", steps_per_epoch: float = 0.0) -> str:
    """Return why a measure cannot be drawn along an axis of this kind, "" where it can."""
    if not series.points:
        return f"it has logged no {name}."
    curve = series.drawn.curve
    if not curve:
        return f"its {name} is not a number at any step."
    if kind == "Epoch" and not steps_per_epoch:
        return "it has logged no epochs."
    if kind != "Time" and len(curve) > 1 and curve[0].step == curve[-1].step:
        return f"its {name} was logged without counting steps."
    return ""


def length_histogram(bins: Sequence[tuple[int, int, int]], *, limit: int | None = None) -> go.Figure:
    """Return how long the rows are, as bins (from, to, rows). limit: where rows are cut, drawn as a line."""
    figure = blank_figure("lengths", "Length in tokens", "Rows", height=NARROW_HEIGHT)
    whole = [bin for bin in bins if limit is None or bin[0] <= limit]
    cut = [bin for bin in bins if limit is not None and bin[0] > limit]
    for name, shown, colour, shape in (
        ("trained on whole", whole, LIGHT.series[0], ""),
        ("cut", cut, LIGHT.series[1], "/"),
    ):
        figure.add_bar(
            x=[(low + high) / 2 for low, high, _ in shown],
            y=[rows for _, _, rows in shown],
            width=[high - low for low, high, _ in shown],
            name=name,
            marker={
                "color": colour,
                "line": {"width": 1, "color": LIGHT.ground},
                "pattern": {"shape": shape, "fgcolor": LIGHT.ground, "size": 6},
            },
            customdata=[f"{low:,} to {high - 1:,}" for low, high, _ in shown],
            hovertemplate="%{customdata} tokens<br>%{y:,} rows<extra></extra>",
        )
    figure.update_layout(bargap=0, barmode="overlay", hovermode="closest", showlegend=bool(cut))
    if limit is not None and limit > 0:
        figure.add_vline(x=limit, line={"color": LIGHT.series[1], "width": 2, "dash": "dot"})
        figure.add_annotation(
            x=limit,
            y=1,
            yref="paper",
            text=f"cut at {limit:,}",
            showarrow=False,
            xanchor="left",
            xshift=6,
            font={"color": LIGHT.text, "size": 12},
        )
    return figure


def draw_lengths(bins: Sequence[tuple[int, int, int]], *, limit: int | None = None) -> None:
    """Draw `length_histogram`."""
    if not bins:
        st.text("There are no rows to measure.")
        return
    rows = sum(count for _, _, count in bins)
    usual = max(bins, key=lambda one: one[2])
    alt = f"{words.plural(rows, 'row')} of up to {bins[-1][1]:,} tokens; most have {usual[0]:,} to {usual[1]:,}."
    figure = length_histogram(bins, limit=limit)
    alt += f" Cut at {limit:,}." if limit else ""
    draw_figure(figure.to_json(), key="chart-lengths", alt=alt, height=NARROW_HEIGHT)


def draw_days(figure: go.Figure, currency: str, alt: str) -> None:
    """Draw a `days_figure`."""
    draw_figure(figure.to_json(), key=f"chart-days-{currency}", alt=alt, height=NARROW_HEIGHT)


def days_figure(
    bars: Mapping[str, Mapping[date, float]], unknown: Mapping[date, str], *, begun: date, currency: str
) -> go.Figure:
    """Return what each day of a month cost, stacked by what cost it. unknown: what of a day is not known, a text."""
    figure = blank_figure(f"{currency}-{begun}", "", currency, height=NARROW_HEIGHT)
    for number, (name, days) in enumerate(bars.items()):
        colour = LIGHT.series[number % len(LIGHT.series)]
        hover = f"%{{y:,.2f}} {currency}"
        figure.add_bar(x=list(days), y=list(days.values()), name=name, marker={"color": colour}, hovertemplate=hover)
    if unknown:
        tops = [sum(days.get(day, 0.0) for days in bars.values()) for day in unknown]
        mark = {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": LIGHT.bad}}
        told = {"customdata": list(unknown.values()), "hovertemplate": "%{customdata}", "cliponaxis": False}
        figure.add_scatter(x=list(unknown), y=tops, mode="markers", name="Part not known", marker=mark, **told)
    figure.update_layout(barmode="stack", bargap=0.2, legend_traceorder="normal")
    ends = (begun + timedelta(days=32)).replace(day=1)
    shown = [datetime.combine(day, time()) - timedelta(hours=12) for day in (begun, ends)]  # a bar stands at midnight
    figure.update_xaxes(type="date", range=shown, tickformat="%-d %b", hoverformat="%-d %B")
    figure.update_yaxes(rangemode="tozero", tickformat=",.2~f")
    return figure


def describe_loss(train: Series, evaluated: Series) -> str:
    """Say the conclusion of the loss chart in a sentence, for those who do not see it."""
    if train.first is None or train.last is None:
        return "No loss yet."
    first, last = train.first.value, train.last.value
    steps = words.plural(train.last.step, "step")
    if first == last:
        said = f"Train loss is {words.format_loss(last)} after {steps}."
    else:
        verb = "fell" if last < first else "rose"
        said = f"Train loss {verb} from {words.format_loss(first)} to {words.format_loss(last)} over {steps}."
    if best := evaluated.best:
        said += f" Best eval loss {words.format_loss(best.value)} at step {best.step}."
    return said


def blank_figure(revision: str, x_title: str, y_title: str, *, height: int = HEIGHT, log_y: bool = False) -> go.Figure:
    axis = {
        "tickfont": {"size": 12, "color": LIGHT.quiet},
        "title": {"font": {"size": 13, "color": LIGHT.quiet}},
        "linecolor": LIGHT.line,
        "gridcolor": LIGHT.line,
        "zeroline": False,
        "automargin": True,
    }
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 48, "r": 16, "t": 8, "b": 40},
        uirevision=revision,
        hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "color": LIGHT.text},
        hoverlabel={"bgcolor": LIGHT.ground, "font": {"color": LIGHT.text}},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.0,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"size": 12, "color": LIGHT.text},
            "bgcolor": "rgba(0,0,0,0)",
        },
        showlegend=True,
    )
    figure.update_xaxes(**axis, showgrid=False, title_text=x_title)
    figure.update_yaxes(**axis, showgrid=True, gridwidth=1, title_text=y_title, type="log" if log_y else "linear")
    return figure


def _add_raw_and_smooth(
    figure: go.Figure, points: Sequence[Point], axis: Axis, name: str, smoothing: float, colour: str = ""
) -> None:
    colour = colour or LIGHT.series[0]
    places, values = _coordinates(points, axis)
    if smoothing:
        raw = {"color": colour, "width": 1}
        figure.add_scatter(
            x=places,
            y=_to_wire(values),
            mode="lines",
            line=raw,
            opacity=0.3,
            hoverinfo="skip",
            showlegend=False,
            name="raw",
        )
    y = _to_wire(smooth(values, smoothing) if smoothing else values)
    mode = "lines+markers" if len(values) < 3 else "lines"  # one point alone draws no line
    figure.add_scatter(
        x=places, y=y, mode=mode, name=name, line={"color": colour, "width": 2.25}, hovertemplate="%{y:.3g}"
    )


def _add_eval(figure: go.Figure, points: Sequence[Point], axis: Axis) -> None:
    places, values = _coordinates(points, axis)
    figure.add_scatter(
        x=places,
        y=_to_wire(values),
        mode="lines+markers",
        name="Eval loss",
        line={"color": LIGHT.series[1], "width": 2.25, "dash": "dot"},
        marker={"symbol": "diamond", "size": 9, "color": LIGHT.series[1]},
        hovertemplate="%{y:.3g}",
    )
    if points:
        best = min(points, key=lambda point: point[1])
        figure.add_annotation(
            x=axis.place(best),
            y=math.log10(best[1]) if figure.layout.yaxis.type == "log" else best[1],
            text=f"best {words.format_loss(best[1])}",
            showarrow=True,
            arrowhead=2,
            arrowcolor=LIGHT.quiet,
            ax=0,
            ay=-34,
            font={"size": 12, "color": LIGHT.text},
        )


def _add_line(figure: go.Figure, points: Sequence[Point], colour: str, axis: Axis, name: str) -> None:
    places, values = _coordinates(points, axis)
    mode = "lines+markers" if len(values) < 3 else "lines"
    figure.add_scatter(
        x=places,
        y=_to_wire(values),
        mode=mode,
        name=name,
        line={"color": colour, "width": 2.25},
        hovertemplate="%{y:.3g}",
    )


def _add_not_numbers(figure: go.Figure, drawn: Drawn, axis: Axis, name: str = "Not a number") -> None:
    """Mark steps whose value is no number: silence there would look like a gap in the log."""
    if not drawn.broken:
        return
    lowest = min((value for _, value, _ in drawn.curve), default=0.0)
    figure.add_scatter(
        x=_coordinates(drawn.broken, axis)[0],
        y=_to_wire([lowest] * len(drawn.broken)),
        mode="markers",
        name=name,
        marker={"symbol": "x", "size": 9, "color": LIGHT.bad},
        hovertemplate="not a number",
    )


def _coordinates(points: Sequence[Point], axis: Axis) -> tuple[npt.NDArray[np.float32], list[float]]:
    return _to_wire([axis.place(point) for point in points]), [value for _, value, _ in points]


def _to_wire(values: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return numbers as Plotly sends them in the fewest bytes: a third of their digits, exact to seven of them."""
    return np.array(values, np.float32)
