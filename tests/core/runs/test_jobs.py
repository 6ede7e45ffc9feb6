"""What a list says of runs: which is the current one, in which order, how many in which state, what will not come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core import overview
from core.azureml import tags
from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.errors import NotFound
from core.operations import Launch, Ledger, Operation, OperationState, Step, StepState
from core.operations.records import Failure
from core.recipe import from_job_inputs
from core.runs.history import RunRecord
from core.runs.metrics import Point, RunMetrics, Series
from core.runs.progress import find_state, make_stages, measure_progress
from core.runs.states import ACTIVE_WORDS, FINE_TUNE, JobState, Progress, Run, Stage
from core.teardown.inventory import Inventory
from tests.fine_tuning_runs import trivial_workspace
from tests.local_server import LocalServer

NOW = datetime(2026, 11, 22, 15, tzinfo=UTC)
RUN = Run("r", "brave-otter", JobState.RUNNING, inputs={"test_file_path": "azureml:test:1"})
TRAINS = replace(RUN, name="trains", title="calm-heron", progress=Progress(62, 100, 0.6, 0.996, 41.0))
WAITS = replace(RUN, name="waits", state=JobState.QUEUED)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with trivial_workspace(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def conn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    return connect(local_settings(), home=server.home)


def test_a_run_that_was_sent_and_is_gone_is_not_said_to_be_on_its_way(server: LocalServer, conn: Connection) -> None:
    ledger = Ledger(server.home)
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    launch = ledger.start("local", Launch("gone"))
    assert overview.read_run(conn, "gone").state_word == "Preparing"
    assert "gone" in [run.name for run in overview.read_runs(conn)]
    sent = tuple(replace(step, state=StepState.DONE) for step in launch.steps[:3])
    ledger.save(replace(launch, state=OperationState.RUNNING, steps=(*sent, *launch.steps[3:])), fence)
    with pytest.raises(NotFound):
        overview.read_run(conn, "gone")
    assert "gone" not in [run.name for run in overview.read_runs(conn)]


@pytest.mark.parametrize("state", list(JobState))
def test_every_active_state_is_counted_and_every_ended_one_is_not(state: JobState) -> None:
    run = replace(RUN, state=state)
    assert run.finished or run.state_word in ACTIVE_WORDS
    assert overview.describe_active([run]) == ("" if run.finished else f"1 {run.state_word.lower()}")
    assert (overview.find_current([run]) is None) == run.finished
    assert TRAINS.rank < run.rank


def test_the_run_that_trains_comes_before_one_that_only_runs() -> None:
    imports = replace(RUN, stages=(Stage("chat_completion_model_import", "Import", JobState.RUNNING),))
    trains = replace(RUN, name="t", stages=(Stage(FINE_TUNE, "Fine-tune", JobState.RUNNING),))
    assert overview.find_current([WAITS, imports, trains]) is trains
    assert overview.find_current([WAITS, imports]) is imports
    watch = overview.next_action([WAITS, imports, trains], [], Inventory(), None)
    assert watch.subject == "t"
    assert overview.describe_shortly(TRAINS) == "99%", "never 100% before the end"
    assert overview.describe_shortly(replace(TRAINS, state=JobState.FAILED)) == "Failed"


@pytest.mark.parametrize(
    ("children", "state"),
    [
        ([], "Running"),
        ([RunRecord("a", JobState("Queued")), RunRecord("b", JobState("NotStarted"))], "Queued"),
        ([RunRecord("a", JobState("Preparing")), RunRecord("b", JobState("NotStarted"))], "Preparing"),
        ([RunRecord("a", JobState("Completed"), started_at=NOW), RunRecord("b", JobState("Queued"))], "Running"),
        ([RunRecord("a", JobState.RUNNING, started_at=NOW)], "Running"),
    ],
)
def test_a_pipeline_whose_first_step_waits_for_a_node_is_queued(children: list[RunRecord], state: str) -> None:
    """Azure calls it running."""
    assert find_state(RunRecord("r", JobState.RUNNING), children) == state


@pytest.mark.parametrize(
    ("state", "inputs", "converter", "evaluation"),
    [
        ("Running", RUN.inputs, "Waiting", "Waiting"),
        ("Running", {"train_file_path": "x"}, "Waiting", "Skipped"),
        ("Running", {}, "Waiting", "Waiting"),  # what it was sent with is not known
        ("CancelRequested", RUN.inputs, "Skipped", "Skipped"),
        ("Canceled", RUN.inputs, "Skipped", "Skipped"),
        ("Failed", RUN.inputs, "Skipped", "Skipped"),
        ("NotResponding", RUN.inputs, "Skipped", "Skipped"),
        ("Completed", RUN.inputs, "Skipped", "Waiting"),
    ],
)
def test_only_a_stage_that_may_come_waits(state: str, inputs: dict[str, str], converter: str, evaluation: str) -> None:
    stages = make_stages(replace(RUN, state=JobState(state), inputs=inputs), [], None)
    assert [stage.state_word for stage in stages[-2:]] == [converter, evaluation]
    assert all(bool(stage.missed) == (stage.state_word == "Skipped") for stage in stages)


@pytest.mark.parametrize(
    ("state", "error", "detail", "reason"),
    [
        ("running", None, "", ""),  # it is on its way
        ("done", None, "The data has no test rows", "The data has no test rows"),
        ("failed", Failure("The evaluation was refused."), "", "The evaluation was refused."),
        ("cancelled", None, "", "It was not started."),
    ],
)
def test_an_evaluation_that_its_launch_gave_up_is_not_waited_for(
    state: str, error: Failure | None, detail: str, reason: str
) -> None:
    steps = (Step("evaluate", "Start the evaluation", StepState.SKIPPED, detail),)
    launch = Operation("1", "local", Launch("r"), OperationState(state), steps, error=error)
    assert overview._explain_no_evaluation(launch) == reason
    assert "only what it starts" in overview._explain_no_evaluation(None)


def test_an_ended_run_is_settled_once_its_last_measures_are_readable() -> None:
    ended = replace(RUN, state=JobState.FAILED, ended_at=datetime.now(UTC))
    assert not ended.settled
    assert replace(ended, ended_at=datetime.now(UTC) - timedelta(seconds=10)).settled
    assert not replace(ended, state=JobState.RUNNING, ended_at=None).settled


@pytest.mark.parametrize("accumulation", [1, 3, 4, 50])
@pytest.mark.parametrize("is_told", [True, False])
def test_the_steps_of_a_run_are_told_rightly_before_and_after_each_of_its_steps(
    accumulation: int, is_told: bool
) -> None:
    """Without the tag of its steps, as of a run that something else has started, by the epochs it measures."""
    parameters = {**from_job_inputs({}), "num_train_epochs": 2, "gradient_accumulation_steps": accumulation}
    per_epoch = -(-48 // accumulation)
    run = replace(RUN, parameters=parameters, tags={tags.STEPS: str(2 * per_epoch)} if is_told else {})
    assert measure_progress(run, None).total_steps == (2 * per_epoch if is_told else None)
    for step in range(1, 2 * per_epoch + 1):
        epochs, part = divmod(step, per_epoch)
        epoch = epochs + min(1.0, part * accumulation / 48)
        series = {key: Series(key, (Point(step, value, 0),)) for key, value in (("loss", 1.0), ("epoch", epoch))}
        assert measure_progress(run, RunMetrics("r", series)).total_steps == 2 * per_epoch, step
