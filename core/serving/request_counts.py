"""How many requests an endpoint answered lately and how fast, as the endpoint itself counted them.

Azure Monitor's metrics of `onlineEndpoints` (REST `Microsoft.Insights/metrics`, 2023-10-01): RequestsPerMinute and
RequestLatency_P50, both by the minute, aggregation Average. Azure's come some minutes late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection

MINUTES = 60
_API = "2023-10-01"
# A count is the average over the series of what it is not split by, so it is split by all there is and summed.
_SPLIT = "deployment eq '*' and statusCode eq '*'"


@dataclass(frozen=True)
class RequestCount:
    """What came in the last MINUTES. p50_ms: the median latency of the newest minute with a request, which is `at`."""

    requests: int
    p50_ms: float | None = None
    at: datetime | None = None


def read_requests(conn: Connection, endpoint: str) -> RequestCount:
    """Return what an endpoint counted in the last MINUTES."""
    counted = sum(value for _, value in _points(_read(conn, endpoint, "RequestsPerMinute", _SPLIT)))
    latencies = sorted(_points(_read(conn, endpoint, "RequestLatency_P50")))
    at, p50_ms = latencies[-1] if latencies else (None, None)
    return RequestCount(round(counted), p50_ms, at)


def _read(conn: Connection, endpoint: str, metric: str, split: str = "") -> Mapping[str, Any]:
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    asked = {
        "api-version": _API,
        "metricnames": metric,
        "aggregation": "Average",
        "interval": "PT1M",
        "timespan": f"{tags.format_time(until - timedelta(minutes=MINUTES))}/{tags.format_time(until)}",
    }
    path = f"{conn.workspace_path}/onlineEndpoints/{endpoint}/providers/Microsoft.Insights/metrics"
    params = asked | ({"$filter": split, "top": "100"} if split else {})
    answer: Mapping[str, Any] = conn.http("GET", path, params=params, what=f"the metrics of '{endpoint}'").json()
    return answer


def _points(answer: Mapping[str, Any]) -> Iterator[tuple[datetime, float]]:
    """Give each minute that has a value; a minute without a request has none, or 0."""
    for metric in answer.get("value") or []:
        for series in metric.get("timeseries") or []:
            for point in series.get("data") or []:
                at = tags.parse_time(point.get("timeStamp"))
                if at is not None and point.get("average"):
                    yield at, float(point["average"])
