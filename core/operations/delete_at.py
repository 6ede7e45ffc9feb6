"""Change when an endpoint or a compute deletes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.azureml import tags
from core.azureml.polling import check_write
from core.errors import Conflict, NotFound
from core.operations.change import Change, Done, Outcome, StepSpec, Thing, Wait, thing
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.serving.endpoints import ProvisioningState
from core.teardown.due import Timed, delete_at_tags, find_timed, write_tags

WRITES_FACT = "writes of tags"
MOST_WRITES = 3  # two that set different tags at the same moment would go on for ever


@dataclass(frozen=True)
class SetDeleteAt(Change, stored_as="delete_at"):
    """A new time to live."""

    words = "Change delete-at of {}"
    kind: str = "endpoint"
    """What the subject is: "endpoint" or "compute"."""
    delete_at: datetime | None = None
    """None: it stays."""
    strict: bool = False
    """Whether it is deleted then also while it is in use."""

    @property
    def _key(self) -> str:
        return f"{self.kind}:{self.subject}:{self.tag}{':strict' if self.strict else ''}"

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


def start_set_delete_at(
    connection: str, kind: str, name: str, delete_at: datetime | None, *, strict: bool = False
) -> Operation:
    """Record a new time to live of an "endpoint" or "compute"; None means it stays."""
    return Ledger().start(connection, SetDeleteAt(name, kind, delete_at, strict))


def _set_delete_at(work: Work[SetDeleteAt]) -> Outcome:
    change = work.change

    def find(timed: Timed) -> dict[str, str]:
        strict = tags.STRICT if change.strict and change.delete_at else ""
        return {**delete_at_tags(timed, change.delete_at), tags.KEPT_SINCE: "", tags.DELETE_AT_STRICT: strict}

    return bind_tags(work, change.kind, find) or Done(change.tag or "It stays")


def bind_tags(work: Work[Any], kind: str, find: Callable[[Timed], Mapping[str, str]]) -> Outcome | None:
    """Write tags on what the operation is about; None once they stand there. find: the tags for it as it is now."""
    name = work.change.subject
    if error := check_write(work.conn, f"{kind} '{name}'"):
        raise error
    timed = find_timed(work.conn, kind, name)
    if timed is None:
        raise NotFound(f"There is no {kind} '{name}' any more.", "Nothing is left to be deleted.")
    wanted = find(timed)
    stands = all(timed.tags.get(key, "") == wanted[key] for key in wanted)
    if ProvisioningState(timed.state).goes_on and not stands:
        return Wait("Waiting for another change", LOOK_S)
    writes = int(work.facts.get(WRITES_FACT, 0))
    if writes == MOST_WRITES and not stands:
        work.record(**{WRITES_FACT: 0})  # a retry begins anew
        raise Conflict(
            f"The tags of {kind} '{name}' were changed elsewhere each time that Tunedeck wrote them.",
            "Somebody else sets them at the same time. Look what stands there now, then try again.",
        )
    return None if write_tags(work.conn, timed, wanted) else Wait("Writing its tags", LOOK_S, {WRITES_FACT: writes + 1})
