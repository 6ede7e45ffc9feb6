from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.alerts.book import AlertBook
from core.alerts.delivery import deliver_all
from core.alerts.events import EVENTS, Alert
from core.alerts.settings import save_events
from core.catalog.prices import Price
from core.home import Home
from core.operations.cancel import Cancel
from core.operations.change import Change
from core.operations.deploy import Deploy
from core.operations.due_deletion import DueDeletion
from core.operations.idle import IdleDeletion, ScaleToZero
from core.operations.launch import Launch
from core.operations.ledger import Ledger
from core.operations.news import tell_cap, tell_group, tell_no_ends, tell_run, tell_soon
from core.operations.records import Failure, OperationState
from core.operations.teardown import Teardown
from core.runs.failures import RunError
from core.runs.states import JobState, Run
from core.teardown.caps import Cap, Capped
from core.teardown.costs import Cost
from core.teardown.due import Timed
from core.teardown.inventory import Inventory, Item

NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)
RUN = Run("otter-1", "brave-otter", JobState.COMPLETED, started_at=NOW - timedelta(minutes=12), ended_at=NOW)
GONE = {"gone": [{"kind": "endpoint", "name": "kettle-1"}]}
DONE, FAILED = OperationState.DONE, OperationState.FAILED


@pytest.mark.parametrize(
    ("change", "state", "facts", "said"),
    [
        (
            Launch("otter-1", title="brave-otter"),
            FAILED,
            {},
            "run_failed: brave-otter did not get to its end. No cores.",
        ),
        (Deploy("kettle-1"), DONE, {}, "deployment_live: kettle-1 is live."),
        (Deploy("kettle-1"), FAILED, {}, "deployment_failed: kettle-1 is not live. What was made of it bills until"),
        (DueDeletion("kettle-1"), DONE, GONE, "deleted: kettle-1 was deleted: its time was over."),
        (DueDeletion("kettle-1"), DONE, {}, ""),  # it stayed
        (IdleDeletion("kettle-1"), DONE, GONE, "idle_ended: kettle-1 was deleted: it was idle."),
        (ScaleToZero("gpu", chosen=True), DONE, {}, "idle_ended: gpu keeps no node any more: it was idle."),
        (ScaleToZero("gpu"), DONE, {}, ""),  # by a click
        (Teardown("kettle-1"), DONE, {}, ""),
        (Teardown("kettle-1"), FAILED, {}, "deletion_failed: kettle-1 was not deleted, so it may bill on. No cores."),
        (Cancel("otter-1"), DONE, {}, ""),
    ],
)
def test_the_end_of_an_operation_is_told_once(
    home: Home, change: Change, state: OperationState, facts: dict[str, object], said: str
) -> None:
    ledger = Ledger(home)
    fence = ledger.take_lease(1, "1", 60.0, holder_lives=False)
    assert fence
    error = Failure("No cores.") if state is FAILED else None
    ended = replace(ledger.start("local", change), state=state, error=error, facts=facts)
    for _ in range(2):  # once more, as where its writer did not hear that it was written
        ledger.save(ended, fence)
    save_events(**dict.fromkeys(EVENTS, True))
    deliver_all()
    told = [f"{each.alert.event}: {each.alert.text}" for each in AlertBook().list_entries()]
    assert len(told) == bool(said)
    assert all(each.startswith(said) for each in told)


@pytest.mark.parametrize(
    ("state", "here", "said"),
    [
        (JobState.COMPLETED, False, "run_completed: brave-otter completed after 12 min."),
        (JobState.FAILED, False, "run_failed: brave-otter failed after 12 min. Out of memory."),
        (JobState.CANCELED, False, "run_cancelled: brave-otter was cancelled after 12 min, and not from here."),
        (JobState.CANCELED, True, ""),
    ],
)
def test_a_run_is_told_of_by_how_it_ended(state: JobState, here: bool, said: str) -> None:
    error = RunError("Out of memory.") if state is JobState.FAILED else None
    assert words(tell_run("ml-dev", replace(RUN, state=state, error=error), cancelled_here=here)) == said


def words(alert: Alert | None) -> str:
    return f"{alert.event}: {alert.text}" if alert else ""


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (["completed", "failed", "completed"], "run_failed: fox-1, 3 runs: 2 completed, 1 failed."),
        (["completed", "completed"], "run_completed: fox-1, 2 runs: 2 completed."),
        (["completed", ""], ""),
        (["cancelled", "cancelled"], ""),
    ],
)
def test_a_group_of_runs_is_told_of_once_all_have_ended(ends: list[str], said: str) -> None:
    assert words(tell_group("ml-dev", "fox-1", ends)) == said


def test_the_runs_of_a_group_that_do_not_start_are_one_message(home: Home) -> None:
    ledger = Ledger(home)
    fence = ledger.take_lease(1, "1", 60.0, holder_lives=False)
    assert fence
    for place in (1, 2, 3):
        begun = ledger.start("local", Launch(f"fox-1-{place}", title=f"fox {place}", group="fox-1"))
        ledger.save(replace(begun, state=FAILED, error=Failure("No cores.")), fence)
    deliver_all()
    assert [each.alert.thing for each in AlertBook().list_entries()] == ["fox-1"]


@pytest.mark.parametrize(("minutes", "told"), [(61, False), (59, True), (-1, False)])
def test_what_is_deleted_within_the_hour_is_told_before(home: Home, minutes: int, told: bool) -> None:
    made = Timed("endpoint", "kettle-1", "/subscriptions/1/kettle-1", NOW, "", "Succeeded", NOW)
    due = {
        "tunedeck.delete_at": (NOW + timedelta(minutes=minutes)).isoformat(),
        "tunedeck.delete_at_of": made.mark,
    }
    found = words(tell_soon("ml-dev", replace(made, tags=due)))
    expected = "deleted_soon: The endpoint kettle-1 is deleted at 15:59 UTC unless its delete-at is moved."
    assert found == (expected if told else "")


def test_a_cap_is_told_once_for_each_amount() -> None:
    capped = Capped("endpoint", "kettle-1", Cap(3.0), cost=Cost({"USD": 3.2}))
    alert = tell_cap("ml-dev", capped)
    assert words(alert) == "cap_reached: kettle-1: Its cap of $3.00 is reached: it came to about $3.20."
    assert tell_cap("ml-dev", replace(capped, cost=Cost({"USD": 2.9}))) is None
    raised = tell_cap("ml-dev", replace(capped, cap=Cap(3.1)))
    assert alert is not None
    assert raised is not None
    assert alert.full_key != raised.full_key


def test_what_bills_for_an_hour_is_told_unless_something_ends_or_needs_it() -> None:
    hour = Price(3.67)
    long = Item("compute", "gpu", price=hour, per_hour=3.67, since=NOW - timedelta(hours=2), mine=True, nodes=1)
    items = {
        "gpu": long,
        "timed": replace(long, name="timed", delete_at=NOW + timedelta(hours=9)),
        "others": replace(long, name="others", mine=False),
        "fresh": replace(long, name="fresh", since=NOW - timedelta(minutes=9)),
        "busy": replace(long, name="busy"),
    }
    job = Item("run", "job-1", price=hour, per_hour=3.67, parent="compute:busy", mine=True, since=long.since)
    found = list(tell_no_ends("ml-dev", Inventory((*items.values(), job)), NOW))
    assert [each.thing for each in found] == ["gpu"]
    assert found[0].text.startswith("gpu bills ($3.67/h) and has no end. It came to ")
