from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from core.azureml.connection import Connection
from core.runs.history import RunRecord
from core.runs.metrics import PAGE, MetricReader
from core.runs.series import MOST_DRAWN, Columns, Ordered, Point, Series, smooth
from core.runs.states import FINE_TUNE, JobState
from tests.local_server import LocalServer


def log(server: LocalServer, run: str, key: str, steps: range, later_s: float = 0.0) -> None:
    now = int((time.time() + later_s) * 1000)
    metrics = [{"key": key, "value": 4.0 / (step + 1), "timestamp": now + step, "step": step} for step in steps]
    for start in range(0, len(metrics), 500):
        body = {"run_id": run, "metrics": metrics[start : start + 500]}
        answer = server.request("POST", "/api/2.0/mlflow/runs/log-batch", json=body)
        assert answer.status_code == 200, answer.text


def new_run(server: LocalServer) -> str:
    answer = server.request("POST", "/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1})
    return str(answer.json()["run"]["info"]["run_id"])


class Counting(MetricReader):
    """Notes the runs and pages that are asked for."""

    def __init__(self, conn: Connection, run: str) -> None:
        super().__init__(conn, run)
        self.pages: list[str] = []
        self.runs: list[str] = []

    def get(self, what: str, run: str, **query: Any) -> dict[str, Any]:
        if what == "runs/get":
            self.runs.append(run)
        return super().get(what, run, **query)

    def read_page(self, run: str, key: str, token: str, most: int) -> Any:
        self.pages.append(key)
        return super().read_page(run, key, token, most)


def test_a_second_reading_asks_only_for_what_moved(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    log(server, run, "loss", range(1, 6))
    log(server, run, "grad_norm", range(1, 6))
    reader = Counting(conn, run)
    first = reader.read_new()
    assert first.get("loss").steps == [1, 2, 3, 4, 5]
    assert reader.pages == ["grad_norm", "loss"] or reader.pages == ["loss", "grad_norm"]
    reader.pages = []
    assert reader.read_new().series == first.series
    assert reader.pages == []
    log(server, run, "loss", range(6, 8))
    second = reader.read_new()
    assert reader.pages == ["loss"]
    assert second.get("loss").steps == [1, 2, 3, 4, 5, 6, 7]
    assert second.get("grad_norm") == first.get("grad_norm")


class Lagging(Counting):
    """Reads a history that does not hold its last point yet, the first time."""

    def read_page(self, run: str, key: str, token: str, most: int) -> Any:
        points, following = super().read_page(run, key, token, most)
        return (points.until(len(points) - 1) if len(self.pages) == 1 else points), following


def test_a_history_that_lags_behind_its_run_is_read_again(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    log(server, run, "loss", range(1, 6))
    reader = Lagging(conn, run)
    assert reader.read_new().get("loss").steps == [1, 2, 3, 4]
    assert reader.read_new().get("loss").steps == [1, 2, 3, 4, 5]
    reader.read_new()
    assert reader.pages == ["loss", "loss"]


def test_a_long_history_is_read_again_only_from_its_last_page(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    log(server, run, "loss", range(PAGE * 2 + 10))
    reader = Counting(conn, run)
    assert len(reader.read_new().get("loss").points) == PAGE * 2 + 10
    assert len(reader.pages) == 1
    for more, pages in ((2, 3), (4, 1)):  # the first look ahead divides what was one large page
        reader.pages = []
        log(server, run, "loss", range(PAGE * 2 + 8 + more, PAGE * 2 + 10 + more))
        assert reader.read_new().get("loss").steps == list(range(PAGE * 2 + 10 + more))
        assert len(reader.pages) == pages


def test_one_look_at_a_very_long_history_leaves_the_rest_to_the_next(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    log(server, run, "loss", range(25))
    log(server, run, "accuracy", range(5))
    reader = MetricReader(conn, run, look_s=-1.0, first_page=10)
    seen = [reader.read_new() for _ in range(4)]
    assert [len(measures.get("loss").points) for measures in seen] == [10, 20, 25, 25]
    assert [measures.complete for measures in seen] == [False, False, True, True]
    assert seen[-1].get("accuracy").steps == list(range(5))


def step_of(run: str, begun_s: int, component: str = FINE_TUNE) -> RunRecord:
    return RunRecord(run, JobState.RUNNING, component=component, started_at=datetime.fromtimestamp(begun_s, UTC))


def test_what_root_and_step_measured_is_one_curve_with_one_point_a_step(server: LocalServer, conn: Connection) -> None:
    root, step = new_run(server), new_run(server)
    log(server, root, "loss", range(1, 6), later_s=1)
    log(server, root, "score", range(9, 10))
    log(server, step, "loss", range(3, 5))
    log(server, step, "grad_norm", range(3, 5))
    measures = MetricReader(conn, root).read_new([step_of(step, 1)])
    assert measures.get("loss").steps == [1, 2, 3, 4, 5]
    assert measures.get("loss").sources == (step, root)
    assert (measures.get("grad_norm").sources, measures.get("score").sources) == ((step,), (root,))


def test_a_step_that_measures_is_asked_alone_until_it_ends(server: LocalServer, conn: Connection) -> None:
    root, step, other = new_run(server), new_run(server), new_run(server)
    log(server, step, "loss", range(1, 6))
    log(server, root, "loss", range(1, 6))
    reader = Counting(conn, root)
    steps = [step_of(step, 1), step_of(other, 0, "chat_completion_model_import")]
    reader.read_new(steps)
    assert (reader.runs, reader.pages) == ([step, root], ["loss"]), "the root has what the step has: it is not read"
    reader.runs = []
    reader.read_new(steps)
    assert reader.runs == [step]
    server.request("POST", "/api/2.0/mlflow/runs/update", json={"run_id": step, "status": "FINISHED"})
    reader.runs = []
    reader.read_new(steps)
    assert reader.runs == [step, root]


def test_a_retry_takes_over_from_what_was_tried_before(server: LocalServer, conn: Connection) -> None:
    root, tried, again = new_run(server), new_run(server), new_run(server)
    log(server, tried, "loss", range(1, 9))
    log(server, again, "loss", range(1, 4), later_s=60)
    measures = MetricReader(conn, root).read_new([step_of(tried, 1), step_of(again, 2)])
    assert (measures.get("loss").steps, measures.get("loss").sources) == ([1, 2, 3], (again,))


def test_a_run_that_ends_before_its_first_loss_shows_the_mean_of_all(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    log(server, run, "train_loss", range(7, 8))
    assert MetricReader(conn, run).read_new([]).get("loss").steps == [7]


def test_points_without_a_step_stay_in_the_order_of_their_time(server: LocalServer, conn: Connection) -> None:
    run = new_run(server)
    losses = [4.0, 1.0, 2.0]
    metrics = [{"key": "loss", "value": loss, "timestamp": at, "step": 0} for at, loss in enumerate(losses, 1)]
    server.request("POST", "/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": metrics})
    assert MetricReader(conn, run).read_new().get("loss").values == losses


def test_a_run_mlflow_does_not_know_has_no_measures_yet(conn: Connection) -> None:
    measures = MetricReader(conn, "not-there").read_new()
    assert measures.series == {}
    assert measures.get("loss").last is None


def test_a_trend_is_told_from_means_not_from_single_values() -> None:
    falling = [4.0, 3.0] * 10 + [2.0, 1.0] * 4 + [0.5, 3.4]  # a bad batch at the end of a loss that falls
    series = Series("loss", tuple(Point(step, value, 0) for step, value in enumerate(falling, 1)))
    change, steps = series.find_trend() or (0.0, 0)
    assert (round(change, 2), steps) == (-1.91, 10)
    assert Series("loss", series.points[:11]).find_trend() == (pytest.approx(0.2), 5)
    assert Series("loss", series.points[:9]).find_trend() is None
    assert Series("loss", (*series.points, Point(31, float("nan"), 0))).find_trend() is None
    assert Series("loss", tuple(point._replace(step=0) for point in series.points)).find_trend() is None


def test_an_average_is_that_of_the_newest_numbers() -> None:
    series = Series("speed", tuple(Point(step, value, 0) for step, value in enumerate([900.0, 300.0, 100.0], 1)))
    assert series.average(newest=2) == 200
    assert Series("speed", (*series.points, Point(4, float("nan"), 0))).average(newest=2) == 100
    assert Series("speed").average() is None


def test_smoothing_starts_at_the_first_value_and_keeps_gaps() -> None:
    smoothed = smooth([4.0, 2.0, math.nan, 2.0], 0.5)
    assert smoothed[0] == 4.0
    assert smoothed[1] == (0.25 * 4.0 + 0.5 * 2.0) / 0.75
    assert math.isnan(smoothed[2])
    assert 2.0 < smoothed[3] < smoothed[1]
    assert smooth([3.0, 1.0], 0.0) == [3.0, 1.0]


def ordered(points: Iterable[Point]) -> Series:
    found = Ordered(Columns(points))
    assert found.take_new()
    return found.to_series("loss", ())


def test_what_is_drawn_keeps_ends_peaks_and_what_is_no_number() -> None:
    points = [Point(step, 1.0, step) for step in range(10_000)]
    points[5000] = Point(5000, 9.0, 5000)
    points[7000] = Point(7000, -3.0, 7000)
    points[8000] = Point(8000, math.nan, 8000)
    series = ordered(points)
    curve, broken = series.drawn.curve, series.drawn.broken
    assert len(curve) <= MOST_DRAWN
    assert [curve[0].step, curve[-1].step] == [0, 9999]
    assert {5000, 7000} <= {point.step for point in curve}
    assert [point.step for point in broken] == [8000]
    assert [point.step for point in curve] == sorted(point.step for point in curve)
    assert list(ordered(points[:100]).drawn.curve) == points[:100]
    assert series.best == points[7000]


def test_what_is_drawn_of_a_growing_series_is_spread_evenly_and_holds_its_peaks() -> None:
    columns = Columns()
    found = Ordered(columns)
    for start in range(0, 100_000, 700):
        columns.extend(Columns(Point(step, math.sin(step), step) for step in range(start, start + 700)))
        assert found.take_new()
        curve = found.drawn.curve
        assert len(curve) <= MOST_DRAWN
        assert max(after.step - before.step for before, after in pairwise(curve)) <= 2 + 8 * (start + 700) // MOST_DRAWN
        assert max(point.value for point in curve) == max(columns.values)


def test_a_moment_of_a_series_does_not_grow_with_it() -> None:
    columns = Columns([Point(1, 4.0, 1), Point(2, 3.0, 2)])
    found = Ordered(columns)
    found.take_new()
    before = found.to_series("loss", ())
    columns.extend(Columns([Point(3, 2.0, 3)]))
    found.take_new()
    assert (before.steps, before.last, before.points[-2:]) == ([1, 2], Point(2, 3.0, 2), before.points[:])
    assert before == Series("loss", (Point(1, 4.0, 1), Point(2, 3.0, 2)))
    assert before != found.to_series("loss", ())


@pytest.mark.parametrize(
    ("added", "follows"),
    [((0, 2), False), ((1, 3), False), ((0, 3), True)],
    ids=["the same time again", "what had no steps has some now", "later"],
)
def test_points_that_do_not_come_in_order_are_not_taken(added: tuple[int, int], follows: bool) -> None:
    columns = Columns([Point(0, 4.0, 1), Point(0, 3.0, 2)])
    found = Ordered(columns)
    assert found.take_new()
    columns.extend(Columns([Point(added[0], 2.0, added[1])]))
    assert found.take_new() is follows
