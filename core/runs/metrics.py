"""A run's measures over MLflow's REST API, read incrementally, from the run and from its steps that measure.

Azure's component logs on the run of its step; of the pipeline's own run some versions hold the same, others nothing.
Our own reader: the plug-in for Azure signs in by itself, pins other packages and fails with a custom cloud.
API: https://mlflow.org/docs/latest/rest-api.html (runs/get, metrics/get-history).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core.azureml.connection import Connection
from core.errors import NotFound
from core.runs.history import RunRecord, list_steps
from core.runs.states import FINE_TUNE, STAGES

PAGE = 1000
_READERS_KEPT = 100
_STANDS_FOR = {"loss": "train_loss"}


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
    sources: tuple[str, ...] = ()
    """The runs that the points were read from, the one that counts where several measured a step first."""

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

    def find_pace(self, newest: int = 30) -> float | None:
        """Return the seconds from step to step among the newest points: what came before the first does not count."""
        recent = self.points[-newest:]
        if len(recent) < 2 or recent[-1].step <= recent[0].step:
            return None
        return (recent[-1].at_ms - recent[0].at_ms) / 1000 / (recent[-1].step - recent[0].step)

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
    """Every measure of one run at one moment."""

    run: str
    series: Mapping[str, Series] = field(default_factory=dict)

    def get(self, key: str) -> Series:
        """Return the series of this key, empty when nothing has been measured.

        A run that ends before it logs a loss has the mean of all steps alone.
        """
        return self.series.get(key) or self.series.get(_STANDS_FOR.get(key, "")) or Series(key)


class MetricReader:
    """Reads one run and remembers it: a second read asks only for what moved, and of that only the last page."""

    def __init__(self, conn: Connection, run: str) -> None:
        self._conn = conn
        self._root = _Source(self, run)
        self._steps: dict[str, _Source] = {}
        self._series: dict[str, Series] = {}
        self._lock = threading.Lock()

    def read_new(self, steps: Sequence[RunRecord] | None = None) -> RunMetrics:
        """Return the whole of what is known after fetching what is new; empty while the run is unknown to MLflow.

        steps: of the run, where the caller knows them; else they are asked for until there is one that measures. While
        that one measures, it alone is asked.
        """
        with self._lock:
            if steps is None and not self._steps:
                steps = list_steps(self._conn, self._root.run)
            begun = [(step.started_at, step.run_id) for step in steps or () if step.started_at and _may_measure(step)]
            for _, run in sorted(begun):
                if run not in self._steps:  # a retry counts before what was tried earlier
                    self._steps = {run: _Source(self, run), **self._steps}
            sources, moved = [*self._steps.values(), self._root], set[str]()
            for place, source in enumerate(sources):
                before = sources[:place]
                if not source.status or not any(each.is_measuring for each in before):
                    moved |= source.read_new(before)
            for key in moved:
                self._series[key] = _merge(key, sources)
            return RunMetrics(self._root.run, dict(self._series))

    def read_page(self, run: str, key: str, token: str) -> tuple[list[Point], str]:
        """Return one page of a key's history and the token of the next, "" after the last."""
        query: dict[str, Any] = {"run_id": run, "metric_key": key, "max_results": PAGE}
        if token:
            query["page_token"] = token
        answer = self.get("metrics/get-history", run, **query)
        return [_point(metric) for metric in answer.get("metrics") or []], answer.get("next_page_token") or ""

    def get(self, what: str, run: str, **query: Any) -> dict[str, Any]:
        """Return what MLflow answers about a run; raises NotFound where it does not know it."""
        url = f"{self._conn.tracking_url()}/api/2.0/mlflow/{what}"
        answer: dict[str, Any] = self._conn.http(
            "GET", url, doing="read", what=f"the measures of run '{run}'", params=query
        ).json()
        return answer


def _may_measure(step: RunRecord) -> bool:
    """Whether a step may have measured: the one that trains has, of those that other versions have it is not known."""
    return step.component == FINE_TUNE or step.component not in STAGES


class _Source:
    """One run that measures. status: MLflow's, "" before it was read."""

    def __init__(self, reader: MetricReader, run: str) -> None:
        self.run = run
        self.status = ""
        self.histories: dict[str, _History] = {}
        self._reader = reader

    @property
    def is_measuring(self) -> bool:
        """Whether it goes on and has measured something."""
        return self.status == "RUNNING" and bool(self.histories)

    def read_new(self, before: Sequence[_Source]) -> set[str]:
        """Read what moved, but for what those before it have as far; return the keys."""
        try:
            run = self._reader.get("runs/get", self.run, run_id=self.run)["run"]
        except NotFound:
            return set()
        self.status = run.get("info", {}).get("status", "")
        moved = set[str]()
        for metric in run.get("data", {}).get("metrics") or []:
            key, latest = metric["key"], _point(metric)
            if any(key in other.histories and other.histories[key].reaches(latest) for other in before):
                continue
            history = self.histories.setdefault(key, _History())
            if history.latest != latest:
                history.read(self._reader, self.run, key)
                moved.add(key)
                if history.has(latest):  # else the history lags behind the run: it is read again
                    history.latest = latest
        return moved


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

    def reaches(self, latest: Point) -> bool:
        """Whether it goes as far as this point of another run."""
        return self.latest is not None and self.latest.step >= latest.step

    def read(self, reader: MetricReader, run: str, key: str) -> None:
        while True:
            self._open, following = reader.read_page(run, key, self._token)
            if not following:
                return
            self._settled += self._open
            self._open, self._token = [], following


def _merge(key: str, sources: Sequence[_Source]) -> Series:
    """Return the points of a measure, one for each step: that of the first source that has it.

    Of a later source no point counts that is older than the first one's beginning and not before it in steps: a try
    that was given up.
    """
    kept: dict[tuple[int, int], Point] = {}
    named = []
    for source in sources:
        points = source.histories[key].points if key in source.histories else []
        first = min(kept.values(), key=_order, default=None)
        new = {
            place: point
            for place, point in _place_by_step(points).items()
            if place not in kept and (first is None or point.step < first.step or point.at_ms >= first.at_ms)
        }
        if new:
            named.append(source.run)
            kept |= new
    return Series(key, tuple(sorted(kept.values(), key=_order)), tuple(named))


def _place_by_step(points: Sequence[Point]) -> dict[tuple[int, int], Point]:
    """Return the last point of each step; all, where a service that counts none has given every point the step 0."""
    counts = any(point.step for point in points)
    return {(point.step, 0 if counts else point.at_ms): point for point in points}


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


def read_metrics(conn: Connection, run: str, steps: Sequence[RunRecord] | None = None) -> RunMetrics:
    """Return a run's measures, through one MetricReader per run and process. steps: of the run, where known."""
    return conn.remember("metric readers", _Readers, math.inf).get(conn, run).read_new(steps)


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
