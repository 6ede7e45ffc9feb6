"""The metrics of an online endpoint, minute by minute, as Azure Monitor answers them: requests and their latency.

Names, units, aggregation and dimensions are those of Azure's table "Supported metrics for
Microsoft.MachineLearningServices/workspaces/onlineEndpoints"; a metric that is not measured here is a 400.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from core.home import LOCATION
from core.local.endpoints.resources import Endpoint
from core.local.wire import answers
from core.local.wire.answers import PROVIDER, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.wire.request_log import Answered
from core.local.workspace import workspace_of

LONGEST = timedelta(days=1)
_PART = re.compile(r"(\w+)\s+eq\s+'\*'", re.IGNORECASE)
_DIMENSIONS: dict[str, Callable[[Answered], str]] = {
    "deployment": lambda request: request.deployment,
    "statusCode": lambda request: str(request.status),
    "statusCodeClass": lambda request: f"{request.status // 100}xx",
}


@dataclass(frozen=True)
class Metric:
    """A metric of an endpoint."""

    unit: str
    measure: Callable[[Sequence[float]], float]
    """Makes the value of a minute from the milliseconds its requests took."""
    dimensions: tuple[str, ...]
    """What it can be split by."""


def _percentile(percent: int) -> Callable[[Sequence[float]], float]:
    def measure(milliseconds: Sequence[float]) -> float:
        ordered = sorted(milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    return measure


METRICS = {
    "RequestsPerMinute": Metric("Count", lambda milliseconds: float(len(milliseconds)), tuple(_DIMENSIONS)),
    "RequestLatency": Metric("MilliSeconds", statistics.fmean, ("deployment",)),
    "RequestLatency_P50": Metric("MilliSeconds", statistics.median, ("deployment",)),
    "RequestLatency_P90": Metric("MilliSeconds", _percentile(90), ("deployment",)),
    "RequestLatency_P95": Metric("MilliSeconds", _percentile(95), ("deployment",)),
    "RequestLatency_P99": Metric("MilliSeconds", _percentile(99), ("deployment",)),
}


def list_metrics(request: Request) -> dict[str, Any]:
    """GET metrics of an endpoint for a timespan."""
    workspace = workspace_of(request)
    name = Endpoint.get(workspace.store, answers.name_of(request, "endpoint")).name
    asked = {key.lower(): value for key, value in request.query_params.items()}
    names = [each.strip() for each in asked.get("metricnames", "").split(",") if each.strip()]
    if unknown := [each for each in names if each not in METRICS] or ([] if names else ["none"]):
        raise WireError(400, "BadRequest", f"metricnames holds {unknown[0]}; measured here: {', '.join(METRICS)}.")
    if asked.get("interval", "PT1M") != "PT1M":
        raise WireError(400, "BadRequest", f"The interval must be PT1M, not '{asked['interval']}'.")
    if asked.get("aggregation", "Average").lower() != "average":
        raise WireError(400, "BadRequest", f"The aggregation must be Average, not '{asked['aggregation']}'.")
    since, until = _read_timespan(asked.get("timespan", ""))
    split = _read_filter(asked.get("$filter", ""), names)
    requests = list(workspace.request_log.read(name, since.timestamp(), until.timestamp()))
    return {
        "cost": 0,
        "timespan": f"{_wire(since)}/{_wire(until)}",
        "interval": "PT1M",
        "namespace": f"{PROVIDER}/workspaces/onlineEndpoints",
        "resourceregion": LOCATION,
        "value": [_metric_to_wire(name, each, requests, split, since, until) for each in names],
    }


def _metric_to_wire(
    endpoint: str, name: str, requests: Iterable[Answered], split: Sequence[str], since: datetime, until: datetime
) -> dict[str, Any]:
    series: defaultdict[tuple[str, ...], defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for request in requests:
        place = tuple(_DIMENSIONS[dimension](request) for dimension in split)
        series[place][int(request.at // 60)].append(request.milliseconds)
    if not series and not split:
        series[()] = defaultdict(list)
    return {
        "id": f"{answers.arm_id('onlineEndpoints', endpoint)}/providers/Microsoft.Insights/metrics/{name}",
        "type": "Microsoft.Insights/metrics",
        "name": {"value": name, "localizedValue": name},
        "unit": METRICS[name].unit,
        "timeseries": [
            {
                "metadatavalues": [
                    {"name": {"value": dimension.lower(), "localizedValue": dimension.lower()}, "value": value}
                    for dimension, value in zip(split, place, strict=True)
                ],
                "data": _points(METRICS[name], minutes, since, until),
            }
            for place, minutes in sorted(series.items())
        ],
        "errorCode": "Success",
    }


def _points(metric: Metric, minutes: dict[int, list[float]], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return a point for each minute; a minute without requests has no value, as in Azure."""
    points: list[dict[str, Any]] = []
    for minute in range(int(since.timestamp() // 60), -int(-until.timestamp() // 60)):
        point: dict[str, Any] = {"timeStamp": _wire(datetime.fromtimestamp(minute * 60, UTC))}
        if minutes.get(minute):
            point["average"] = metric.measure(minutes[minute])
        points.append(point)
    return points


def _read_timespan(text: str) -> tuple[datetime, datetime]:
    """Return begin and end; the last hour where none is given."""
    if not text:
        now = datetime.now(UTC)
        return now - timedelta(hours=1), now
    try:
        since, until = (datetime.fromisoformat(part) for part in text.split("/"))
        since, until = (at.replace(tzinfo=UTC) if at.tzinfo is None else at for at in (since, until))
        if not timedelta(0) < until - since <= LONGEST or since.year < 1971:
            raise ValueError
    except ValueError as error:
        message = f"'{text}' is no timespan: two times with '/' between them, a day apart at most."
        raise WireError(400, "BadRequest", message) from error
    return since, until


def _read_filter(text: str, names: Iterable[str]) -> list[str]:
    """Return what the series are split by: `deployment eq '*' and statusCode eq '*'`."""
    if not text.strip():
        return []
    dimensions = {name.lower(): name for name in _DIMENSIONS}
    split = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        parsed = _PART.fullmatch(part.strip())
        dimension = dimensions.get(parsed[1].lower()) if parsed else None
        if dimension is None or any(dimension not in METRICS[name].dimensions for name in names):
            raise WireError(400, "BadRequest", f"'{part}' is no filter of these metrics.")
        split.append(dimension)
    return split


def _wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


ROUTES = [route(f"{WORKSPACE_PATH}/onlineEndpoints/{{endpoint}}/providers/Microsoft.Insights/metrics", list_metrics)]
