"""Give a run another name and a note: tags, so that every Tunedeck and Azure ML studio see the same."""

from __future__ import annotations

from dataclasses import dataclass

from core.azureml import tags
from core.errors import NotFound
from core.operations.change import Change, Done, Outcome, StepSpec
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import Work
from core.runs import history
from core.runs.titles import check_note, check_title


@dataclass(frozen=True)
class Rename(Change, stored_as="rename"):
    """Another name and note of a run. `subject` is the run."""

    words = "Rename {}"
    title: str = ""
    note: str = ""

    @property
    def _key(self) -> str:
        return f"{self.subject}:{self.title}:{self.note}"

    def _list_steps(self) -> tuple[StepSpec[Work[Rename]], ...]:
        return (StepSpec("tag", "Name", _rename, patience_s=1800.0, alone=f"name of {self.subject}"),)


def start_rename(connection: str, run: str, title: str, note: str = "") -> Operation:
    """Record a run's new name and note, "" for none; raises BadInput for a name or a note that cannot be."""
    return Ledger().start(connection, Rename(run, check_title(title), check_note(note)))


def _rename(work: Work[Rename]) -> Outcome:
    """Write both, and say what they replaced: where two write at once, the last one stands."""
    change = work.change
    wanted = {tags.TITLE: change.title, tags.NOTE: change.note}
    before = history.find_record(work.conn, change.subject)
    if before is None:
        raise NotFound(f"There is no run '{change.subject}' any more.", "Nothing was renamed.")
    history.write_tags(work.conn, change.subject, wanted)
    old = before.tags.get(tags.TITLE, "")
    return Done(f"'{change.title}', before '{old}'" if old and old != change.title else f"'{change.title}'")
