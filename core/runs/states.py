"""A run as it is shown: its states, stages and progress. Knows no workspace; `core.runs.jobs` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from core.recipe import Value
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


@dataclass(frozen=True)
class State:
    """How one of Azure's job states is shown. role: gray, blue, green, red or orange."""

    word: str
    role: str
    icon: str
    finished: bool = False


STATES: Mapping[str, State] = {
    "NotStarted": State("Queued", "gray", "schedule"),
    "Queued": State("Queued", "gray", "schedule"),
    "Starting": State("Preparing", "gray", "hourglass_top"),
    "Provisioning": State("Preparing", "gray", "hourglass_top"),
    "Preparing": State("Preparing", "gray", "hourglass_top"),
    "Running": State("Running", "blue", "autorenew"),
    "Finalizing": State("Finalising", "blue", "pending"),
    "Completed": State("Completed", "green", "check_circle", finished=True),
    "Failed": State("Failed", "red", "error", finished=True),
    "NotResponding": State("Failed", "red", "error", finished=True),
    "CancelRequested": State("Cancelling", "gray", "do_not_disturb_on"),
    "Canceled": State("Cancelled", "gray", "do_not_disturb_on", finished=True),
    "Paused": State("Unknown", "orange", "help"),
    "Unknown": State("Unknown", "orange", "help"),
}

# The words of a run that has not ended, the nearest to training first.
ACTIVE_WORDS = ("Running", "Finalising", "Preparing", "Cancelling", "Queued", "Unknown")
SETTLED_AFTER = timedelta(seconds=3)  # what a run measured last is readable within a second; clocks differ a little


@dataclass(frozen=True)
class Stage:
    """One stage of a run. name: "queued", a step's own name, or "evaluation". state: Azure's word, "" = not begun.

    missed: why it will not come, a sentence; "" where it came or may come.
    """

    name: str
    title: str
    state: str = ""
    job: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    error: RunError | None = None
    missed: str = ""

    @property
    def state_word(self) -> str:
        """The word shown: "Waiting" before it has begun, "Skipped" where it will not come."""
        if not self.state:
            return "Skipped" if self.missed else "Waiting"
        return STATES.get(self.state, STATES["Unknown"]).word

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun."""
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds() if self.started else None

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return bool(self.state) and not STATES.get(self.state, STATES["Unknown"]).finished


@dataclass(frozen=True)
class Progress:
    """How far a run is: optimiser steps, epochs, seconds left (None while unknown).

    phase: what the trainer does ("loading", "training", "evaluating", "saving"), where the workspace tells.
    """

    step: int
    total_steps: int | None
    epoch: float | None
    fraction: float
    eta_s: float | None
    phase: str = ""


@dataclass(frozen=True)
class Run:
    """One fine-tuning run, as its workspace tells it.

    name: the job's name, the identity in links. title: two words, "brave-otter". model, dataset, compute: what it was
    started with. stages are empty in a list. gpus: GPUs per node. parameters: all of them, component defaults included.
    recorded: True while only the ledger knows it (the job has not been confirmed by the workspace).
    """

    name: str
    title: str
    state: str
    display_name: str = ""
    experiment: str = ""
    model: str = ""
    model_id: str = ""
    model_version: str = ""
    compute: str = ""
    dataset: str = ""
    gpus: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stages: tuple[Stage, ...] = ()
    error: RunError | None = None
    progress: Progress | None = None
    studio_url: str = ""
    recorded: bool = False
    note: str = ""

    @property
    def state_word(self) -> str:
        """The word shown for its state."""
        return STATES.get(self.state, STATES["Unknown"]).word

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not; its evaluation may still go on."""
        return STATES.get(self.state, STATES["Unknown"]).finished

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
        trains = any(stage.name == FINE_TUNE and stage.state == "Running" for stage in self.stages)
        measures = self.progress is not None and self.progress.step > 0
        return 0 if self.state == "Running" and (trains or measures) else 1 + ACTIVE_WORDS.index(self.state_word)

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun, or where the end is not known."""
        if self.started_at is None or (self.finished and self.ended_at is None):
            return None
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()

    @property
    def stage(self) -> Stage | None:
        """The stage that runs, else the one that failed, else the last that began."""
        begun = [stage for stage in self.stages if stage.state]
        running = [stage for stage in begun if stage.running]
        failed = [stage for stage in begun if stage.state == "Failed"]
        return next((stages[-1] for stages in (running, failed, begun) if stages), None)

    @property
    def completed(self) -> bool:
        """Whether it has ended well."""
        return self.state == "Completed"
