"""How many requests an endpoint answered lately and how fast, as the endpoint itself counted them.

Azure Monitor's metrics of `onlineEndpoints`: RequestsPerMinute and RequestLatency_P50, both by the minute, aggregation
Average. Azure's come some minutes late. That none came is known only of minutes in which each deployment reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.azureml.connection import Connection
from core.azureml.monitor import find_watched_since, read_series

MINUTES = 60
# A count is the average over the series of what it is not split by, so it is split by all there is and summed.
_SPLIT = "deployment eq '*' and statusCode eq '*'"
ALIVE = "CpuMemoryUtilizationPercentage"
"""What each instance reports every minute, and never as 0."""


@dataclass(frozen=True)
class RequestCount:
    """What came in the last `minutes`. p50_ms: the median latency of the newest minute with a request, which is `at`.

    requests: None where nothing was counted and nothing proves that it would have been; `why` says so then.
    """

    requests: int | None
    p50_ms: float | None = None
    at: datetime | None = None
    minutes: int = MINUTES
    why: str = ""


def read_requests(conn: Connection, endpoint: str, deployments: Sequence[str] = ()) -> RequestCount:
    """Return what an endpoint counted in the last MINUTES. deployments: all of it, which prove a count of none."""
    until = conn.now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    since, path = until - timedelta(minutes=MINUTES), f"/onlineEndpoints/{endpoint}"
    counts = read_series(conn, path, "RequestsPerMinute", since, until, split=_SPLIT)
    counted = sum(value for points in counts for _, value in points)
    if not counted:
        return _count_none(conn, endpoint, deployments, since, until)
    latencies = [
        each for points in read_series(conn, path, "RequestLatency_P50", since, until) for each in points if each[1]
    ]
    at, p50_ms = latencies[-1] if latencies else (None, None)
    return RequestCount(round(counted), p50_ms, at)


def read_watched_since(
    conn: Connection, endpoint: str, deployment: str, since: datetime, until: datetime, *, minutes: int = 1
) -> datetime | None:
    """Return from when on a deployment reported without a hole until now; None where it does not."""
    path = f"/onlineEndpoints/{endpoint}/deployments/{deployment}"
    points = [each for series in read_series(conn, path, ALIVE, since, until, minutes=minutes) for each in series]
    return find_watched_since(points, since, until, minutes=minutes)


def _count_none(
    conn: Connection, endpoint: str, deployments: Sequence[str], since: datetime, until: datetime
) -> RequestCount:
    starts = []
    for name in deployments:
        if (start := read_watched_since(conn, endpoint, name, since, until)) is None:
            return RequestCount(None, why=f"Nothing was counted, and deployment '{name}' reports nothing either.")
        starts.append(start)
    if not starts:
        return RequestCount(None, why="Nothing was counted, and there is no deployment that could.")
    return RequestCount(0, minutes=round((until - max(starts)).total_seconds() / 60))
