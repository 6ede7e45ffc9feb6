"""Runs: what became of the jobs that fine-tune, and their end."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.owners import read_made
from core.catalog.base_models import get_base_model
from core.errors import NotFound, TunedeckError
from core.recipe import from_job_inputs
from core.runs import history
from core.runs.checkpoints import parse_checkpoints
from core.runs.failures import explain, lesson_rate
from core.runs.history import RunRecord
from core.runs.logs import read_job_log
from core.runs.metrics import RunMetrics, read_metrics
from core.runs.progress import find_first_start, find_state, make_stages, measure_progress
from core.runs.states import FINE_TUNE, STAGES, JobState, Run
from core.runs.titles import new_title

T = TypeVar("T")

COMPONENT_NAME = "chat_completion_pipeline"
OUTPUT_NAME = "trained_model"
EXPERIMENT_PREFIX = "chat_completion_"


def find_job(conn: Connection, name: str) -> Any:
    """Return the workspace's job of this name (an SDK object), or None."""
    try:
        return conn.call("read", f"run '{name}'", conn.workspace.jobs.get, name)
    except NotFound:
        return None


def has_job(conn: Connection, name: str) -> bool:
    """Tell whether the workspace has a job of this name."""
    return find_job(conn, name) is not None


def list_runs(conn: Connection, limit: int = 50, looked_at: int = 300, *, times: bool = True) -> list[Run]:
    """Return the newest fine-tuning runs without stages and progress: `limit` that have ended, and the active ones
    among and above them. One or two requests, and with `times` one for each run that ended since the last call.

    looked_at: of how many pipelines at most, in a workspace in which others work too.
    """
    runs = conn.call("read", "runs", lambda: _list_pipelines(conn, limit, looked_at))
    return [_with_times(conn, run) for run in runs] if times else runs


@dataclass(frozen=True)
class ActiveJob:
    """A job of any kind that has not ended. computes: in lower case, where it or its steps run or wait."""

    name: str
    title: str
    computes: frozenset[str]
    owner: str
    tags: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)


def list_active_jobs(conn: Connection, looked_at: int = 1000) -> list[ActiveJob]:
    """Return what has not ended among the newest jobs, whoever started it. looked_at: of how many at most.

    The service lists no job by its state or compute, so all are read, a request for each page.
    """
    pages = conn.pages(f"{conn.workspace_path}/jobs?api-version=2024-10-01&listViewType=All", "jobs")
    jobs = itertools.islice((job for answer in pages for job in answer.json().get("value") or []), looked_at)
    return [_parse_active(job) for job in jobs if not JobState(str(_told(job).get("status"))).finished]


def _told(job: Mapping[str, Any]) -> Mapping[str, Any]:
    return job.get("properties") or {}


def _parse_active(job: Mapping[str, Any]) -> ActiveJob:
    told, name = _told(job), str(job.get("name"))
    tagged = {key: str(value or "") for key, value in (told.get("tags") or {}).items()}
    owner = str((job.get("systemData") or {}).get("createdBy") or "")
    title = tagged.get(tags.TITLE) or str(told.get("displayName") or name)
    return ActiveJob(name, title, frozenset(_name_computes(told)), owner, tagged)


def _status(job: Any) -> str:
    return str(getattr(job.status, "value", job.status))


def _list_pipelines(conn: Connection, limit: int, most: int) -> list[Run]:
    """Return fine-tuning pipelines; the service answers the newest first, so the first ones suffice.

    Where others start so many that ours are not among the newest, those that carry our tag are asked for.
    """
    runs: dict[str, Run] = {}
    ended = 0
    for asked in ({}, {"tag": tags.TITLE}):
        looked_at = 0
        for job in itertools.islice(conn.workspace.jobs.list(job_type="Pipeline", **asked), most):
            looked_at += 1
            if job is None or job.name in runs or not _is_fine_tuning(job):
                continue
            runs[job.name] = run = _parse_job(job)
            ended += run.finished
            if ended == limit:
                return list(runs.values())
        if looked_at < most:
            break
    return list(runs.values())


def list_active(conn: Connection, tag: str) -> list[Run]:
    """Return the runs under way that carry a tag, without stages and progress. One request."""
    return [run for run in _list_tagged(conn, tag) if not run.finished]


def list_tagged(conn: Connection, tag: str, value: str) -> list[Run]:
    """Return the newest runs with this value of a tag, without stages and progress. One request, and one for each run
    that ended since the last call.
    """
    return [_with_times(conn, run) for run in _list_tagged(conn, tag) if run.tags.get(tag) == value]


def _list_tagged(conn: Connection, tag: str) -> list[Run]:
    def ask() -> list[Run]:
        jobs = itertools.islice(conn.workspace.jobs.list(job_type="Pipeline", tag=tag), _MEMORY)
        return [_parse_job(job) for job in jobs if job is not None]

    return conn.call("read", "runs", ask)


def _name_computes(job: Mapping[str, Any]) -> set[str]:
    """Return, in lower case, what a job or its steps may mean by a compute: names, last parts of ids, values."""
    settings, inputs = job.get("settings") or {}, (job.get("inputs") or {}).values()
    told = [job.get("computeId"), *settings.values(), *(each.get("value") for each in inputs)]
    told += (job.get("tags") or {}).get(tags.COMPUTE, ""), (job.get("properties") or {}).get("_azureml.ClusterName")
    named = {str(each).rpartition("/")[2].lower() for each in told if each}
    return named.union(*map(_name_computes, (job.get("jobs") or {}).values()))


def _is_fine_tuning(job: Any) -> bool:
    named = (job.experiment_name or "").startswith(EXPERIMENT_PREFIX)
    return job.type == "pipeline" and (named or tags.TITLE in (job.tags or {}))


def find_run(conn: Connection, name: str) -> Run | None:
    """Return one run without stages, or None when the workspace has no such job. One request."""
    job = find_job(conn, name)
    return None if job is None else _with_times(conn, _parse_job(job))


def get_run(conn: Connection, name: str) -> Run:
    """Return one run with stages, progress and error; raises NotFound.

    The job is read once; then its history, its children and its evaluation tell what moves.
    """
    memory = _memory(conn)
    record = history.find_record(conn, name)
    if known := memory.finished.get(name):
        return _retold(known, record)
    definition = memory.definitions.get(name)
    if definition is None:
        found = find_run(conn, name)
        if found is None:
            raise NotFound(f"There is no run '{name}' in {conn.title}.", "Choose one of the workspace's runs.")
        definition = _keep(memory.definitions, name, found)
    if record is None:
        record = RunRecord(name, definition.state, created_at=definition.created_at)
    children = history.list_steps(conn, name)
    trainer = next((child for child in children if child.component == FINE_TUNE), None)
    evaluation = history.find_record(conn, evaluation_name(name)) if record.status is JobState.COMPLETED else None
    run = replace(
        _retold(definition, record),
        state=find_state(record, children),
        started_at=record.started_at or find_first_start(children),
        ended_at=record.ended_at,
        kept=record.properties.get(tags.KEPT, ""),
        checkpoints=parse_checkpoints(trainer.properties.get(tags.CHECKPOINTS, "")) if trainer else (),
        stopped=record.properties.get(tags.STOPPED, ""),
    )
    run = replace(run, stages=make_stages(run, children, evaluation))
    measures = read_metrics(conn, name, children) if trainer else None
    run = replace(run, progress=measure_progress(run, measures, children))
    if run.state.failed:
        run = _explain_failure(conn, run, record, children, measures)
    at_rest = run.settled and not any(stage.running for stage in run.stages)
    over = at_rest and (not run.completed or bool(run.stages[-1].state))
    return _keep(memory.finished, name, run) if over else run


def _retold(run: Run, record: RunRecord | None) -> Run:
    """Return a run with the tags it has now: whoever names it, even at its end, names it for all."""
    if record is None or not record.tags:
        return run
    told = record.tags
    return replace(run, tags=told, title=told.get(tags.TITLE) or run.title, archived=record.hidden)


def evaluation_name(run_name: str) -> str:
    """Return the name of the evaluation job of a run: one run, one evaluation."""
    return f"{run_name}-evaluation"


def cancel_run(conn: Connection, name: str) -> None:
    """Ask the workspace to end a run; returns once the workspace has taken the wish, not when the run has ended."""
    conn.call("cancel", f"run '{name}'", conn.workspace.jobs.begin_cancel, name)


# Reading ---------------------------------------------------------------------------------------------------------

_MEMORY = 500


class _Memory:
    """What does not change any more, per connection: a job's definition, and runs that have ended."""

    def __init__(self) -> None:
        self.definitions: dict[str, Run] = {}
        self.finished: dict[str, Run] = {}
        self.times: dict[str, tuple[datetime | None, datetime | None]] = {}


def _memory(conn: Connection) -> _Memory:
    return conn.remember("runs", _Memory, math.inf)


def _keep(memory: dict[str, T], key: str, value: T) -> T:
    if len(memory) >= _MEMORY:
        memory.pop(next(iter(memory)), None)
    memory[key] = value
    return value


def _with_times(conn: Connection, run: Run) -> Run:
    """Add start and end, which only the history service has; remembered once it knows the end."""
    memory = _memory(conn)
    times = memory.times.get(run.name, (None, None))
    if times[1] is None and run.finished and (record := history.find_record(conn, run.name)):
        times = (record.started_at, record.ended_at)
        if record.ended_at:
            _keep(memory.times, run.name, times)
    return replace(run, started_at=times[0], ended_at=times[1])


def _parse_job(job: Any) -> Run:
    told: Mapping[str, str] = job.tags or {}
    inputs = node_inputs(job)
    literals = {**tags.parse_recipe(told.get(tags.RECIPE)), **{k: v for k, v in inputs.items() if v}}
    model_id = told.get(tags.MODEL_ID) or inputs.get("mlflow_model_path", "")
    made = read_made(job)
    return Run(
        name=job.name,
        title=told.get(tags.TITLE) or new_title(job.name),
        state=JobState(_status(job)),
        display_name=job.display_name or job.name,
        experiment=job.experiment_name or "",
        model=told.get(tags.MODEL) or _model_name(model_id),
        model_id=model_id,
        model_version=told.get(tags.MODEL_VERSION) or _between(model_id, "/versions/", "/"),
        compute=told.get(tags.COMPUTE) or inputs.get("compute_finetune", ""),
        dataset=told.get(tags.DATASET, ""),
        gpus=int(told.get(tags.GPUS) or inputs.get("number_of_gpu_to_use_finetuning") or 0),
        parameters=from_job_inputs(literals),
        inputs=inputs,
        tags=told,
        created_at=made.at,
        owner=made.by,
        kept=(job.properties or {}).get(tags.KEPT, ""),
    )


def node_inputs(job: Any) -> dict[str, str]:
    """Return what the pipeline's one node was sent with, as text; a path or id where it is no literal."""
    found: dict[str, str] = {}
    for node in (getattr(job, "jobs", None) or {}).values():
        for name, value in dict(getattr(node, "inputs", None) or {}).items():
            data = getattr(value, "_data", value)
            text = getattr(data, "path", data)
            if text is not None:
                found[name] = str(text)
    return found


def _explain_failure(
    conn: Connection, run: Run, record: RunRecord, children: Sequence[RunRecord], measures: RunMetrics | None
) -> Run:
    failed = next((child for child in children if child.status.failed), None)
    tail = read_job_log(conn, failed.run_id, 0, 8192).text if failed else ""
    last = measures.get("loss").last if measures else None
    error = explain(
        (failed.error if failed else "") or record.error,
        tail,
        run.parameters,
        STAGES.get(failed.component, failed.display_name) if failed else "",
        last.step if last and failed and failed.component == FINE_TUNE else None,
        on_azure=conn.costs_money,
        usual_rate=lambda: _read_usual_rate(conn, run),
    )
    stages = tuple(
        replace(stage, error=error) if failed and stage.job == failed.run_id else stage for stage in run.stages
    )
    return replace(run, error=error, stages=stages)


def _read_usual_rate(conn: Connection, run: Run) -> float:
    """Return the learning rate that the model comes with, the lesson's where it has none or cannot be read."""
    with contextlib.suppress(TunedeckError, ValueError):
        defaults = get_base_model(conn, run.model, run.model_version or "latest").defaults
        return float(defaults.get("learning_rate", lesson_rate()))
    return lesson_rate()


def _model_name(model_id: str) -> str:
    """Return a base model's name as get_base_model takes it; those of the registry azureml go without its name."""
    registry, name = _between(model_id, "/registries/", "/"), _between(model_id, "/models/", "/")
    return f"{registry}/{name}" if registry not in ("", "azureml") else name


def _between(text: str, after: str, until: str) -> str:
    return text.split(after, 1)[1].split(until, 1)[0] if after in text else ""
