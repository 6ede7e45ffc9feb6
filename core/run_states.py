"""A run as it is shown: its states, stages and progress. Knows no workspace; `core.jobs` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from core.failures import RunError
from core.recipe import Value

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


@dataclass(frozen=True)
class Stage:
    """One stage of a run. name: "queued", a step's own name, or "evaluation". state: Azure's word, "" = not begun."""

    name: str
    title: str
    state: str = ""
    job: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    error: RunError | None = None

    @property
    def state_word(self) -> str:
        """The word shown: "Waiting" before it has begun."""
        return STATES.get(self.state, STATES["Unknown"]).word if self.state else "Waiting"

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
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun, or where the end is not known."""
        if self.started_at is None or (self.finished and self.ended_at is None):
            return None
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()

    @property
    def stage(self) -> Stage | None:
        """The stage that runs, else the one that failed, else the last that began."""
        begun = [stage for stage in self.stages if stage.state]
        for wanted in (lambda one: one.running, lambda one: one.state == "Failed"):
            if found := [stage for stage in begun if wanted(stage)]:
                return found[-1]
        return begun[-1] if begun else None

    @property
    def completed(self) -> bool:
        """Whether it has ended well."""
        return self.state == "Completed"
