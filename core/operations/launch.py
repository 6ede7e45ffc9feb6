"""The steps of a launch: send the data, start the run, watch it, evaluate it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from core import dataset as datasets
from core.azureml import tags
from core.errors import NotFound, TunedeckError
from core.launch.pipeline import PipelineRequest, has_run, submit_pipeline
from core.operations.work import Done, Outcome, Skip, StepSpec, Stop, Wait, Work
from core.runs import history
from core.runs.evaluation import submit_evaluation
from core.runs.jobs import STATES, Run, evaluation_name, find_job, get_run, has_job
from core.runs.metrics import read_metrics
from core.runs.throughput import add_speed

NEVER_SHOWN_S = 600.0  # how long a run is looked for that the workspace has confirmed and does not show
_WATCH_S = (1.5, 10.0)  # how often a run is looked at: at first, and once it has gone on for a while


def _send_data(work: Work) -> Outcome:
    dataset = _dataset(work)
    sent = datasets.upload(work.conn, dataset, lambda done, total: work.report(f"{done:,} of {total:,} bytes"))
    detail = f"{sent.bytes_sent:,} bytes sent" if sent.bytes_sent else "Was there already"
    return Done(detail, {"train_uri": sent.train_uri, "test_uri": sent.test_uri})


def _register_data(work: Work) -> Outcome:
    uploaded = datasets.UploadedData(work.facts["train_uri"], work.facts["test_uri"], 0)
    assets = datasets.register_data(work.conn, _dataset(work), uploaded)
    return Done(f"{assets.name} version {assets.version}", {"train_id": assets.train_id, "test_id": assets.test_id})


def _submit(work: Work) -> Outcome:
    job = work.operation.subject
    request = PipelineRequest(
        name=job,
        train=work.facts["train_id"],
        test=work.facts["test_id"] or "",
        tags={**work.arguments["tags"], tags.OPERATION: work.operation.id},
        **{
            name: work.arguments[name]
            for name in ("title", "display_name", "experiment", "model_id", "compute", "gpus", "parameters")
        },
    )
    waiting = work.send_once(
        "job", "the run", lambda: has_run(work.conn, request), lambda: submit_pipeline(work.conn, request)
    )
    return waiting or Done("Confirmed")


def _watch(work: Work) -> Outcome:
    job = work.operation.subject
    record = history.find_record(work.conn, job)
    if record is None:
        return _wait_until_shown(work, job, "run")
    state = record.status
    shown = STATES.get(state, STATES["Unknown"])
    if not shown.finished:
        return Wait(shown.word, _pause(work), {"unseen_s": 0.0})
    run = get_run(work.conn, job)
    _remember_speed(work, run)
    if run.completed:
        return Done(shown.word)
    return Stop(f"The run is {shown.word.lower()}; it is not evaluated.", cancelled=state == "Canceled")


def _evaluate(work: Work) -> Outcome:
    if not work.facts.get("test_id"):
        return Skip("The data has no test rows")
    run = get_run(work.conn, work.operation.subject)
    inputs = {**run.inputs, "test_file_path": str(work.facts["test_id"])}
    run = replace(run, inputs=inputs, model_id=work.arguments["model_id"], compute=work.arguments["compute"])
    name = evaluation_name(run.name)
    waiting = work.send_once(
        "evaluation", "the evaluation", lambda: has_job(work.conn, name), lambda: _send_evaluation(work, run)
    )
    return waiting or Done("Confirmed")


def _send_evaluation(work: Work, run: Run) -> None:
    submit_evaluation(work.conn, run)


def _watch_evaluation(work: Work) -> Outcome:
    if not work.facts.get("test_id"):
        return Skip()
    name = evaluation_name(work.operation.subject)
    record = history.find_record(work.conn, name)
    if record is None:
        return _wait_until_shown(work, name, "evaluation")
    shown = STATES.get(record.status, STATES["Unknown"])
    if not shown.finished:
        return Wait(shown.word, _pause(work), {"unseen_s": 0.0})
    if record.status == "Completed":
        return Done(shown.word)
    return Stop(f"The evaluation is {shown.word.lower()}; the model is not harmed.")


def _wait_until_shown(work: Work, job: str, what: str) -> Wait:
    """Wait for a job that was confirmed and that the workspace does not show; raises NotFound after NEVER_SHOWN_S,
    and sooner where it was deleted.
    """
    work.find_confirmed(f"{what} '{job}'", lambda: find_job(work.conn, job))
    unseen_s = float(work.facts.get("unseen_s", 0.0))
    if unseen_s >= NEVER_SHOWN_S:
        work.record(unseen_s=0.0)  # a retry looks as long again
        raise NotFound(
            f"The workspace confirmed the {what} '{job}', and has not shown it for {NEVER_SHOWN_S / 60:.0f} min.",
            "Look for it in the workspace. Cancel it here to give it up, or retry to look for it again.",
        )
    pause = _pause(work)
    return Wait(f"Confirmed; the workspace does not show the {what} yet", pause, {"unseen_s": unseen_s + pause})


STEPS = (
    StepSpec("upload", "Send the data", _send_data),
    StepSpec("register", "Register the data", _register_data),
    StepSpec("submit", "Start the run", _submit),
    StepSpec("watch", "Train", _watch),
    StepSpec("evaluate", "Start the evaluation", _evaluate),
    StepSpec("watch_evaluation", "Evaluate", _watch_evaluation),
)


def _dataset(work: Work) -> Any:
    dataset = datasets.find_dataset(work.arguments["dataset_key"])
    if dataset is None:
        raise NotFound(f"The data '{work.arguments['dataset']}' is no longer in this home.", "Choose the data again.")
    return dataset


def _pause(work: Work) -> float:
    step = work.operation.step
    return _WATCH_S[1] if step and (step.seconds or 0) > 900 else _WATCH_S[0]


def _remember_speed(work: Work, run: Run) -> None:
    """Keep the measured speed for the next estimate; a run without one says nothing."""
    try:
        values = [v for v in read_metrics(work.conn, run.name).get("tokens_per_second").values if math.isfinite(v)]
    except TunedeckError:
        return  # an estimate without this run is no reason to fail
    if values:
        middle = sorted(values)[len(values) // 2]
        add_speed(work.operation.connection, run.model, run.compute, middle, run.name)
