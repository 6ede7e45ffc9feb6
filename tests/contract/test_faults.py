"""Each fault on demand, met by the real SDK, and worded by the dashboard with a next step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core import errors
from core.azureml import cloud as clouds
from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.home import Home
from core.local import processes
from core.local.blobs import CONTAINER
from core.local.faults import KINDS, Faults
from core.runs import failures
from tests.contract.sdk import make_clients
from tests.core.local.submitting import command_body, metric_of, submit, wait_for
from tests.local_server import LocalServer
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore")

MANY = 50  # more than any library tries again


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    running = LocalServer(
        Home(tmp_path_factory.mktemp("home")), {"TUNEDECK_QUOTA_CORES": "16"}, module="tests.core.local.trivial_server"
    )
    try:
        running.start()
        (running.home.blobs / CONTAINER / "models/good").mkdir(parents=True)
        (running.home.blobs / CONTAINER / "models/good/config.json").write_text("{}", encoding="utf-8")
        yield running
    finally:
        running.stop()


@pytest.fixture
def faults(server: LocalServer) -> Iterator[Faults]:
    found = Faults(server.home)
    yield found
    found.clear()


@pytest.fixture(scope="module")
def workspace(server: LocalServer) -> Iterator[Any]:
    with clouds.using(clouds.local_cloud(server.home)):
        yield make_clients(server)[0]


@pytest.fixture(scope="module")
def conn(server: LocalServer) -> Connection:
    return connect(local_settings(), home=server.home)


def fails(conn: Connection, doing: str, what: str, call: Callable[[], Any]) -> errors.TunedeckError:
    """Return the words the dashboard has for what the SDK raises."""
    with pytest.raises(errors.TunedeckError) as caught:
        conn.call(doing, what, call)
    assert caught.value.hint
    return caught.value


# kind -> (class, what is said, a word of the next step)
READ_FAULTS: dict[str, tuple[type[errors.TunedeckError], str, str]] = {
    "throttle": (errors.Throttled, "The local workspace asks for a pause (429).", "waits 1 s"),
    "error": (errors.ServiceFailed, "The local workspace failed to read compute 'this-machine' (500).", "Try again"),
    "unavailable": (
        errors.ServiceFailed,
        "The local workspace failed to read compute 'this-machine' (503).",
        "Try again",
    ),
    "drop": (errors.Unreachable, "The connection to the local workspace ended before it answered.", "Read again"),
    "expired-token": (errors.SignInFailed, "says that this home's token has expired (401).", "clock"),
}


@pytest.mark.parametrize("kind", READ_FAULTS)
def test_a_fault_of_an_answer_is_met_by_the_sdk_worded_and_over(conn: Connection, faults: Faults, kind: str) -> None:
    """Through the dashboard's own client: its retries are few."""
    error_type, message, hint = READ_FAULTS[kind]
    faults.add(kind, "GET computes/*", times=MANY)
    error = fails(conn, "read", "compute 'this-machine'", lambda: conn.workspace.compute.get("this-machine"))
    assert type(error) is error_type
    assert message in error.message
    assert hint in error.hint
    assert faults.active()[0].left < MANY
    faults.clear()
    assert conn.workspace.compute.get("this-machine").name == "this-machine"


def test_a_single_fault_is_ridden_out_by_the_sdks_own_retries(workspace: Any, faults: Faults) -> None:
    """Takes about three seconds: the SDK waits before it tries again, as long as it is told to."""
    for kind in ("throttle", "error", "unavailable", "drop"):
        faults.add(kind, "GET computes/*")
        began = time.monotonic()
        assert workspace.compute.get("this-machine").name == "this-machine"
        assert faults.active() == ()
        if kind == "throttle":
            assert time.monotonic() - began > 0.9


def test_a_slow_answer_is_the_right_one_late(workspace: Any, faults: Faults) -> None:
    faults.add("slow", "GET computes/*", seconds=0.6)
    began = time.monotonic()
    assert workspace.compute.get("this-machine").name == "this-machine"
    assert time.monotonic() - began > 0.6


def test_quota_is_refused_to_what_would_use_it_and_to_nothing_else(conn: Connection, faults: Faults) -> None:
    from azure.ai.ml.entities import AmlCompute

    faults.add("quota", times=MANY)
    assert conn.workspace.compute.get("this-machine").name == "this-machine"
    begin = conn.workspace.compute.begin_create_or_update
    error = fails(conn, "create", "compute 'gpu'", lambda: begin(AmlCompute(name="gpu", size="local.cpu1")))
    assert (type(error), error.message) == (
        errors.QuotaExceeded,
        "Quota for NCADSA100v4: needs 24 cores, 0 free.",
    )


def begin_deployment(conn: Connection, server: LocalServer, endpoint: str) -> Any:
    from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, Model

    path = "azureml://datastores/workspaceblobstore/paths/models/good"
    model = conn.workspace.models.create_or_update(Model(name="good", version="1", path=path, type="custom_model"))
    endpoints = conn.workspace.online_endpoints
    endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=endpoint, auth_mode="key")).wait()
    asked = ManagedOnlineDeployment(
        name="demo", endpoint_name=endpoint, model=model.id, instance_type="local.cpu1", instance_count=1
    )
    return conn.workspace.online_deployments.begin_create_or_update(asked)


# kind -> (class, what is said, a word of the next step)
DEPLOYMENT_FAULTS: dict[str, tuple[type[errors.TunedeckError], str, str]] = {
    "quota": (errors.QuotaExceeded, "Quota for Standard_NC24ads_A100_v4: needs 24 cores, 6 free of 6.", "Delete"),
    "out-of-capacity": (errors.ServiceRefused, "There is no free machine to create deployment 'demo'.", "Try again"),
    "image-build": (errors.ServiceRefused, "create deployment 'demo': The image of deployment", "details"),
    "liveness": (errors.ServiceRefused, "create deployment 'demo': The container of deployment", "details"),
}


@pytest.mark.parametrize("kind", DEPLOYMENT_FAULTS)
def test_a_fault_of_a_deployment_ends_it_with_azures_code_and_words(
    conn: Connection, server: LocalServer, faults: Faults, kind: str
) -> None:
    """Takes up to seconds each: the SDK polls a deployment at its own pace at first."""
    error_type, message, hint = DEPLOYMENT_FAULTS[kind]
    faults.add(kind, "*/deployments/*")
    endpoint = f"ep-{kind}"
    error = fails(
        conn, "create", "deployment 'demo'", lambda: begin_deployment(conn, server, endpoint).result(timeout=30)
    )
    assert (type(error), message in error.message, hint in error.hint) == (error_type, True, True), str(error)
    assert faults.active() == ()
    if kind != "quota":
        assert conn.workspace.online_deployments.get("demo", endpoint).provisioning_state == "Failed"
        folder = server.home.deployments / endpoint / "demo"
        wait_until(lambda: not processes.is_alive(folder))
    conn.workspace.online_endpoints.begin_delete(endpoint).wait()


def test_a_job_waits_while_no_machine_is_free_and_says_so(server: LocalServer, faults: Faults, workspace: Any) -> None:
    faults.add("out-of-capacity", "computes/this-machine", times=2, seconds=0.4)
    submit(server, "patient", command_body("--steps 1"))
    errors_of = lambda: server.request("GET", "computes/this-machine").json()["properties"]["provisioningErrors"]  # noqa: E731
    wait_until(lambda: (errors_of() or [{"error": {"code": ""}}])[0]["error"]["code"] == "OutOfCapacity")
    assert workspace.jobs.get("patient").status in ("Queued", "NotStarted")
    wait_for(server, "patient", "Completed")
    assert errors_of() is None


def test_a_job_whose_image_fails_is_failed_with_a_cause_and_a_next_step(
    server: LocalServer, faults: Faults, workspace: Any
) -> None:
    faults.add("image-build", "jobs/imageless")
    submit(server, "imageless", command_body("--steps 1"))
    wait_for(server, "imageless", "Failed")
    details = workspace.jobs._runs_operations.get_run_details("imageless").error.error
    assert details.code == "ImageBuildFailure"
    told = failures.explain(details.message, "", {})
    assert told.cause == "The run stopped: the image of the run could not be built."
    assert "Start again" in told.action


def test_a_preempted_job_is_queued_again_and_ends_well(server: LocalServer, faults: Faults) -> None:
    submit(server, "evicted", command_body("--steps 30 --pause 0.03"))
    wait_for(server, "evicted", "Running")
    wait_until(lambda: metric_of(server, "evicted"))
    faults.add("preempt", "computes/this-machine")
    wait_for(server, "evicted", "Completed")
    assert faults.active() == ()
    steps = [step for step, _ in metric_of(server, "evicted")]
    assert steps.count(1) == 2, "the trainer began again"
    assert "preempted" in (server.home.runs / "evicted" / "executionlogs.txt").read_text(encoding="utf-8")


def test_every_kind_of_fault_is_tested_here() -> None:
    tested = {*READ_FAULTS, *DEPLOYMENT_FAULTS, "slow", "preempt"}
    assert tested == set(KINDS)


def command(server: LocalServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core.local", "fault", *arguments],
        cwd=processes.REPOSITORY,
        text=True,
        timeout=30,
        capture_output=True,
        check=False,
        env=processes.clean_environment({"TUNEDECK_HOME": str(server.home.path)}),
    )


def test_faults_are_off_by_default_and_shown_where_they_are_on(
    server: LocalServer, conn: Connection, faults: Faults
) -> None:
    assert server.request("GET", "/health").json()["faults"] == []
    assert command(server, "list").stdout == "No fault is on.\n"
    words = "throttle on GET jobs/*, 3 more, 2 s"
    options = ("throttle", "--route", "GET jobs/*", "--times", "3", "--seconds", "2")
    assert command(server, "add", *options).stdout == f"On: {words}.\n"
    assert server.request("GET", "/health").json()["faults"] == [words]
    assert conn.list_faults() == (words,)
    answer = server.request("GET", "jobs/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert command(server, "list").stdout == "On: throttle on GET jobs/*, 2 more, 2 s.\n"
    assert command(server, "clear").stdout == "Off: throttle on GET jobs/*, 2 more, 2 s.\n"
    assert server.request("GET", "jobs/x").status_code == 404
    log = (server.home.logs / "server.log").read_text(encoding="utf-8")
    assert f"Faults are on: {words}" in log
    assert "Fault: throttle strikes GET jobs/x" in log
    for wrong in (("add", "earthquake"), ("add", "slow", "--seconds", "-1"), ("add", "slow", "--times", "0"), ()):
        assert command(server, *wrong).returncode != 0, wrong


def test_health_is_told_whatever_is_on(server: LocalServer, faults: Faults) -> None:
    faults.add("error", "*", times=MANY)
    assert server.request("GET", "/health").status_code == 200
    assert server.request("GET", "computes").status_code == 500
    (server.home.path / "faults.json").write_text("{broken", encoding="utf-8")
    assert server.request("GET", "computes").status_code == 200
