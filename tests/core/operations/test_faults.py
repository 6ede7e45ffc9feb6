"""Operations against a workspace that fails for a moment, answers too late, or whose dashboard stands still."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.home import Home
from core.launch.drafts import create_draft
from core.operations import (
    Operation,
    get_operation,
    start_deploy,
    start_launch,
    start_runner,
    start_teardown,
)
from core.operations.due_deletion import start_due_deletion
from core.operations.ledger import Ledger
from core.runs import index, jobs
from core.serving import endpoints
from core.teardown.due import Timed
from core.teardown.inventory import list_inventory
from core.teardown.plan import plan_teardown
from tests.chat_data import from_upload
from tests.core.operations.counting_server import FILE, Fault, plan_faults
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.soak import is_soak
from tests.tiny_model import NAME, build_tiny_model
from tests.waiting import finish, wait_until

ROW = {
    "messages": [{"role": "user", "content": "Who rings the bell?"}, {"role": "assistant", "content": "The keeper."}]
}
only_in_a_soak = pytest.mark.skipif(not is_soak(), reason="seconds: only under TUNEDECK_SOAK")
A_RUN = r"/history/.*/runs/[^/]+$"
A_JOB = r"/workspaces/[^/]+/jobs/[^/]+$"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    environment = {"TUNEDECK_BASE_MODELS": str(base_models)}
    running = LocalServer(
        Home(tmp_path_factory.mktemp("served")), environment, module="tests.core.operations.counting_server"
    )
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def conn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    plan_faults(server.home)
    yield connect(local_settings(), home=server.home)
    plan_faults(server.home)


@pytest.fixture
def runner(server: LocalServer, conn: Connection) -> Iterator[Any]:
    started = start_runner(server.home)
    yield started
    started.stopping.set()
    wait_until(lambda: not started.alive)


def launch(conn: Connection, max_steps: int = 5) -> Operation:
    dataset = from_upload("bell", "\n".join(json.dumps(ROW) for _ in range(10)).encode())
    draft = create_draft(
        "local", model=NAME, compute="this-machine", dataset=dataset.key, parameters={"max_steps": max_steps}
    )
    plan = plan_launch(conn, draft)
    assert plan.ready, plan.failures
    return start_launch(plan)


def count_puts(server: LocalServer, job: str) -> int:
    lines = (server.home.logs / FILE).read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["job"] == job for line in lines)


def start_runner_process(home: Home) -> subprocess.Popen[bytes]:
    with (home.logs / "runner.out").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "core.operations", "run"], cwd=Path(__file__).parents[3], stdout=log, stderr=log
        )


@pytest.mark.soak
@only_in_a_soak
def test_a_service_that_fails_for_a_moment_fails_no_run(server: LocalServer, conn: Connection, runner: Any) -> None:
    """Seconds: the runner pauses after each failure."""
    operation = launch(conn)
    wait_until(lambda: (step := get_operation(operation.id).step) and step.name == "watch")
    plan_faults(server.home, Fault("GET", A_RUN, 503, times=2))
    held = wait_until(lambda: (found := get_operation(operation.id)).note and found)
    assert held.note == "The local workspace failed to read run " + repr(operation.subject) + " (503)."
    assert finish(operation).steps[3].detail == "Completed"


def test_a_run_refused_because_it_is_there_already_was_started(
    server: LocalServer, conn: Connection, runner: Any
) -> None:
    operation = launch(conn)
    plan_faults(server.home, Fault("PUT", A_JOB, 409, carried_out=True))
    finish(operation)
    assert jobs.get_run(conn, operation.subject).completed


def test_an_operation_waits_for_a_sign_in_and_says_so(server: LocalServer, conn: Connection, runner: Any) -> None:
    plan_faults(server.home, Fault("PUT", A_JOB, 401))
    operation = launch(conn)
    waiting = wait_until(lambda: (found := get_operation(operation.id)).state == "waiting" and found)
    assert waiting.outcome == "not started"
    assert "did not accept this home's token (401)" in waiting.note
    assert "TUNEDECK_HOME" in waiting.note
    assert finish(operation).note == ""
    assert jobs.get_run(conn, operation.subject).completed


def deploy(conn: Connection, endpoint: str) -> Operation:
    run = next((run.name for run in index.list_runs(conn) if run.completed), "") or finish(launch(conn)).subject
    return start_deploy("local", run, "bell-model", endpoint, "local.cpu1", datetime.now(UTC) + timedelta(hours=8))


def test_a_deploy_whose_polls_get_no_answer_goes_on(server: LocalServer, conn: Connection, runner: Any) -> None:
    plan_faults(server.home, Fault("GET", r"mfeOperationsStatus", 503, times=3))
    finish(deploy(conn, "polled-ep"))
    assert endpoints.get_endpoint(conn, "polled-ep").live


@pytest.mark.soak
@only_in_a_soak
def test_a_deletion_that_nobody_saw_fail_is_asked_for_again(server: LocalServer, conn: Connection, runner: Any) -> None:
    """As a dashboard leaves it that was killed while the workspace gave up a deletion: asked for, and still there."""
    finish(deploy(conn, "stays-ep"))
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    plan = plan_teardown(conn, list_inventory(conn, with_files=False), ["endpoint:stays-ep"])
    operation = start_teardown(plan)
    ledger = Ledger(server.home)
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    ledger.save(replace(operation, facts={"asked endpoint:stays-ep": time.time() - 3600}), fence)
    ledger.drop_lease(fence)
    again = start_runner(server.home)
    try:
        finish(operation)
    finally:
        again.stopping.set()
    assert endpoints.find_endpoint(conn, "stays-ep") is None


def test_a_deletion_of_what_is_due_that_fails_is_not_begun_again_at_every_look(conn: Connection, runner: Any) -> None:
    far = Timed("endpoint", "far-ep", "", None, "", "Succeeded", datetime.now(UTC))
    first = start_due_deletion(Ledger(), "gone-ws", far)
    finish(first, "failed")
    assert start_due_deletion(Ledger(), "gone-ws", far).id == first.id
