"""Runs: what became of the jobs that fine-tune, and their end."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from core.azureml import tags
from core.azureml.connection import Connection
from core.catalog.base_models import get_base_model
from core.errors import NotFound, TunedeckError
from core.recipe import from_job_inputs
from core.runs import history
from core.runs.checkpoints import parse_checkpoints
from core.runs.failures import explain, lesson_rate
from core.runs.history import RunRecord
from core.runs.logs import read_log
from core.runs.metrics import RunMetrics, read_metrics
from core.runs.progress import find_first_start, find_state, make_stages, measure_progress
from core.runs.states import FINE_TUNE, STAGES, JobState, Run
from core.runs.titles import new_title

T = TypeVar("T")

COMPONENT_NAME = "chat_completion_pipeline"
OUTPUT_NAME = "trained_model"
EXPERIMENT_PREFIX = "chat_completion_"
_API = "2024-10-01"


def find_job(conn: Connection, name: str) -> Any:
    """Return the workspace's job of this name (an SDK object), or None."""
    try:
        return conn.call("read", f"run '{name}'", conn.workspace.jobs.get, name)
    except NotFound:
        return None


def has_job(conn: Connection, name: str) -> bool:
    """Tell whether the workspace has a job of this name."""
    return find_job(conn, name) is not None


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
    pages = conn.pages(jobs_url(conn, listViewType="All"), "jobs")
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


def list_active(conn: Connection, tag: str) -> list[Run]:
    """Return the runs under way that carry a tag, without stages and progress. One request for each page."""
    return [run for run in list_tagged(conn, tag) if not run.finished]


def list_tagged(conn: Connection, tag: str) -> list[Run]:
    """Return the newest runs that carry a tag, without times, stages and progress. One request for each page."""
    pages = conn.pages(jobs_url(conn, jobType="Pipeline", tag=tag), "runs")
    runs = (to_run(read_job(job)) for answer in pages for job in answer.json().get("value") or [])
    return list(itertools.islice(runs, _MEMORY))


def jobs_url(conn: Connection, **asked: str) -> str:
    """Return where the workspace's jobs are listed, the newest first. asked: of the list, as `tag`."""
    return f"{conn.workspace_path}/jobs?{urlencode({'api-version': _API, **asked})}"


def _name_computes(job: Mapping[str, Any]) -> set[str]:
    """Return, in lower case, what a job or its steps may mean by a compute: names, last parts of ids, values."""
    settings, inputs = job.get("settings") or {}, (job.get("inputs") or {}).values()
    told = [job.get("computeId"), *settings.values(), *(each.get("value") for each in inputs)]
    told += (job.get("tags") or {}).get(tags.COMPUTE, ""), (job.get("properties") or {}).get("_azureml.ClusterName")
    named = {str(each).rpartition("/")[2].lower() for each in told if each}
    return named.union(*map(_name_computes, (job.get("jobs") or {}).values()))


def find_run(conn: Connection, name: str) -> Run | None:
    """Return one run without stages, or None when the workspace has no such job. One request, two once it has ended."""
    job = find_wire(conn, name)
    if job is None:
        return None
    run = to_run(read_job(job))
    record = history.find_record(conn, name) if run.finished else None
    return replace(run, started_at=record.started_at, ended_at=record.ended_at) if record else run


def find_wire(conn: Connection, name: str) -> dict[str, Any] | None:
    """Return a job as the wire has it, or None when the workspace has no such job. One request."""
    try:
        job = conn.http("GET", f"{conn.workspace_path}/jobs/{quote(name)}?api-version={_API}", what=f"run '{name}'")
    except NotFound:
        return None
    found: dict[str, Any] = job.json()
    return found if found.get("properties") else None  # a step of a pipeline has none


def no_run(conn: Connection, name: str) -> NotFound:
    """Return the error of a run that the workspace does not have."""
    return NotFound(f"There is no run '{name}' in {conn.title}.", "Choose one of the workspace's runs.")


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
            raise no_run(conn, name)
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
    run = replace(run, evaluated_s=(run.evaluation.seconds if run.evaluation else None) or 0.0)
    measures = read_metrics(conn, name, children) if trainer else None
    train, evaluated = (_last_of(measures, key) for key in ("loss", "eval_loss"))
    progress = measure_progress(run, measures, children)
    run = replace(run, progress=progress, train_loss=train, eval_loss=evaluated)
    if run.state.failed:
        run = _explain_failure(conn, run, record, children, measures)
    at_rest = run.settled and not any(stage.running for stage in run.stages)
    over = at_rest and (not run.completed or bool(run.stages[-1].state))
    return _keep(memory.finished, name, run) if over else run


def _last_of(measures: RunMetrics | None, key: str) -> float | None:
    last = measures.get(key).last if measures else None
    return last.value if last and math.isfinite(last.value) else None


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


def _memory(conn: Connection) -> _Memory:
    return conn.remember("runs", _Memory, math.inf)


def _keep(memory: dict[str, T], key: str, value: T) -> T:
    if len(memory) >= _MEMORY:
        memory.pop(next(iter(memory)), None)
    memory[key] = value
    return value


def read_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a list keeps of a pipeline on the wire: plain JSON, of which `to_run` makes the run."""
    told, made = _told(job), job.get("systemData") or {}
    nodes = ((node or {}).get("inputs") or {} for node in (told.get("jobs") or {}).values())
    given = {name: value for node in nodes for name, value in node.items() if value}
    texts = {name: value.get("value", value.get("uri")) for name, value in given.items()}
    return {
        "name": str(job.get("name")),
        "state": str(told.get("status")),
        "display_name": str(told.get("displayName") or ""),
        "experiment": str(told.get("experimentName") or ""),
        "archived": bool(told.get("isArchived")),
        "tags": {name: str(value or "") for name, value in (told.get("tags") or {}).items()},
        "inputs": {name: str(text) for name, text in texts.items() if text is not None},
        "kept": str((told.get("properties") or {}).get(tags.KEPT) or ""),
        "created_at": str(made.get("createdAt") or ""),
        "owner": str(made.get("createdBy") or ""),
    }


def is_fine_tuning(record: Mapping[str, Any]) -> bool:
    """Tell whether what `read_job` read of a pipeline is a run of ours, or of the lesson."""
    return tags.TITLE in record["tags"] or record["experiment"].startswith(EXPERIMENT_PREFIX)


def to_run(record: Mapping[str, Any], **measured: Any) -> Run:
    """Return the run of what `read_job` read. measured: further fields of it."""
    told, inputs, name = record["tags"], record["inputs"], record["name"]
    literals = {**tags.parse_recipe(told.get(tags.RECIPE)), **{k: v for k, v in inputs.items() if v}}
    model_id = told.get(tags.MODEL_ID) or inputs.get("mlflow_model_path", "")
    return Run(
        name=name,
        title=told.get(tags.TITLE) or new_title(name),
        state=JobState(record["state"]),
        display_name=record["display_name"] or name,
        experiment=record["experiment"],
        model=told.get(tags.MODEL) or _model_name(model_id),
        model_id=model_id,
        model_version=told.get(tags.MODEL_VERSION) or _between(model_id, "/versions/", "/"),
        compute=told.get(tags.COMPUTE) or inputs.get("compute_finetune", ""),
        dataset=told.get(tags.DATASET, ""),
        gpus=int(told.get(tags.GPUS) or inputs.get("number_of_gpu_to_use_finetuning") or 0),
        parameters=from_job_inputs(literals),
        inputs=inputs,
        tags=told,
        created_at=tags.parse_time(record["created_at"]),
        owner=record["owner"],
        kept=record["kept"],
        archived=record["archived"],
        **measured,
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
    tail = read_log(conn, failed.run_id, 8192).text if failed else ""
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
