"""Azure Monitor's metrics of endpoints, deployments and clusters (REST `Microsoft.Insights/metrics`, 2023-10-01).

A point without a value says nothing: that nothing happened, or that nobody counted. Azure fills the gaps of some
metrics with 0. Only what a machine that runs cannot but report, its memory in use or its idle nodes, proves by a value
above 0 that it was watched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection

LATE = timedelta(minutes=10)
"""How late a value may come; a span without one that is no longer is no hole."""
_API = "2023-10-01"
Points = Sequence[tuple[datetime, float]]


def read_series(
    conn: Connection, path: str, metric: str, since: datetime, until: datetime, *, minutes: int = 1, split: str = ""
) -> list[Points]:
    """Return the points of each series that have a value, 0 included, in the order of time; [] where nothing counts.

    path: of the resource, below the workspace; minutes: of a point, 1, 5, 15 or 30; split: a `$filter`, without which
    there is one series at most.
    """
    asked = {
        "api-version": _API,
        "metricnames": metric,
        "aggregation": "Average",
        "interval": f"PT{minutes}M",
        "timespan": f"{tags.format_time(since)}/{tags.format_time(until)}",
        **({"$filter": split, "top": "100"} if split else {}),
    }
    what = f"the metric '{metric}' of {path.strip('/').rpartition('/')[2] or 'the workspace'}"
    url = f"{conn.workspace_path}{path}/providers/Microsoft.Insights/metrics"
    answer = conn.http("GET", url, params=asked, what=what).json()
    return [_points(series) for metric in answer.get("value") or [] for series in metric.get("timeseries") or []]


def find_watched_since(points: Points, since: datetime, until: datetime, *, minutes: int = 1) -> datetime | None:
    """Return from when on values above 0 came without a hole; None where even the newest are missing."""
    start = until
    for at in sorted((at for at, value in points if value > 0), reverse=True):
        if start - at > LATE + timedelta(minutes=minutes):
            break
        start = min(at, start)
    if start >= until:
        return None
    return since if start - since <= LATE else start


def _points(series: Mapping[str, Any]) -> Points:
    found = [(tags.parse_time(point.get("timeStamp")), point.get("average")) for point in series.get("data") or []]
    return sorted((at, float(value)) for at, value in found if at is not None and value is not None)
