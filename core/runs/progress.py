"""Stages and progress of a run, from what its history and its measures say. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from core.azureml import tags
from core.runs.failures import RunError
from core.runs.history import RunRecord
from core.runs.metrics import RunMetrics
from core.runs.series import Series
from core.runs.states import EVALUATION, FINE_TUNE, QUEUED, STAGES, JobState, Progress, Run, Stage


def find_first_start(children: Sequence[RunRecord]) -> datetime | None:
    """Return when the first stage began."""
    return min((child.started_at for child in children if child.started_at), default=None)


def find_state(record: RunRecord, children: Sequence[RunRecord]) -> JobState:
    """Return a run's state. Azure calls a pipeline running while its first step still waits for a node."""
    waits = children and all(child.started_at is None and child.status.waits for child in children)
    if record.status is not JobState.RUNNING or not waits:
        return record.status
    prepares = any(child.status.word == "Preparing" for child in children)
    return JobState.PREPARING if prepares else JobState.QUEUED


def make_stages(run: Run, children: Sequence[RunRecord], evaluation: RunRecord | None) -> tuple[Stage, ...]:
    """Return Queued, the component's steps in their order, others the service has, and Evaluation."""
    begun = find_first_start(children) or run.started_at
    waiting = JobState.COMPLETED if begun else (run.state if run.finished else JobState.QUEUED)
    until = begun or (run.ended_at if run.finished else None)
    stages = [Stage(QUEUED, "Queued", waiting, run.name, run.created_at, until)]
    by_name = {child.component: child for child in children}  # a repeated step (a retry) shows its last try
    for name in [*STAGES, *(name for name in by_name if name not in STAGES)]:
        child = by_name.get(name)
        title = STAGES.get(name) or (child.display_name if child else name)
        stages.append(_make_stage(name, title, child))
    stages.append(_make_stage(EVALUATION, "Evaluation", evaluation))
    return tuple(replace(stage, missed=_explain_missing(run, stage)) for stage in stages)


def _explain_missing(run: Run, stage: Stage) -> str:
    """Return why a stage that has not begun will not come; "" while it may."""
    if stage.state:
        return ""
    if run.state in (JobState.CANCEL_REQUESTED, JobState.CANCELED):
        return "The run was cancelled before it."
    if run.finished and not run.completed:
        return "The run failed before it."
    if stage.name != EVALUATION:
        return "The run was completed without it." if run.completed else ""
    return "The data has no test rows." if run.inputs and not run.inputs.get("test_file_path") else ""


def _make_stage(name: str, title: str, record: RunRecord | None) -> Stage:
    if record is None or (record.status is JobState.NOT_STARTED and record.started_at is None):
        return Stage(name, title)
    error = RunError(record.error, stage=title) if record.error else None
    note = f"Azure says: {record.warning}" if record.warning and not record.status.finished else ""
    return Stage(name, title, record.status, record.run_id, record.started_at, record.ended_at, error, note=note)


def measure_progress(run: Run, measures: RunMetrics | None, children: Sequence[RunRecord] = ()) -> Progress:
    """Return how far the fine-tune step is, from the measures it logged: the same on Azure and on this machine.

    What it does before the first measure ("loading") only the local workspace tells, as a property of the step.
    """
    trainer = next((child for child in children if child.component == FINE_TUNE), None)
    phase = trainer.properties.get(tags.PHASE, "") if trainer and not run.finished else ""
    loss = measures.get("loss") if measures else Series("loss")
    last, epoch = loss.last, measures.get("epoch").last if measures else None
    total, epochs = _expected_steps(run), float(run.parameters.get("num_train_epochs", 1))
    if last is None:
        done = total or 0 if run.completed else 0
        return Progress(done, total, None, 1.0 if run.completed else 0.0, None, phase)
    step = last.step
    if epoch and epoch.value > 0 and int(run.parameters.get("max_steps", -1)) <= 0:
        if step and epoch.step == step:
            total = round(step * epochs / epoch.value)
        elif total and not step:  # logged by epochs: Azure's component counts no steps then
            step = round(total * epoch.value / epochs)
    fraction = 1.0 if run.completed else min(1.0, step / total) if total else 0.0
    return Progress(step, total, epoch.value if epoch else None, fraction, _time_left(run, loss, total), phase)


def _expected_steps(run: Run) -> int | None:
    """Return the steps a run will take, known before it has measured anything where Tunedeck started it."""
    steps = run.tags.get(tags.STEPS, "")
    return int(steps) if steps.isdigit() and int(steps) > 0 else None


def _time_left(run: Run, loss: Series, total: int | None) -> float | None:
    """Return seconds by the pace of the last points, so that loading the model does not count as training."""
    pace_s = loss.find_pace()
    if run.finished or not total or pace_s is None or loss.last is None:
        return None
    return max(0.0, (total - loss.last.step) * pace_s)
