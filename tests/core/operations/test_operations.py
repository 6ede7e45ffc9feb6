"""Operations from the wish to the outcome, against a real local workspace whose programs are a few lines long."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core import overview
from core.alerts.book import AlertBook
from core.azureml import tags
from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.catalog.compute import get_compute
from core.dataset import ChatDataset
from core.errors import BadInput, NotFound, TunedeckError, Unreachable
from core.launch.drafts import create_draft, get_draft
from core.operations import (
    Operation,
    copy_setup,
    find_operation_for,
    list_receipts,
    retry_operation,
    start_cancel,
    start_continuation,
    start_create_compute,
    start_deploy,
    start_keep_best,
    start_launch,
    start_runner,
    start_set_delete_at,
    start_set_traffic,
    start_teardown,
)
from core.operations.due_deletion import start_due_deletion
from core.operations.ledger import Ledger
from core.operations.sweep import sweep
from core.runs import history, jobs
from core.runs.logs import read_log, zip_logs
from core.runs.states import FINE_TUNE, JobState, Progress, Run
from core.serving import chat, endpoints
from core.serving.registered_models import list_registered_models
from core.serving.request_counts import read_requests
from core.teardown import plan as teardown
from core.teardown.due import find_timed, write_delete_at
from core.teardown.inventory import list_inventory
from tests.chat_data import from_upload
from tests.fine_tuning_runs import training_of
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.tiny_model import NAME, build_tiny_model
from tests.waiting import finish, wait_until

ROW = {
    "messages": [{"role": "user", "content": "Who rings the bell?"}, {"role": "assistant", "content": "The keeper."}]
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    from core.home import Home

    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    environment = {"TUNEDECK_BASE_MODELS": str(base_models), "TUNEDECK_QUOTA_CORES": "16"}
    running = LocalServer(
        Home(tmp_path_factory.mktemp("served")), environment, module="tests.core.operations.counting_server"
    )
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def conn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    return connect(local_settings(), home=server.home)


@pytest.fixture
def runner(server: LocalServer, conn: Connection) -> Iterator[Any]:
    started = start_runner(server.home)
    yield started
    started.stopping.set()
    wait_until(lambda: not started.alive)


@pytest.fixture
def dataset(conn: Connection) -> ChatDataset:
    return from_upload("bell", "\n".join(json.dumps(ROW) for _ in range(10)).encode())


def launch(conn: Connection, dataset: ChatDataset, **parameters: Any) -> Operation:
    draft = create_draft(
        "local", model=NAME, compute="this-machine", dataset=dataset.key, parameters={"max_steps": 5, **parameters}
    )
    plan = plan_launch(conn, draft)
    assert plan.ready, plan.failures
    return start_launch(plan)


def completed_run(conn: Connection, dataset: ChatDataset) -> str:
    for run in list_inventory(conn).items:
        if run.kind == "run" and run.state == "Completed" and run.bytes:
            return run.name
    return finish(launch(conn, dataset)).subject


def deploy(run: str, endpoint: str, **more: Any) -> Operation:
    delete_at = datetime.now(UTC) + timedelta(hours=8)
    return start_deploy("local", run, "bell-model", endpoint, "local.cpu1", delete_at, **more)


def test_a_run_is_shown_from_the_click_to_its_end(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    runner.stopping.set()
    operation = launch(conn, dataset)
    before = overview.read_run(conn, operation.subject)
    assert (before.state_word, before.recorded, before.model) == ("Preparing", True, NAME)
    assert overview.read_runs(conn)[0].name == operation.subject
    start_runner()
    ended = finish(operation)
    assert [step.state for step in ended.steps[:4]] == ["done"] * 4
    assert ended.steps[4].state == "skipped"  # no test rows: nothing to evaluate on
    run = jobs.get_run(conn, operation.subject)
    assert (run.title, run.state, run.dataset, run.compute) == (
        ended.change.label,
        "Completed",
        "bell",
        "this-machine",
    )
    assert [stage.title for stage in run.stages] == [
        "Queued",
        "Validation",
        "Import",
        "Preprocess",
        "Fine-tune",
        "Converter",
        "Evaluation",
    ]
    assert {stage.state_word for stage in run.stages[:6]} == {"Completed"}
    assert run.parameters["max_steps"] == 5
    assert run.progress is not None
    assert (run.progress.step, run.progress.total_steps, run.progress.fraction) == (5, 5, 1.0)
    assert "finetune with" in read_log(conn, training_of(run)).text
    assert get_draft(run.tags[tags.DRAFT]).launched == operation.id
    assert (run.seconds or 0) > 0


def test_a_log_is_read_from_its_end_and_packed_whole_with_the_others(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    run = jobs.get_run(conn, completed_run(conn, dataset))
    with zipfile.ZipFile(io.BytesIO(zip_logs(conn, run))) as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert len({name.partition("/")[0] for name in packed}) == sum(bool(stage.job) for stage in run.stages)
    assert "finetune with" in "".join(text for name, text in packed.items() if FINE_TUNE in name)
    whole, end = read_log(conn, training_of(run)), read_log(conn, training_of(run), limit_bytes=10)
    assert end.truncated
    assert whole.text.endswith(end.text)


def test_two_clicks_on_one_draft_are_one_run(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    draft = create_draft("local", model=NAME, compute="this-machine", dataset=dataset.key, parameters={"max_steps": 2})
    plan = plan_launch(conn, draft)
    assert start_launch(plan).id == start_launch(plan).id
    finish(start_launch(plan))


def test_a_failed_run_says_why_and_is_not_evaluated(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    ended = finish(launch(conn, dataset, seed=13))
    assert [step.state for step in ended.steps[3:]] == ["skipped"] * 3
    run = jobs.get_run(conn, ended.subject)
    assert run.state_word == "Failed"
    assert run.error is not None
    assert run.error.cause.startswith("The run stopped at step 5: the loss is no longer a number.")
    assert run.error.evidence == "RuntimeError: loss is nan"
    assert run.error.action == "Retry with learning rate 0.0025."
    assert run.stage is run.find_stage(FINE_TUNE)
    [told] = wait_until(lambda: [each for each in AlertBook().list_entries() if each.alert.thing == run.name])
    assert told.alert.event == "run_failed"
    assert told.alert.text.startswith(f"{run.title} failed after ")
    assert told.alert.text.endswith("The run stopped at step 5: the loss is no longer a number.")


def test_cancel_ends_a_run_and_keeps_its_measures(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    operation = launch(conn, dataset, max_steps=3000)
    wait_until(
        lambda: (overview.read_run(conn, operation.subject).progress or Progress(0, None, None, 0, None)).step > 3
    )
    finish(start_cancel("local", operation.subject))
    run = jobs.get_run(conn, operation.subject)
    assert run.state_word == "Cancelled"
    assert run.progress is not None
    assert run.progress.step > 3
    assert finish(operation, "cancelled").steps[3].state == "skipped"


def test_a_launch_cancelled_before_it_was_sent_sends_nothing(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    operation = launch(conn, dataset)
    cancel = start_cancel("local", operation.subject)
    Ledger().want_cancel(operation.id)
    start_runner()
    finish(operation, "cancelled")
    finish(cancel)
    assert jobs.find_run(conn, operation.subject) is None
    assert overview.read_run(conn, operation.subject).state_word == "Cancelled"


def test_a_deploy_is_live_when_it_has_answered_and_a_teardown_leaves_a_receipt(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    run = finish(launch(conn, dataset)).subject  # of its own: its files are deleted below
    ended = finish(deploy(run, "bell-ep"))
    assert [step.state for step in ended.steps] == ["done"] * 6
    endpoint = endpoints.get_endpoint(conn, "bell-ep")
    assert (endpoint.state_word, tags.is_ours(endpoint.tags), endpoint.run, endpoint.base_model) == (
        "Live",
        True,
        run,
        NAME,
    )
    assert endpoint.delete_at is not None
    model = list_registered_models(conn, "bell-model")[0]
    assert (model.run, model.base_model, model.tags[tags.DATASET_KEY]) == (run, NAME, dataset.key)

    inventory = list_inventory(conn)
    item = inventory.find("endpoint:bell-ep")
    assert item is not None
    assert (item.bills, item.hourly_words, item.mine) == (True, "$0.00/h", True)
    outputs, files = inventory.find(f"run:{run}"), inventory.find(f"model:bell-model:{model.version}")
    assert outputs is not None
    assert files is not None
    assert files.bytes
    assert outputs.bytes == 0  # its only files are the model's, counted there
    keys = ["endpoint:bell-ep", f"model:bell-model:{model.version}"]
    plan = teardown.plan_teardown(conn, inventory, keys, delete_files=keys[1:])
    assert plan.sentences == ("This ends billing of $0.00/h. It cannot be undone.",)
    assert plan.confirm == ""  # nothing costs money here, so nothing need be typed
    removed = finish(start_teardown(plan))
    receipt = next(one for one in list_receipts("local") if one.id == removed.facts["receipt"])
    assert [(gone.kind, gone.name, len(gone.checks)) for gone in receipt.gone] == [
        ("endpoint", "bell-ep", 2),
        ("model", "bell-model", 2),
    ]
    assert receipt.gone[1].bytes_freed
    assert {"compute", "data", "run"} <= {kept["kind"] for kept in receipt.kept}
    with pytest.raises(NotFound, match=r"Endpoint 'bell-ep' was deleted\."):
        list(chat.stream_chat(conn, endpoint, [{"role": "user", "content": "Hello"}]))


def test_an_answer_streams_and_stop_ends_it(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    finish(deploy(completed_run(conn, dataset), "talk-ep"))
    endpoint = endpoints.get_endpoint(conn, "talk-ep")
    stop = threading.Event()
    deltas = []
    for delta in chat.stream_chat(conn, endpoint, [{"role": "user", "content": "Hello"}], stop=stop):
        deltas.append(delta)
        if len(deltas) == 2:
            stop.set()
    assert [delta.text for delta in deltas] == ["0 ", "1 ", ""]
    assert deltas[-1].stats is not None
    assert (deltas[-1].stats.tokens, deltas[-1].stats.finish_reason) == (2, "stopped")
    exchange = deltas[-1].exchange
    assert exchange is not None
    key = conn.workspace.online_endpoints.get_keys("talk-ep").primary_key
    shown = exchange.to_curl() + exchange.to_python() + exchange.answer + json.dumps(dict(exchange.request))
    assert key not in shown
    assert "$ENDPOINT_KEY" in exchange.to_curl()
    compile(exchange.to_python(), "request.py", "exec")
    with pytest.raises(Unreachable, match=r"The answer of 'talk-ep' broke off\.") as broken:
        list(chat.stream_chat(conn, endpoint, [{"role": "user", "content": "die in the middle"}]))
    assert broken.value.hint.startswith("What came is kept.")

    finish(start_set_traffic("local", "talk-ep", {"demo": 0}))
    silent = endpoints.get_endpoint(conn, "talk-ep")
    assert silent.state_word == "No traffic"
    with pytest.raises(TunedeckError, match="is up but gets no traffic"):
        list(chat.stream_chat(conn, silent, [{"role": "user", "content": "Hello"}]))


def test_a_deploy_is_refused_before_anything_bills(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    run = completed_run(conn, dataset)
    with pytest.raises(BadInput, match="it has a space and a capital") as refused:
        deploy(run, "My Bot")
    assert refused.value.hint.startswith("Use 'my-bot'.")
    ended = finish(start_deploy("local", run, "bell-model", "no-size", "Standard_NC6", None), "failed")
    assert ended.error is not None
    assert ended.error.message == f"Size Standard_NC6 may not serve '{NAME}'."
    assert endpoints.find_endpoint(conn, "no-size") is None


def test_an_endpoint_somebody_else_has_is_not_taken_over(conn: Connection, dataset: ChatDataset, runner: Any) -> None:
    run = completed_run(conn, dataset)
    finish(deploy(run, "taken-ep"))
    again = finish(
        start_deploy("local", run, "other-model", "taken-ep", "local.cpu1", None, model_version="7"), "failed"
    )
    assert again.error is not None
    assert again.error.message == "There is an endpoint 'taken-ep' already."
    assert retry_operation(again.id).state == "recorded"
    finish(again, "failed")


def test_what_is_past_its_delete_at_is_deleted_unless_it_was_changed_or_answered_a_moment_ago(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    """The module's runner sweeps too: which of the two finds it first makes no difference."""
    finish(deploy(completed_run(conn, dataset), "short-ep"))
    past = datetime.now(UTC) - timedelta(minutes=1)
    timed = find_timed(conn, "endpoint", "short-ep")
    assert timed is not None
    stays = finish(start_due_deletion(Ledger(), "local", timed))
    assert stays.steps[0].detail == "It stays: not due yet."

    asked = ROW["messages"][:1]
    list(chat.stream_chat(conn, endpoints.get_endpoint(conn, "short-ep"), asked, chat.Sampling(max_tokens=2)))
    wait_until(lambda: read_requests(conn, "short-ep").at)
    finish(start_set_delete_at("local", "endpoint", "short-ep", past))
    put_off = sweep_again(conn, stays)
    assert re.fullmatch(r"It answered at \d\d:\d\d UTC, so it is kept once, until .*", put_off.steps[0].detail)
    kept = endpoints.get_endpoint(conn, "short-ep")
    assert kept.live
    assert kept.delete_at is not None
    assert timedelta(minutes=58) < kept.delete_at - datetime.now(UTC) <= timedelta(hours=1)

    read_before = find_timed(conn, "endpoint", "short-ep")
    finish(start_set_traffic("local", "short-ep", {endpoints.DEPLOYMENT_NAME: 0}))
    assert read_before is not None
    assert not write_delete_at(conn, read_before, datetime(2099, 1, 1, tzinfo=UTC))
    assert endpoints.get_endpoint(conn, "short-ep").traffic == {endpoints.DEPLOYMENT_NAME: 0}, "it stays changed"
    assert not write_delete_at(conn, read_before, past)
    assert sweep_again(conn, put_off).facts["receipt"]
    assert endpoints.find_endpoint(conn, "short-ep") is None


def sweep_again(conn: Connection, before: Operation) -> Operation:
    """Return the next deletion of what is due, as it ended."""

    def find() -> Operation | None:
        sweep(Ledger(), conn, [])
        found = find_operation_for("local", before.subject, "expire")
        return found if found and found.id != before.id and found.finished else None

    return wait_until(find, every_s=0.5)


def test_a_compute_is_made_and_deleted(conn: Connection, runner: Any) -> None:
    finish(start_create_compute("local", "second", "local.cpu1", idle_s=300))
    compute = get_compute(conn, "second")
    assert (compute.state, compute.min_nodes, compute.max_nodes, tags.is_ours(compute.tags)) == (
        "Succeeded",
        0,
        1,
        True,
    )
    inventory = list_inventory(conn, with_files=False)
    plan = teardown.plan_teardown(conn, inventory, ["compute:second"])
    assert plan.actions[0].consequence == "No run uses it."
    with pytest.raises(BadInput, match=r"The name does not match\. Nothing was deleted\."):
        start_teardown(replace(plan, confirm="second"), "secnd")
    finish(start_teardown(plan))
    with pytest.raises(NotFound):
        get_compute(conn, "second")


def test_a_compute_the_workspace_refuses_says_why(conn: Connection, runner: Any) -> None:
    ended = finish(start_create_compute("local", "toobig", "Standard_NC96ads_A100_v4"), "failed")
    assert ended.error is not None
    assert "Standard_NC96ads_A100_v4" in ended.error.message + ended.error.detail
    with pytest.raises(BadInput, match="cannot be a compute's name"):
        start_create_compute("local", "1st", "local.cpu1")


def test_an_operation_of_an_unknown_workspace_fails_with_a_sentence(conn: Connection, runner: Any) -> None:
    ended = finish(start_cancel("gone-ws", "brave-otter"), "failed")
    assert ended.error is not None
    assert "'gone-ws'" in ended.error.message


def wait_for_checkpoint(conn: Connection, operation: Operation) -> Run:
    return wait_until(lambda: (run := overview.read_run(conn, operation.subject)).checkpoints and run)


def test_a_run_that_is_stopped_completes_with_its_best_once_however_often_that_is_asked(
    server: LocalServer, conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    operation = launch(conn, dataset, max_steps=5000)
    run = wait_for_checkpoint(conn, operation)
    assert (run.checkpoints[0].name, run.checkpoints[0].eval_loss) == ("checkpoint-2", 0.5)
    runner.stopping.set()  # the dashboard is killed right after the click
    wait_until(lambda: not runner.alive)
    wishes = [start_keep_best("local", run.name) for _ in range(2)]
    assert wishes[0].id == wishes[1].id
    history.write(conn, run.name, {tags.STOP_ASKED: wishes[0].user})
    server.kill()  # and the workspace, as soon as the wish has reached it
    server.start()
    start_runner()
    stopped = finish(wishes[0]).steps[-1].detail
    found = re.fullmatch(r"Stopped at step (\d+) of 5000 by (.+)\.", stopped)
    assert found, stopped
    assert found[2] == wishes[0].user
    run = jobs.get_run(conn, run.name)
    assert (run.state, run.stopped, run.deployable) == ("Completed", stopped, True)
    assert run.checkpoints[-1].step == int(found[1]), "the step at which it ended"
    assert finish(operation).steps[3].detail == "Completed"
    again = finish(start_keep_best("local", run.name))
    assert again.steps[0].detail == stopped, "asked of a run that ended so, it says how"


@pytest.mark.parametrize("first", ["cancel", "stop"])
def test_a_cancel_at_the_same_time_is_stronger_than_a_stop(
    conn: Connection, dataset: ChatDataset, runner: Any, first: str
) -> None:
    operation = launch(conn, dataset, max_steps=5000)
    wait_for_checkpoint(conn, operation)
    if first == "stop":
        history.write(conn, operation.subject, {tags.STOP_ASKED: "anna"})
        jobs.cancel_run(conn, operation.subject)  # while its trainer ends, or its model is converted
        wish = start_keep_best("local", operation.subject)
    else:
        jobs.cancel_run(conn, operation.subject)
        wish = start_keep_best("local", operation.subject)
    told = finish(wish).steps[0].detail, finish(wish).steps[1].detail
    assert set(told) & {"It is being cancelled.", "It is cancelled: that came first."}, told
    assert finish(operation, "cancelled").steps[3].state == "skipped"
    assert jobs.get_run(conn, operation.subject).state_word == "Cancelled"


def test_a_stop_that_comes_after_the_last_step_says_that_the_run_ended_by_itself(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    run = finish(launch(conn, dataset)).subject
    wish = finish(start_keep_best("local", run))
    assert wish.steps[0].detail == "It came to its own end first."
    assert jobs.get_run(conn, run).stopped == ""


def test_a_cancelled_run_is_resumed_from_its_last_checkpoint_by_a_run_that_says_so(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    operation = launch(conn, dataset, max_steps=5000)
    wait_for_checkpoint(conn, operation)
    finish(start_cancel("local", operation.subject))
    earlier = jobs.get_run(conn, operation.subject)
    resumed = start_continuation("local", earlier)
    assert start_continuation("local", earlier).id == resumed.id, "two clicks are one run"
    assert resumed.change.label == f"{earlier.title} resumed"
    wait_until(lambda: (at := overview.read_run(conn, resumed.subject).progress) and at.step > 3)
    run = jobs.get_run(conn, resumed.subject)
    assert run.tags[tags.CONTINUES] == f"{earlier.name}/checkpoint-2"
    first = jobs.read_metrics(conn, run.name).get("loss").first
    assert first
    assert first.step == 3
    assert run.progress
    assert run.progress.total_steps == 5000
    copy = copy_setup(run, "local")
    assert "resume_from_checkpoint" not in copy.parameters, "a copy begins at the beginning"
    finish(start_cancel("local", run.name))


def test_a_finished_run_gets_more_epochs_and_one_that_cannot_says_why(
    conn: Connection, dataset: ChatDataset, runner: Any
) -> None:
    earlier = jobs.get_run(conn, finish(launch(conn, dataset)).subject)
    more = start_continuation("local", earlier, 2)  # five steps are an epoch
    assert more.change.label == f"{earlier.title} +2"
    run = jobs.get_run(conn, finish(more).subject)
    points = jobs.read_metrics(conn, run.name).get("loss").points
    assert [point.step for point in points] == list(range(6, 16))
    assert run.parameters["max_steps"] == 15
    with pytest.raises(BadInput, match="it ended before its first evaluation"):
        start_continuation("local", replace(earlier, state=JobState.CANCELED, checkpoints=()))
    for checkpoint in (conn.home.runs / earlier.name).rglob("checkpoint-5"):
        shutil.rmtree(checkpoint)
    gone = finish(start_continuation("local", earlier, 3), "failed").error
    assert gone
    assert "where nothing is that a run can go on from" in gone.message + gone.detail
