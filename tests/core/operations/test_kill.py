"""kill -9 of the runner, of the server and of both at random moments: every launch ends as it should, and none twice.

One round in three is a run that completes, one whose trainer fails, one that is cancelled. At the end of each: the
right exit statuses, no program left running, no second PUT.

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

import psutil
import pytest

from core.azureml.connection import connect
from core.azureml.settings import local_settings
from core.home import Home
from core.launch.drafts import create_draft
from core.launch.group import plan_group
from core.launch.plan import LaunchPlan
from core.launch.preflight import read_facts
from core.local import processes, shim
from core.operations import (
    Ledger,
    Operation,
    list_group,
    start_cancel,
    start_cancel_all,
    start_group,
    start_launch,
    was_sent,
)
from core.overview import read_group
from tests.chat_data import from_upload
from tests.core.operations.counting_server import FILE
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.soak import Soak, is_soak
from tests.tiny_model import NAME, build_tiny_model
from tests.waiting import finish, wait_until

ROUND_S = 90.0
# What each round is sent with (seed 13 makes the trivial trainer fail), and the ends that are right.
EVENTS: dict[str, dict[str, int]] = {
    "complete": {"max_steps": 5},
    "crash": {"max_steps": 5, "seed": 13},
    "cancel": {"max_steps": 150},
}
ENDS = {"complete": ("Completed",), "crash": ("Failed",), "cancel": ("Canceled", "Completed", "never sent")}
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
                [sys.executable, "-m", "core.operations", "run"], cwd=Path(__file__).parents[3], stdout=log, stderr=log
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
    running = LocalServer(
        home, {"TUNEDECK_BASE_MODELS": str(base_models)}, module="tests.core.operations.counting_server"
    )
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_killed_runner_or_server_never_starts_a_run_twice(server: LocalServer) -> None:
    """Real processes: a round takes seconds, more where the kill fell between the wish and its answer."""
    plans = {event: make_plan(parameters) for event, parameters in EVENTS.items()}
    runner = RunnerProcess(server.home)
    runner.start()
    try:
        with Soak("kills-of-the-runner", quick=3, long=100, what="kills of the ledger's runner and the server") as soak:
            for number, chance in soak.rounds():
                survive(server, runner, plans, number, chance, soak)
    finally:
        runner.kill()


@pytest.mark.slow
def test_a_group_whose_runner_is_killed_between_its_starts_is_started_whole_and_nothing_twice(
    server: LocalServer,
) -> None:
    """Real processes, and seconds until what was sent as the runner was killed is known; then all are cancelled."""
    draft = make_plan({}).draft
    facts = read_facts(connect(local_settings()), draft.model, "1", draft.compute, draft.dataset)
    group = plan_group(facts, draft, {"max_steps": (100_000, 200_000, 300_000)})
    begun = start_group(group)
    assert [each.id for each in start_group(group)] == [each.id for each in begun]
    runner = RunnerProcess(server.home)
    runner.start()
    try:
        wait_until((server.home.logs / FILE).exists)
        runner.kill()
        runner.start()
        wait_until(lambda: all(map(was_sent, list_group(Ledger(), "local", group.name))), timeout_s=ROUND_S)
        for wish in start_cancel_all("local", [each.subject for each in begun]):
            finish(wish, timeout_s=ROUND_S)
    finally:
        runner.kill()
    runs = read_group(connect(local_settings()), group.name)
    assert [run.name for run in runs] == [f"{group.name}-{place}" for place in (1, 2, 3)]
    assert [run.state_word for run in runs] == ["Cancelled"] * 3
    for run in runs:
        check_puts(server, run.name, run.state_word, "")


def survive(
    server: LocalServer,
    runner: RunnerProcess,
    plans: dict[str, LaunchPlan],
    number: int,
    chance: random.Random,
    soak: Soak,
) -> None:
    """Launch once, kill some of those who carry it out, and see one job, ended as it should, and nothing left."""
    event = list(EVENTS)[number % len(EVENTS)]
    where = f"seed {soak.seed}, round {number}, {event}"
    operation = start_launch(replace(plans[event], draft=create_draft("local")))
    cancel: Operation | None = None
    for _ in range(chance.choice((1, 1, 2, 3)) if is_soak() else 1):
        time.sleep(chance.uniform(0.0, 2.5))
        if event == "cancel" and cancel is None:
            cancel = start_cancel("local", operation.subject)
        soak.add(f"kills of {disturb(server, runner, chance)}")
    finish(operation, *(("done", "cancelled") if event == "cancel" else ("done",)), timeout_s=ROUND_S)
    if cancel is not None:
        finish(cancel, timeout_s=ROUND_S)
    answer = server.request("GET", f"jobs/{operation.subject}")
    status = answer.json()["properties"]["status"] if answer.ok else "never sent"
    assert status in ENDS[event], where
    check_puts(server, operation.subject, status, where)
    exits = read_exits(server, operation.subject)
    if status == "Completed":
        assert set(exits.values()) == {0}, (where, exits)
    if status == "Failed":
        assert [code for code in exits.values() if code] == [1], (where, exits)
    # A second shim of an attempt sees within seconds that it is not needed.
    wait_until(lambda: not find_programs(server), lambda: (where, find_programs(server)))
    soak.add(f"runs {status}")


def make_plan(parameters: dict[str, int]) -> LaunchPlan:
    rows = "\n".join(json.dumps(ROW) for _ in range(10))
    dataset = from_upload("bell", rows.encode())
    draft = create_draft("local", model=NAME, compute="this-machine", dataset=dataset.key, parameters=parameters)
    plan = plan_launch(connect(local_settings()), draft)
    assert plan.ready, plan.failures
    # Ten rows are too few to hold some back for a test, so no evaluation follows: it would load torch each round.
    return plan


def disturb(server: LocalServer, runner: RunnerProcess, chance: random.Random) -> str:
    what = chance.choice(("runner", "server", "both"))
    if what != "server":
        runner.kill()
    if what != "runner":
        server.kill()
        server.start()
    if what != "server":
        runner.start()
    return what


def check_puts(server: LocalServer, job: str, status: str, where: str) -> None:
    """Hold what reached the workspace against what may: no PUT of a job that it has, and one in each of its lives.

    A server that was killed while it handled a PUT wrote the line and not the job, so its successor may get another.
    """
    lines = [json.loads(line) for line in (server.home.logs / FILE).read_text(encoding="utf-8").splitlines()]
    arrived = [line for line in lines if line["job"] == job]
    assert [line for line in arrived if line["existed"]] == [], (where, arrived)
    lives = [line["server"] for line in arrived]
    assert len(lives) == len(set(lives)), (where, arrived)
    assert arrived or status == "never sent", where


def read_exits(server: LocalServer, job: str) -> dict[str, int]:
    """Return how each program of a run ended, as its shim wrote it down."""
    found = sorted((server.home.runs / job).rglob(shim.EXIT_NAME))
    exits = {path.parent.name: processes.read_exit(path.parent) for path in found}
    return {name: exit.exit_status for name, exit in exits.items() if exit is not None}


def find_programs(server: LocalServer) -> list[str]:
    """Return what still runs for this home beside its server and its runner."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"{server.home.path}/" in process.environ().get("TUNEDECK_STEP_FOLDER", ""):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
