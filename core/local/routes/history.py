"""Run history: how runs and their steps went, their logs behind signed links, and where their outputs lie."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from core.home import LOCATION, SUBSCRIPTION_ID
from core.local import addresses
from core.local.jobs import runs
from core.local.jobs.job import Job, RunError, RunState
from core.local.routes.data import Data
from core.local.routes.jobs import properties_of, services_of
from core.local.store import now_utc
from core.local.wire import answers
from core.local.wire.answers import HISTORY_PATH, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.wire.json_types import field_names
from core.local.workspace import workspace_of

_RUN_PATH = f"{HISTORY_PATH}/runs/{{run}}"
_DATA_PATH = f"/data/v1.0{WORKSPACE_PATH}/dataversion/batchGetResolvedUris"
_OUTPUT = re.compile(r"azureml_(?P<job>.+)_output_(?P<output>[^/]+)")
_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
KEPT_IDS = 1024  # of runs: each is asked for again and again, and making one takes as long as reading a document


# Fields that the service has besides, which are empty here.
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(
        field_names(
            "token tokenExpiryTimeUtc lastStartTimeUtc currentComputeTime effectiveStartTimeUtc cancelationReason "
            "scheduleId scriptName runDefinition jobSpecification primaryMetricName createdFrom cancelUri "
            "completeUri diagnosticsUri queueingInfo"
        )
    ),
    "retainForLifetimeOfWorkspace": False,
    "revision": 1,
    "statusRevision": 1,
    "lastModifiedBy": {},
    "parameters": {},
    "actionUris": {},
    "uniqueChildRunComputeTargets": [],
    "inputDatasets": [],
    "outputDatasets": [],
}
_IN_DETAILS = field_names(
    "runId target status startTimeUtc endTimeUtc error warnings properties parentRunId parentRunUuid rootRunId "
    "rootRunUuid runNumber runUuid runTypeV2 runDefinition revision statusRevision compute computeDuration "
    "computeRequest currentComputeTime duration createdBy userId effectiveStartTimeUtc lastStartTimeUtc "
    "lastModifiedBy lastModifiedUtc inputs outputs parameters services settings tags"
)
_NO_COMPUTE: dict[str, Any] = {
    **dict.fromkeys(("vmSize", "instanceType", "priority", "region", "armId", "properties")),
    "targetType": "amlcompute",
    "gpuCount": 0,
}
_CREATOR = {
    "userObjectId": SUBSCRIPTION_ID,
    "userPuId": None,
    "userIdp": None,
    "userAltSecId": None,
    "userIss": None,
    "userTenantId": SUBSCRIPTION_ID,
    "userName": "local",
    "upn": None,
    "clientApplicationId": None,
    "applicationACR": None,
}


def get_run(request: Request) -> dict[str, Any]:
    """GET a run."""
    return run_to_wire(request, workspace_of(request).runs.get(answers.name_of(request, "run")))


def list_children(request: Request) -> dict[str, Any]:
    """GET the steps of a pipeline, in their order."""
    children = workspace_of(request).runs.children(answers.name_of(request, "run"))
    return answers.paged(request, [run_to_wire(request, run) for run in children])


def get_details(request: Request) -> dict[str, Any]:
    """GET a run with the links of its logs and, where it failed, the reason."""
    workspace = workspace_of(request)
    run = workspace.runs.get(answers.name_of(request, "run"))
    shown = run_to_wire(request, run)
    return {
        **{name: shown[name] for name in _IN_DETAILS},
        "createdTimeUtc": shown["createdUtc"],
        "inputDatasets": [],
        "outputDatasets": [],
        "logFiles": {
            name: answers.base_url(request) + workspace.gatekeeper.sign_link(f"/logs/{run.run_id}/{name}")
            for name in run.logs()
        },
    }


def list_service_instances(request: Request) -> dict[str, Any]:
    """GET the services that run on a node of a run (notebooks, terminals): there are none."""
    workspace_of(request).runs.get(answers.name_of(request, "run"))
    return {"instances": {}}


def patch_run(request: Request) -> dict[str, Any]:
    """PATCH what a person says about a run: its display name, tags, description, whether it is hidden."""
    workspace = workspace_of(request)
    body = answers.read_json(request)
    unknown = set(body) - {"displayName", "tags", "hidden", "description", "properties", "runId"}
    if unknown:
        raise WireError(400, "BadRequest", f"{unknown.pop()} cannot be changed.")
    display_name, hidden = answers.field_of(body, "displayName", str), answers.field_of(body, "hidden", bool)
    description = answers.field_of(body, "description", str)
    tags, properties = answers.strings_of(body, "tags"), answers.strings_of(body, "properties")

    def change(state: RunState) -> RunState:
        return replace(
            state,
            display_name=display_name or state.display_name,
            hidden=state.hidden if hidden is None else hidden,
            description=state.description if description is None else description,
            tags=state.tags | tags,
            properties=state.properties | properties,
        )

    run_id = answers.name_of(request, "run")
    workspace.runs.change(workspace.runs.get(run_id), change)
    return run_to_wire(request, workspace.runs.get(run_id))


def patch_tags(request: Request) -> dict[str, Any]:
    """PATCH the tags of a run alone, and take away those that are named; one that it has not is no error."""
    workspace, run_id, body = workspace_of(request), answers.name_of(request, "run"), answers.read_json(request)
    tags, lost = answers.strings_of(body, "tagsToModify"), answers.field_of(body, "tagsToDelete", list, [])

    def change(state: RunState) -> RunState:
        kept = {name: value for name, value in state.tags.items() if name not in lost}
        return replace(state, tags=kept | tags)

    workspace.runs.change(workspace.runs.get(run_id), change)
    return run_to_wire(request, workspace.runs.get(run_id))


def get_run_data(request: Request) -> dict[str, Any]:
    """POST the question where a run's outputs are, as assets; the SDK reads none but of type uri_folder."""
    workspace = workspace_of(request)
    run_id = str(answers.read_json(request).get("runId", ""))
    run = workspace.runs.get(run_id)
    job = Job.find(workspace.store, run_id)
    assets = {
        name: {
            "assetId": f"azureml://locations/{LOCATION}/workspaces/local/data/azureml_{run_id}_output_{name}/versions/1",
            "type": "uri_folder",
        }
        for name in (job.plan.outputs if job else ())
    }
    return {"runMetadata": {**run_to_wire(request, run), "outputs": assets}}


def resolve_uris(request: Request) -> dict[str, Any]:
    """POST ids of outputs and data assets, get the addresses behind them; what is not there is left out."""
    store = workspace_of(request).store
    values = {}
    for asset in map(str, answers.field_of(answers.read_json(request), "values", list, [])):
        name, _, version = asset.rpartition("/data/")[2].partition("/versions/")
        if found := _OUTPUT.fullmatch(name):
            values[asset] = {"uri": addresses.long_uri(addresses.output_path(found["job"], found["output"]))}
        elif data := Data.find(store, f"{name}/{version}"):
            values[asset] = {"uri": data.uri}
    return {"values": values}


def get_log(request: Request) -> Response:
    """GET a log, whole or a part (`Range: bytes=-65536` for the end); it may grow while it is sent."""
    workspace = workspace_of(request)
    _, _, run_id, name = request.url.path.split("/", 3)
    path = workspace.runs.get(run_id).logs().get(name)
    if path is None:
        raise WireError(404, "ResourceNotFound", f"The run '{run_id}' has no log '{name}'.")
    size = path.stat().st_size
    first, last = _read_range(request.headers.get("range", ""), size)
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(max(0, last - first + 1)), "Cache-Control": "no-store"}
    partial = (first, last) != (0, size - 1)
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}" if size else "bytes */0"
    content = answers.read_part(path, first, last - first + 1)
    return StreamingResponse(content, 206 if partial else 200, headers=headers, media_type="text/plain; charset=utf-8")


def run_to_wire(request: Request, run: runs.Run) -> dict[str, Any]:
    """Return a run as the history writes it."""
    state = run.state
    duration = _duration(state.started_at, state.ended_at)
    return {
        **_EMPTY,
        "runNumber": int(datetime.fromisoformat(run.created_at).timestamp()),
        "runUuid": _uuid_of(run.run_id),
        "rootRunUuid": _uuid_of(run.root_id),
        "parentRunUuid": _uuid_of(run.parent_id) if run.parent_id else None,
        "createdBy": _CREATOR,
        "userId": _CREATOR["userObjectId"],
        "lastModifiedUtc": state.ended_at or state.started_at or run.created_at,
        "dataContainerId": f"dcid.{run.run_id}",
        "runTypeV2": {"orchestrator": "Execution", "traits": [], "attribution": None, "computeType": "AmlcTrain"},
        "computeRequest": {"nodeCount": 1, "gpuCount": 0},
        "runId": run.run_id,
        "rootRunId": run.root_id,
        "parentRunId": run.parent_id or None,
        "status": state.status,
        "experimentId": runs.experiment_id(run.experiment),
        "displayName": state.display_name,
        "name": state.display_name,
        "createdUtc": run.created_at,
        "startTimeUtc": state.started_at,
        "endTimeUtc": state.ended_at,
        "duration": duration,
        "computeDuration": duration,
        "hidden": state.hidden,
        "tags": state.tags,
        "properties": properties_of(run),
        "error": _error_to_wire(state.error),
        "warnings": [],
        "description": state.description,
        "runType": "azureml.StepRun"
        if run.kind == "step"
        else "azureml.PipelineRun"
        if run.kind == "pipeline"
        else "commandjob",
        "target": run.compute or None,
        "compute": _NO_COMPUTE | {"target": run.compute, "instanceCount": 1} if run.compute else None,
        "services": _services_to_wire(request, run.run_id),
        "currentAttemptId": 1,
        "settings": {},
        "inputs": None,
        "outputs": None,
    }


def _services_to_wire(request: Request, run_id: str) -> dict[str, Any]:
    """Return the services of a run in the history's form, which is not that of a job."""
    of_history = {"proxyEndpoint": None, "sslThumbprint": None, "enabled": True}
    return {
        name: {
            **{field: value for field, value in each.items() if field not in ("jobServiceType", "nodes")},
            **of_history,
            "type": name,
        }
        for name, each in services_of(request, run_id).items()
    }


@lru_cache(maxsize=KEPT_IDS)
def _uuid_of(run_id: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, run_id))


def _error_to_wire(error: RunError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    cause = {"code": error.code, "message": error.message, "details": []}
    return {"error": cause, "time": "0001-01-01T00:00:00+00:00", "componentName": "CommonRuntime"}


def _duration(started_at: str | None, ended_at: str | None) -> str | None:
    if started_at is None:
        return None
    lasted = datetime.fromisoformat(ended_at or now_utc()) - datetime.fromisoformat(started_at)
    minutes, seconds = divmod(max(0.0, lasted.total_seconds()), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:010.7f}"


def _read_range(header: str, size: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found["first"] or found["last"]):
        return 0, size - 1
    if not found["first"]:
        return max(0, size - int(found["last"])), size - 1
    first = int(found["first"])
    if first >= size:
        raise WireError(416, "InvalidRange", f"The log has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return first, min(int(found["last"] or size - 1), size - 1)


def _in_experiment(
    below: str, handler: Callable[[Request], dict[str, Any]], method: str = "GET", by: str = "experiments"
) -> Route:
    """Make a route below an experiment, whose name may be any text: it is dropped, a run's own name is enough."""
    inner = route(f"{HISTORY_PATH}/{by}/{{experiment}}/runs/{{run}}{below}", handler, method)

    async def endpoint(request: Request) -> Response:
        request.path_params.pop("experiment")
        answer: Response = await inner.endpoint(request)
        return answer

    return Route(inner.path, endpoint, methods=[method])


ROUTES = [
    route(_RUN_PATH, get_run),
    route(_RUN_PATH, patch_run, "PATCH"),
    route(f"{_RUN_PATH}/children", list_children),
    route(f"{_RUN_PATH}/details", get_details),
    route(f"{_RUN_PATH}/serviceinstances/{{node}}", list_service_instances),
    _in_experiment("", get_run),
    _in_experiment("", patch_run, "PATCH"),
    _in_experiment("/tags", patch_tags, "PATCH"),
    _in_experiment("/tags", patch_tags, "PATCH", by="experimentids"),
    _in_experiment("/details", get_details),
    _in_experiment("/children", list_children),
    route(f"{HISTORY_PATH}/rundata", get_run_data, "POST"),
    route(_DATA_PATH, resolve_uris, "POST"),
    *(route(f"/logs/{{run}}/{folder}/{{file}}", get_log) for folder in ("user_logs", "logs/azureml")),
]
