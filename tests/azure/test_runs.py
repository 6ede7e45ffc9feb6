"""A run on Azure as it is watched: its measures lie with the step that trains, and what is read of them is little."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from core.azureml.connection import Connection
from core.operations import get_operation, start_cancel, start_launch
from core.overview import describe_progress, read_run
from core.runs import jobs
from core.runs.history import list_steps
from core.runs.logs import read_log
from core.runs.metrics import read_metrics
from core.runs.states import FINE_TUNE, QUEUED, STAGES
from core.runs.throughput import find_pace
from tests.azure.stand_in import StandIn, running_stand_in
from tests.azure.walking import Walk, walking
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Walk, str]]:
    """An operator, and the name of a run of four steps that has completed there."""
    with (
        running_stand_in(tmp_path_factory.mktemp("azure"), module="tests.core.local.trivial_server") as azure,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in azure.environment.items():
            patch.setenv(name, value)
        with walking(azure) as walk:
            walk.ensure_compute()
            run = start_launch(walk.plan()).subject
            with azure.hurried():
                wait_until(lambda: find_pace(run))  # the evaluation after it is nothing to these tests
            yield walk, run


@pytest.fixture
def walk(ended: tuple[Walk, str]) -> Walk:
    return ended[0]


@pytest.fixture
def run(ended: tuple[Walk, str]) -> str:
    return ended[1]


def anew(azure: StandIn) -> Connection:
    """Return a connection of a process that has read nothing yet."""
    return Connection(azure.settings(), azure.home)


def test_a_run_whose_step_alone_measures_has_its_curve_and_its_last_step(walk: Walk, run: str) -> None:
    root = walk.azure.workspace.request("GET", f"/api/2.0/mlflow/runs/get?run_id={run}").json()
    assert root["run"]["data"]["metrics"] == []
    found = jobs.get_run(walk.conn, run)
    assert found.progress is not None
    assert (found.progress.step, found.progress.total_steps, found.progress.fraction) == (4, 4, 1.0)
    assert describe_progress(found) == "Step 4 of 4."
    (trainer,) = [step.run_id for step in list_steps(walk.conn, run) if step.component == FINE_TUNE]
    loss = read_metrics(anew(walk.azure), run).get("loss")
    assert (loss.steps, loss.sources) == ([1, 2, 3, 4], (trainer,))


def test_a_second_look_at_the_measures_asks_two_runs_and_no_history(walk: Walk, run: str) -> None:
    conn = anew(walk.azure)
    first = read_metrics(conn, run)
    before = len(walk.azure.rules)
    assert read_metrics(conn, run) == first
    asked = [each.url.partition("?")[0].rsplit("/", 2)[1:] for each in walk.azure.rules.asked("/mlflow/", since=before)]
    assert asked == [["runs", "get"]] * 2


def test_each_step_has_its_own_log(walk: Walk, run: str) -> None:
    found = jobs.get_run(walk.conn, run)
    begun = {stage.name: stage for stage in found.stages if stage.job and stage.name in STAGES}
    assert len(begun) == 5
    for stage in begun.values():
        assert read_log(walk.conn, found, stage.name).text, stage.title
    assert "finetune with" in read_log(walk.conn, found, FINE_TUNE).text


def test_a_run_that_logs_no_tokens_teaches_its_speed_by_rows_and_time(walk: Walk, run: str) -> None:
    pace = find_pace(run)
    assert pace is not None
    assert pace.tokens_per_s > 0
    assert set(pace.stages) >= {QUEUED, *STAGES}


def test_a_run_that_waits_says_what_its_cluster_says(walk: Walk) -> None:
    started = start_launch(walk.plan(max_steps=5))
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    waiting = read_run(anew(walk.azure), started.subject)
    assert (waiting.state_word, waiting.stages[0].note) == (
        "Queued",
        "gpu is starting a node: 0 of at most 1 there.",
    )
    step = {
        "runId": "step",
        "name": "ft_nlp_common_validation",
        "status": "Queued",
        "createdUtc": "2026-01-01T00:00:00Z",
    }
    told = {"value": [{**step, "warnings": [{"source": "s", "message": "No node yet: 2 jobs are before it."}]}]}
    walk.azure.rules.add(f"{started.subject}/children", 200, body=json.dumps(told))
    stages = read_run(anew(walk.azure), started.subject).stages
    assert stages[1].note == "Azure says: No node yet: 2 jobs are before it."
    walk.finish(start_cancel(walk.conn.alias, started.subject))
    wait_until(lambda: get_operation(started.id).finished)
