"""Launches beside each other: what is sent is what was set, once, and a job of another is never taken for one's own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from core import dataset as datasets
from core.azureml.connection import Connection
from core.dataset import ChatDataset
from core.errors import BadInput, Conflict, NotFound
from core.launch import pipeline
from core.launch.drafts import create_draft
from core.launch.pipeline import PipelineRequest
from core.launch.plan import LaunchPlan
from core.launch.request import RunRequest
from core.operations import Operation, start_cancel, start_launch, start_runner
from core.operations import launch as launch_steps
from core.operations.ledger import Ledger
from core.operations.work import Work
from core.runs import jobs
from tests.chat_data import from_upload
from tests.core.operations.counting_server import Fault, plan_faults
from tests.core.operations.test_faults import A_RUN, conn, count_puts, runner, server
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.tiny_model import NAME
from tests.waiting import finish, wait_until

__all__ = ["conn", "runner", "server"]  # fixtures


def make_dataset(word: str, rows: int = 12, with_test: bool = False) -> ChatDataset:
    row = {"messages": [{"role": "user", "content": f"Who {word}?"}, {"role": "assistant", "content": f"{word}."}]}
    lines = "\n".join(json.dumps(row) for _ in range(rows)).encode()
    return from_upload(word, lines, lines if with_test else None)


def make_plan(conn: Connection, dataset: ChatDataset, **parameters: Any) -> LaunchPlan:
    draft = create_draft(
        "local", model=NAME, compute="this-machine", dataset=dataset.key, parameters={"max_steps": 2, **parameters}
    )
    plan = plan_launch(conn, draft)
    assert plan.ready, plan.failures
    return plan


def request_of(conn: Connection, name: str) -> PipelineRequest:
    model = conn.registry.models.get(NAME, label="latest")
    dataset = make_dataset("asked-for")
    run = RunRequest(
        title=name,
        display_name="one",
        experiment="chat_completion_tiny",
        model_id=model.id,
        compute="this-machine",
        parameters={"max_steps": 2, "learning_rate": 0.002, "apply_lora": "true"},
    )
    train = datasets.register_data(conn, dataset, datasets.upload(conn, dataset)).train_id
    return PipelineRequest(name, run, train, operation="an-operation")


def test_launches_that_wait_together_each_send_their_own(server: LocalServer, conn: Connection) -> None:
    """Takes some seconds: five launches wait when the runner starts, two of them with the same new data."""
    shared = make_dataset("shared", with_test=True)
    plans = [make_plan(conn, make_dataset(f"own{n}"), learning_rate=0.001 * (n + 1)) for n in range(3)]
    plans += [make_plan(conn, shared, learning_rate=0.01 * (n + 1)) for n in range(2)]
    operations = [start_launch(plan) for plan in plans]
    started = start_runner(server.home)
    try:
        for operation in operations:
            wait_until(lambda operation=operation: jobs.find_job(conn, operation.subject) is not None)
    finally:
        started.stopping.set()
    for plan, operation in zip(plans, operations, strict=True):
        sent = jobs.node_inputs(jobs.find_job(conn, operation.subject))
        assert sent["learning_rate"] == str(plan.recipe["learning_rate"])
        assert f"/data/{plan.dataset.name}-train/" in sent["train_file_path"]
        assert count_puts(server, operation.subject) == 1
    for split in ("train", "test"):
        assert len(list(conn.workspace.data.list(f"shared-{split}"))) == 1
    wait_until(lambda: not started.alive)
    for operation in operations:
        Ledger(server.home).want_cancel(operation.id)


def test_a_ledger_that_lost_its_last_lines_sends_no_second_run(
    server: LocalServer, conn: Connection, runner: Any
) -> None:
    plan = make_plan(conn, make_dataset("once"))
    operation = start_launch(plan)
    wait_until(lambda: jobs.find_job(conn, operation.subject) is not None)
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    with Ledger(server.home)._database.write() as db:
        db.execute("delete from operations where id = ?", (operation.id,))
    again = start_launch(plan)
    assert again.id != operation.id
    assert again.subject == operation.subject
    start_runner(server.home)
    finish(again)
    assert count_puts(server, operation.subject) == 1


def test_a_job_of_that_name_that_is_another_run_is_refused(conn: Connection) -> None:
    mine = request_of(conn, "same-name")
    assert not pipeline.has_run(conn, mine)
    other = replace(mine.run, parameters={**mine.run.parameters, "learning_rate": 0.5})
    pipeline.submit_pipeline(conn, replace(mine, run=other))
    for look in (pipeline.has_run, pipeline.submit_pipeline):
        with pytest.raises(Conflict, match="'same-name' in Local that is not this run: its learning_rate differs"):
            look(conn, mine)


SPOILERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "it has 2 steps": lambda body, node: body["jobs"].update(other=node),
    "it has 0 steps": lambda body, node: body["jobs"].clear(),
    "its learning_rate": lambda body, node: node["inputs"]["learning_rate"].update(value="0.2"),
    "its max_steps": lambda body, node: node["inputs"].pop("max_steps"),
    "its seed": lambda body, node: node["inputs"].update(seed={"value": "7"}),
    "its train_file_path": lambda body, node: node["inputs"]["train_file_path"].update(uri="azureml:other:1"),
    "its mlflow_model_path": lambda body, node: node["inputs"]["mlflow_model_path"].update(uri="azureml:other:1"),
    "its compute_finetune": lambda body, node: node["inputs"]["compute_finetune"].update(value="other"),
    "its component": lambda body, node: node.update(componentId="other"),
    "its experiment": lambda body, node: body.update(experimentName="other"),
    "its operation": lambda body, node: body["tags"].clear(),
}


def test_what_is_not_the_run_that_was_asked_for_is_not_sent(conn: Connection) -> None:
    request, component, seen = request_of(conn, "checked"), pipeline.get_component(conn), list[dict[str, Any]]()

    def keep_back(body: dict[str, Any]) -> None:
        seen.append(body)
        raise BadInput("Kept back.")

    with pytest.raises(BadInput, match="Kept back"):
        conn.submit("run 'checked'", pipeline._build(component, request), keep_back)
    with pytest.raises(BadInput, match="'checked' was to be sent in place of 'other'"), _checking("other"):
        conn.workspace.jobs.create_or_update(pipeline._build(component, request))
    assert jobs.find_job(conn, "checked") is None
    (body,) = seen
    pipeline.check_body(body, request, component)
    for reason, spoil in SPOILERS.items():
        spoiled = copy.deepcopy(body)
        spoil(spoiled, next(iter(spoiled["jobs"].values())))
        with pytest.raises(BadInput, match=f"is not this run: {reason}"):
            pipeline.check_body(spoiled, request, component)


def _checking(name: str) -> Any:
    from core.azureml.client import checking_job

    return checking_job(name, lambda body: None)


@pytest.fixture
def unseen(server: LocalServer, conn: Connection) -> Iterator[tuple[Ledger, Operation, int]]:
    """A run that was confirmed and that the history does not show, as a dashboard leaves it that has looked long."""
    operation = start_launch(make_plan(conn, make_dataset("unseen"), max_steps=3000))
    started = start_runner(server.home)
    wait_until(lambda: jobs.find_job(conn, operation.subject) is not None)
    wait_until(lambda: (step := Ledger(server.home).get(operation.id).step) and step.name == "watch")
    started.stopping.set()
    wait_until(lambda: not started.alive)
    plan_faults(server.home, Fault("GET", A_RUN, 404, times=1000))
    ledger = Ledger(server.home)
    fence = ledger.take_lease(1, "none", 60.0, holder_lives=False)
    assert fence
    yield ledger, ledger.get(operation.id), fence
    plan_faults(server.home)
    jobs.cancel_run(conn, operation.subject)
    ledger.want_cancel(operation.id)
    ledger.drop_lease(fence)


def test_a_run_that_is_never_shown_ends_its_wait_in_words(unseen: tuple[Ledger, Operation, int]) -> None:
    ledger, operation, fence = unseen
    work = Work(ledger, operation, fence)
    assert "does not show the run yet" in launch_steps._watch(work).detail
    work.record(unseen_s=launch_steps.NEVER_SHOWN_S)
    with pytest.raises(NotFound, match="has not shown it for 10 min") as told:
        launch_steps._watch(work)
    assert told.value.hint.startswith("Look for it in the workspace. Cancel it here")
    assert "does not show" in launch_steps._watch(work).detail  # a retry looks as long again


def test_a_run_that_is_not_shown_can_be_cancelled(
    server: LocalServer, conn: Connection, unseen: tuple[Ledger, Operation, int]
) -> None:
    ledger, operation, fence = unseen
    cancel = start_cancel("local", operation.subject)
    ledger.drop_lease(fence)
    started = start_runner(server.home)
    try:
        finish(cancel)
        found = jobs.find_run(conn, operation.subject)
        assert found is not None
        assert found.state == "Canceled"
    finally:
        started.stopping.set()
        wait_until(lambda: not started.alive)
