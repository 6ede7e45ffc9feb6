"""End runs and endpoints that came to their caps, where that was chosen for them: a part of each sweep."""

from __future__ import annotations

from dataclasses import dataclass

from core.operations.cancel import Cancel
from core.operations.change import Done, Outcome, StepSpec, Stop
from core.operations.due_deletion import AGAIN_S
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.targets import Target
from core.operations.teardown import Teardown
from core.operations.work import Work
from core.runs.jobs import find_run, get_run
from core.teardown.caps import Capped, Reached, find_capped_endpoint, find_capped_run
from core.teardown.due import find_timed


@dataclass(frozen=True)
class EndpointAtCap(Teardown, stored_as="endpoint_at_cap"):
    """The deletion of an endpoint that came to its cap."""

    words = "Delete {}, its cap is reached"
    retry_after_s = AGAIN_S

    def _list_steps(self) -> tuple[StepSpec[Work[Teardown]], ...]:
        return StepSpec("check", "Read its cap", _check_endpoint), *super()._list_steps()


@dataclass(frozen=True)
class RunAtCap(Cancel, stored_as="run_at_cap"):
    """The end of a run that came to its cap."""

    words = "Cancel {}, its cap is reached"
    retry_after_s = AGAIN_S

    def _list_steps(self) -> tuple[StepSpec[Work[Cancel]], ...]:
        return StepSpec("check", "Read its cap", _check_run), *super()._list_steps()


def start_at_cap(ledger: Ledger, connection: str, capped: Capped) -> Operation | None:
    """Record the end of what came to its cap and is to end there; None for anything else."""
    if capped.reached is not Reached.ENDS:
        return None
    endpoint = EndpointAtCap(capped.name, (Target("endpoint", capped.name),))
    return ledger.start(connection, RunAtCap(capped.name) if capped.kind == "run" else endpoint)


def _check_endpoint(work: Work[Teardown]) -> Outcome:
    timed = find_timed(work.conn, "endpoint", work.change.subject)
    return _say(find_capped_endpoint(work.conn, timed) if timed else None)


def _check_run(work: Work[Cancel]) -> Outcome:
    run = find_run(work.conn, work.change.subject)
    return _say(find_capped_run(work.conn, get_run(work.conn, run.name)) if run else None)


def _say(capped: Capped | None) -> Outcome:
    """Go on only where the cap is reached by the tags as they are now: somebody may have raised it."""
    if capped is None:
        return Stop("It has no cap, or is gone.")
    return Done(capped.words) if capped.reached is Reached.ENDS else Stop(f"It stays. {capped.words}")
