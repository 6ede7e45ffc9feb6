"""A run of very many points: what it costs to follow it, and to open it, beside one of ten.

    python -m benchmarks.long_run [--points 1000000]

The points are written into the store of a local workspace, which is then served and read as any other. "Follow": one
more point comes, is read, and the loss chart is made of it. "Open": a new session of a new dashboard on the run's page,
until the message that holds the chart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks.load import bench_server, ended_job, fill
from benchmarks.page_clock import open_tab
from core import launcher
from core.azureml.connection import connect
from core.azureml.settings import local_settings
from core.runs.metrics import MetricReader, RunMetrics
from pages.parts.kit import charts
from tests.local_server import LocalServer

FOLLOW_BAR, OPEN_BAR_S, BYTES_BAR = 1.5, 3.0, 200_000
_REPEATS = 20


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000, help="of all measures together")
    points = parser.parse_args().points
    with bench_server() as server:
        template = ended_job(server)
        server.stop()
        for count, prefix in ((points, "long"), (10, "short")):
            fill(server.home.workspace_db, jobs=1, models=0, points=count, template=template, prefix=prefix)
        server.start()
        follow = {run: _follow(server, run) for run in ("long-00000", "short-00000")}
        seconds, received = _open(server, "long-00000")
    ratio = follow["long-00000"] / follow["short-00000"]
    print(f"follow {points:,} points: {follow['long-00000']:.1f} ms a point, {ratio:.2f} of ten (bar: {FOLLOW_BAR})")
    print(
        f"open it: the chart came after {seconds:.2f} s (bar: {OPEN_BAR_S:.0f} s), {received:,} bytes in all", end=" "
    )
    print(f"(bar: {BYTES_BAR:,})")
    return 0 if ratio <= FOLLOW_BAR and seconds <= OPEN_BAR_S and received <= BYTES_BAR else 1


def _follow(server: LocalServer, run: str) -> float:
    """Return the milliseconds that one more point takes: processor time of this process, in the middle."""
    conn = connect(local_settings(), home=server.home)
    reader = MetricReader(conn, run)
    began = time.perf_counter()
    while not (measured := reader.read_new([])).complete:
        pass
    print(f"{run}: {sum(len(one.points) for one in measured.series.values()):,} points read in ", end="")
    print(f"{time.perf_counter() - began:.2f} s")
    reader.read_new([])
    times = []
    for _ in range(_REPEATS):
        _log(server, run, measured)
        began = time.process_time()
        measured = reader.read_new([])
        loss, evaluated = measured.get("loss").drawn, measured.get("eval_loss").drawn
        charts.loss_figure(loss, evaluated, run, charts.Axis(), 0.6, False, charts.LIGHT).to_json()
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times)


def _log(server: LocalServer, run: str, measured: RunMetrics) -> None:
    last = measured.get("loss").last
    assert last is not None
    metric: dict[str, Any] = {"key": "loss", "value": 1.0, "step": last.step + 1, "timestamp": last.at_ms + 1}
    answer = server.request("POST", "/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": [metric]})
    assert answer.status_code == 200, answer.text


def _open(server: LocalServer, run: str) -> tuple[float, int]:
    """Return after how many seconds the chart came, and the bytes that were received until then."""
    dashboard = launcher.start_dashboard(server.home)
    try:
        with open_tab(dashboard.port) as tab:
            return tab.await_text("runs", "chart-loss-", at="local", run=run)
    finally:
        launcher.stop_dashboard(server.home)


if __name__ == "__main__":
    raise SystemExit(main())
