"""End what had nothing to do: by a click, or by itself where that was chosen for the resource.

An endpoint is deleted, a cluster keeps no node any more; in either case its state is read again right before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.catalog.compute import get_compute, scale_to_zero
from core.operations.change import Change, Done, Outcome, StepSpec, Stop, Thing, Wait, thing
from core.operations.delete_at import bind_tags
from core.operations.due_deletion import AGAIN_S
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.targets import Target
from core.operations.teardown import Teardown
from core.operations.work import LOOK_S, Work
from core.runs.jobs import list_active_jobs
from core.serving.endpoints import ProvisioningState
from core.teardown.due import find_timed
from core.teardown.idle import Idle, Use, choice_tags, find_chosen


@dataclass(frozen=True)
class SetIdle(Change, stored_as="set_idle"):
    """After how many idle hours something ends by itself."""

    words = "Change what happens to {} when idle"
    kind: str = "endpoint"
    """What the subject is: "endpoint" or "compute"."""
    hours: int = 0
    """0: nothing ends by itself."""

    @property
    def _key(self) -> str:
        return f"{self.kind}:{self.subject}:{self.hours}"

    @property
    def writes(self) -> Thing:
        """The endpoint or compute."""
        return thing(self.kind, self.subject)

    def _list_steps(self) -> tuple[StepSpec[Work[SetIdle]], ...]:
        return (StepSpec("tag", "When idle", _set_idle, patience_s=1800.0),)


@dataclass(frozen=True)
class ScaleToZero(Change, stored_as="scale_to_zero"):
    """No node that a cluster keeps without work."""

    words = "Set the minimum nodes of {} to zero"
    writes_a = "compute"
    retry_after_s = AGAIN_S
    chosen: bool = False
    """Whether it is done by itself, and only where that is chosen and the cluster is idle."""

    def _list_steps(self) -> tuple[StepSpec[Work[ScaleToZero]], ...]:
        return (
            *((StepSpec("check", "See that it is idle", _check_idle),) if self.chosen else ()),
            StepSpec("scale", "Minimum nodes", _scale, patience_s=1800.0),
        )


@dataclass(frozen=True)
class IdleDeletion(Teardown, stored_as="idle_deletion"):
    """The deletion of one endpoint that had no request for the hours that were chosen for it."""

    words = "Delete {}, it is idle"
    retry_after_s = AGAIN_S

    def _list_steps(self) -> tuple[StepSpec[Work[Teardown]], ...]:
        return StepSpec("check", "See that it is idle", _check_idle), *super()._list_steps()


def start_set_idle(connection: str, kind: str, name: str, hours: int) -> Operation:
    """Record after how many idle hours an "endpoint" or "compute" ends by itself; 0 for never."""
    return Ledger().start(connection, SetIdle(name, kind, hours))


def start_scale_to_zero(connection: str, name: str) -> Operation:
    """Record that a cluster is to keep no node that has nothing to do; jobs on it go on."""
    return Ledger().start(connection, ScaleToZero(name))


def start_chosen(ledger: Ledger, connection: str, idle: Idle) -> Operation | None:
    """Record the end that was chosen for what is idle; None for what is not, or where nothing was chosen."""
    timed = idle.timed
    if idle.use is not Use.IDLE or idle.choice.hours is None or timed.state == "Deleting":
        return None
    if timed.kind == "compute":
        return ledger.start(connection, ScaleToZero(timed.name, chosen=True))
    return ledger.start(connection, IdleDeletion(timed.name, (Target("endpoint", timed.name),)))


def _check_idle(work: Work[Any]) -> Outcome:
    """Read the choice and the use once more: what came in the meantime lets it stay."""
    kind = "compute" if isinstance(work.change, ScaleToZero) else "endpoint"
    timed = find_timed(work.conn, kind, work.change.subject)
    if timed is None:
        return Stop("It is gone already.")
    idle = find_chosen(work.conn, timed)
    if idle is None or idle.use is not Use.IDLE:
        return Stop(f"It stays: {idle.why if idle else 'it keeps nothing, or this is not chosen any more.'}")
    if kind == "compute" and any(timed.name.lower() in job.computes for job in list_active_jobs(work.conn)):
        return Stop("It stays: a job is on it.")
    return Done(idle.words)


def _scale(work: Work[ScaleToZero]) -> Outcome:
    compute = get_compute(work.conn, work.change.subject)
    if not compute.min_nodes:
        return Done("It keeps no node any more")
    if not ProvisioningState(compute.state).goes_on:
        scale_to_zero(work.conn, compute)
    return Wait("Changing the cluster", LOOK_S)


def _set_idle(work: Work[SetIdle]) -> Outcome:
    change = work.change
    said = f"After {change.hours} h" if change.hours else "Nothing ends by itself"
    return bind_tags(work, change.kind, lambda timed: choice_tags(timed, change.hours)) or Done(said)
