"""How long the inventory of 200 resources takes: `python -m benchmarks.inventory`, at the stand-in, 100 ms an answer.

30 endpoints with a deployment each, 20 clusters, 40 models, 40 data assets and 40 runs. "First" is the first reading of
a new dashboard, "then" the next one; "what bills" is what each page reads.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import load
from benchmarks.page_clock import STRIP_BAR_MS, STRIP_LOOKS, open_tab
from core.azureml.connection import Connection, connect
from core.launcher import start_dashboard, stop_dashboard
from core.local.store import Store
from core.operations import start_launch
from core.teardown.inventory import Inventory, list_billing, list_inventory
from tests import environment
from tests.azure.serving import ENDPOINT, serve
from tests.azure.stand_in import SIZE, StandIn, running_stand_in
from tests.azure.walking import Walk, walking
from tests.waiting import wait_until

ENDPOINTS, COMPUTES, MODELS, DATA, RUNS = 30, 20, 40, 40, 40
ANSWER_S = 0.1
BAR_S = 3.0
_API = "api-version=2024-10-01"


def main() -> int:
    """Measure and print; exit status 1 where the bar is missed."""
    environment.enter()
    with (
        tempfile.TemporaryDirectory(prefix="tunedeck-inventory-") as folder,
        running_stand_in(Path(folder), module="tests.core.local.trivial_server") as azure,
    ):
        os.environ |= azure.environment
        with walking(azure) as walk:
            make_resources(walk)
        azure.rules.add("^GET https://", delay_s=ANSWER_S, times=10**9)
        conn = connect(azure.settings(), home=azure.home)
        print("| what | resources | seconds | requests | at once |\n|---|---|---|---|---|")
        slowest = 0.0
        for name, read in {
            "everything, first": lambda: list_inventory(conn, with_files=False),
            "everything, then": lambda: list_inventory(conn, with_files=False),
            "with bytes, first": lambda: list_inventory(conn),
            "with bytes, then": lambda: list_inventory(conn),
            "what bills": lambda: list_billing(conn),
        }.items():
            slowest = max(slowest, measure(azure, name, read))
        strip = measure_strip(azure, conn.alias)
    print(f"\nSlowest: {slowest:.1f} s (bar: {BAR_S:g} s). The strip: {strip:.0f} ms (bar: {STRIP_BAR_MS} ms).")
    return 0 if slowest < BAR_S and strip < STRIP_BAR_MS else 1


def measure(azure: StandIn, name: str, read: Callable[[], Inventory]) -> float:
    """Read once and print a row; return the seconds."""
    before, azure.rules.peak = len(azure.rules), 0
    began = time.perf_counter()
    found = read()
    took = time.perf_counter() - began
    asked = len(azure.rules) - before
    print(f"| {name} | {len(found.items)} | {took:.2f} | {asked} | {azure.rules.peak} |", flush=True)
    return took


def measure_strip(azure: StandIn, alias: str) -> float:
    """Return what one look of the strip costs a page that has read everything: the median in ms, with the way there."""
    dashboard = start_dashboard(azure.home)
    try:
        with open_tab(dashboard.port) as tab:
            wait_until(lambda: tab.open("", at=alias) and "/h" in tab.says, every_s=0.5)
            return statistics.median(tab.refresh_strip() for _ in range(STRIP_LOOKS))
    finally:
        stop_dashboard(azure.home)


def make_resources(walk: Walk) -> None:
    """Make one of each as an operator does, and the others by the requests that this comes to."""
    conn = walk.conn
    walk.ensure_compute()
    run = walk.finish(start_launch(walk.plan())).subject
    serve(walk)
    walk.azure.workspace.stop()
    home_db = walk.azure.workspace.home.workspace_db
    job = {**Store(home_db).require("job", run), "hidden": False}
    load.fill(home_db, jobs=RUNS - 1, models=MODELS - 1, points=0, template=job)
    copy_endpoint(Store(home_db))
    walk.azure.workspace.start()
    for number in range(COMPUTES - 1):
        put(conn, f"computes/gpu-{number}", cluster())
    for number in range(DATA - 1):
        uri = f"azureml://datastores/workspaceblobstore/paths/data/{number}/train.jsonl"
        put(conn, f"data/talk-{number}/versions/1", {"properties": {"dataType": "uri_file", "dataUri": uri}})


def copy_endpoint(store: Store) -> None:
    """Write endpoints like the one that is there; their deployments failed, so that no process is started for them."""
    endpoint, deployment = store.require("endpoint", ENDPOINT), store.require("deployment", f"{ENDPOINT}/demo")
    for number in range(1, ENDPOINTS):
        name = f"{ENDPOINT}-{number}"
        store.put("endpoint", name, {**endpoint, "name": name})
        failed = {**deployment, "endpoint": name, "state": "Failed", "secret": name}
        store.put("deployment", f"{name}/demo", failed, parent=name)


def put(conn: Connection, path: str, body: dict[str, object]) -> None:
    conn.http("PUT", f"{conn.workspace_path}/{path}?{_API}", json=body, doing="create", what=path)


def cluster() -> dict[str, object]:
    scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    inner = {"vmSize": SIZE, "vmPriority": "Dedicated", "scaleSettings": scale}
    return {"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": inner}}


if __name__ == "__main__":
    raise SystemExit(main())
