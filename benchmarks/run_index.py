"""How long a list of 10,000 runs takes: `python -m benchmarks.run_index [--runs 10000]`, at the local workspace.

A run of the trivial trainer goes on beside them. "First rows" is the first look of a home that has never asked, "again"
the next look, "second start" the first look of a new process. Then the scripts of the pages that show runs, in a real
dashboard. At the end the stand-in for Azure, at 100 ms an answer, where 300 pipelines of others are newer than ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks import load
from benchmarks.load import fill
from benchmarks.page_clock import open_tab
from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.launcher import start_dashboard, stop_dashboard
from core.local.jobs.runs import Experiment
from core.local.store import Store
from core.overview import read_runs
from core.runs.index import RunList
from tests import environment
from tests.azure.stand_in import running_stand_in
from tests.core.local.submitting import wait_for
from tests.fine_tuning_runs import cancel, start_run, start_training, trivial_workspace
from tests.local_server import LocalServer
from tests.waiting import wait_until

T = TypeVar("T")
COLD_BAR_S, WARM_BAR_S, PAGE_BAR_MS, FLIGHT_BAR = 1.0, 0.3, 300, 8
OURS, OTHERS, ANSWER_S = 200, 300, 0.1
PAGES = {"Overview": "", "Runs": "runs", "Launch": "launch", "Teardown": "teardown"}
REPEATS = 7


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_index", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    environment.enter()
    print("| what | measured | bar |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tunedeck-runs-", ignore_cleanup_errors=True) as folder:
        with trivial_workspace(Path(folder) / "home") as server:
            os.environ["TUNEDECK_HOME"] = str(server.home.path)
            job = make_runs(server, options.runs)
            fits = [*measure_list(server), *measure_pages(server)]
        fits += measure_stand_in(Path(folder) / "azure", job)
    return 0 if all(fits) else 1


def make_runs(server: LocalServer, count: int) -> dict[str, object]:
    """Fill the workspace with copies of a run that has completed, let another train; return the former's document."""
    start_run(server, "template")
    wait_for(server, "template", "Completed")
    job = Store(server.home.workspace_db).require("job", "template")
    server.stop()
    fill(server.home.workspace_db, jobs=count, models=0, points=0, template=job)
    server.start()
    start_training(server, "trains")
    return job


def measure_list(server: LocalServer) -> list[bool]:
    conn = Connection(local_settings(), server.home)
    conn.facts()
    first, took = timed(lambda: read_runs(conn))
    fits = [say(f"first rows ({len(first):,} runs, '{first.note}')", took, COLD_BAR_S)]
    whole, took = timed(lambda: read_whole(conn))
    say(f"the whole list of {len(whole):,} runs", took)
    fits.append(say("again", statistics.median(timed(lambda: read_runs(conn))[1] for _ in range(REPEATS)), WARM_BAR_S))
    _, took = timed(lambda: wait_until(lambda: all(run.ended_at for run in read_runs(conn)[1:]), timeout_s=600))
    say("what all of them measured, look after look", took)
    fits.append(say("again", statistics.median(timed(lambda: read_runs(conn))[1] for _ in range(REPEATS)), WARM_BAR_S))
    second, took = timed(lambda: read_runs(Connection(local_settings(), server.home)))
    return [*fits, say(f"second start ({len(second):,} runs from the disk)", took, COLD_BAR_S)]


def measure_pages(server: LocalServer) -> list[bool]:
    """Time the pages' scripts, the slowest of some, once everything has been read."""
    dashboard, fits = start_dashboard(server.home), []
    try:
        for name, page in PAGES.items():
            with open_tab(dashboard.port) as tab:
                tab.open(page, at="local")
                wait_until(lambda tab=tab, page=page: tab.open(page, at="local") and "trains" in tab.says, every_s=0.5)
                before = load.process_ms(dashboard.pid)
                took = sorted(tab.open(page, at="local") for _ in range(REPEATS))
                spent = (load.process_ms(dashboard.pid) - before) / REPEATS
            row = f"{statistics.median(took):.0f} ms, slowest {took[-1]:.0f} ms, processor {spent:.0f} ms"
            print(f"| script of {name} | {row} | {PAGE_BAR_MS} ms |", flush=True)
            fits.append(took[-1] < PAGE_BAR_MS)
    finally:
        stop_dashboard(server.home)
        cancel(server, "trains")
    return fits


def measure_stand_in(folder: Path, job: dict[str, object]) -> list[bool]:
    with running_stand_in(folder, module="tests.core.local.trivial_server") as azure:
        azure.workspace.stop()
        database = azure.workspace.home.workspace_db
        Experiment(name=str(job["experiment"])).put(Store(database))
        fill(database, jobs=OURS, models=0, points=0, template=job, prefix="ours")
        untagged = {**job, "run": {**job["run"], "tags": {}}}  # type: ignore[dict-item]
        fill(database, jobs=OTHERS, models=0, points=0, template=untagged)
        azure.workspace.start()
        os.environ |= azure.environment
        conn = connect(azure.settings(), home=azure.home)
        conn.facts()
        azure.rules.add("^(GET|POST) https://", delay_s=ANSWER_S, times=10**9)
        azure.rules.peak = 0
        first, took = timed(lambda: read_runs(conn))
        fits = [say(f"stand-in: first rows ({len(first)} runs below {OTHERS} of others)", took, COLD_BAR_S)]
        whole, took = timed(lambda: read_whole(conn))
        say(f"stand-in: all {len(whole)} runs", took)
        wait_until(lambda: all(run.ended_at for run in read_runs(conn)), timeout_s=120)
        print(f"| stand-in: requests in flight | {azure.rules.peak} | {FLIGHT_BAR} |", flush=True)
        return [*fits, len(whole) == OURS, azure.rules.peak <= FLIGHT_BAR]


def read_whole(conn: Connection) -> RunList:
    return wait_until(lambda: (found := read_runs(conn)).complete and found, every_s=0.0)


def timed(read: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = read()
    return found, time.perf_counter() - began


def say(what: str, took_s: float, bar_s: float = 0.0) -> bool:
    print(f"| {what} | {took_s:.2f} s | {f'{bar_s:g} s' if bar_s else ''} |", flush=True)
    return not bar_s or took_s < bar_s


if __name__ == "__main__":
    raise SystemExit(main())
