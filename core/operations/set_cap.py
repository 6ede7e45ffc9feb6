"""Change the caps of a workspace, or the cap of a run or an endpoint: tags, so that everybody sees the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.azureml import tags
from core.operations.change import Change, Done, Outcome, StepSpec, Thing, Wait, thing
from core.operations.delete_at import bind_tags
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.runs import history
from core.teardown.caps import Cap, parse_cap, write_limits


@dataclass(frozen=True)
class SetCap(Change, stored_as="cap"):
    """New caps. `subject` is the workspace, run or endpoint."""

    words = "Change the cap of {}"
    kind: str = "workspace"
    """What the subject is: "workspace", "run" or "endpoint"."""
    caps: Mapping[str, str] = field(default_factory=dict)
    """By the names of `tags`, "" for none."""
    ends: bool = False
    """Whether a run or an endpoint is ended when it is reached."""

    @property
    def _key(self) -> str:
        return f"{self.kind}:{self.subject}:{sorted(self.caps.items())}:{self.ends}"

    @property
    def writes(self) -> Thing | None:
        """The endpoint."""
        return thing(self.kind, self.subject) if self.kind == "endpoint" else None

    def _list_steps(self) -> tuple[StepSpec[Work[SetCap]], ...]:
        return (StepSpec("tag", "Cap", _set_cap, patience_s=1800.0),)


def start_set_limits(connection: str, workspace: str, hour: Cap | None, day: Cap | None) -> Operation:
    """Record new caps of a workspace, None for none."""
    caps = {tags.CAP_HOUR: hour.tag if hour else "", tags.CAP_DAY: day.tag if day else ""}
    return Ledger().start(connection, SetCap(workspace, "workspace", caps))


def start_set_cap(connection: str, kind: str, name: str, cap: Cap | None, *, ends: bool) -> Operation:
    """Record a new cap of a "run" or an "endpoint", None for none. ends: whether that ends it."""
    return Ledger().start(connection, SetCap(name, kind, {tags.CAP: cap.tag if cap else ""}, ends))


def _set_cap(work: Work[SetCap]) -> Outcome:
    change = work.change
    for cap in change.caps.values():
        parse_cap(cap)
    said = Done(", ".join(filter(None, change.caps.values())) or "None")
    if change.kind == "workspace":
        write_limits(work.conn, {**change.caps, tags.CAP_BY: work.conn.facts().user})
        return said
    cap = change.caps[tags.CAP]
    if change.kind == "endpoint":
        return bind_tags(work, "endpoint", lambda timed: tags.cap_tags(cap, timed.mark if change.ends else "")) or said
    wanted = tags.cap_tags(cap, change.subject if change.ends else "")
    record = history.find_record(work.conn, change.subject)
    if record and all(record.tags.get(name) == value for name, value in wanted.items()):
        return said
    history.write(work.conn, change.subject, wanted)
    return Wait("Writing it", LOOK_S)
