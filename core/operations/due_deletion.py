"""Delete one endpoint or compute whose delete-at is over: look again whether it is, then as a teardown does.

What is in use is warned of first: a cluster lets its jobs end, an endpoint is kept an hour, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.catalog.compute import get_compute, scale_to_zero
from core.errors import TunedeckError
from core.operations.change import Done, Outcome, StepSpec, Stop, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.targets import Target
from core.operations.teardown import Teardown
from core.operations.work import Work
from core.runs.jobs import list_active_jobs
from core.serving.request_counts import read_requests
from core.teardown.due import Timed, Verdict, find_timed, write_delete_at

IN_USE = timedelta(minutes=15)  # an endpoint that answered so lately is not deleted without a warning
KEPT_FOR = timedelta(hours=1)
IN_USE_LOOK_S = 15.0
IN_USE_FACT = "in use"  # that it waits for jobs of others
MARK_FACT = "mark"  # whose time is over: what another made under its name since is not touched
AGAIN_S = 900.0  # between a deletion of what is due that failed, and the next


@dataclass(frozen=True)
class DueDeletion(Teardown, stored_as="expire"):
    """The deletion of one thing whose time is over."""

    words = "Delete {}, its time is over"
    retry_after_s = AGAIN_S
    strict: bool = False
    """Whether an endpoint goes although it answered a moment ago."""

    def check_wanted(self, work: Work[Any], target: Target) -> None:
        """Raise Stays where its delete-at was changed since it was read, or another stands under its name by now."""
        timed = find_timed(work.conn, target.kind, target.name)
        if timed is not None and timed.verdict is not Verdict.DUE:
            raise Stays(f"It stays: {timed.verdict}.")
        if timed is not None and timed.mark != work.facts.get(MARK_FACT, timed.mark):
            raise Stays("It is gone; what stands under its name was made since.")

    def _list_steps(self) -> tuple[StepSpec[Work[Teardown]], ...]:
        steps = super()._list_steps()
        deletions = (replace(step, run=partial(_stop_where_it_stays, step.run)) for step in steps)
        return StepSpec("check", "Read its delete-at", _check_due), *deletions


class Stays(TunedeckError):
    """What was due is not to be deleted any more."""


def start_due_deletion(ledger: Ledger, connection: str, timed: Timed, *, strict: bool = False) -> Operation:
    """Record the deletion of one thing whose time is over; the one that is under way where there is one."""
    target = Target(timed.kind, timed.name)
    return ledger.start(connection, DueDeletion(timed.name, (target,), strict=strict))


def _stop_where_it_stays(run: Callable[[Work[Any]], Outcome], work: Work[Any]) -> Outcome:
    try:
        return run(work)
    except Stays as stays:
        return Stop(stays.message)


def _check_due(work: Work[Any]) -> Outcome:
    """Hold the resource's own delete-at against its workspace's time, and see whether it is in use."""
    (target,) = work.change.items
    timed = find_timed(work.conn, target.kind, target.name)
    if timed is None:
        return Stop("It is gone already.")
    if timed.verdict is not Verdict.DUE or timed.delete_at is None:
        return Stop(f"It stays: {timed.verdict}.")
    due = Done(tags.format_time(timed.delete_at), {MARK_FACT: timed.mark})
    if target.kind == "compute":
        return _wait_for_jobs(work, target.name) or due
    if work.change.strict or timed.strict or timed.tags.get(tags.KEPT_SINCE):
        return due
    return _keep_an_hour(work.conn, timed) or due


def _keep_an_hour(conn: Connection, timed: Timed) -> Outcome | None:
    """Put the end of an endpoint off once where it answered a moment ago; None where it did not, or nobody knows."""
    try:
        last = read_requests(conn, timed.name).at
    except TunedeckError:
        return None
    if last is None or timed.now - last > IN_USE:
        return None
    until = timed.now + KEPT_FOR
    write_delete_at(conn, timed, until, **{tags.KEPT_SINCE: tags.format_time(timed.now)})
    return Stop(f"It answered at {last:%H:%M} UTC, so it is kept once, until {until:%H:%M} UTC.")


def _wait_for_jobs(work: Work[Any], name: str) -> Outcome | None:
    """Let the jobs on a cluster end, without a node that waits for more; None where there is none."""
    compute = get_compute(work.conn, name)
    waiting = [job.title for job in list_active_jobs(work.conn) if name.lower() in job.computes]
    if not waiting and not compute.busy_nodes:
        return None
    if compute.min_nodes:
        scale_to_zero(work.conn, compute)
    return Wait(
        f"Due, and in use: {', '.join(waiting) or f'{compute.busy_nodes} nodes at work'}",
        IN_USE_LOOK_S,
        {IN_USE_FACT: True},
    )
