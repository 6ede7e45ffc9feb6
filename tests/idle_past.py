"""A past for what a served home has: when it was made, what it measured, which requests came. Written as data."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta

from core.home import Home
from core.local.measuring import FILE_NAME, write_measures
from core.local.wire import request_log

HOUR_S = 3600
ALIVE = {"CpuMemoryUtilizationPercentage": 40.0, "DeploymentCapacity": 1.0}
WAITING = {"IdleNodes": 1.0, "ActiveNodes": 0.0}


def make_old(home: Home, hours: float = 30) -> None:
    """Let all endpoints, deployments and computes have been made so long ago."""
    at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    with closing(sqlite3.connect(home.workspace_db)) as database, database:
        database.execute(
            "UPDATE documents SET created_at = ? WHERE kind IN ('endpoint', 'deployment', 'compute')", (at,)
        )


def measure(home: Home, of: str, hours: float = 30, *, hole: tuple[float, float] = (0, 0), **measured: float) -> None:
    """Write anew what was measured of "computes/NAME" or "deployments/ENDPOINT/NAME" each five minutes.

    hole: from and to how many hours ago nothing was.
    """
    folder, now = home.path / of, time.time()
    (folder / FILE_NAME).unlink(missing_ok=True)
    for ago in range(int(hours * 60), -1, -5):
        if not hole[1] <= ago / 60 < hole[0]:
            write_measures(folder, now - ago * 60, **measured)


def ask(home: Home, endpoint: str, hours_ago: Iterable[float]) -> None:
    """Write anew which requests came to an endpoint, and how many hours ago each."""
    lines = [f"{time.time() - ago * HOUR_S:.3f} demo 200 12.0\n" for ago in sorted(hours_ago, reverse=True)]
    (home.deployments / endpoint / request_log.FILE_NAME).write_text("".join(lines))
