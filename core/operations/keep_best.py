"""End a training of this machine after the step that it takes: its best checkpoint becomes the model."""

from __future__ import annotations

from dataclasses import dataclass

from core.azureml import tags
from core.errors import BadInput, NotFound
from core.operations.change import Change, Done, Outcome, StepSpec, Stop, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.runs import history
from core.runs.states import JobState


@dataclass(frozen=True)
class KeepBest(Change, stored_as="keep-best"):
    """The early end of a run, with the best that it has. `subject` is the run."""

    words = "Stop {} and keep the best"
    cancellable = False

    def _list_steps(self) -> tuple[StepSpec[Work[KeepBest]], ...]:
        return (
            StepSpec("ask", "Ask the workspace", _ask, patience_s=1800.0),
            StepSpec("wait", "Until it has ended", _wait),
        )


def start_keep_best(connection: str, run: str) -> Operation:
    """Record the wish that a run end after the step that it takes, its best checkpoint being its model."""
    return Ledger().start(connection, KeepBest(run))


def _ask(work: Work[KeepBest]) -> Outcome:
    run = work.change.subject
    if not work.conn.cloud.is_local:
        raise BadInput("Azure's component cannot be asked to stop and keep the best.", "Cancel the run.")
    record = _read(work)
    if record.status.finished or record.status is JobState.CANCEL_REQUESTED:
        return _say_end(record) if record.status.finished else Stop("It is being cancelled.")
    if tags.STOP_ASKED not in record.tags:
        history.write(work.conn, run, {tags.STOP_ASKED: work.operation.user})
    return Done("Asked")


def _wait(work: Work[KeepBest]) -> Outcome:
    record = _read(work)
    return _say_end(record) if record.status.finished else Wait(record.status.word, LOOK_S)


def _read(work: Work[KeepBest]) -> history.RunRecord:
    record = history.find_record(work.conn, work.change.subject)
    if record is None:
        raise NotFound(f"There is no run '{work.change.subject}' any more.", "Nothing was stopped.")
    return record


def _say_end(record: history.RunRecord) -> Outcome:
    """Say what became of a run: another end may have come first."""
    if record.status is JobState.COMPLETED:
        stopped = record.properties.get(tags.STOPPED)
        return Done(stopped) if stopped else Stop("It came to its own end first.")
    return Stop(f"It is {record.status.word.lower()}: that came first.")
