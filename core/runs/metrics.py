"""A run's measures over MLflow's REST API, read incrementally, from the run and from its steps that measure.

Azure's component logs on the run of its step; of the pipeline's own run some versions hold the same, others nothing.
Our own reader: the plug-in for Azure signs in by itself, pins other packages and fails with a custom cloud.
API: https://mlflow.org/docs/latest/rest-api.html (runs/get, metrics/get-history).
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from core.azureml.connection import Connection
from core.errors import NotFound
from core.runs.history import RunRecord, list_steps
from core.runs.series import Columns, Ordered, Point, Points, Series
from core.runs.states import FINE_TUNE, STAGES

PAGE = 1000
FIRST_PAGE = 25_000  # the most that MLflow gives
LOOK_S = 0.4  # that one look reads at most: of a history of millions the rest comes with the next ones
SEARCHED = 200  # runs in one answer
_FIRST = ("loss", "eval_loss")  # of the measures: what a page waits for
_READERS_KEPT = 100
_STANDS_FOR = {"loss": "train_loss"}


@dataclass(frozen=True)
class RunMetrics:
    """Every measure of one run at one moment."""

    run: str
    series: Mapping[str, Series] = field(default_factory=dict)
    complete: bool = True
    """Whether it holds all that was logged by then; the next look goes on where this one ended."""

    def get(self, key: str) -> Series:
        """Return the series of this key, empty when nothing has been measured.

        A run that ends before it logs a loss has the mean of all steps alone.
        """
        return self.series.get(key) or self.series.get(_STANDS_FOR.get(key, "")) or Series(key)

    @property
    def steps_per_epoch(self) -> float:
        """How many steps an epoch has, 0 while that is not known."""
        last = self.get("epoch").last
        return last.step / last.value if last and last.value > 0 else 0.0


class MetricReader:
    """Reads one run and remembers it: a second read asks only for what moved, and of that only the last page.

    look_s: how long one look reads on. first_page: points of a page while a history is read for the first time.
    """

    def __init__(self, conn: Connection, run: str, look_s: float = LOOK_S, first_page: int = FIRST_PAGE) -> None:
        self.first_page = first_page
        self._look_s = look_s
        self._conn = conn
        self._root = _Source(self, run)
        self._steps: dict[str, _Source] = {}
        self._curves: dict[str, _Curve] = {}
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
            until = time.monotonic() + self._look_s
            for place, source in enumerate(sources):
                before = sources[:place]
                if not source.status or not any(each.is_measuring for each in before):
                    moved |= source.read_new(before, until)
            for key in moved:
                self._series[key] = self._curves.setdefault(key, _Curve(key)).follow(sources)
            return RunMetrics(self._root.run, dict(self._series), all(source.complete for source in sources))

    def read_page(self, run: str, key: str, token: str, most: int) -> tuple[Columns, str]:
        """Return one page of a key's history and the token of the next, "" after the last."""
        query: dict[str, Any] = {"run_id": run, "metric_key": key, "max_results": most}
        if token:
            query["page_token"] = token
        answer = self.get("metrics/get-history", run, **query)
        page, metrics = Columns(), answer.get("metrics") or []
        page.steps.extend([int(metric.get("step") or 0) for metric in metrics])
        page.values.extend([float(metric.get("value", math.nan)) for metric in metrics])
        page.times.extend([int(metric.get("timestamp") or 0) for metric in metrics])
        return page, answer.get("next_page_token") or ""

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
        self.complete = True
        self.histories: dict[str, _History] = {}
        self._reader = reader

    @property
    def is_measuring(self) -> bool:
        """Whether it goes on and has measured something."""
        return self.status == "RUNNING" and bool(self.histories)

    def read_new(self, before: Sequence[_Source], until: float) -> set[str]:
        """Read what moved, but for what those before it have as far; return the keys.

        until: when to leave the rest to the next look, of the monotonic clock.
        """
        try:
            run = self._reader.get("runs/get", self.run, run_id=self.run)["run"]
        except NotFound:
            return set()
        self.status = run.get("info", {}).get("status", "")
        moved, self.complete = set[str](), True
        metrics = run.get("data", {}).get("metrics") or []
        for metric in sorted(metrics, key=lambda metric: metric["key"] not in _FIRST):
            key, latest = metric["key"], _point(metric)
            if any(key in other.histories and other.histories[key].reaches(latest) for other in before):
                continue
            history = self.histories.setdefault(key, _History())
            if history.latest != latest:
                self.complete &= history.read(self._reader, self.run, key, until)
                moved.add(key)
                if self.complete and history.has(latest):  # else the history lags behind the run: it is read again
                    history.latest = latest
        return moved


class _History:
    """One key's points; the pages before the last are not read again (a history is only ever added to)."""

    def __init__(self) -> None:
        self.latest: Point | None = None
        self.columns = Columns()
        """As they were logged; others once something before the end was not as it had been."""
        self._settled = 0
        self._token = ""
        self._is_whole = False

    def has(self, latest: Point) -> bool:
        """Whether it holds this point; by its place, since a value that is no number equals none."""
        found = range(len(self.columns) - 1, -1, -1)
        return any(self.columns.steps[at] == latest.step and self.columns.times[at] == latest.at_ms for at in found)

    def reaches(self, latest: Point) -> bool:
        """Whether it goes as far as this point of another run."""
        return self.latest is not None and self.latest.step >= latest.step

    def read(self, reader: MetricReader, run: str, key: str, until: float) -> bool:
        """Read what is new, a page at least; False where time was up before the end."""
        most = PAGE if self._is_whole else reader.first_page
        while True:
            page, following = reader.read_page(run, key, self._token, most)
            held, settled = len(self.columns) - self._settled, slice(self._settled, None)
            known = page.until(held)
            if (known.steps, known.times) != (self.columns.steps[settled], self.columns.times[settled]):
                self.columns, held = self.columns.until(self._settled), 0
            self.columns.extend(page, held)
            if not following:
                self._is_whole = True
                return True
            self._settled, self._token = len(self.columns), following
            if time.monotonic() > until:
                return False


class _Curve:
    """One measure of a run as it grows, put together from the sources that have it."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._followed: Columns | None = None
        self._ordered = Ordered()

    def follow(self, sources: Sequence[_Source]) -> Series:
        """Return the series now; where one source has it all in order, only its new points are looked at."""
        having = [source for source in sources if self._key in source.histories]
        columns = having[0].histories[self._key].columns if len(having) == 1 else None
        if columns is None or columns is not self._followed:
            self._ordered, self._followed = Ordered(columns), columns
        if columns is not None and self._ordered.take_new():
            return self._ordered.to_series(self._key, (having[0].run,))
        points, named = _merge(self._key, having)
        self._ordered, self._followed = Ordered(Columns(points)), None
        self._ordered.take_new()
        return self._ordered.to_series(self._key, named)


def _merge(key: str, sources: Sequence[_Source]) -> tuple[list[Point], tuple[str, ...]]:
    """Return the points of a measure, one for each step: that of the first source that has it; and who had them.

    Of a later source no point counts that is older than the first one's beginning and not before it in steps: a try
    that was given up.
    """
    kept: dict[tuple[int, int], Point] = {}
    named = []
    for source in sources:
        first = min(kept.values(), key=_place, default=None)
        new = {
            place: point
            for place, point in _place_by_step(Points(source.histories[key].columns)).items()
            if place not in kept and (first is None or point.step < first.step or point.at_ms >= first.at_ms)
        }
        if new:
            named.append(source.run)
            kept |= new
    return sorted(kept.values(), key=_place), tuple(named)


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


# The outcome of runs that have ended --------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What MLflow tells of a run. root: the pipeline it is a step of, else itself. Times in ISO, None for none."""

    run: str
    root: str
    started_at: str | None
    ended_at: str | None
    losses: dict[str, float]


def find_experiment(conn: Connection, name: str) -> str | None:
    """Return the number of an experiment, None where MLflow does not know it."""
    url = f"{conn.tracking_url()}/api/2.0/mlflow/experiments/get-by-name"
    try:
        answer = conn.http("GET", url, what=f"the experiment '{name}'", params={"experiment_name": name})
    except NotFound:
        return None
    return str(answer.json()["experiment"]["experiment_id"])


def search_runs(conn: Connection, experiment: str, token: str) -> tuple[list[Outcome], str]:
    """Return a page of an experiment's runs, the newest first, and the token of the next, "" after the last."""
    body = {"experiment_ids": [experiment], "run_view_type": "ALL", "max_results": SEARCHED}
    url = f"{conn.tracking_url()}/api/2.0/mlflow/runs/search"
    answer = conn.http("POST", url, what="what the runs measured", json=body | ({"page_token": token} if token else {}))
    found = orjson.loads(answer.content)
    return [_to_outcome(run) for run in found.get("runs") or []], found.get("next_page_token") or ""


def _to_outcome(run: Mapping[str, Any]) -> Outcome:
    info, data = run["info"], run.get("data") or {}
    told = {tag["key"]: tag.get("value") for tag in data.get("tags") or []}
    root = told.get("mlflow.rootRunId") or told.get("mlflow.parentRunId") or info["run_id"]
    started, ended = (_to_iso(info.get(name)) for name in ("start_time", "end_time"))
    return Outcome(info["run_id"], root, started, ended, _pick_losses(data.get("metrics") or []))


def _to_iso(milliseconds: Any) -> str | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat() if milliseconds else None


def read_losses(conn: Connection, run: str) -> dict[str, float]:
    """Return the last losses of a run as the fields of a Run, from its steps where it has none itself."""
    reader = MetricReader(conn, run)
    steps = (step.run_id for step in list_steps(conn, run) if step.started_at and _may_measure(step))
    for source in itertools.chain([run], steps):
        try:
            told = reader.get("runs/get", source, run_id=source)["run"]
        except NotFound:
            continue
        if losses := _pick_losses((told.get("data") or {}).get("metrics") or []):
            return losses
    return {}


def _pick_losses(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the finite ones. A run that ends before it logs a loss has the mean of all steps alone."""
    latest = {metric["key"]: float(metric.get("value", math.nan)) for metric in metrics}
    named = {"train_loss": latest.get("loss", latest.get(_STANDS_FOR["loss"])), "eval_loss": latest.get("eval_loss")}
    return {name: value for name, value in named.items() if value is not None and math.isfinite(value)}


def _place(point: Point) -> tuple[int, int]:
    """By step, then time: with logging by epochs the service gives every point the step 0."""
    return point.step, point.at_ms


def _point(metric: Mapping[str, Any]) -> Point:
    return Point(int(metric.get("step") or 0), float(metric.get("value", math.nan)), int(metric.get("timestamp") or 0))
