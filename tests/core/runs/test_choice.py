"""Which runs of a list are shown, and what each changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.runs.choice import Filters, describe_change, find_before
from core.runs.states import JobState, Run

AT = datetime(2026, 11, 28, tzinfo=UTC)
OLD = Run("r1", "calm-heron", JobState.COMPLETED, model="m", dataset="d", created_at=AT, parameters={"epochs": 3})
NEW = Run(
    "r2",
    "brave-otter",
    JobState.RUNNING,
    model="m",
    dataset="e",
    created_at=AT + timedelta(hours=1),
    parameters={"epochs": 1},
    tags={"for": "ana", "baseline": "", "tunedeck.note": "Warmer Tone"},
)


def test_one_of_several_values_is_enough_and_every_filter_counts() -> None:
    for filters, names in (
        (Filters(), ["r2", "r1"]),
        (Filters(state=("Active", "Failed")), ["r2"]),
        (Filters(data=("d", "e")), ["r2", "r1"]),
        (Filters(data=("d",), state=("Active",)), []),
        (Filters(tag=("for=ana",)), ["r2"]),
        (Filters(tag=("baseline", "nothing")), ["r2"]),
        (Filters(q="warmer tone"), ["r2"]),
    ):
        assert [run.name for run in filters.choose([NEW, OLD])] == names, filters
    both = Filters(data=("d",), state=("Active",))
    assert both.active == ["state", "data"]
    assert both.without("state") == Filters(data=("d",))


def test_a_run_says_what_differs_from_the_one_made_before_it() -> None:
    before = find_before([NEW, OLD])
    assert describe_change(NEW, before["r2"]) == "data d → e, epochs 3 → 1"
    assert describe_change(OLD, before.get("r1")) == ""
    assert describe_change(OLD, OLD) == "nothing"
