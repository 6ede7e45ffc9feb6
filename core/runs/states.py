"""A run as it is shown: its states, stages and progress. `core.runs.jobs` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property

from core.azureml import tags
from core.recipe import Value
from core.runs.checkpoints import Checkpoint
from core.runs.failures import RunError

FINE_TUNE = "chat_completion_finetune"
QUEUED, EVALUATION = "queued", "evaluation"
# The component's own step names, in their order (chat_completion_pipeline 0.0.82).
STAGES: Mapping[str, str] = {
    "ft_nlp_common_validation": "Validation",
    "chat_completion_model_import": "Import",
    "chat_completion_datapreprocess": "Preprocess",
    FINE_TUNE: "Fine-tune",
    "ft_nlp_model_converter": "Converter",
}


class JobState(StrEnum):
    """A job's state in Azure's word, and the word for it that an operator reads."""

    NOT_STARTED = "NotStarted"
    QUEUED = "Queued"
    STARTING = "Starting"
    PROVISIONING = "Provisioning"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    NOT_RESPONDING = "NotResponding"
    CANCEL_REQUESTED = "CancelRequested"
    CANCELED = "Canceled"
    PAUSED = "Paused"
    UNKNOWN = "Unknown"

    @classmethod
    def _missing_(cls, _value: object) -> JobState:
        return cls.UNKNOWN

    @property
    def word(self) -> str:
        """The word that an operator reads."""
        return _WORDS[self]

    @property
    def finished(self) -> bool:
        """Whether the job has ended, well or not."""
        return self in _ENDED  # a list of thousands is asked this again and again

    @property
    def failed(self) -> bool:
        """Whether the job ended badly, and nobody asked for it."""
        return self in _FAILED

    @property
    def waits(self) -> bool:
        """Whether the job has no node yet, or one that is being made ready."""
        return self.word in ("Queued", "Preparing")


_FAILED = (JobState.FAILED, JobState.NOT_RESPONDING)
_ENDED = (JobState.COMPLETED, JobState.CANCELED, *_FAILED)
_WORDS = {state: state.value for state in JobState} | {
    JobState.NOT_STARTED: "Queued",
    JobState.STARTING: "Preparing",
    JobState.PROVISIONING: "Preparing",
    JobState.FINALIZING: "Finalising",
    JobState.NOT_RESPONDING: "Failed",
    JobState.CANCEL_REQUESTED: "Cancelling",
    JobState.CANCELED: "Cancelled",
    JobState.PAUSED: "Unknown",
}

# The words of a run that has not ended, the nearest to training first.
ACTIVE_WORDS = ("Running", "Finalising", "Preparing", "Cancelling", "Queued", "Unknown")
SETTLED_AFTER = timedelta(seconds=3)  # what a run measured last is readable within a second; clocks differ a little


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    """A step's own name, "queued" or "evaluation"."""
    title: str
    state: JobState | None = None
    """None before it has begun."""
    job: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    error: RunError | None = None
    missed: str = ""
    """Why it will not come, a sentence; "" where it came or may come."""
    note: str = ""
    """What is to be said while it goes on: why it waits, or that it takes longer than usual."""

    @property
    def state_word(self) -> str:
        """The word shown: "Waiting" before it has begun, "Skipped" where it will not come."""
        if self.state is None:
            return "Skipped" if self.missed else "Waiting"
        return self.state.word

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun."""
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds() if self.started else None

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state is not None and not self.state.finished


@dataclass(frozen=True)
class Progress:
    """How far a run is; None is what is not known yet."""

    step: int
    """Optimiser steps taken."""
    total_steps: int | None
    epoch: float | None
    fraction: float
    """0 to 1."""
    eta_s: float | None
    """Seconds left."""
    phase: str = ""
    """What the trainer does ("loading", "training", "evaluating", "saving"), where the workspace tells."""


@dataclass(frozen=True)
class Run:
    """One fine-tuning run, as its workspace tells it. Model, compute and data are those it was started with."""

    name: str
    """The job's name, the identity in links."""
    title: str
    """Two words, "brave-otter"."""
    state: JobState
    display_name: str = ""
    experiment: str = ""
    model: str = ""
    model_id: str = ""
    model_version: str = ""
    compute: str = ""
    dataset: str = ""
    gpus: int = 0
    """GPUs per node."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """All of them, component defaults included."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stages: tuple[Stage, ...] = ()
    """Empty in a list."""
    error: RunError | None = None
    progress: Progress | None = None
    kept: str = ""
    """The best checkpoint of a run that did not complete."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Those that are kept, oldest first; empty in a list, and on Azure."""
    stopped: str = ""
    """The sentence of a training that ended because somebody asked it to stop and keep the best."""
    recorded: bool = False
    """Whether only the ledger knows it: the workspace has not confirmed the job."""
    owner: str = ""
    """Who started it, as the service calls them."""
    note: str = ""
    archived: bool = False
    train_loss: float | None = None
    """The last train loss, in nats per token; None where it was not measured, or not read yet. So are the others."""
    eval_loss: float | None = None
    test_loss: float | None = None
    """Of the tuned model, where it was evaluated."""
    evaluated_s: float = 0.0
    """Seconds that its evaluation took, or takes until now; 0 where there is none, or it was not read yet."""

    @cached_property
    def labels(self) -> dict[str, str]:
        """The tags that persons gave it, "" for one without a value."""
        return {name: value for name, value in self.tags.items() if tags.is_a_persons(name)}

    @cached_property
    def label_words(self) -> tuple[str, ...]:
        """Its labels as persons write them: "baseline", "for=ana"."""
        return tuple(f"{name}={value}" if value else name for name, value in self.labels.items())

    @cached_property
    def searched(self) -> str:
        """What a search looks in, in lower case; kept, for ten thousand runs are searched at each letter."""
        told = (self.title, self.name, self.model, self.dataset, self.display_name, self.tags.get(tags.NOTE, ""))
        return "\n".join((*told, *self.label_words)).lower()

    @property
    def state_word(self) -> str:
        """The word shown for its state."""
        return self.state.word

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not; its evaluation may still go on."""
        return self.state.finished

    @property
    def deployable(self) -> bool:
        """Whether a model can be had of it: it completed, or a checkpoint was kept."""
        return self.completed or bool(self.kept)

    @property
    def settled(self) -> bool:
        """Whether it ended so long ago that all it measured is readable."""
        last_known = self.ended_at or self.started_at or self.created_at
        return self.finished and (last_known is None or datetime.now(UTC) - last_known > SETTLED_AFTER)

    @property
    def rank(self) -> int:
        """Its place in a list: 0 while it trains, then the active ones in the order of ACTIVE_WORDS, then the ended."""
        if self.finished:
            return len(ACTIVE_WORDS) + 1
        measures = self.progress is not None and self.progress.step > 0
        nearest = self.state is JobState.RUNNING and (self.trains or measures)
        return 0 if nearest else 1 + ACTIVE_WORDS.index(self.state_word)

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun, or where the end is not known."""
        if self.started_at is None or (self.finished and self.ended_at is None):
            return None
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()

    @property
    def whole_s(self) -> float | None:
        """How long it took with its evaluation, a job of its own that bills as well; None as `seconds`."""
        return None if self.seconds is None else self.seconds + self.evaluated_s

    @property
    def stage(self) -> Stage | None:
        """The stage that runs, else the one that failed, else the last that began."""
        begun = [stage for stage in self.stages if stage.state]
        running = [stage for stage in begun if stage.running]
        failed = [stage for stage in begun if stage.state and stage.state.failed]
        return next((stages[-1] for stages in (running, failed, begun) if stages), None)

    def find_stage(self, name: str) -> Stage | None:
        """Return a stage by its own name; None in a list, whose runs have none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def evaluation(self) -> Stage | None:
        """The stage that follows the run, as a job of its own."""
        return self.find_stage(EVALUATION)

    @property
    def moves(self) -> bool:
        """Whether anything of it can still change: the run, or the evaluation that follows it."""
        stage = self.evaluation
        comes = stage is not None and (stage.running or not (stage.state or stage.missed))
        return not self.finished or (self.completed and comes)

    @property
    def trains(self) -> bool:
        """Whether its fine-tuning runs now."""
        step = self.find_stage(FINE_TUNE)
        return step is not None and step.state is JobState.RUNNING

    @property
    def completed(self) -> bool:
        """Whether it has ended well."""
        return self.state is JobState.COMPLETED
