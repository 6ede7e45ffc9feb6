"""MLflow's tracking API (REST 2.0), as far as its stock client uses it to log to runs and to read them.

Answers follow mlflow's service.proto: int64 as numbers, absent fields left out, errors as {error_code, message}.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.local.jobs import runs
from core.local.jobs.job import FROM_MLFLOW, RunState, Status
from core.local.jobs.runs import ClientRun, Experiment
from core.local.jobs.search import read_filter, sort_runs, value_of
from core.local.routes import artifacts
from core.local.routes.jobs import properties_of
from core.local.store import MetricPoint, now_utc
from core.local.wire import answers
from core.local.wire.answers import WORKSPACE_PATH
from core.local.wire.errors import WireError
from core.local.wire.json_types import MLFLOW, check_shape
from core.local.workspace import Workspace, workspace_of

MAX_PAGE = 25_000
_BASES = ("", f"/mlflow/v1.0{WORKSPACE_PATH}", f"/mlflow/v2.0{WORKSPACE_PATH}")
_API = "/api/2.0/mlflow"
_CODES = {400: "INVALID_PARAMETER_VALUE", 404: "RESOURCE_DOES_NOT_EXIST", 409: "RESOURCE_ALREADY_EXISTS"}

Body = dict[str, Any]


# Experiments


def create_experiment(workspace: Workspace, body: Body) -> Body:
    """Create an experiment; 400 RESOURCE_ALREADY_EXISTS where its name is taken."""
    name = _text(body, "name")
    made = Experiment(name=name, tags=_pairs(body, "tags"))
    if made.insert(workspace.store) is None:
        raise WireError(409, "RESOURCE_ALREADY_EXISTS", f"An experiment '{name}' exists already.")
    return {"experiment_id": made.experiment_id}


def get_experiment(workspace: Workspace, body: Body) -> Body:
    """Return an experiment by its id."""
    return {"experiment": _experiment_to_wire(_require_experiment(workspace, _text(body, "experiment_id")))}


def get_experiment_by_name(workspace: Workspace, body: Body) -> Body:
    """Return an experiment by its name."""
    found = _require_experiment(workspace, runs.experiment_id(_text(body, "experiment_name")))
    return {"experiment": _experiment_to_wire(found)}


def search_experiments(workspace: Workspace, body: Body) -> Body:
    """Return the experiments; of filters only `name = '…'`."""
    workspace.runs.ensure_experiment(runs.DEFAULT_EXPERIMENT)
    wanted = read_filter(str(body.get("filter") or ""))
    shown = [
        experiment
        for experiment in Experiment.list_all(workspace.store)
        if all(condition.holds(getattr(experiment, condition.key, None)) for condition in wanted)
    ]
    page, token = _page(shown, body)
    return {"experiments": [_experiment_to_wire(each) for each in page], **token}


# Runs


def create_run(workspace: Workspace, body: Body) -> Body:
    """Open a run of the client's own; without a name it gets one."""
    experiment = _require_experiment(workspace, str(body.get("experiment_id") or "0"))
    run_id = uuid.uuid4().hex
    tags = _pairs(body, "tags")
    if parent := workspace.runs.find(tags.get("mlflow.parentRunId", "")):
        tags = {"mlflow.rootRunId": parent.state.tags.get("mlflow.rootRunId", parent.root_id), **tags}
    name = body.get("run_name") or tags.get("mlflow.runName") or f"run-{run_id[:6]}"
    started_at = _from_milliseconds(body.get("start_time")) or now_utc()
    state = RunState(str(name), {**tags, "mlflow.runName": str(name)}, status=Status.RUNNING, started_at=started_at)
    opened = ClientRun(run_id=run_id, experiment=experiment.name, run=state, user=str(body.get("user_id") or "")).put(
        workspace.store
    )
    return {"run": _run_to_wire(workspace, opened.to_run())}


def get_run(workspace: Workspace, body: Body) -> Body:
    """Return a run with its last metrics, parameters and tags."""
    return {"run": _run_to_wire(workspace, _require_run(workspace, body))}


def update_run(workspace: Workspace, body: Body) -> Body:
    """Change a run's status, end or name; the status of a job's run is its process's and stays."""
    run = _require_run(workspace, body)
    status = body.get("status")
    if status is not None and status not in FROM_MLFLOW:
        raise WireError(400, "BadRequest", f"'{status}' is not a status of a run.")

    def change(state: RunState) -> RunState:
        if body.get("run_name"):
            state = _renamed(state, str(body["run_name"]))
        if run.kind != "mlflow" or not status:
            return state
        moved = replace(state, status=FROM_MLFLOW[status])
        ended_at = _from_milliseconds(body.get("end_time")) or (now_utc() if moved.finished else None)
        return replace(moved, ended_at=ended_at)

    workspace.runs.change(run, change)
    return {"run_info": _info_to_wire(_require_run(workspace, body))}


def delete_run(workspace: Workspace, body: Body) -> Body:
    """Hide a run; it can be restored."""
    workspace.runs.change(_require_run(workspace, body), lambda state: replace(state, hidden=True))
    return {}


def restore_run(workspace: Workspace, body: Body) -> Body:
    """Show a hidden run again."""
    workspace.runs.change(_require_run(workspace, body), lambda state: replace(state, hidden=False))
    return {}


def search_runs(workspace: Workspace, body: Body) -> Body:
    """Return the runs of some experiments that pass a filter of comparisons joined by `and`."""
    experiments = {str(each) for each in body.get("experiment_ids") or []}
    view = str(body.get("run_view_type") or "ACTIVE_ONLY")
    wanted, orders = read_filter(str(body.get("filter") or "")), body.get("order_by") or []
    most, after = _number(body, "max_results", 1000), str(body.get("page_token") or "")
    found, last = list[Body](), ""
    for place, run in workspace.runs.list_all("" if orders else after):
        in_view = view == "ALL" or run.state.hidden == (view == "DELETED_ONLY")
        if in_view and (not experiments or runs.experiment_id(run.experiment) in experiments):
            shown = _run_to_wire(workspace, run)
            if all(one.holds(value_of(shown, one.sort, one.key)) for one in wanted):
                if len(found) == most and not orders:
                    return {"runs": found, "next_page_token": last}
                found.append(shown)
                last = place
    for clause in reversed(orders):
        sort_runs(found, str(clause))
    page, token = _page(found, body) if orders else (found, {})
    return {"runs": page, **token}


# What is logged to a run


def log_metric(workspace: Workspace, body: Body) -> Body:
    """Append one value of a metric."""
    run = _require_run(workspace, body)
    workspace.store.append_metrics(run.run_id, [_metric(body)])
    return {}


def log_batch(workspace: Workspace, body: Body) -> Body:
    """Append metrics, parameters and tags."""
    run = _require_run(workspace, body)
    rows = [_metric(each) for each in body.get("metrics") or []]
    _set_params(workspace, run, _pairs(body, "params"))
    if tags := _pairs(body, "tags"):
        workspace.runs.change(run, lambda state: replace(state, tags=state.tags | tags))
    if rows:
        workspace.store.append_metrics(run.run_id, rows)
    return {}


def log_param(workspace: Workspace, body: Body) -> Body:
    """Record a parameter, which keeps its first value."""
    _set_params(workspace, _require_run(workspace, body), {_text(body, "key"): str(body.get("value", ""))})
    return {}


def set_tag(workspace: Workspace, body: Body) -> Body:
    """Set a tag of a run."""
    key, value = _text(body, "key"), str(body.get("value", ""))

    def change(state: RunState) -> RunState:
        return _renamed(state, value) if key == "mlflow.runName" else replace(state, tags=state.tags | {key: value})

    workspace.runs.change(_require_run(workspace, body), change)
    return {}


def delete_tag(workspace: Workspace, body: Body) -> Body:
    """Remove a tag of a run."""
    run, key = _require_run(workspace, body), _text(body, "key")
    if key not in run.state.tags:
        raise WireError(404, "ResourceNotFound", f"The run '{run.run_id}' has no tag '{key}'.")
    workspace.runs.change(
        run, lambda state: replace(state, tags={name: value for name, value in state.tags.items() if name != key})
    )
    return {}


def get_metric_history(workspace: Workspace, body: Body) -> Body:
    """Return the values of one metric in the order they were logged; `page_token` goes on where a page ended."""
    run = _require_run(workspace, body)
    limit = min(_number(body, "max_results", MAX_PAGE), MAX_PAGE)
    points = workspace.store.read_metrics(
        run.run_id, _text(body, "metric_key"), since_rowid=_number(body, "page_token", 0), limit=limit + 1
    )
    more = {"next_page_token": str(points[limit - 1].id)} if len(points) > limit else {}
    return {"metrics": [_metric_to_wire(point) for point in points[:limit]], **more}


def list_artifacts(workspace: Workspace, body: Body) -> Body:
    """Return one level of what was logged to a run as files."""
    run = _require_run(workspace, body)
    files = artifacts.list_files(workspace, run.run_id, str(body.get("path") or ""))
    return {"root_uri": artifacts.artifact_uri(run), "files": files}


def search_logged_models(_workspace: Workspace, _body: Body) -> Body:
    """Return no models: the client asks before it downloads an artifact, and none can be logged here as such."""
    return {"models": []}


# Reading requests


def _require_run(workspace: Workspace, body: Body) -> runs.Run:
    return workspace.runs.get(str(body.get("run_id") or body.get("run_uuid") or ""))


def _renamed(state: RunState, name: str) -> RunState:
    return replace(state, display_name=name, tags=state.tags | {"mlflow.runName": name})


def _require_experiment(workspace: Workspace, key: str) -> Experiment:
    if key == "0":
        return workspace.runs.ensure_experiment(runs.DEFAULT_EXPERIMENT)
    found = Experiment.find(workspace.store, key)
    if found is None:
        raise WireError(404, "ResourceNotFound", f"No experiment with the id '{key}' exists.")
    return found


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise WireError(400, "BadRequest", f"Missing value for required parameter '{name}'.")
    return value


def _number(body: Body, name: str, default: int) -> int:
    try:
        number = int(body.get(name) or default)
    except (TypeError, ValueError) as error:
        raise WireError(400, "BadRequest", f"The parameter '{name}' must be a whole number.") from error
    if not 0 <= number < 2**63:
        raise WireError(400, "BadRequest", f"The parameter '{name}' must be at least 0 and below 2^63.")
    return number


def _pairs(body: Body, name: str) -> dict[str, str]:
    pairs = answers.field_of(body, name, list, [])
    try:
        return {str(each["key"]): str(each.get("value", "")) for each in pairs}
    except (TypeError, KeyError, AttributeError) as error:
        raise WireError(400, "BadRequest", f"'{name}' must be a list of keys and values.") from error


def _metric(body: Body) -> tuple[str, float, int, int]:
    try:
        value, moment = float(body["value"]), body.get("timestamp")
        step, at = int(body.get("step") or 0), int(moment or runs.to_milliseconds(now_utc()))
        if max(abs(step), abs(at)) >= 2**63:
            raise ValueError(body)
        return _text(body, "key"), value, step, at
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(400, "BadRequest", "A metric needs a key, a number as value, a whole step and time.") from error


def _set_params(workspace: Workspace, run: runs.Run, params: dict[str, str]) -> None:
    for key, value in params.items():
        if not workspace.store.set_param(run.run_id, key, value):
            raise WireError(
                400, "BadRequest", f"The parameter '{key}' of run '{run.run_id}' has another value already."
            )


def _from_milliseconds(moment: Any) -> str | None:
    try:
        return runs.from_milliseconds(int(moment)) if moment else None
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise WireError(400, "BadRequest", "A time is a whole number of milliseconds since 1970.") from error


# Writing answers


def _experiment_to_wire(experiment: Experiment) -> Body:
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "lifecycle_stage": experiment.lifecycle_stage,
        "artifact_location": f"azureml-experiment:{experiment.experiment_id}",
        "creation_time": runs.to_milliseconds(experiment.created_at),
        "last_update_time": runs.to_milliseconds(experiment.modified_at),
        "tags": _to_pairs(experiment.tags),
    }


def _run_to_wire(workspace: Workspace, run: runs.Run) -> Body:
    named = {"mlflow.runName": run.state.display_name, "mlflow.rootRunId": run.root_id}
    tags = {**named, **properties_of(run), **run.state.tags}
    if run.parent_id:
        tags["mlflow.parentRunId"] = run.parent_id
    data = {
        "metrics": [_metric_to_wire(point) for point in workspace.store.latest_metrics(run.run_id)],
        "params": _to_pairs(workspace.store.get_params(run.run_id)),
        "tags": _to_pairs(tags),
    }
    return {"info": _info_to_wire(run), "data": data, "inputs": {}}


def _info_to_wire(run: runs.Run) -> Body:
    state = run.state
    info = {
        "run_id": run.run_id,
        "run_uuid": run.run_id,
        "run_name": state.display_name,
        "user_id": "local",
        "experiment_id": runs.experiment_id(run.experiment),
        "status": state.status.mlflow,
        **({"start_time": runs.to_milliseconds(state.started_at)} if state.started_at else {}),
        "artifact_uri": artifacts.artifact_uri(run),
        "lifecycle_stage": "deleted" if state.hidden else "active",
    }
    return info | ({"end_time": runs.to_milliseconds(state.ended_at)} if state.ended_at else {})


def _metric_to_wire(point: MetricPoint) -> Body:
    # protobuf's JSON has words for what JSON has no numbers for.
    value: float | str = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else "Infinity" if point.value > 0 else "-Infinity"
    return {"key": point.key, "value": value, "timestamp": point.timestamp_ms, "step": point.step}


def _to_pairs(values: dict[str, str]) -> list[Body]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _page(found: list[Any], body: Body) -> tuple[list[Any], Body]:
    start, length = _number(body, "page_token", 0), _number(body, "max_results", 1000)
    more = {"next_page_token": str(start + length)} if start + length < len(found) else {}
    return found[start : start + length], more


# Routes


def _route(path: str, handler: Callable[[Workspace, Body], Body], method: str) -> list[Route]:
    def answer(request: Request) -> Response:
        try:
            body = dict(request.query_params) if method == "GET" else answers.read_json(request)
            check_shape(body, MLFLOW)
            return answers.JsonAnswer(handler(workspace_of(request), body))
        except WireError as error:
            code = error.code if error.code.isupper() else _CODES.get(error.status, "INTERNAL_ERROR")
            status = 400 if error.status == 409 else error.status
            return answers.JsonAnswer({"error_code": code, "message": error.message}, status)

    answer.__name__ = handler.__name__
    # A history may be long, and to ask for an experiment may make it.
    return [answers.route(f"{base}{_API}/{path}", answer, method, in_thread=handler is not get_run) for base in _BASES]


ROUTES = [
    *_route("experiments/create", create_experiment, "POST"),
    *_route("experiments/get", get_experiment, "GET"),
    *_route("experiments/get-by-name", get_experiment_by_name, "GET"),
    *_route("experiments/search", search_experiments, "POST"),
    *_route("runs/create", create_run, "POST"),
    *_route("runs/get", get_run, "GET"),
    *_route("runs/update", update_run, "POST"),
    *_route("runs/delete", delete_run, "POST"),
    *_route("runs/restore", restore_run, "POST"),
    *_route("runs/search", search_runs, "POST"),
    *_route("runs/log-metric", log_metric, "POST"),
    *_route("runs/log-batch", log_batch, "POST"),
    *_route("runs/log-parameter", log_param, "POST"),
    *_route("runs/set-tag", set_tag, "POST"),
    *_route("runs/delete-tag", delete_tag, "POST"),
    *_route("metrics/get-history", get_metric_history, "GET"),
    *_route("logged-models/search", search_logged_models, "POST"),
    *_route("artifacts/list", list_artifacts, "GET"),
    *(route for base in _BASES for route in artifacts.routes_below(base)),
]
