"""Everything that one identity made goes at one word; nothing of another's does."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.azureml import tags
from core.azureml.settings import save_settings
from core.home import Home, current
from core.operations import list_receipts, start_launch, start_runner
from core.operations.__main__ import main
from core.operations.ledger import Ledger
from core.operations.panic import PanicDeletion, list_parts, plan_panic, start_panic
from core.operations.runner import Runner
from core.operations.targets import Target
from core.runs import jobs
from core.teardown.due import find_timed
from core.teardown.inventory import list_billing
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE, WORKSPACE_PATH
from tests.azure.stand_in import StandIn
from tests.azure.walking import Walk, put_cluster, walking
from tests.waiting import finish, wait_until

AT = f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"
BEN = "ben@contoso.com"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        stop(start_runner(azure.home))
        yield operator
        azure.rules.clear()
        stop(start_runner(azure.home))
        for item in list_billing(operator.conn).items:
            operator.conn.http("DELETE", f"{operator.conn.workspace_path}/computes/{item.name}?api-version=2024-10-01")
        with azure.hurried():
            wait_until(lambda: not list_billing(operator.conn).items)


@pytest.fixture
def elsewhere(walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Another machine, whose home knows nothing."""
    home = Home(tmp_path / "elsewhere").create()
    monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield home
    stop(start_runner(current()))  # a folder in its place, where its ledger cannot be used


def stop(runner: Runner) -> None:
    runner.stopping.set()
    wait_until(lambda: not runner.alive)


def create(walk: Walk, name: str, owner: str = "") -> None:
    """Create a cluster with the tags of a Tunedeck of another home."""
    put_cluster(walk.conn, name, tags={tags.MADE_BY: "another-home"})
    give(walk, name, owner)
    with walk.azure.hurried():
        wait_until(lambda: (now := find_timed(walk.conn, "compute", name)) and now.state == "Succeeded")


def give(walk: Walk, name: str, owner: str) -> None:
    if owner:
        walk.azure.azure.makers.known[f"{WORKSPACE_PATH}/computes/{name}".lower()] = owner


def names(walk: Walk) -> set[str]:
    return {item.name for item in list_billing(walk.conn).items}


def deletions(walk: Walk) -> list[str]:
    return [each.url.split("/computes/")[1].split("?")[0] for each in walk.azure.rules.asked("^DELETE .*/computes/")]


def test_the_command_says_what_would_go_and_deletes_it_only_with_the_workspaces_name(
    walk: Walk, elsewhere: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    create(walk, "mine")
    create(walk, "bens", BEN)
    assert main(["panic", "--workspace", AT]) == 1
    said = capsys.readouterr()
    assert said.out == f"Delete cluster mine. No run uses it.\nStays: cluster bens, which is {BEN}'s\n"
    assert said.err == f"Nothing was deleted. To delete all of it, say so: --yes {WORKSPACE}\n"
    assert main(["panic", "--workspace", AT, "--yes", "mine"]) == 1
    assert "The name does not match. Nothing was deleted." in capsys.readouterr().err
    assert names(walk) == {"mine", "bens"}
    assert set(plan_panic(walk.conn, everyone=True).keys) == {"compute:mine", "compute:bens"}
    with walk.azure.hurried():
        assert main(["panic", "--workspace", AT, "--yes", WORKSPACE]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-2:] == ["Delete mine: receipt R-0001", "Nothing of yours is left that bills"]
    assert names(walk) == {"bens"}
    assert list_receipts()[0].gone[0].name == "mine"


@pytest.mark.parametrize("harm", ["broken", pytest.param("locked", marks=pytest.mark.slow)])
def test_it_works_where_the_ledger_does_not(
    walk: Walk, elsewhere: Home, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Locked takes 6 s: so long a ledger that is in use is waited for."""
    create(walk, "mine")
    with closing(sqlite3.connect(elsewhere.ledger_db, isolation_level=None)) as holder, walk.azure.hurried():
        if harm == "locked":
            holder.execute("begin immediate")
        else:
            elsewhere.ledger_db.write_bytes(b"no database" * 1000)
        assert main(["panic", "--workspace", AT, "--yes", WORKSPACE]) == 0
    said = capsys.readouterr()
    assert "It goes on without it, in " in said.err
    kept = Path(said.out.splitlines()[-2].rpartition("kept as ")[2])
    assert '"name": "mine"' in kept.read_text(encoding="utf-8")
    assert names(walk) == set()


@pytest.mark.slow
def test_two_panics_of_two_homes_and_one_that_was_killed_delete_each_thing_once(walk: Walk, elsewhere: Home) -> None:
    """Takes 5 s: it waits for two computes, and for two runners to begin."""
    create(walk, "mine")
    create(walk, "more")
    before = len(deletions(walk))
    save_settings(walk.azure.settings())
    first, second = Ledger(walk.azure.home), Ledger(elsewhere)
    operations = [start_panic(ledger, walk.conn, WORKSPACE) for ledger in (first, second)]
    assert start_panic(first, walk.conn, WORKSPACE).id == operations[0].id
    runners = [start_runner(ledger.home) for ledger in (first, second)]
    wait_until(lambda: list_parts(first, first.get(operations[0].id)))
    stop(runners[0])
    start_runner(walk.azure.home)
    with walk.azure.hurried():
        for ledger, operation in zip((first, second), operations, strict=True):
            wait_until(lambda ledger=ledger, operation=operation: ledger.get(operation.id).finished)
    assert [ledger.get(each.id).state for ledger, each in zip((first, second), operations, strict=True)] == ["done"] * 2
    assert names(walk) == set()
    claimed = [gone.name for ledger in (first, second) for each in ledger.list_receipts() for gone in each.gone]
    assert {"mine", "more"} == set(claimed)
    assert set(deletions(walk)[before:]) == {"mine", "more"}


@pytest.mark.slow
def test_a_dashboard_that_runs_at_the_same_time_carries_it_out(
    walk: Walk, elsewhere: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Takes 8 s: a second process has to begin."""
    create(walk, "mine")
    other = subprocess.Popen([sys.executable, "-m", "core.operations", "run"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: (lease := Ledger(elsewhere).read_lease()) and lease[0] == other.pid)
        with walk.azure.hurried():
            assert main(["panic", "--workspace", AT, "--yes", WORKSPACE]) == 0
        lease = Ledger(elsewhere).read_lease()
        assert lease is not None
        assert lease[0] == other.pid
    finally:
        other.terminate()
        other.wait()
    assert "Nothing of yours is left that bills" in capsys.readouterr().out
    assert names(walk) == set()


def test_what_a_colleague_makes_meanwhile_under_the_same_name_stays(walk: Walk) -> None:
    create(walk, "mine")
    deletion = Ledger().start(walk.conn.alias, PanicDeletion("mine", (Target("compute", "mine"),)))
    give(walk, "mine", BEN)
    create(walk, "bens", BEN)
    start_runner(walk.azure.home)
    ended = walk.finish(deletion)
    assert ended.steps[0].detail == f"It is another's by now, and stays: {BEN}."
    assert names(walk) == {"mine", "bens"}


@pytest.mark.slow
def test_a_running_job_is_cancelled_and_a_cluster_with_a_colleagues_job_stays(walk: Walk) -> None:
    """Takes 8 s: a run has to begin."""
    start_runner(walk.azure.home)
    walk.ensure_compute()
    started = start_launch(walk.plan(max_steps=100_000))
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    walk.azure.azure.makers.known[f"{WORKSPACE_PATH}/jobs/{started.subject}".lower()] = BEN
    plan = plan_panic(walk.conn)
    assert plan.keys == ()
    assert any("which is ben@contoso.com's" in line for line in plan.stays)
    walk.azure.azure.makers.known[f"{WORKSPACE_PATH}/jobs/{started.subject}".lower()] = "ada@contoso.com"
    assert plan_panic(walk.conn).keys == (f"job:{started.subject}", "compute:gpu")
    walk.finish(start_panic(Ledger(), walk.conn, WORKSPACE))
    assert jobs.get_run(walk.conn, started.subject).state == "Canceled"
    assert names(walk) == set()
    finish(started, "cancelled")
