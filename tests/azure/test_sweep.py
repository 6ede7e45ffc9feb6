"""A delete-at is a fact of the resource: whoever sweeps deletes what is due, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import yaml
from azure.ai.ml import load_job
from azure.ai.ml.entities import Command

from core.alerts.book import AlertBook
from core.alerts.settings import Kind, save_webhook
from core.azureml.connection import Connection, connect
from core.catalog.compute import get_compute
from core.home import REPOSITORY, Home
from core.operations import start_cancel, start_launch, start_runner
from core.operations.__main__ import main
from core.operations.ledger import Ledger
from core.operations.runner import Runner
from core.operations.sweep_command import Line, list_due, sweep_once
from core.runs import jobs
from core.teardown.due import Verdict, find_timed, list_timed, write_delete_at
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE, WORKSPACE_PATH
from tests.azure.login import CLIENT_SECRET, TENANT
from tests.azure.stand_in import StandIn
from tests.azure.walking import Walk, walking
from tests.core.alerts.listener import listening
from tests.soak import is_soak
from tests.waiting import wait_until

BRIEF = "brief"
CLIENT = "c0ffee00-0000-4000-8000-000000000001"
IN_SOAK = (pytest.mark.soak, pytest.mark.skipif(not is_soak(), reason="the same command as cron's: in `make soak`"))
EXAMPLES = REPOSITORY / "docs" / "sweep"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        stop(start_runner(azure.home))
        yield operator
        azure.rules.clear()
        stop(start_runner(azure.home))
        for timed in list_timed(operator.conn):
            remove(operator, timed.name)


@pytest.fixture
def go_elsewhere(azure: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Connection]]:
    """Sit down, when called, at another machine, whose home knows nothing."""

    def go() -> Connection:
        home = Home(tmp_path / "elsewhere").create()
        monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
        return connect(azure.settings(), home=home)

    yield go
    stop(start_runner(Home(tmp_path / "elsewhere")))


def create(walk: Walk, name: str = BRIEF, due_in: timedelta = timedelta(minutes=-1), nodes: int = 0) -> None:
    """Create a cluster with a delete-at."""
    walk.put_cluster(name, nodes)
    timed = find_timed(walk.conn, "compute", name)
    assert timed is not None
    assert not write_delete_at(walk.conn, timed, datetime.now(UTC) + due_in)
    with walk.azure.hurried():
        wait_until(lambda: (now := find_timed(walk.conn, "compute", name)) and now.state == "Succeeded")


def stop(runner: Runner) -> None:
    """Let a home's own runner rest, which sweeps too."""
    runner.stopping.set()
    wait_until(lambda: not runner.alive)


def remove(walk: Walk, name: str) -> None:
    walk.conn.http("DELETE", f"{walk.conn.workspace_path}/computes/{name}?api-version=2024-10-01")
    with walk.azure.hurried():
        wait_until(lambda: find_timed(walk.conn, "compute", name) is None)


def swept(walk: Walk, conn: Connection) -> list[Line]:
    with walk.azure.hurried():
        return list(sweep_once(Ledger(conn.home), conn, []))


def test_another_machine_deletes_what_is_due_and_asks_for_it_once(
    walk: Walk, go_elsewhere: Callable[[], Connection]
) -> None:
    create(walk, due_in=timedelta(hours=8))
    create(walk, "short")
    elsewhere = go_elsewhere()
    lines = {line.timed.name: line.outcome for line in swept(walk, elsewhere)}
    assert lines[BRIEF] == "not due yet"
    assert lines["short"].startswith("deleted, receipt R-")
    assert find_timed(elsewhere, "compute", "short") is None
    assert find_timed(elsewhere, "compute", BRIEF) is not None
    sent = walk.azure.rules.asked(rf"^DELETE .*{WORKSPACE_PATH}/computes/short\?")
    assert len(sent) == 1


def test_a_copied_delete_at_is_told_of_and_not_obeyed(walk: Walk, go_elsewhere: Callable[[], Connection]) -> None:
    create(walk)
    path = f"{walk.conn.workspace_path}/computes"
    params = {"api-version": "2024-10-01"}
    body = walk.conn.http("GET", f"{path}/{BRIEF}", params=params).json()
    remove(walk, BRIEF)
    for name in (BRIEF, "other"):  # made anew under the same name, and beside it
        walk.conn.http(
            "PUT", f"{path}/{name}", params=params, json={key: body[key] for key in ("location", "properties", "tags")}
        )
    elsewhere = go_elsewhere()
    lines = {line.timed.name: line for line in swept(walk, elsewhere)}
    assert {line.outcome for line in lines.values()} == {"its delete-at was written for another resource"}
    assert all(line.failed for line in lines.values())
    assert {timed.name for timed in list_timed(elsewhere)} == {BRIEF, "other"}


@pytest.mark.parametrize(("hours", "verdict"), [(2, Verdict.DUE), (0, Verdict.LATER)])
def test_the_workspaces_clock_says_what_is_due(
    walk: Walk, go_elsewhere: Callable[[], Connection], hours: int, verdict: Verdict
) -> None:
    create(walk, due_in=timedelta(hours=1))
    listed = walk.conn.http("GET", f"{walk.conn.workspace_path}/computes?api-version=2024-10-01").text
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    walk.azure.rules.add(r"/computes\?", 200, body=listed, headers={"Date": date, "Content-Type": "application/json"})
    assert [line.outcome for line in list_due(go_elsewhere(), [])] == [verdict]


def test_a_cluster_with_a_job_on_it_goes_to_zero_nodes_waits_and_is_told_of(walk: Walk) -> None:
    create(walk, "gpu", due_in=timedelta(hours=1), nodes=1)
    start_runner(walk.azure.home)
    started = start_launch(walk.plan(max_steps=100_000))
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    timed = find_timed(walk.conn, "compute", "gpu")
    assert timed is not None
    assert not write_delete_at(walk.conn, timed, datetime.now(UTC) - timedelta(minutes=1))
    walk.azure.advance(60)  # what a sweep of the runner listed meanwhile is from before
    (line,) = swept(walk, walk.conn)
    assert line.outcome.startswith("Due, and in use: "), line
    assert not line.failed
    assert get_compute(walk.conn, "gpu").min_nodes == 0
    walk.finish(start_cancel(walk.conn.alias, started.subject))


def test_a_cluster_for_which_anybodys_job_is_queued_waits_for_it(
    walk: Walk, go_elsewhere: Callable[[], Connection]
) -> None:
    """The job is older than many that have ended, and comes on a second page."""
    create(walk, "awaited")
    computes = f"{WORKSPACE_PATH}/computes"
    ended = [
        {"name": f"j{number}", "properties": {"status": "Completed", "computeId": f"{computes}/awaited"}}
        for number in range(25)
    ]
    queued = {
        "jobType": "Command",
        "status": "Queued",
        "displayName": "theirs",
        "computeId": f"{computes}/Awaited",
    }
    step = {"status": "Running", "displayName": "their-steps", "jobs": {"one": {"computeId": f"{computes}/awaited"}}}
    elsewhere = {"status": "Running", "displayName": "on another", "computeId": f"{computes}/other"}
    second = [{"name": "j", "properties": each} for each in (queued, step, elsewhere)]
    link = f"{walk.conn.cloud.resource_manager}{WORKSPACE_PATH}/jobs?api-version=2024-10-01&$skip=25"
    for pattern, page in (
        (r"GET .*/jobs\?.*All$", {"value": ended, "nextLink": link}),
        (r"GET .*/jobs\?.*skip=25", {"value": second}),
    ):
        walk.azure.rules.add(pattern, 200, body=json.dumps(page), headers={"Content-Type": "application/json"}, times=9)
    (line,) = swept(walk, go_elsewhere())
    assert line.outcome == "Due, and in use: theirs, their-steps"
    assert not walk.azure.rules.asked(rf"^DELETE .*{computes}/awaited\?")


def test_the_command_says_what_is_due_and_sweeps_what_may_be_read(
    walk: Walk, go_elsewhere: Callable[[], Connection], capsys: pytest.CaptureFixture[str]
) -> None:
    create(walk)
    create(walk, "soon", due_in=timedelta(minutes=50))
    elsewhere = go_elsewhere()
    at = f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"
    assert main(["sweep", "--once", "--dry-run", "--workspace", at]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [WORKSPACE, f"compute {BRIEF}", "due"] in [[line[0], line[1], line[4]] for line in lines]
    assert find_timed(elsewhere, "compute", BRIEF) is not None
    refused = '{"error": {"code": "AuthorizationFailed", "message": "does not have authorization"}}'
    walk.azure.rules.add(r"GET .*/onlineEndpoints\?", 403, body=refused, times=9)
    with walk.azure.hurried(), listening() as webhook:
        save_webhook(Kind.JSON, webhook.url, inside=True)
        assert main(["sweep", "--once", "--workspace", at]) == 1, "a part could not be read"
        stop(start_runner(elsewhere.home))  # which sends, too
    alerts = {alert["event"]: alert["text"] for body in webhook.bodies for alert in body["alerts"]}
    assert alerts["deleted"] == f"{BRIEF} was deleted: its time was over."
    assert alerts["deleted_soon"].startswith("The compute soon is deleted at ")
    assert sum(len(body["alerts"]) for body in webhook.bodies) == 2
    told = capsys.readouterr()
    assert "deleted, receipt R-" in told.out
    assert told.err.startswith(f"{WORKSPACE}: "), told.err
    assert find_timed(elsewhere, "compute", BRIEF) is None


@pytest.mark.parametrize(
    "arguments", [["swep"], ["sweep"], ["sweep", "--once", "--workspace", "a"], ["sweep", "--once", "--at", "nowhere"]]
)
def test_a_command_that_is_not_understood_fails_loudly(azure: StandIn, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_workspace_that_cannot_be_read_is_a_failure(
    azure: StandIn, go_elsewhere: Callable[[], Connection], capsys: pytest.CaptureFixture[str]
) -> None:
    go_elsewhere()
    azure.az(state="signed out")
    assert main(["sweep", "--once", "--workspace", f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"]) == 1
    assert capsys.readouterr().err.startswith(f"{WORKSPACE}: ")
    [told] = AlertBook().list_entries()
    assert told.alert.text.startswith("What is due, idle or at its cap is not ended: ")


def read_cron() -> tuple[list[str], dict[str, str]]:
    """Return the command of the crontab, and the variables that it sets."""
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if not line.startswith("#")]
    return [lines[-1].split(maxsplit=5)[5]], dict(line.split("=", 1) for line in lines[:-1])


def read_action() -> tuple[list[str], dict[str, str]]:
    """Return what the GitHub Action runs after its sign-in; that is the machine's `az` here."""
    told = yaml.safe_load((EXAMPLES / "github-action.yml").read_text())
    job = told["jobs"]["sweep"]
    uses = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
    assert uses == ["actions/checkout", "actions/setup-python", "azure/login"]
    assert told["permissions"] == {"id-token": "write", "contents": "read"}
    assert (EXAMPLES / "../../requirements.txt").exists()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs.pop(0) == "python -m pip install -r requirements.txt", "it is what this interpreter has"
    return runs, dict.fromkeys(job["env"], "")


def read_job() -> tuple[list[str], dict[str, str]]:
    """Return what the Azure ML job runs in the folder that goes with it, as the SDK reads the file."""
    schedule = yaml.safe_load((EXAMPLES / "azureml-schedule.yml").read_text())
    job = load_job(EXAMPLES / schedule["create_job"])
    assert isinstance(job, Command)
    assert job.identity is not None
    assert (EXAMPLES / job.component.code).resolve() == REPOSITORY
    first, _, rest = job.command.partition(" && ")
    assert first == "python -m pip install --quiet -r requirements.txt", "it is what this interpreter has"
    return [rest], dict(job.environment_variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    "read", [read_cron, pytest.param(read_action, marks=IN_SOAK), pytest.param(read_job, marks=IN_SOAK)]
)
def test_each_example_sweeps_from_a_clean_copy_with_no_more_than_its_role(
    walk: Walk, tmp_path: Path, read: Callable[[], tuple[list[str], dict[str, str]]]
) -> None:
    """Some ten seconds each: an environment with nothing in it but what the example names, and the way to the stand-in.

    Whatever the smallest role does not allow is refused.
    """
    create(walk)
    copy = tmp_path / "tunedeck"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(copy)], check=True)
    (copy / ".venv").symlink_to(sys.prefix)
    told = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": CLIENT_SECRET}
    told["WORKSPACE"] = f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"
    commands, variables = read()
    path = os.pathsep.join((str(walk.azure.programs), f"{sys.prefix}/bin", "/usr/bin", "/bin"))
    way = {key: value for key, value in walk.azure.environment.items() if key not in ("PATH", "TUNEDECK_HOME")}
    environment = {**way, "HOME": str(tmp_path), "PATH": path, **{key: told.get(key, "") for key in variables}}
    before = len(walk.azure.rules.asked())
    refuse_all_but(walk, json.loads((EXAMPLES / "role.json").read_text())["Actions"])
    with walk.azure.hurried():
        for command in commands:
            ran = subprocess.run(
                ["/bin/sh", "-c", command], cwd=copy, env=environment, capture_output=True, text=True, timeout=120
            )
            assert (ran.returncode, ran.stderr) == (0, ""), ran
    assert re.fullmatch(rf"{WORKSPACE}  compute {BRIEF}  .*  deleted, receipt R-\d+\n", ran.stdout), ran
    walk.azure.rules.clear()
    assert find_timed(walk.conn, "compute", BRIEF) is None
    refused = {each.url.partition("?")[0] for each in walk.azure.rules.asked(since=before) if each.status == 403}
    assert any(url.endswith("/models") for url in refused), "what a receipt would list"


def refuse_all_but(walk: Walk, actions: list[str]) -> None:
    """Refuse each request to the workspace that these actions do not allow."""
    body = '{"error": {"code": "AuthorizationFailed", "message": "does not have authorization"}}'
    methods = {"read": "GET", "write": "(?:PUT|PATCH)", "delete": "DELETE"}
    allowed = []
    for action in actions:
        what, _, verb = action.removeprefix("Microsoft.MachineLearningServices/workspaces").strip("/").rpartition("/")
        part = r"[^ ]*/providers/Microsoft\.Insights/metrics" if "Insights" in what else ""
        if what and not part:
            part = f"/{what.replace('/deployments', '/[^/]+/deployments')}(?:/[^/ ?]+)?"
        allowed.append(rf"{methods[verb]} https://[^/]+{WORKSPACE_PATH}{part}\?")
    walk.azure.rules.add(rf"^(?!{'|'.join(allowed)})\S+ https://[^/]+{WORKSPACE_PATH}", 403, body=body, times=10_000)
