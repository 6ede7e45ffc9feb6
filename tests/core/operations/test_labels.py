"""Runs are tagged and archived, many at once, while others write too; and what was done can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.errors import BadInput
from core.operations import find_operation, start_labels, start_rename, start_runner, start_undo
from core.operations.labels import MOST_RUNS
from core.runs import history, index, jobs
from tests.fine_tuning_runs import start_run, trivial_workspace
from tests.local_server import LocalServer
from tests.waiting import finish, wait_until

RUNS = ("one", "two", "three")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with trivial_workspace(tmp_path_factory.mktemp("home")) as running:
        for name in RUNS:
            start_run(running, name, colour="red")
        yield running


@pytest.fixture
def conn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    runner = start_runner(server.home)
    yield connect(local_settings(), home=server.home)
    runner.stopping.set()
    wait_until(lambda: not runner.alive)


def labels(conn: Connection) -> list[dict[str, str]]:
    return [jobs.get_run(conn, name).labels for name in RUNS]


def test_many_runs_are_tagged_at_once_and_get_back_what_each_had(conn: Connection) -> None:
    history.write(conn, "two", {"colour": "blue"})
    title = jobs.get_run(conn, "two").title
    tagged = finish(start_labels("local", RUNS, add={"keep": "", "size": "big"}, without=["colour"]))
    assert tagged.title == "Tag 3 runs"
    assert tagged.steps[0].detail == "3 runs"
    assert labels(conn) == [{"keep": "", "size": "big"}] * 3
    assert jobs.get_run(conn, "two").title == title, "Tunedeck's own tags stay, and are no person's"
    finish(start_undo(tagged.id))
    assert [each["colour"] for each in labels(conn)] == ["red", "blue", "red"]
    assert not [each for each in labels(conn) if "keep" in each or "size" in each]


def test_archived_runs_leave_the_list_until_they_are_taken_back(conn: Connection) -> None:
    archived = finish(start_labels("local", ["one", "gone", "two"], archived=True))
    assert archived.steps[0].detail == "2 of 3 runs. gone: It is gone."
    assert archived.facts["labelled"] == {"one": "", "gone": "It is gone.", "two": ""}
    assert {run.name for run in index.list_runs(conn)} == {"three"}
    assert {job.name for job in conn.workspace.jobs.list()} == {"three"}, "the SDK sees the same"
    assert jobs.get_run(conn, "one").archived
    conn.workspace.jobs.restore("one")  # as somebody else does
    back = finish(start_undo(archived.id))
    assert back.title == "Bring back 2 runs"
    assert {run.name for run in index.list_runs(conn)} == set(RUNS)


def test_what_others_write_meanwhile_stays(conn: Connection) -> None:
    """Another tags the same runs again and again, from before the archive until after it."""
    with ThreadPoolExecutor(4) as pool:
        others = [
            pool.submit(history.write, conn, name, {f"n{number}": str(number)}) for number in range(40) for name in RUNS
        ]
        archived = start_labels("local", RUNS, add={"mine": "yes"}, archived=True)
        [each.result() for each in others]
    finish(archived)
    assert [len(each) for each in labels(conn)] == [42] * 3, "40 of theirs, the colour and mine"
    finish(start_undo(archived.id))
    assert [len(each) for each in labels(conn)] == [41] * 3


def test_a_change_that_was_cut_off_between_two_runs_goes_on_and_knows_what_was_before(
    server: LocalServer, conn: Connection
) -> None:
    server.stop()
    waiting = start_labels("local", RUNS, add={"colour": "green"})
    wait_until(lambda: (now := find_operation(waiting.id)) and now.note)
    server.start()
    done = finish(waiting)
    assert [done.facts["before"][name]["tags"]["colour"] for name in RUNS] == ["red", "blue", "red"]
    finish(start_undo(done.id))


def test_what_cannot_be_is_refused_before_anything_is_recorded() -> None:
    for wrong in ({"tunedeck.cap": "1"}, {"mlflow.x": ""}, {"a" * 129: ""}, {"a": "b" * 257}, {"a/b": ""}, {"": "x"}):
        with pytest.raises(BadInput):
            start_labels("local", ["one"], add=wrong)
    for runs in ([], map(str, range(MOST_RUNS + 1))):
        with pytest.raises(BadInput, match="runs are chosen"):
            start_labels("local", list(runs), archived=True)


def test_only_gone_runs_are_an_error_and_a_name_is_undone_like_the_rest(conn: Connection) -> None:
    error = finish(start_labels("local", ["gone", "lost"], archived=True), "failed").error
    assert error is not None
    assert error.message == "There is no run 'gone' any more."
    named = finish(start_rename("local", "one", "Best so far", "of all"))
    assert (named.title, named.steps[0].detail) == ("Rename one", "'Best so far', before 'one'")
    finish(start_undo(named.id))
    assert jobs.get_run(conn, "one").title == "one"
