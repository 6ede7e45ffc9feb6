"""What really ran, minute by minute: the instances of each deployment and the nodes of each cluster.

A line a minute in a file of each; a minute in which a scorer was down, or nobody served the home, has none.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from core.local.compute import Compute
from core.local.endpoints.resources import Deployment, Health
from core.local.routes.compute import count_nodes
from core.local.wire.request_log import append_line
from core.local.workspace import Workspace

FILE_NAME = "measures.log"
MINUTE_S = 60.0
_log = logging.getLogger(__name__)


class Measuring:
    """Measures once a minute while a server lives."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="measuring", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._measure()
            except (sqlite3.Error, OSError):
                _log.exception("a minute was not measured")
            self._stopping.wait(MINUTE_S + 1 - time.time() % MINUTE_S)  # once in each minute of the clock

    def _measure(self) -> None:
        home, store, memory = self._workspace.home, self._workspace.store, psutil.virtual_memory().percent
        for deployment in Deployment.list_all(store):
            scorer = self._workspace.deployments.scorer_of(deployment)
            if deployment.health is Health.HEALTHY and scorer.is_alive:
                write_measures(
                    scorer.folder, CpuMemoryUtilizationPercentage=memory, DeploymentCapacity=deployment.instances
                )
        computes = {compute.name: compute for compute in Compute.list_all(store)}
        for compute in computes.values():
            nodes = count_nodes(self._workspace, compute) if compute.state.ready else 0
            busy = min(nodes, len(self._workspace.runner.list_jobs_on(compute.name)))
            if nodes:
                write_measures(home.computes / compute.name, IdleNodes=nodes - busy, ActiveNodes=busy)
        for folder in home.computes.glob("*"):
            if folder.name not in computes:
                shutil.rmtree(folder, ignore_errors=True)


def write_measures(folder: Path, at: float | None = None, **measured: float) -> None:
    """Write down what was measured, at a time in seconds since 1970 or now."""
    folder.mkdir(parents=True, exist_ok=True)
    values = " ".join(f"{name}={value:g}" for name, value in measured.items())
    append_line(folder / FILE_NAME, f"{time.time() if at is None else at:.0f} {values}")


def read_measures(folder: Path, name: str, since: float, until: float) -> Iterator[tuple[float, float]]:
    """Yield when, in seconds since 1970, a thing of this name was measured, and what it was."""
    try:
        lines = (folder / FILE_NAME).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        at, *values = line.split()
        found = [value for key, _, value in (each.partition("=") for each in values) if key == name and value]
        if found and since <= float(at) < until:
            yield float(at), float(found[0])
