"""What a job is: the states of its runs, its steps, what they are given, and the document that it is stored as.

A job is one document: the root run and the runs of its steps lie in it together, so that every change of state is one
write. Its fields are those of `Job`, by name; fields that are missing in the document of an older home have their
defaults.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from core.local.records import Record
from core.local.store import Document, now_utc
from core.local.wire.errors import WireError

COMMAND_STEP = "command"
BINDING = re.compile(r"\$\{\{\s*([\w.]+)\s*\}\}")


class Status(StrEnum):
    """A state of a run, in the run history's words."""

    NOT_STARTED = "NotStarted"
    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def following(self) -> tuple[Status, ...]:
        """The states that may come next."""
        return _FOLLOWING.get(self, ())

    @property
    def finished(self) -> bool:
        """Whether nothing follows."""
        return not self.following

    @property
    def on_a_node(self) -> bool:
        """Whether a job in this state holds a node of its compute."""
        return self in (Status.PREPARING, Status.RUNNING, Status.FINALIZING, Status.CANCEL_REQUESTED)

    @property
    def mlflow(self) -> str:
        """MLflow's word for it."""
        return _MLFLOW_WORDS.get(self, "RUNNING")


_ENDS_EARLY = (Status.CANCEL_REQUESTED, Status.CANCELED, Status.FAILED)
_FOLLOWING = {
    Status.NOT_STARTED: (Status.QUEUED, Status.PREPARING, *_ENDS_EARLY),
    Status.QUEUED: (Status.PREPARING, *_ENDS_EARLY),
    Status.PREPARING: (Status.RUNNING, *_ENDS_EARLY),
    Status.RUNNING: (Status.QUEUED, Status.FINALIZING, *_ENDS_EARLY),
    Status.FINALIZING: (Status.COMPLETED, *_ENDS_EARLY),
    Status.CANCEL_REQUESTED: (Status.CANCELED,),
}
_MLFLOW_WORDS = {
    **dict.fromkeys((Status.NOT_STARTED, Status.QUEUED, Status.PREPARING), "SCHEDULED"),
    Status.COMPLETED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.CANCELED: "KILLED",
}
FROM_MLFLOW = {
    "RUNNING": Status.RUNNING,
    "SCHEDULED": Status.NOT_STARTED,
    "FINISHED": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "KILLED": Status.CANCELED,
}


class JobKind(StrEnum):
    """The types of job that run here."""

    PIPELINE = "pipeline"
    COMMAND = "command"


@dataclass(frozen=True)
class RunError:
    """Why a run failed: "UserError" or "SystemError", and a message that may go on with the last lines of a log."""

    code: str
    message: str


@dataclass(frozen=True)
class RunState:
    """What changes about a run."""

    display_name: str
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    status: Status = Status.NOT_STARTED
    hidden: bool = False
    started_at: str | None = None
    ended_at: str | None = None
    error: RunError | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.status.finished

    def with_property(self, name: str, value: str) -> RunState:
        """Return the state with one more property."""
        return replace(self, properties=self.properties | {name: value})

    def moved(self, to: Status, error: RunError | None = None) -> RunState:
        """Return the state after one step; raises ValueError for a step that the table does not have."""
        if to not in self.status.following:
            raise ValueError(f"a run does not go from {self.status} to {to}")
        return replace(
            self,
            status=to,
            started_at=now_utc() if to is Status.RUNNING else self.started_at,
            ended_at=now_utc() if to.finished else self.ended_at,
            error=error or self.error,
        )


@dataclass(frozen=True)
class Step:
    """One process of a job."""

    id: str
    """The id of its run; that of the job for the one step of a command."""
    name: str
    title: str
    program: str
    """The engine program that it runs, or COMMAND_STEP."""
    run: RunState
    attempt: int = 0
    stop_asked_at: str | None = None
    deaths: int = 0
    """How often it was ended from outside since its last new checkpoint."""
    died_after: str = ""
    """The newest checkpoint when that happened last."""

    def moved(self, to: Status) -> Step:
        """Return the step with its run one state further."""
        return replace(self, run=self.run.moved(to))


@dataclass(frozen=True)
class PipelinePlan:
    """What the steps of a fine-tuning pipeline are given."""

    model_dir: str
    base: dict[str, str]
    """Name and version of the base model."""
    files: dict[str, str | None]
    parameters: dict[str, str]
    cores: int
    gpus: int
    outputs: dict[str, str]
    """Which output of the component each output of the pipeline is."""
    continues: str = ""
    """The checkpoint of another run that it goes on from, as "run/checkpoint-40"."""
    notes: list[str] = field(default_factory=list)
    """Lines that the trainer's log begins with: what was asked and is not done."""


@dataclass(frozen=True)
class CommandPlan:
    """What a command is given."""

    command: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    variables: dict[str, str]
    cores: int
    gpus: int

    def render(self, outputs: Mapping[str, Path]) -> str:
        """Return the command with inputs and outputs filled in; raises WireError 400 for one that is not declared."""

        def fill(match: re.Match[str]) -> str:
            scope, _, name = match[1].partition(".")
            if scope == "inputs" and name in self.inputs:
                text = self.inputs[name]
            elif scope == "outputs" and name in outputs:
                text = str(outputs[name])
            else:
                message = f"command uses {match[0]}, which the job does not declare."
                raise WireError(400, "BadRequest", message)
            return text if re.fullmatch(r"[\w@%+=:,./\-]*", text) else shlex.quote(text)

        return BINDING.sub(fill, self.command)


@dataclass(frozen=True)
class Held:
    """The processors and GPUs that a job has. cpus: empty where any will do."""

    cpus: list[int]
    gpus: list[int]


def read_run_state(document: Document) -> RunState:
    """Read a stored state."""
    error = document.get("error")
    parsed = {"status": Status(document["status"]), "error": RunError(**error) if error else None}
    return RunState(**{**_known_fields(RunState, document), **parsed})


def _read_step(document: Document) -> Step:
    return Step(**{**_known_fields(Step, document), "run": read_run_state(document["run"])})


def _read_plan(document: Document) -> PipelinePlan | CommandPlan:
    if "command" in document:
        return CommandPlan(**_known_fields(CommandPlan, document))
    return PipelinePlan(**_known_fields(PipelinePlan, document))


def _known_fields(record: type, document: Document) -> Document:
    return {field.name: document[field.name] for field in fields(record) if field.name in document}


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """A job and how it goes."""

    KIND = "job"
    PARSERS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "kind": JobKind,
        "plan": _read_plan,
        "run": read_run_state,
        "steps": lambda steps: tuple(_read_step(step) for step in steps),
        "held": lambda held: Held(**held) if held else None,
    }

    kind: JobKind
    properties: Document
    """What was asked, as it is echoed."""
    experiment: str
    compute: str
    plan: PipelinePlan | CommandPlan
    run: RunState
    steps: tuple[Step, ...]
    cancel_asked_at: str | None = None
    held: Held | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has come to its end."""
        return self.run.finished

    @property
    def on_a_node(self) -> bool:
        """Whether the job holds a node; one that was cancelled while it waited never had one."""
        has_begun = self.run.status is not Status.CANCEL_REQUESTED or any(step.attempt for step in self.steps)
        return self.run.status.on_a_node and has_begun

    @property
    def children(self) -> tuple[Step, ...]:
        """The steps that are runs of their own: all of a pipeline, none of a command."""
        return tuple(step for step in self.steps if step.id != self.name)

    def step(self, name: str) -> Step:
        """Return a step by its name."""
        return next(step for step in self.steps if step.name == name)

    def with_step(self, changed: Step) -> Job:
        """Return the job with another state of one step."""
        return replace(self, steps=tuple(changed if step.name == changed.name else step for step in self.steps))

    def with_run(self, run_id: str, change: Callable[[RunState], RunState]) -> Job:
        """Return the job with another state of its root run, or of the run of a step."""
        if run_id == self.name:
            return replace(self, run=change(self.run))
        step = next(step for step in self.steps if step.id == run_id)
        return self.with_step(replace(step, run=change(step.run)))

    def moved(self, to: Status) -> Job:
        """Return the job one state further."""
        return replace(self, run=self.run.moved(to))

    def ended(self, status: Status, error: RunError | None = None) -> Job | None:
        """End the job and the step at work, None where it has ended; steps that were never reached stay NotStarted."""
        if self.finished:
            return None
        if self.run.status is Status.CANCEL_REQUESTED:
            status, error = Status.CANCELED, None
        steps = tuple(
            replace(step, run=step.run.moved(status, error)) if step.attempt and not step.run.finished else step
            for step in self.steps
        )
        return replace(self, steps=steps, run=self.run.moved(status, error))
