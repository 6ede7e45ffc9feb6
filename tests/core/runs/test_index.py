"""All runs are found, however many others there are, and kept: what a second start reads is what is new or goes on."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import fill
from core import overview
from core.azureml import tags
from core.azureml.connection import Connection
from core.errors import ServiceFailed
from core.home import Home
from core.local.blobs import CONTAINER
from core.local.jobs.runs import Experiment
from core.local.store import Store
from core.runs import history, index
from core.runs.index import OTHERS_MOST, SETTLES_S, RunList
from core.runs.metrics import SEARCHED
from core.runs.states import Run
from tests.azure.stand_in import StandIn, running_stand_in
from tests.core.local.submitting import wait_for
from tests.fine_tuning_runs import start_run, trivial_workspace
from tests.waiting import wait_until

OURS, OTHERS = 130, 230
SETTLED = timedelta(seconds=SETTLES_S)  # what ended sooner is asked for its losses again


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A workspace in which others started more pipelines than two pages hold, all of them after ours."""
    with trivial_workspace(tmp_path_factory.mktemp("local")) as server:
        start_run(server, "template", "calm-heron", **{tags.RECIPE: '{"learning_rate": 0.001}', "team": "blue"})
        wait_for(server, "template", "Completed")
        job = Store(server.home.workspace_db).require("job", "template")
    with running_stand_in(tmp_path_factory.mktemp("azure"), module="tests.core.local.trivial_server") as azure:
        azure.workspace.stop()
        database = azure.workspace.home.workspace_db
        Experiment(name=job["experiment"]).put(Store(database))
        fill(database, jobs=OURS, models=0, points=0, template=job, prefix="ours")
        fill(database, jobs=OTHERS, models=0, points=0, template={**job, "run": {**job["run"], "tags": {}}})
        points = [("loss", 3.0, 1, 1), ("loss", 1.25, 2, 2), ("eval_loss", 2.0, 2, 2), ("loss", math.nan, 3, 3)]
        Store(database).append_metrics("ours-00007", points[:3])
        Store(database).append_metrics("ours-00008_4", points[:3])  # of the step that trains alone
        Store(database).append_metrics("ours-00009", points)
        Store(database).update("job", "ours-00010", with_test_rows)
        score = {"loss": 1.5, "perplexity": 4.5}
        result = {
            "rows": 2,
            "tokens": 9,
            "base": {"loss": 2.5, "perplexity": 12.2},
            "tuned": score,
            "answers": [],
            "seconds": 1,
        }
        path = azure.workspace.home.blobs / CONTAINER / "azureml/ours-00010-evaluation/evaluation/evaluation.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(result), encoding="utf-8")
        azure.workspace.start()
        wait_until(lambda: datetime.now(UTC) - datetime.fromisoformat(job["run"]["ended_at"]) > SETTLED)
        yield azure


def with_test_rows(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job that was started with a test split."""
    (node,) = job["properties"]["jobs"].values()
    node["inputs"]["test_file_path"] = {"uri": "azureml://datastores/x/paths/test.jsonl", "job_input_type": "uri_file"}
    return job


@pytest.fixture
def azure(crowded: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The same for an operator with an empty home."""
    crowded = replace(crowded, home=Home(tmp_path / "operator").create())
    for name, value in crowded.environment.items():
        monkeypatch.setenv(name, value)
    crowded.rules.clear()
    return crowded


def anew(azure: StandIn) -> Connection:
    """Return the connection of a process that has read nothing yet."""
    return Connection(azure.settings(), azure.home)


def read_whole(conn: Connection) -> RunList:
    return wait_until(lambda: (found := index.list_runs(conn)).complete and found)


def all_ended(runs: RunList) -> dict[str, Run]:
    return {run.name: run for run in runs} if all(run.ended_at for run in runs) else {}


def asked(azure: StandIn, since: int) -> list[str]:
    """Return what was asked of the lists of jobs: "tag", "all", or one by its name."""
    urls = [each.url for each in azure.rules.asked("/jobs", since=since)]
    return [
        "tag" if "tag=" in url else "all" if "/jobs?" in url else url.partition("?")[0].rpartition("/")[2]
        for url in urls
    ]


def test_all_of_ours_are_found_below_hundreds_of_others(azure: StandIn) -> None:
    """The first rows at once, at most 8 requests in flight."""
    conn = anew(azure)
    conn.blobs()  # sign-in and addresses are not what is counted
    azure.rules.peak = 0
    first = index.list_runs(conn, 0.001)
    assert 100 <= len(first) <= 200
    assert (first.note, first.complete) == ("Reading the rest.", False)
    whole = read_whole(conn)
    assert {run.name for run in whole} == {f"ours-{number:05d}" for number in range(OURS)}
    assert whole.note == "", "nothing more is there"
    assert azure.rules.peak <= 8
    assert {(run.title, run.state_word, run.parameters["learning_rate"]) for run in whole} == {
        ("calm-heron", "Completed", 0.001)
    }
    assert whole[0].labels == {"team": "blue"}


def test_what_has_ended_is_measured_by_the_hundred_and_never_again(azure: StandIn) -> None:
    conn, begun = anew(azure), len(azure.rules)
    read_whole(conn)
    known = wait_until(lambda: all_ended(index.list_runs(conn)))
    assert {name: (run.train_loss, run.eval_loss) for name, run in known.items() if run.eval_loss} == {
        "ours-00007": (1.25, 2.0),
        "ours-00008": (1.25, 2.0),
        "ours-00009": (None, 2.0),
    }
    tested = {
        run.name: run.test_loss for run in wait_until(lambda: [run for run in index.list_runs(conn) if run.test_loss])
    }
    assert tested == {"ours-00010": 1.5}
    record, ended_at = history.find_record(conn, "ours-00000"), known["ours-00000"].ended_at
    assert record is not None
    assert record.ended_at is not None
    assert ended_at is not None
    assert abs(record.ended_at - ended_at) < timedelta(milliseconds=1), "MLflow counts in those"
    searched = azure.rules.asked("/runs/search", since=begun)
    assert len(searched) == 1 + 6 * (OURS + OTHERS) // SEARCHED, "a run, and its five steps"
    assert azure.rules.asked(r"/runs/get|/history/.*/runs/ours-000[1-9]\d*$", since=begun) == []
    before = len(azure.rules)
    again = anew(azure)
    found = {run.name: run for run in index.list_runs(again)}
    assert len(azure.rules) == before, "a second start shows what the disk has"
    assert found["ours-00008"].train_loss == 1.25
    index.list_runs(again)
    assert asked(azure, before) == ["tag", "all"]
    assert not azure.rules.asked("/mlflow/", since=before)


def test_a_reading_that_was_cut_off_between_two_pages_leaves_no_gap(azure: StandIn) -> None:
    cut = index.list_runs(anew(azure), 0.001)
    azure.rules.add("/jobs.*skipToken", 503, times=1000)
    conn = anew(azure)
    kept = index.list_runs(conn)
    assert len(kept) == len(cut)
    with pytest.raises(ServiceFailed):
        read_whole(conn)
    azure.rules.clear()
    assert len(read_whole(anew(azure))) == OURS


def test_what_others_change_of_old_runs_is_seen_when_the_whole_list_is_read_anew(azure: StandIn) -> None:
    conn, other = anew(azure), anew(azure)
    read_whole(conn)
    history.write(other, "ours-00001", {tags.TITLE: "best", "team": "red"})
    history.write(other, "ours-00002", {}, archived=True)
    make_due(azure)
    found = wait_until(
        lambda: (found := {run.name: run for run in index.list_runs(conn)}) and "ours-00002" not in found and found
    )
    assert (found["ours-00001"].title, found["ours-00001"].labels) == ("best", {"team": "red"})
    assert [run.name for run in index.list_runs(conn, archived=True)] == ["ours-00002"]
    index.note_change(conn, history.write(conn, "ours-00002", {}, archived=False))
    assert "ours-00002" in [run.name for run in overview.read_runs(conn)]
    assert "ours-00002" in [run.name for run in index.list_runs(other)], "another process has it from the disk"


def test_a_run_that_comes_between_two_pages_and_one_that_goes_are_seen(azure: StandIn) -> None:
    conn, server = anew(azure), azure.workspace

    def names() -> set[str]:
        return {run.name for run in index.list_runs(conn)}

    index.list_runs(conn, 0.001)
    job = Store(server.home.workspace_db).require("job", "ours-00000")
    fill(server.home.workspace_db, jobs=1, models=0, points=0, template=job, prefix="late")
    with azure.hurried():
        wait_until(lambda: {"late-00000", "ours-00000"} <= names())
        for name in ("late-00000", "ours-00003"):
            assert server.request("DELETE", f"jobs/{name}").status_code == 200
        wait_until(lambda: "late-00000" not in names())
        assert "ours-00003" in names(), "it stands on an older page"
        make_due(azure)
        wait_until(lambda: "ours-00003" not in names())


def test_a_list_that_ends_says_where(azure: StandIn) -> None:
    database = azure.workspace.home.workspace_db
    job = Store(database).require("job", "held-00000")
    fill(database, jobs=OTHERS_MOST, models=0, points=0, template=job, prefix="more")
    azure.advance(60)  # a list there is a little behind
    said = "Runs without Tunedeck's tag were looked for among the newest 1,000 pipelines, back to "
    assert re.fullmatch(rf"{said}\d+ \w+ 20\d\d\.", read_whole(anew(azure)).note)


def make_due(azure: StandIn) -> None:
    """Let the time be over for which a whole list is taken as it is, and that in which a list is a little behind."""
    azure.advance(60)
    with sqlite3.connect(azure.home.runs_db) as database:
        database.execute("update lists set whole_at = 0")
