"""Change when an endpoint or a compute deletes itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.azureml import tags
from core.azureml.polling import check_write, start_write
from core.catalog.compute import get_compute
from core.operations.change import Change, Done, Outcome, StepSpec, Thing, Wait, thing
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.serving.endpoints import ProvisioningState, begin_delete_at, get_endpoint


@dataclass(frozen=True)
class SetDeleteAt(Change, stored_as="delete_at"):
    """A new time to live."""

    words = "Change delete-at of {}"
    kind: str = "endpoint"
    """What the subject is: "endpoint" or "compute"."""
    delete_at: datetime | None = None
    """None: it stays."""

    @property
    def _key(self) -> str:
        return f"{self.kind}:{self.subject}:{self.tag}"

    @property
    def tag(self) -> str:
        """The time as its tag says it; "" for none."""
        return tags.format_time(self.delete_at) if self.delete_at else ""

    @property
    def writes(self) -> Thing:
        """The endpoint or compute."""
        return thing(self.kind, self.subject)

    def _list_steps(self) -> tuple[StepSpec[Work[SetDeleteAt]], ...]:
        return (StepSpec("tag", "Delete-at", _set_delete_at, patience_s=1800.0),)


def start_set_delete_at(connection: str, kind: str, name: str, delete_at: datetime | None) -> Operation:
    """Record a new time to live of an "endpoint" or "compute"; None means it stays."""
    return Ledger().start(connection, SetDeleteAt(name, kind, delete_at))


def _set_delete_at(work: Work[SetDeleteAt]) -> Outcome:
    """Write the time on the resource first, so that a Tunedeck elsewhere reads it; then set our own timer."""
    change, name = work.change, work.change.subject
    is_endpoint = change.kind == "endpoint"
    if error := check_write(work.conn, f"{change.kind} '{name}'"):
        raise error
    found = get_endpoint(work.conn, name) if is_endpoint else get_compute(work.conn, name)
    if found.tags.get(tags.DELETE_AT, "") != change.tag:
        if ProvisioningState(found.state).goes_on:
            return Wait("Waiting for another change", LOOK_S)
        if is_endpoint:
            begin_delete_at(work.conn, name, change.delete_at)
        else:
            _begin_compute_tag(work)
        return Wait("Changing the tag", LOOK_S)
    work.ledger.set_timer(work.operation.connection, change.kind, name, change.delete_at)
    return Done(change.tag or "It stays")


def _begin_compute_tag(work: Work[SetDeleteAt]) -> None:
    computes, name = work.conn.workspace.compute, work.change.subject
    compute = work.conn.call("read", f"compute '{name}'", lambda: computes.get(name))
    kept = {key: value for key, value in (compute.tags or {}).items() if key != tags.DELETE_AT}
    compute.tags = kept | tags.delete_at_tag(work.change.delete_at)
    start_write(work.conn, "change", f"compute '{name}'", computes.begin_create_or_update, compute)
