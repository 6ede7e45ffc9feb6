"""kill -9 of the runner, of the server and of both at random moments: every launch ends, and no run is started twice.

Rounds and seed: tests/soak.py.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.connection import connect, local_settings
from core.dataset import from_upload
from core.drafts import create_draft
from core.home import Home
from core.operations import Operation, get_operation, start_launch
from core.preflight import LaunchPlan, plan_launch
from tests.core.counting_server import FILE
from tests.local_server import LocalServer
from tests.soak import Soak
from tests.tiny_model import NAME, build_tiny_model

ROUND_S = 90.0
ROW = {
    "messages": [{"role": "user", "content": "Who rings the bell?"}, {"role": "assistant", "content": "The keeper."}]
}


class RunnerProcess:
    """`python -m core.operations run` of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._home.logs / "runner.out").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "core.operations", "run"], cwd=Path(__file__).parents[2], stdout=log, stderr=log
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=10)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    home = Home(tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(base_models))
    running = LocalServer(home, {"TUNEDECK_BASE_MODELS": str(base_models)}, module="tests.core.counting_server")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_killed_runner_or_server_never_starts_a_run_twice(server: LocalServer) -> None:
    """Real processes: a round takes seconds, more where the kill fell between the wish and its answer."""
    plan = make_plan()
    runner = RunnerProcess(server.home)
    runner.start()
    try:
        with Soak("kills-of-the-runner", quick=2, long=100, what="kills of the ledger's runner and the server") as soak:
            for number, chance in soak.rounds():
                survive(server, runner, plan, chance, f"seed {soak.seed}, round {number}")
    finally:
        runner.kill()


def survive(server: LocalServer, runner: RunnerProcess, plan: LaunchPlan, chance: random.Random, where: str) -> None:
    """Launch once, kill some of those who carry it out, and see one job completed."""
    operation = start_launch(replace(plan, draft=create_draft("local")))
    for _ in range(chance.choice((1, 1, 2, 3))):
        time.sleep(chance.uniform(0.0, 2.5))
        disturb(server, runner, chance)
    ended = wait_until_finished(operation)
    assert ended.state == "done", (where, ended.error, ended.steps)
    assert puts_of(server, operation.subject) == [False], where
    job = server.request("GET", f"jobs/{operation.subject}").json()["properties"]
    assert job["status"] == "Completed", where


def make_plan() -> LaunchPlan:
    rows = "\n".join(json.dumps(ROW) for _ in range(10))
    dataset = from_upload("bell", rows.encode())
    draft = create_draft("local", model=NAME, compute="this-machine", dataset=dataset.key, parameters={"max_steps": 5})
    plan = plan_launch(connect(local_settings()), draft)
    assert plan.ready, plan.failures
    # Ten rows are too few to hold some back for a test, so no evaluation follows: it would load torch each round.
    return plan


def disturb(server: LocalServer, runner: RunnerProcess, chance: random.Random) -> None:
    what = chance.choice(("runner", "server", "both"))
    if what != "server":
        runner.kill()
    if what != "runner":
        server.kill()
        server.start()
    if what != "server":
        runner.start()


def wait_until_finished(operation: Operation) -> Operation:
    until = time.monotonic() + ROUND_S
    while time.monotonic() < until:
        operation = get_operation(operation.id)
        if operation.finished:
            return operation
        time.sleep(0.1)
    return operation


def puts_of(server: LocalServer, job: str) -> list[bool]:
    """Return for each PUT of this job whether the workspace had it already; one that died on the way left nothing."""
    lines = [json.loads(line) for line in (server.home.logs / FILE).read_text(encoding="utf-8").splitlines()]
    arrived = [line["existed"] for line in lines if line["job"] == job]
    # A server killed while it handled the PUT wrote the line and not the job: such a PUT started nothing.
    return [existed for number, existed in enumerate(arrived) if existed or number == len(arrived) - 1]
