"""What stands before a run on a busy compute."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.runs.queue import Queue, find_queue
from core.runs.states import JobState, Progress, Run

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def make_run(title: str, state: JobState, minutes_ago: float, left_s: float | None = None, on: str = "gpu") -> Run:
    run = Run(title, title, state, compute=on, created_at=NOW - timedelta(minutes=minutes_ago))
    return run if left_s is None else replace(run, progress=Progress(5, 10, 0.5, 0.5, left_s))


RUNS = [
    make_run("wide-elk", JobState.QUEUED, 1),
    make_run("calm-heron", JobState.RUNNING, 5, left_s=61.0),
    make_run("old-crow", JobState.COMPLETED, 60),
    make_run("far-newt", JobState.RUNNING, 7, left_s=500.0, on="other"),
]


def test_the_runs_before_a_new_one_are_counted_with_what_is_left_of_them() -> None:
    queue = find_queue(RUNS, "gpu", lambda _run: 300.0, here=False)
    assert queue == Queue(("calm-heron", "wide-elk"), 361.0)
    assert queue.words == "2 runs before this one, about 6 min: calm-heron, wide-elk"


def test_a_queued_run_counts_only_what_came_before_it() -> None:
    queue = find_queue(RUNS, "gpu", lambda _run: 300.0, here=False, created=RUNS[0].created_at)
    assert queue.titles == ("calm-heron",)


def test_a_cluster_with_a_free_node_keeps_nobody_waiting() -> None:
    assert find_queue(RUNS, "gpu", lambda _run: None, nodes=3, here=False).words == ""


def test_this_machine_is_one_whatever_its_computes_are_called() -> None:
    assert len(find_queue(RUNS, "gpu", lambda _run: 300.0, here=True).titles) == 3


@pytest.mark.parametrize("count", [4, 40])
def test_many_are_counted_and_not_named_and_what_nobody_estimated_has_no_minutes(count: int) -> None:
    runs = [make_run(f"run-{number}", JobState.QUEUED, number + 1) for number in range(count)]
    assert find_queue(runs, "gpu", lambda _run: None, here=False).words == f"{count} runs before this one"


def test_a_cluster_that_may_have_no_node_has_a_queue_all_the_same() -> None:
    assert find_queue([], "gpu", lambda _run: None, nodes=0, here=False) == Queue()
