"""Bring a base model into the local workspace, or take one that was brought out of it again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.azureml.settings import LOCAL
from core.catalog import additions
from core.errors import BadInput, Conflict, TunedeckError
from core.operations.change import Change, Done, Outcome, StepSpec, Stop, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.pids import lives, start_time_of
from core.programs import start_detached
from core.runs.index import list_runs

_STARTS = 5  # of the program, where each ended without a word: killed, most likely for want of memory


@dataclass(frozen=True)
class AddModel(Change, stored_as="add_model"):
    """A base model to be fetched. `subject` is what it is called where it comes from."""

    words = "Add base model {}"
    cancellable = False  # its step ends the program, too

    source: str = ""
    """A path of this machine, or owner/name on the hub."""
    revision: str = ""

    @property
    def _key(self) -> str:
        return f"{self.source}@{self.revision}"

    def _list_steps(self) -> tuple[StepSpec[Work[AddModel]], ...]:
        return (StepSpec("fetch", "Fetch and check", _fetch),)


@dataclass(frozen=True)
class RemoveModel(Change, stored_as="remove_model"):
    """A base model that was added, to be deleted. `subject` is its name."""

    words = "Remove base model {}"
    version: str = ""

    @property
    def _key(self) -> str:
        return f"{self.subject}:{self.version}"

    def _list_steps(self) -> tuple[StepSpec[Work[RemoveModel]], ...]:
        return (StepSpec("remove", "Delete its files", _remove),)


def start_add_model(connection: str, title: str, source: str, revision: str = "") -> Operation:
    """Record a base model to be brought into the local workspace, as it was looked at."""
    _check_local(connection)
    return Ledger().start(connection, AddModel(title, source, revision))


def start_remove_model(connection: str, name: str, version: str) -> Operation:
    """Record the removal of a base model that was added."""
    _check_local(connection)
    return Ledger().start(connection, RemoveModel(name, version))


def _check_local(connection: str) -> None:
    if connection != LOCAL:
        raise BadInput("Base models are added to the local workspace alone.", "Choose the local workspace.")


def _fetch(work: Work[AddModel]) -> Outcome:
    """See to it that the program runs until it has said how it ended."""
    change, home = work.change, work.ledger.home
    folder = additions.work_folder(home, change.source, change.revision)
    state, pid = additions.read_state(folder), int(work.facts.get("pid") or 0)
    runs = bool(pid) and lives(pid, str(work.facts.get("start_time")))
    if work.operation.cancel_wanted:
        if runs:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        additions.drop(folder)
        return Stop("Cancelled; what was fetched is deleted.", cancelled=True)
    if name := state.get("name"):
        additions.drop(folder)
        facts = {"model": name, "version": state["version"], "share": 1.0}
        return Done(f"In the registry as {name}, version {state['version']}", facts)
    if runs:
        return Wait(state.get("said") or "Starting", LOOK_S, {"share": float(state.get("share") or 0.0)})
    if said := state.get("error"):
        additions.forget_error(folder)
        work.record(starts=0)
        raise additions.to_error(said)
    return _start(work, folder)


def _start(work: Work[AddModel], folder: Path) -> Outcome:
    starts, log = int(work.facts.get("starts") or 0), folder / "log"
    if starts >= _STARTS:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.is_file() else ""
        work.record(starts=0)
        raise TunedeckError(f"The fetch was ended {starts} times.", "Look what ends it, then try again.", tail)
    folder.mkdir(parents=True, exist_ok=True)
    command = additions.make_command(work.change.source, work.change.revision, folder)
    started = start_detached(command, work.ledger.home, log)
    facts = {"pid": started.pid, "start_time": start_time_of(started.pid), "starts": starts + 1}
    return Wait("Starting" if not starts else "It was ended, and goes on", LOOK_S, facts)


def _remove(work: Work[RemoveModel]) -> Outcome:
    name, version = work.change.subject, work.change.version
    users = [run for run in list_runs(work.conn) if (run.model, run.model_version) == (name, version)]
    if busy := [run for run in users if not run.state.finished]:
        raise Conflict(f"The run '{busy[0].title}' trains {name} now.", "Cancel it, or wait for its end.")
    additions.remove(work.conn, name, version)
    return Done("Deleted")
