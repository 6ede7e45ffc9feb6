"""Name runs, note, tag and archive them, one or many: what every Tunedeck and Azure ML studio see the same.

What each had before is recorded before anything is sent, so that an undo is as sure as the change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.abreast import abreast
from core.errors import AccessDenied, BadInput, NotFound
from core.operations.change import Change, Done, Outcome, StepSpec, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import Work
from core.runs import history
from core.runs.history import RunRecord
from core.runs.index import note_change
from core.runs.titles import check_note, check_title

MOST_RUNS = 1000
_AT_ONCE = 40  # between two of them the ledger is told, and a cancel heard


@dataclass(frozen=True)
class Wish:
    """What one run is to have, or had. tags: None for one that is not there; archived: None where it stays as it is."""

    tags: Mapping[str, str | None] = field(default_factory=dict)
    archived: bool | None = None


@dataclass(frozen=True)
class Label(Change, stored_as="rename"):
    """Tags and archive of runs. `subject` is the first of them."""

    wishes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By run, the fields of its Wish."""

    @property
    def label(self) -> str:
        """The run, or how many they are."""
        return self.subject if len(self.wishes) == 1 else f"{len(self.wishes)} runs"

    @property
    def description(self) -> str:
        """What it does, in words: "Archive 3 runs"."""
        wish = Wish(**self.wishes.get(self.subject, {}))
        if wish.archived is not None:
            return f"{'Archive' if wish.archived else 'Bring back'} {self.label}"
        return f"{'Rename' if tags.TITLE in wish.tags else 'Tag'} {self.label}"

    @property
    def _key(self) -> str:
        return hashlib.sha256(json.dumps(self.wishes, sort_keys=True).encode()).hexdigest()

    def _list_steps(self) -> tuple[StepSpec[Work[Label]], ...]:
        return (StepSpec("tag", "Write it", _write, patience_s=1800.0, alone="labels of runs"),)


def start_labels(
    connection: str,
    runs: Collection[str],
    *,
    add: Mapping[str, str] | None = None,
    without: Iterable[str] = (),
    archived: bool | None = None,
) -> Operation:
    """Record tags that runs get or lose, and whether they are archived; raises BadInput for tags that cannot be.

    Its `facts["labelled"]` say of each run why it was not done, "" where it was. `start_undo` is the way back.
    """
    for name, value in {**(add or {}), **dict.fromkeys(without, "")}.items():
        tags.check_tag(name, value)
        if not tags.is_a_persons(name):
            raise BadInput(f"The tag '{name}' belongs to a program.", "Take another name.")
    return _start(connection, dict.fromkeys(runs, Wish({**dict.fromkeys(without), **(add or {})}, archived)))


def start_rename(connection: str, run: str, title: str, note: str = "") -> Operation:
    """Record a run's new name and note, "" for none; raises BadInput for a name or a note that cannot be."""
    return _start(connection, {run: Wish({tags.TITLE: check_title(title), tags.NOTE: check_note(note)})})


def start_undo(operation_id: str) -> Operation:
    """Record the reverse of labels that were written: each run gets what it had before."""
    operation = Ledger().get(operation_id)
    before, labelled = operation.facts.get("before", {}), operation.facts.get("labelled", {})
    return _start(operation.connection, {run: Wish(**before[run]) for run, why in labelled.items() if not why})


def _start(connection: str, wishes: Mapping[str, Wish]) -> Operation:
    if not 0 < len(wishes) <= MOST_RUNS:
        raise BadInput(f"{len(wishes)} runs are chosen.", f"Choose one to {MOST_RUNS}.")
    stored = {run: asdict(wish) for run, wish in wishes.items()}
    return Ledger().start(connection, Label(next(iter(stored)), stored))


def _write(work: Work[Label]) -> Outcome:
    """Write some of them: where two write one tag at once, the last one stands and says what it replaced."""
    before, labelled = dict(work.facts.get("before", {})), dict(work.facts.get("labelled", {}))
    wishes = {run: Wish(**wish) for run, wish in work.change.wishes.items()}
    chunk = [run for run in wishes if run not in labelled][:_AT_ONCE]
    unread = [run for run in chunk if run not in before]
    if unread:
        read = (partial(_read, work, run, wishes[run]) for run in unread)
        before |= dict(zip(unread, abreast(work.conn, read), strict=True))
        work.record(before=before)
    write = (partial(_write_one, work, run, wishes[run]) for run in chunk if before[run])
    labelled |= dict.fromkeys(chunk, "It is gone.")
    for run, said in abreast(work.conn, write):
        labelled[run] = said if isinstance(said, str) else ""
        if isinstance(said, RunRecord):
            note_change(work.conn, said)
    if len(labelled) < len(wishes):
        return Wait(f"{len(labelled)} of {len(wishes)} runs", 0.0, {"labelled": labelled})
    failed = {run: why for run, why in labelled.items() if why}
    if len(failed) == len(wishes):
        run, why = next(iter(failed.items()))
        work.record(before={}, labelled={})  # a retry tries them all
        if why == "It is gone.":
            raise NotFound(f"There is no run '{run}' any more.", "Nothing was changed.")
        raise AccessDenied(f"{work.change.label} could not be changed: {why}", "Ask for a role that may write runs.")
    if not failed:
        return Done(_say(before, wishes), {"labelled": labelled})
    first = "; ".join(f"{run}: {why}" for run, why in list(failed.items())[:5])
    return Done(f"{len(wishes) - len(failed)} of {len(wishes)} runs. {first}", {"labelled": labelled})


def _read(work: Work[Label], run: str, wish: Wish) -> dict[str, Any]:
    """Return the Wish that would undo this one, {} where the run is gone."""
    record = history.find_record(work.conn, run)
    if record is None:
        return {}
    archived = None if wish.archived is None else record.hidden
    return asdict(Wish({name: record.tags.get(name) for name in wish.tags}, archived))


def _write_one(work: Work[Label], run: str, wish: Wish) -> tuple[str, RunRecord | str]:
    """Return how the run is then, or why it was not changed."""
    given = {name: value for name, value in wish.tags.items() if value is not None}
    lost = [name for name, value in wish.tags.items() if value is None]
    said: RunRecord | str = ""
    try:
        if given or wish.archived is not None:
            said = history.write(work.conn, run, given, wish.archived)
        if lost:
            said = history.remove_tags(work.conn, run, lost)
    except NotFound:
        return run, "It is gone."
    except AccessDenied as error:
        return run, error.message
    return run, said


def _say(before: Mapping[str, Mapping[str, Any]], wishes: Mapping[str, Wish]) -> str:
    (run, wish), *more = wishes.items()
    if more or tags.TITLE not in wish.tags:
        return f"{len(wishes)} run{'s' if more else ''}"
    title, old = wish.tags[tags.TITLE], before[run]["tags"][tags.TITLE]
    return f"'{title}', before '{old}'" if old and old != title else f"'{title}'"
