from __future__ import annotations

import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from core.catalog.prices import Price
from core.home import Home
from core.launch.drafts import Draft
from core.operations import Deploy, Launch, Ledger, OperationState, StepState
from core.operations.due_deletion import DueDeletion
from core.operations.runner import Runner
from core.operations.teardown import Target, Teardown
from core.overview import (
    NextStep,
    describe_deletion,
    describe_reattachment,
    find_next_deletion,
    next_action,
    strip,
)
from core.runs.series import Point, Series
from core.runs.states import JobState, Progress, Run
from core.serving.endpoints import DeploymentView, EndpointView, check_endpoint_name, suggest_endpoint_name
from core.serving.registered_models import check_model_name
from core.teardown.inventory import Inventory, Item
from core.teardown.receipts import Gone

NOW = datetime(2026, 11, 22, 15, tzinfo=UTC)

RUN = Run("brave-otter-1", "brave-otter", JobState.COMPLETED)
UP = DeploymentView("demo", "phi4", "Succeeded", size="S", traffic=100)
LIVE = EndpointView("phi4", "Succeeded", deployments=(UP,), run="other", delete_at=NOW)
BILLS = Item("endpoint", "phi4", price=Price(3.67), per_hour=3.67)
NOTHING = Inventory()


@pytest.mark.usefixtures("home")
def test_the_next_action_is_the_first_true_line_of_the_list() -> None:
    failed = replace(RUN, name="f", title="calm-heron", state=JobState.FAILED)
    running = replace(RUN, name="r", state=JobState.RUNNING, progress=Progress(62, 100, 0.79, 0.62, 41.0))
    draft = Draft("k3f9", "local", model="SmolLM2", compute="this-machine")
    everything = ([failed, running, RUN], [LIVE])
    assert next_action(*everything, Inventory((BILLS,)), draft).sentence == "phi4 bills $3.67/h and has no end."
    assert next_action(*everything, NOTHING, draft).sentence == "calm-heron failed."
    watch = next_action(*everything, NOTHING, draft, seen=["f"])
    assert watch.sentence == "Watch brave-otter. Step 62 of 100, about 41 s left."
    assert watch.subject == "r"
    assert next_action([failed, RUN], [LIVE], NOTHING, draft, ["f"]).step is NextStep.DEPLOY
    assert next_action([RUN], [replace(LIVE, run=RUN.name)], NOTHING, draft).step is NextStep.CHAT
    assert next_action([], [], NOTHING, draft).step is NextStep.CHOOSE_DATA
    assert next_action([], [], NOTHING, replace(draft, launched="op")).step is NextStep.BEGIN


def test_what_has_a_delete_at_or_costs_nothing_is_no_next_action(home: Home) -> None:
    ends = Inventory((replace(BILLS, delete_at=NOW),))
    free = Inventory((replace(BILLS, price=Price(0.0), per_hour=0.0),))
    assert next_action([], [], ends, None).step is NextStep.BEGIN
    assert next_action([], [], free, None).step is NextStep.BEGIN


def test_a_price_that_is_not_known_is_never_shown_as_nothing() -> None:
    unknown = replace(BILLS, name="x", price=Price(None), per_hour=None)
    assert NOTHING.words == "$0.00/h"
    assert Inventory((BILLS,)).words == "$3.67/h"
    assert Inventory((unknown,)).words == "price unknown"
    assert Inventory((BILLS, unknown)).words == "$3.67/h + 1 unknown"


def test_the_strip_says_how_many_failed_and_whose_what_bills_is() -> None:
    broken = Item("deployment", "phi4/demo", state="Failed", price=Price(3.67), per_hour=3.67, owner="ben@contoso.com")
    view = strip([], [], Inventory((BILLS, broken)))
    assert view.billing_words == "$7.34/h, 1 failed"
    assert view.billing_help == "phi4/demo: $3.67/h, by ben@contoso.com\nphi4: $3.67/h, owner unknown"


def test_the_next_deletion_is_the_earliest() -> None:
    later = replace(BILLS, name="later", delete_at=NOW + timedelta(hours=9))
    soon = replace(BILLS, name="soon", delete_at=NOW + timedelta(hours=3))
    assert find_next_deletion(Inventory((later, soon, BILLS)), NOW) == ("soon", 10800.0)
    assert find_next_deletion(NOTHING) is None


@pytest.mark.parametrize(
    ("name", "fault", "instead"),
    [
        ("My Bot", "it has a space and a capital", "my-bot"),
        ("bot_1", "it has '_'", "bot-1"),
        ("ab", "it has 2 characters", "ab-ep"),
        ("9lives", "it begins with '9'", "m-9lives"),
        ("bot-", "it ends with '-'", "bot"),
        ("x" * 33, "it has 33 characters", "x" * 32),
        ("", "it has 0 characters", None),
    ],
)
def test_an_endpoint_name_is_refused_with_its_fault_and_a_better_one(
    name: str, fault: str, instead: str | None
) -> None:
    assert fault in (check_endpoint_name(name) or "")
    suggested = suggest_endpoint_name(name)
    assert check_endpoint_name(suggested) is None
    assert instead in (None, suggested)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "The model has no name."),
        ("My Bot", "'My Bot' cannot be a model's name: it has a space."),
        ("bot/2", "'bot/2' cannot be a model's name: it has '/'."),
        ("-bot", "'-bot' cannot be a model's name: it begins with '-'."),
        ("b" * 256, "The model's name has 256 characters, at most 255 are allowed."),
        ("SmolLM2-135M_v1.2", None),
    ],
)
def test_a_models_name_is_refused_with_its_fault(name: str, fault: str | None) -> None:
    assert check_model_name(name) == fault


def test_a_good_endpoint_name_has_no_fault() -> None:
    assert check_endpoint_name("phi4-support-3f2") is None


def test_an_endpoint_is_live_only_where_traffic_reaches_what_is_up() -> None:
    assert LIVE.state_word == "Live"
    assert replace(LIVE, deployments=(replace(UP, traffic=0),)).state_word == "No traffic"
    assert replace(LIVE, deployments=(replace(UP, state="Failed"),)).state_word == "Failed"
    assert replace(LIVE, deployments=()).state_word == "Empty"


def test_a_deleted_endpoint_is_told_with_who_and_when_where_the_ledger_knows(home: Home) -> None:
    ledger = Ledger(home)
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    gone = asdict(Gone("endpoint", "phi4", "", "delete", "2026-11-22T15:09:12+00:00"))
    assert describe_deletion("local", "phi4") == "Endpoint 'phi4' was deleted."
    operation = ledger.start("local", DueDeletion("phi4", (Target("endpoint", "phi4"),)))
    ledger.save(replace(operation, facts={"gone": [gone]}), fence)
    said = "Endpoint 'phi4' was deleted at 15:09 UTC because its time was over."
    assert describe_deletion("local", "phi4") == said
    operation = ledger.start("local", Teardown("2 resources", (Target("endpoint", "phi4"), Target("compute", "gpu-1"))))
    ledger.save(replace(operation, facts={"gone": [gone]}), fence)
    said = f"Endpoint 'phi4' was deleted at 15:09 UTC by {operation.user}."
    assert describe_deletion("local", "phi4") == said
    assert describe_deletion("ml-dev", "phi4") == "Endpoint 'phi4' was deleted."
    ledger.start("local", Deploy("phi4", run="r"))  # another of this name, after that
    assert describe_deletion("local", "phi4") == "Endpoint 'phi4' was deleted."


def test_a_restarted_dashboard_says_what_was_missed(home: Home) -> None:
    ledger = Ledger(home)
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    launch = ledger.start("local", Launch(RUN.name, title="brave-otter"))
    loss = Series("loss", tuple(Point(n, 2.0 - n / 10, int((NOW.timestamp() + n) * 1000)) for n in range(10)))
    assert describe_reattachment(launch, loss, NOW) == ""
    gap = {"since": (NOW + timedelta(seconds=3.5)).isoformat(), "at": (NOW + timedelta(seconds=7.5)).isoformat()}
    launch = ledger.save(replace(launch, facts={"reattached": gap}), fence)
    said = "Re-attached to brave-otter. You missed 4 s: loss 1.70 → 1.30."
    assert describe_reattachment(launch, loss, NOW) == said
    assert describe_reattachment(launch, Series("loss"), NOW) == "Re-attached to brave-otter. You missed 4 s."
    assert describe_reattachment(launch, loss, NOW + timedelta(hours=1)) == ""


def test_only_a_run_that_another_process_watched_is_taken_up(home: Home) -> None:
    ledger = Ledger(home)
    fence = ledger.take_lease(os.getpid(), 1.0, 60.0, holder_lives=False)
    assert fence
    begun = ledger.start("gone-ws", Launch(RUN.name, title="brave-otter"))
    runner = Runner(home)
    runner.advance(begun, fence)  # its workspace is not known, so the step fails: what counts is the note
    assert "reattached" not in ledger.get(begun.id).facts
    watched = ledger.start("gone-ws", Launch("calm-heron-1", title="calm-heron"))
    steps = tuple(replace(step, state=StepState.DONE) for step in watched.steps[:3])
    steps += (replace(watched.steps[3], state=StepState.RUNNING),)
    runner.advance(ledger.save(replace(watched, state=OperationState.RUNNING, steps=steps), fence), fence)
    assert set(ledger.get(watched.id).facts["reattached"]) == {"at", "since"}
