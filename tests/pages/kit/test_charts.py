"""What the charts say and how they are built, without a page."""

from __future__ import annotations

import math
from datetime import date

import plotly.graph_objects as go
import pytest

from core.runs.series import Columns, Ordered, Point, Series
from pages.parts.kit import charts
from pages.parts.kit.look import DARK, LIGHT

NOTHING = Series("eval_loss")


def series(*values: float) -> Series:
    return Series("loss", [Point(step, value, 1_000 * step) for step, value in enumerate(values, 1)])


def test_the_alt_text_says_the_conclusion_of_the_loss_chart() -> None:
    said = charts.describe_loss(series(4.5, 2.0, 1.02), Series("eval_loss", [Point(2, 1.18, 0), Point(3, 1.3, 0)]))
    assert said == "Train loss fell from 4.50 to 1.02 over 3 steps. Best eval loss 1.18 at step 2."
    assert charts.describe_loss(series(1.0, 2.0), NOTHING) == "Train loss rose from 1.00 to 2.00 over 2 steps."
    assert charts.describe_loss(NOTHING, NOTHING) == "No loss yet."


@pytest.mark.parametrize(("kind", "place"), [("Step", 10), ("Epoch", 0.5), ("Time", 0.15)])
def test_a_point_stands_at_its_step_its_epoch_or_its_minute(kind: str, place: float) -> None:
    axis = charts.Axis(kind, steps_per_epoch=20.0, start_ms=1_000)
    assert axis.place(Point(10, 1.0, 10_000)) == pytest.approx(place)


def test_steps_without_a_number_are_marked_and_not_drawn_as_a_line() -> None:
    drawn = loss_figure(series(3.0, math.nan, 1.0))
    assert [trace.name for trace in drawn.data] == ["raw", "Train loss", "Not a number"]
    assert list(drawn.data[1].x) == [1, 3]
    assert list(drawn.data[2].x) == [2]


def test_a_live_chart_keeps_its_zoom_because_its_revision_is_the_run() -> None:
    assert loss_figure(series(3.0)).layout.uirevision == "job-1"
    assert loss_figure(series(3.0, 2.0)).layout.uirevision == "job-1"


def test_the_histogram_marks_where_rows_are_cut() -> None:
    figure = charts.length_histogram([(0, 50, 3), (50, 100, 9)], limit=80)
    assert list(figure.data[0].x) == [25, 75]
    assert figure.layout.annotations[0].text == "cut at 80"


def test_days_are_stacked_and_what_is_not_known_is_marked_above_them() -> None:
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    bars = {"gpu": {first: 4.0, second: 2.0}, "shop/demo": {first: 1.0}}
    figure = charts.days_figure(bars, {first: "gpu: 3.0 h not seen"}, begun=first, currency="EUR")
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("gpu", [first, second], [4.0, 2.0]),
        ("shop/demo", [first], [1.0]),
        ("Part not known", [first], [5.0]),
    ]
    assert (figure.layout.barmode, figure.layout.yaxis.title.text) == ("stack", "EUR")


def test_every_colour_of_the_two_themes_stands_out_from_its_ground() -> None:
    for look in (LIGHT, DARK):
        for colour in (*look.series, look.text, look.quiet, look.bad):
            assert contrast(colour, look.ground) >= 4.5, (colour, look.ground)


def test_each_compared_run_is_drawn_or_it_is_said_why_not() -> None:
    broken, stepless = series(math.nan, math.inf), Series("loss", [Point(0, 4.0, 1), Point(0, 2.0, 2)])
    assert charts.explain_no_curve(NOTHING) == "it has logged no loss."
    assert charts.explain_no_curve(broken) == "its loss is not a number at any step."
    assert charts.explain_no_curve(stepless) == "its loss was logged without counting steps."
    drawable = {"one point": series(3.0), "a gap": series(3.0, math.nan, 1.0, 0.5), "long": series(*[1.0] * 5000)}
    assert [charts.explain_no_curve(points) for points in drawable.values()] == [""] * 3
    assert charts.explain_no_curve(series(3.0), kind="Epoch") == "it has logged no epochs."
    assert charts.explain_no_curve(stepless, kind="Time") == ""
    lines = tuple((title, one.drawn, charts.Axis(), title == "long") for title, one in drawable.items())
    figure = charts.comparison_figure(lines, "Train loss", 0.6)
    look = LIGHT
    assert [
        (trace.name, trace.mode, trace.line.color, trace.line.dash) for trace in figure.data if trace.line.dash
    ] == [
        ("one point", "lines+markers", look.series[0], "solid"),
        ("a gap", "lines", look.series[1], "dot"),
        ("long", "lines", look.quiet, "dash"),
    ]
    assert [trace.name for trace in figure.data if not trace.line.dash] == ["a gap: not a number"]
    assert all(math.isfinite(value) for trace in figure.data for value in trace.y)


def test_a_curve_of_many_points_takes_few_bytes() -> None:
    ordered = Ordered(Columns(Point(step, 4 / step, step) for step in range(1, 100_001)))
    ordered.take_new()
    figure = charts.loss_figure(ordered.drawn, ordered.drawn, "job-1", charts.Axis(), 0.6, False)
    assert len(figure.to_json()) < 40_000


def loss_figure(train: Series) -> go.Figure:
    return charts.loss_figure(train.drawn, NOTHING.drawn, "job-1", charts.Axis(), 0.6, False)


def contrast(one: str, other: str) -> float:
    """The WCAG ratio of two colours."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
