"""A home that an earlier Tunedeck left in the middle of its work opens, reads as it was, and is carried on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from core.azureml import tags
from core.azureml.connection import Connection, connect
from core.azureml.settings import Settings, local_settings
from core.catalog.compute import list_computes
from core.home import Home
from core.launch.drafts import Draft, find_latest_draft, get_draft
from core.operations import (
    Operation,
    find_operation_for,
    get_operation,
    list_operations,
    list_receipts,
    retry_operation,
    start_runner,
)
from core.operations.ledger import Ledger
from core.overview import describe_reattachment
from core.runs.evaluation import read_evaluation
from core.runs.jobs import get_run
from core.runs.logs import read_log
from core.runs.metrics import read_metrics
from core.serving.endpoints import find_endpoint, get_endpoint
from core.serving.registered_models import list_registered_models
from core.serving.transcripts import find_transcript
from core.teardown.due import Verdict, list_timed
from core.teardown.receipts import Gone, Receipt
from pages.parts.serve.chat_state import Turn
from tests import home_story
from tests.core.operations.counting_server import FILE
from tests.fine_tuning_runs import training_of
from tests.home_fixture import read_home, read_told, restore_home, tell, tell_receipt, word
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.waiting import wait_until

KINDS = {"launch", "deploy", "create_compute", "cancel", "traffic", "delete_at", "teardown", "expire"}


@pytest.fixture
def kept_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = restore_home(tmp_path_factory.mktemp("kept"))
    monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
    return home


@dataclass
class CarriedOn:
    """The kept home once everything in it has ended. before: what was read in it, told as of the day it was kept."""

    home: Home
    conn: Connection
    before: dict[str, Any]

    def list_kept(self, kind: str, state: str) -> list[Operation]:
        """Return the operations that were in a state when the home was kept, oldest first, as they are now."""
        told = (each for each in self.before["operations"] if (each["kind"], each["state"]) == (kind, state))
        return [get_operation(each["id"]) for each in told]

    def count_puts(self) -> Counter[str]:
        """Return how often each job was sent since."""
        path = self.home.logs / FILE
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return Counter(json.loads(line)["job"] for line in lines)


@pytest.fixture(scope="module")
def carried_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CarriedOn]:
    """The real runner and a real local workspace on the kept home, until no operation goes on."""
    home = restore_home(tmp_path_factory.mktemp("kept"))
    server = LocalServer(home, home_story.QUOTA, module="tests.core.operations.counting_server")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as ends:
        patch.setenv("TUNEDECK_HOME", str(home.path))
        ends.callback(server.stop)
        runner = start_runner(server.start().home)
        ends.callback(wait_until, lambda: not runner.alive)
        ends.callback(runner.stopping.set)
        wait_until(lambda: find_operation_for("local", home_story.EXPIRING_COMPUTE, "expire"))
        wait_until(lambda: not list_operations(active=True), timeout_s=120.0)
        yield CarriedOn(home, connect(local_settings(), home=home), read_told())


def step_states(operation: Operation) -> list[str]:
    return [word(step.state) for step in operation.steps]


def test_a_kept_home_reads_as_the_code_that_wrote_it_read_it(kept_home: Home) -> None:
    told = read_told()
    del told["timers"]  # the resources themselves say so now
    told["workspaces"] = json.loads(json.dumps([asdict(Settings(**saved)) for saved in told["workspaces"]]))
    told["draft"] = asdict(Draft("", "")) | told["draft"]  # what a draft has had since then is empty
    told["receipts"] = [fill_receipt(receipt) for receipt in told["receipts"]]
    assert read_home(kept_home) == told


def fill_receipt(told: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt of then with what one has had since, which is empty."""
    receipt = Receipt("", "", "", (Gone("", "", "", "", ""),))
    new: dict[str, Any] = json.loads(json.dumps(tell_receipt(receipt)))
    (gone,) = new["removed"]
    return new | told | {"removed": [gone | each for each in told["removed"]]}


def test_a_kept_home_holds_every_kind_of_operation_ended_and_under_way(kept_home: Home) -> None:
    listed = [(told["kind"], told["state"]) for told in map(tell, list_operations())]
    assert {kind for kind, state in listed if state == "done"} == KINDS
    assert {state for _, state in listed} == {"done", "failed", "cancelled", "running", "recorded"}
    under_way = {kind for kind, state in listed if state in ("running", "recorded")}
    assert under_way == KINDS - {"expire"}  # that begins by itself: a timer is due


def test_a_chat_of_a_kept_home_is_drawn_with_its_timing_and_its_raw_exchange(kept_home: Home) -> None:
    found = find_transcript(home_story.TALK, "local")
    assert found is not None
    turns = [Turn.from_record(turn) for turn in found.turns]
    assert [turn.to_record() for turn in turns] == list(found.turns)
    (reply,) = turns[-1].replies
    assert reply.stats is not None
    assert reply.stats.tokens == home_story.WORDS
    assert reply.exchange is not None
    assert reply.exchange.status == 200
    assert [message["role"] for message in turns[-1].prompt] == ["system", "user", "assistant", "user"]


def test_a_failed_operation_of_a_kept_home_is_tried_again(kept_home: Home) -> None:
    failed = find_operation_for("local", "toobig", "create_compute")
    assert failed is not None
    again = tell(retry_operation(failed.id))
    assert (again["state"], again["error"]) == ("recorded", "")
    assert failed.id in [each.id for each, is_wanted in Ledger(kept_home).list_unfinished() if is_wanted]


def test_what_had_ended_stays_as_it_was(carried_on: CarriedOn) -> None:
    """The first test on the home that is carried on: a server, a runner, and all that was in the middle."""
    ended = [told for told in carried_on.before["operations"] if told["state"] in ("done", "failed", "cancelled")]
    assert [tell(get_operation(told["id"])) for told in ended] == ended


def test_a_run_that_was_training_goes_on_and_is_not_sent_again(carried_on: CarriedOn) -> None:
    launch, _ = carried_on.list_kept("launch", "running")
    assert step_states(launch) == ["done"] * 4 + ["skipped"] * 2
    run = get_run(carried_on.conn, launch.subject)
    assert (run.state, run.dataset, run.compute) == ("Completed", "bell", "this-machine")
    assert launch.title == f"Start {run.title}"
    loss = read_metrics(carried_on.conn, run.name).get("loss")
    assert describe_reattachment(launch, loss)
    assert list(loss.steps) == list(range(1, home_story.LAST_STEP + 1))
    events = (carried_on.home.runs / run.name / "executionlogs.txt").read_text(encoding="utf-8")
    assert events.count("It is started again and goes on from") == 1
    assert carried_on.count_puts()[launch.subject] == 0


def test_a_run_that_had_only_been_wanted_is_sent_once_as_it_was_wanted(carried_on: CarriedOn) -> None:
    (launch,) = carried_on.list_kept("launch", "recorded")
    run = get_run(carried_on.conn, launch.subject)
    draft = get_draft(run.tags[tags.DRAFT])
    assert (draft.launched, draft.parameters) == (launch.id, {"max_steps": 3})
    assert (run.state, run.model, run.compute, run.dataset) == ("Completed", draft.model, draft.compute, "bell")
    assert (launch.title, run.tags[tags.OPERATION]) == (f"Start {run.title}", launch.id)
    assert (run.parameters["max_steps"], run.tags[tags.DATASET_KEY]) == (3, draft.dataset)
    assert carried_on.count_puts() == {launch.subject: 1}


def test_a_run_whose_end_had_been_wanted_is_cancelled_unless_it_ended_sooner(carried_on: CarriedOn) -> None:
    """On a busy machine the few steps that it had left can be over before the wish reaches it."""
    (cancel,) = carried_on.list_kept("cancel", "recorded")
    _, launch = carried_on.list_kept("launch", "running")
    assert tell(cancel)["state"] == "done"
    assert launch.subject == cancel.subject
    ends = {"cancelled": "Canceled", "done": "Completed"}
    assert get_run(carried_on.conn, cancel.subject).state == ends[tell(launch)["state"]]


def test_a_deploy_in_the_middle_of_its_steps_goes_live(carried_on: CarriedOn) -> None:
    (deploy,) = carried_on.list_kept("deploy", "running")
    assert step_states(deploy) == ["done"] * 6
    endpoint = get_endpoint(carried_on.conn, home_story.LOADING)
    assert (endpoint.live, tags.is_ours(endpoint.tags), endpoint.delete_at) == (True, True, home_story.WITHOUT_END)
    assert tell(deploy)["steps"][-1].startswith("smoke: First question, done. Answered in")


def test_a_teardown_in_the_middle_of_its_steps_ends_with_everything_gone_and_a_receipt(carried_on: CarriedOn) -> None:
    (removal,) = carried_on.list_kept("teardown", "running")
    assert step_states(removal) == ["done"] * 3
    receipt = next(one for one in list_receipts("local") if one.operation == removal.id)
    assert [(gone.kind, gone.name) for gone in receipt.gone] == [
        ("endpoint", home_story.HALF_GONE), ("compute", home_story.HALF_GONE_COMPUTE),
    ]  # fmt: skip
    assert find_endpoint(carried_on.conn, home_story.HALF_GONE) is None
    assert home_story.HALF_GONE_COMPUTE not in names_of_computes(carried_on.conn)


def test_what_fell_due_meanwhile_is_deleted(carried_on: CarriedOn) -> None:
    expired = find_operation_for("local", home_story.EXPIRING_COMPUTE, "expire")
    assert expired is not None
    assert step_states(expired) == ["done"] * 3
    assert home_story.EXPIRING_COMPUTE not in names_of_computes(carried_on.conn)


def test_the_small_changes_that_had_been_wanted_are_made(carried_on: CarriedOn) -> None:
    compute = next(each for each in list_computes(carried_on.conn) if each.name == home_story.COMPUTE_TO_COME)
    assert (compute.max_nodes, compute.state) == (2, "Succeeded")
    endpoint = get_endpoint(carried_on.conn, home_story.LIVE)
    assert (endpoint.traffic, endpoint.delete_at, tags.is_ours(endpoint.tags)) == ({"demo": 0}, None, True)
    timed = [each for each in list_timed(carried_on.conn) if each.verdict is Verdict.LATER]
    assert sorted(each.name for each in timed) == sorted([home_story.COMPUTE_TO_COME, home_story.LOADING])


def test_a_set_up_that_was_being_put_together_can_be_started(carried_on: CarriedOn) -> None:
    draft = find_latest_draft("local")
    assert draft is not None
    assert draft.id == carried_on.before["draft"]["id"]
    plan = plan_launch(carried_on.conn, draft)
    assert (plan.ready, plan.model.name, plan.compute.name) == (True, home_story.NAME, "this-machine")
    assert (plan.dataset.name, plan.dataset.rows) == ("bell", 10)
    assert {**plan.recipe.values, **draft.parameters} == plan.recipe.values


def test_a_run_that_had_ended_is_shown_with_its_measures_its_log_and_its_evaluation(carried_on: CarriedOn) -> None:
    (launch,) = carried_on.list_kept("launch", "done")
    run = get_run(carried_on.conn, launch.subject)
    assert (run.state, run.tags[tags.ROWS], run.parameters["learning_rate"]) == ("Completed", "10", 0.02)
    assert len(read_metrics(carried_on.conn, run.name).get("tokens_per_second").values) == 4
    assert "tokens" in read_log(carried_on.conn, training_of(run)).text
    evaluation = read_evaluation(carried_on.conn, run.name)
    assert evaluation is not None
    assert evaluation.rows == 2
    models = {model.name: model.run for model in list_registered_models(carried_on.conn)}
    assert models == {f"{name}-model": run.name for name in (home_story.LIVE, home_story.LOADING, home_story.HALF_GONE)}


def names_of_computes(conn: Connection) -> set[str]:
    return {each.name for each in list_computes(conn)}
