"""The metrics of endpoints, deployments and clusters as Azure Monitor answers them.

Names, units, aggregation and dimensions are those of Azure's tables "Supported metrics for
Microsoft.MachineLearningServices/workspaces", ".../onlineEndpoints" and ".../onlineEndpoints/deployments"; a metric
that is not measured here is a 400. What nobody measured has no value: a minute without a request, or without a server.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from core.home import LOCATION
from core.local.compute import Compute
from core.local.endpoints.resources import Deployment, Endpoint
from core.local.measuring import read_measures
from core.local.wire import answers
from core.local.wire.answers import PROVIDER, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

LONGEST = timedelta(days=30)
INTERVALS = {"PT1M": 1, "PT5M": 5, "PT15M": 15, "PT30M": 30, "PT1H": 60, "PT6H": 360, "PT12H": 720, "P1D": 1440}
"""The lengths that Azure Monitor sums minutes up to, in minutes."""
_PART = re.compile(r"(\w+)\s+eq\s+'([^']*)'", re.IGNORECASE)


@dataclass(frozen=True)
class Metric:
    """A metric of a resource."""

    unit: str
    dimensions: tuple[str, ...] = ()
    """What it can be split by."""
    measure: Callable[[Sequence[float]], float] = statistics.fmean
    """Makes the value of a minute from what was measured in it."""


@dataclass(frozen=True)
class Sample:
    """One thing measured."""

    at: float
    """Seconds since 1970."""
    value: float
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What is asked of one resource. split: the dimensions that make series, with the one value wanted, or "*"."""

    resource: str
    """Its id."""
    namespace: str
    names: tuple[str, ...]
    since: datetime
    until: datetime
    interval: str
    split: Mapping[str, str]


def _percentile(percent: int) -> Callable[[Sequence[float]], float]:
    def measure(milliseconds: Sequence[float]) -> float:
        ordered = sorted(milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    return measure


_OF_REQUESTS = ("deployment", "statusCode", "statusCodeClass")
ENDPOINT_METRICS = {
    "RequestsPerMinute": Metric("Count", _OF_REQUESTS, lambda milliseconds: float(len(milliseconds))),
    "RequestLatency": Metric("MilliSeconds", ("deployment",)),
    "RequestLatency_P50": Metric("MilliSeconds", ("deployment",), statistics.median),
    "RequestLatency_P90": Metric("MilliSeconds", ("deployment",), _percentile(90)),
    "RequestLatency_P95": Metric("MilliSeconds", ("deployment",), _percentile(95)),
    "RequestLatency_P99": Metric("MilliSeconds", ("deployment",), _percentile(99)),
}
DEPLOYMENT_METRICS = {"CpuMemoryUtilizationPercentage": Metric("Percent"), "DeploymentCapacity": Metric("Count")}
WORKSPACE_METRICS = {name: Metric("Count", ("ClusterName",)) for name in ("Active Nodes", "Idle Nodes")}


def list_endpoint_metrics(request: Request) -> dict[str, Any]:
    """GET metrics of an endpoint for a timespan."""
    workspace = workspace_of(request)
    name = Endpoint.get(workspace.store, answers.name_of(request, "endpoint")).name
    asked = _read_query(request, answers.arm_id("onlineEndpoints", name), "onlineEndpoints", ENDPOINT_METRICS)
    requests = [
        Sample(
            one.at,
            one.milliseconds,
            dict(zip(_OF_REQUESTS, (one.deployment, str(one.status), f"{one.status // 100}xx"), strict=True)),
        )
        for one in workspace.request_log.read(name, asked.since.timestamp(), asked.until.timestamp())
    ]
    return _to_wire(asked, ENDPOINT_METRICS, dict.fromkeys(asked.names, requests))


def list_deployment_metrics(request: Request) -> dict[str, Any]:
    """GET metrics of a deployment for a timespan."""
    workspace = workspace_of(request)
    key = f"{answers.name_of(request, 'endpoint')}/{answers.name_of(request, 'deployment')}"
    deployment = Deployment.get(workspace.store, key)
    asked = _read_query(request, deployment.arm_id, "onlineEndpoints/deployments", DEPLOYMENT_METRICS)
    folder = workspace.deployments.scorer_of(deployment).folder
    measured = {
        name: [Sample(*each) for each in read_measures(folder, name, asked.since.timestamp(), asked.until.timestamp())]
        for name in asked.names
    }
    return _to_wire(asked, DEPLOYMENT_METRICS, measured)


def list_workspace_metrics(request: Request) -> dict[str, Any]:
    """GET metrics of all clusters for a timespan."""
    workspace = workspace_of(request)
    asked = _read_query(request, answers.workspace_id(), "", WORKSPACE_METRICS)
    return _to_wire(asked, WORKSPACE_METRICS, {name: list(_list_nodes(workspace, asked, name)) for name in asked.names})


def _list_nodes(workspace: Workspace, asked: Asked, name: str) -> Iterator[Sample]:
    for compute in Compute.list_all(workspace.store):
        since = max(asked.since, datetime.fromisoformat(compute.created_at)).timestamp()
        folder, stored_as = workspace.home.computes / compute.name, name.replace(" ", "")
        for at, value in read_measures(folder, stored_as, since, asked.until.timestamp()):
            yield Sample(at, value, {"ClusterName": compute.name})


def _read_query(request: Request, resource: str, kind: str, metrics: Mapping[str, Metric]) -> Asked:
    asked = {key.lower(): value for key, value in request.query_params.items()}
    names = tuple(each.strip() for each in asked.get("metricnames", "").split(",") if each.strip())
    if unknown := [each for each in names if each not in metrics] or ([] if names else ["none"]):
        raise WireError(400, "BadRequest", f"metricnames holds {unknown[0]}; measured here: {', '.join(metrics)}.")
    interval = asked.get("interval", "PT1M")
    if interval not in INTERVALS:
        raise WireError(400, "BadRequest", f"The interval must be one of {', '.join(INTERVALS)}, not '{interval}'.")
    if asked.get("aggregation", "Average").lower() != "average":
        raise WireError(400, "BadRequest", f"The aggregation must be Average, not '{asked['aggregation']}'.")
    since, until = _read_timespan(asked.get("timespan", ""))
    split = _read_filter(asked.get("$filter", ""), [metrics[name] for name in names])
    return Asked(resource, f"{PROVIDER}/workspaces/{kind}".rstrip("/"), names, since, until, interval, split)


def _to_wire(asked: Asked, metrics: Mapping[str, Metric], samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    return {
        "cost": 0,
        "timespan": f"{_wire(asked.since)}/{_wire(asked.until)}",
        "interval": asked.interval,
        "namespace": asked.namespace,
        "resourceregion": LOCATION,
        "value": [
            {
                "id": f"{asked.resource}/providers/Microsoft.Insights/metrics/{name}",
                "type": "Microsoft.Insights/metrics",
                "name": {"value": name, "localizedValue": name},
                "unit": metrics[name].unit,
                "timeseries": [
                    {
                        "metadatavalues": [
                            {"name": {"value": each.lower(), "localizedValue": each.lower()}, "value": value}
                            for each, value in zip(asked.split, place, strict=True)
                        ],
                        "data": _points(asked, minutes),
                    }
                    for place, minutes in sorted(_split(asked, metrics[name], samples[name]).items())
                ],
                "errorCode": "Success",
            }
            for name in asked.names
        ],
    }


def _split(asked: Asked, metric: Metric, samples: Sequence[Sample]) -> dict[tuple[str, ...], dict[int, float]]:
    """Return the value of each minute that has one, by the dimensions that are split by; one series where none is."""
    series: defaultdict[tuple[str, ...], defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        place = tuple(sample.dimensions[name] for name in asked.split)
        if all(wanted in ("*", value) for wanted, value in zip(asked.split.values(), place, strict=True)):
            series[place][int(sample.at // 60)].append(sample.value)
    if not series and not asked.split:
        series[()] = defaultdict(list)
    return {
        place: {minute: metric.measure(values) for minute, values in minutes.items()}
        for place, minutes in series.items()
    }


def _points(asked: Asked, minutes: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return a point for each interval: the average over its minutes that have a value, none where no minute has."""
    length = INTERVALS[asked.interval]
    buckets: defaultdict[int, list[float]] = defaultdict(list)
    for minute, value in minutes.items():
        buckets[minute // length].append(value)
    points: list[dict[str, Any]] = []
    for bucket in range(int(asked.since.timestamp() // 60) // length, -int(-asked.until.timestamp() // (60 * length))):
        point: dict[str, Any] = {"timeStamp": _wire(datetime.fromtimestamp(bucket * length * 60, UTC))}
        if buckets.get(bucket):
            point["average"] = statistics.fmean(buckets[bucket])
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
        message = f"'{text}' is no timespan: two times with '/' between them, 30 days apart at most."
        raise WireError(400, "BadRequest", message) from error
    return since, until


def _read_filter(text: str, metrics: Sequence[Metric]) -> dict[str, str]:
    """Return what the series are split by, with the value wanted: `deployment eq '*' and statusCode eq '200'`."""
    split = {}
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if text.strip() else ():
        parsed = _PART.fullmatch(part.strip())
        known = {name.lower(): name for name in metrics[0].dimensions}
        dimension = known.get(parsed[1].lower()) if parsed else None
        if dimension is None or parsed is None or any(dimension not in metric.dimensions for metric in metrics):
            raise WireError(400, "BadRequest", f"'{part}' is no filter of these metrics.")
        split[dimension] = parsed[2]
    return split


def _wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_METRICS = "providers/Microsoft.Insights/metrics"
_ENDPOINT = f"{WORKSPACE_PATH}/onlineEndpoints/{{endpoint}}"
ROUTES = [
    route(f"{WORKSPACE_PATH}/{_METRICS}", list_workspace_metrics, in_thread=True),
    route(f"{_ENDPOINT}/{_METRICS}", list_endpoint_metrics, in_thread=True),
    route(f"{_ENDPOINT}/deployments/{{deployment}}/{_METRICS}", list_deployment_metrics, in_thread=True),
]
