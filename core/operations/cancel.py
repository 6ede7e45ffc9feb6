"""Cancel a run, and its launch where that still goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.operations.change import Change, Done, Outcome, Skip, StepSpec, Stop, Wait
from core.operations.launch import find_launch, was_sent
from core.operations.ledger import Ledger
from core.operations.records import Operation, OperationState
from core.operations.work import LOOK_S, Work
from core.runs import history
from core.runs.jobs import cancel_run, find_run, has_job, no_run
from core.runs.states import JobState


@dataclass(frozen=True)
class Cancel(Change, stored_as="cancel"):
    """The end of a run. `subject` is the run."""

    words = "Cancel {}"
    cancellable = False

    def _list_steps(self) -> tuple[StepSpec[Work[Cancel]], ...]:
        return (
            StepSpec("hold", "Hold the launch back", _stop_launch, patience_s=1800.0),
            StepSpec("cancel", "Ask the workspace", _cancel, patience_s=1800.0),
            StepSpec("wait", "Until it has ended", _wait, patience_s=1800.0),
        )


def start_cancel(connection: str, run: str) -> Operation:
    """Record the wish to cancel a run."""
    return Ledger().start(connection, Cancel(run))


def start_cancel_all(connection: str, runs: Sequence[str]) -> list[Operation]:
    """Record the wish to cancel several runs."""
    return Ledger().start_all(connection, [Cancel(run) for run in runs])


def _stop_launch(work: Work[Cancel]) -> Outcome:
    """Keep a launch that has not sent its run from sending it."""
    launch = find_launch(work.ledger, work.operation.connection, work.change.subject)
    if launch is None:
        return Skip("Not started from here")
    if launch.finished or was_sent(launch):
        return Done()
    work.ledger.want_cancel(launch.id)
    return Wait("Holding the launch back", 0.3)


def _cancel(work: Work[Cancel]) -> Outcome:
    job = work.change.subject
    if not has_job(work.conn, job):
        return _end_launch(work, job)
    record = history.find_record(work.conn, job)
    if record and record.status.finished:
        return Done(f"It is {record.status.word.lower()} already")
    if not work.facts.get("asked"):
        cancel_run(work.conn, job)
    return Done("Asked", {"asked": True})


def _end_launch(work: Work[Cancel], job: str) -> Outcome:
    """End the launch of a run that the workspace does not have, or has not any more: nothing else is left to cancel."""
    launch = find_launch(work.ledger, work.operation.connection, job)
    if launch is None:
        raise no_run(work.conn, job)
    if launch.finished:
        sent = launch.state is not OperationState.CANCELLED
        return Stop("The workspace has no such run." if sent else "The run had not been sent.")
    work.ledger.want_cancel(launch.id)
    return Wait("The workspace has no such run; ending its launch", 0.3)


def _wait(work: Work[Cancel]) -> Outcome:
    job = work.change.subject
    record = history.find_record(work.conn, job)
    run = find_run(work.conn, job) if record is None else None  # then the job itself has to tell
    if record is None and run is None:
        return _end_launch(work, job)
    state = record.status if record else run.state if run else JobState.UNKNOWN
    return Done(state.word) if state.finished else Wait(f"Not yet confirmed: {state.word}", LOOK_S)
