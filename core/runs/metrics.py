"""A run's measures over MLflow's REST API, read incrementally; smoothing and thinning for charts.

Our own reader: the plug-in for Azure signs in by itself, pins other packages and fails with a custom cloud.
API: https://mlflow.org/docs/latest/rest-api.html (runs/get, metrics/get-history).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from core.azureml.connection import Connection
from core.errors import NotFound

PAGE = 1000
_READERS_KEPT = 100


class Point(NamedTuple):
    """One measure: optimiser step, value (may be NaN), milliseconds since 1970."""

    step: int
    value: float
    at_ms: int


@dataclass(frozen=True)
class Series:
    """All points of one measure, in the order of their steps."""

    key: str
    points: tuple[Point, ...] = ()

    @property
    def last(self) -> Point | None:
        """The newest point."""
        return self.points[-1] if self.points else None

    @property
    def first(self) -> Point | None:
        """The oldest point."""
        return self.points[0] if self.points else None

    @property
    def best(self) -> Point | None:
        """The point with the smallest value, NaN left out."""
        return min((point for point in self.points if math.isfinite(point.value)), key=lambda p: p.value, default=None)

    def average(self, newest: int = 10) -> float | None:
        """Return the mean of the newest points, those that are no number left out; None where there is none."""
        values = [point.value for point in self.points[-newest:] if math.isfinite(point.value)]
        return sum(values) / len(values) if values else None

    def find_trend(self, least: int = 5, most: int = 10) -> tuple[float, int] | None:
        """Return how the mean of the newest points differs from that of as many before, and their distance in steps.

        Of a batch of few rows one value alone says little: None where there are not `least` on either side, where one
        is not finite, or where all are of one step (a service that counts none).
        """
        count = min(most, len(self.points) // 2)
        if count < least:
            return None
        newest, before = self.points[-count:], self.points[-2 * count : -count]
        change = sum(point.value for point in newest) / count - sum(point.value for point in before) / count
        steps = newest[-1].step - before[-1].step
        return (change, steps) if math.isfinite(change) and steps > 0 else None

    @property
    def steps(self) -> list[int]:
        """Steps, for an x axis."""
        return [point.step for point in self.points]

    @property
    def values(self) -> list[float]:
        """Values, for a y axis."""
        return [point.value for point in self.points]


@dataclass(frozen=True)
class RunMetrics:
    """Every measure of one run at one moment. status: MLflow's (RUNNING, FINISHED, FAILED, KILLED, SCHEDULED)."""

    run: str
    series: Mapping[str, Series] = field(default_factory=dict)
    status: str = ""
    read_at: datetime | None = None

    def get(self, key: str) -> Series:
        """Return the series of this key, empty when nothing has been measured."""
        return self.series.get(key) or Series(key)


class MetricReader:
    """Reads one run and remembers it: a second read asks only for what moved, and of that only the last page."""

    def __init__(self, conn: Connection, run: str) -> None:
        self._conn = conn
        self._run = run
        self._histories: dict[str, _History] = {}
        self._series: dict[str, Series] = {}
        self._lock = threading.Lock()

    def read_new(self) -> RunMetrics:
        """Return the whole of what is known after fetching what is new; empty while the run is unknown to MLflow."""
        with self._lock:
            try:
                run = self._get("runs/get", run_id=self._run)["run"]
            except NotFound:
                return RunMetrics(self._run, dict(self._series), "", datetime.now(UTC))
            for latest in run.get("data", {}).get("metrics") or []:
                key = latest["key"]
                history = self._histories.setdefault(key, _History())
                if history.latest != _point(latest):
                    history.read(self, key)
                    if history.has(_point(latest)):  # else the history lags behind the run: it is read again
                        history.latest = _point(latest)
                    self._series[key] = Series(key, tuple(sorted(history.points, key=_order)))
            return RunMetrics(self._run, dict(self._series), run.get("info", {}).get("status", ""), datetime.now(UTC))

    def read_page(self, key: str, token: str) -> tuple[list[Point], str]:
        """Return one page of a key's history and the token of the next, "" after the last."""
        query: dict[str, Any] = {"run_id": self._run, "metric_key": key, "max_results": PAGE}
        if token:
            query["page_token"] = token
        answer = self._get("metrics/get-history", **query)
        return [_point(metric) for metric in answer.get("metrics") or []], answer.get("next_page_token") or ""

    def _get(self, what: str, **query: Any) -> dict[str, Any]:
        url = f"{self._conn.tracking_url()}/api/2.0/mlflow/{what}"
        answer: dict[str, Any] = self._conn.http(
            "GET", url, doing="read", what=f"the measures of run '{self._run}'", params=query
        ).json()
        return answer


class _History:
    """One key's points; the pages before the last are not read again (a history is only ever added to)."""

    def __init__(self) -> None:
        self.latest: Point | None = None
        self._settled: list[Point] = []
        self._open: list[Point] = []
        self._token = ""

    @property
    def points(self) -> list[Point]:
        return self._settled + self._open

    def has(self, latest: Point) -> bool:
        """Whether it holds this point; by its place, since a value that is no number equals none."""
        return any((point.step, point.at_ms) == (latest.step, latest.at_ms) for point in reversed(self.points))

    def read(self, reader: MetricReader, key: str) -> None:
        while True:
            self._open, following = reader.read_page(key, self._token)
            if not following:
                return
            self._settled += self._open
            self._open, self._token = [], following


class _Readers:
    """The readers of one connection, the least recently asked first."""

    def __init__(self) -> None:
        self._kept: dict[str, MetricReader] = {}
        self._lock = threading.Lock()

    def get(self, conn: Connection, run: str) -> MetricReader:
        with self._lock:
            reader = self._kept.pop(run, None) or MetricReader(conn, run)
            self._kept[run] = reader
            while len(self._kept) > _READERS_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return reader


def read_metrics(conn: Connection, run: str) -> RunMetrics:
    """Return a run's measures, through one MetricReader per run and process."""
    return conn.remember("metric readers", _Readers, math.inf).get(conn, run).read_new()


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Return the bias-corrected exponential moving average; weight 0 (none) to below 1. NaN stays a gap."""
    mean, count, smoothed = 0.0, 0, list[float]()
    for value in values:
        if not math.isfinite(value):
            smoothed.append(math.nan)
            continue
        count += 1
        mean = weight * mean + (1.0 - weight) * value
        smoothed.append(mean / (1.0 - weight**count))
    return smoothed


def thin(points: Sequence[Point], limit: int = 2000) -> list[Point]:
    """Return at most `limit` points, keeping the first, the last and every bucket's smallest and largest.

    A point that is no number is kept as its bucket's largest, so that it stays visible.
    """
    if len(points) <= limit:
        return list(points)
    if limit < 4:
        return [points[0], points[-1]][:limit]
    inner, kept = points[1:-1], [points[0]]
    buckets = (limit - 2) // 2
    for number in range(buckets):
        bucket = inner[len(inner) * number // buckets : len(inner) * (number + 1) // buckets]
        if bucket:
            low = min(bucket, key=lambda p: p.value if math.isfinite(p.value) else math.inf)
            high = max(bucket, key=lambda p: p.value if math.isfinite(p.value) else math.inf)
            kept += [low] if low is high else sorted((low, high), key=lambda p: p.step)
    return [*kept, points[-1]]


def _order(point: Point) -> tuple[int, int]:
    """By step, then time: with logging by epochs the service gives every point the step 0."""
    return point.step, point.at_ms


def _point(metric: Mapping[str, Any]) -> Point:
    return Point(int(metric.get("step") or 0), float(metric.get("value", math.nan)), int(metric.get("timestamp") or 0))
