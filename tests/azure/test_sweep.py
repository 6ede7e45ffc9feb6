"""A delete-at is a fact of the resource: whoever sweeps deletes what is due, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from core.azureml.connection import Connection, connect
from core.catalog.compute import get_compute
from core.home import Home
from core.operations import start_cancel, start_create_compute, start_launch, start_runner
from core.operations.__main__ import main
from core.operations.ledger import Ledger
from core.operations.runner import Runner
from core.operations.sweep_command import Line, list_due, sweep_once
from core.runs import jobs
from core.teardown.due import Verdict, find_timed, list_timed, write_delete_at
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE, WORKSPACE_PATH
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.waiting import wait_until

BRIEF = "brief"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
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
    """Create a cluster with a delete-at, and let it be due only when the operation has ended."""
    start_runner(walk.azure.home)
    until = datetime.now(UTC) + timedelta(hours=9)
    walk.finish(start_create_compute(walk.conn.alias, name, SIZE, nodes, 1, delete_at=until))
    stop(start_runner(walk.azure.home))
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
    write_delete_at(walk.conn, timed, datetime.now(UTC) - timedelta(minutes=1))
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
    elsewhere = go_elsewhere()
    at = f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"
    assert main(["sweep", "--once", "--dry-run", "--workspace", at]) == 0
    said = capsys.readouterr().out.split("  ")
    assert (said[0], said[1], said[4].strip()) == (WORKSPACE, f"compute {BRIEF}", "due")
    assert find_timed(elsewhere, "compute", BRIEF) is not None
    refused = '{"error": {"code": "AuthorizationFailed", "message": "does not have authorization"}}'
    walk.azure.rules.add(r"GET .*/onlineEndpoints\?", 403, body=refused, times=9)
    with walk.azure.hurried():
        assert main(["sweep", "--once", "--workspace", at]) == 1, "a part could not be read"
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
