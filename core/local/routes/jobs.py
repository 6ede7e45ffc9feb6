"""Jobs: submit, read, list, cancel and delete."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local import addresses, blobs
from core.local.jobs import recovery, runs
from core.local.jobs.job import Job, JobKind
from core.local.jobs.request import is_same, read_job
from core.local.wire import answers, query
from core.local.wire.answers import WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

_NO_OUTPUT = {
    "description": None,
    "assetName": None,
    "assetVersion": None,
    "mode": "ReadWriteMount",
    "pathOnCompute": None,
    "autoDeleteSetting": None,
}
_NO_COMMAND: dict[str, Any] = {
    "codeId": None,
    "distribution": None,
    "environmentId": "",
    "environmentVariables": {},
    "limits": None,
    "parameters": None,
    "queueSettings": None,
}
_NO_RESOURCES: dict[str, Any] = {
    "instanceCount": 1,
    "instanceType": None,
    "shmSize": None,
    "dockerArgs": None,
    "properties": {},
}
_JOB_PATH = f"{WORKSPACE_PATH}/jobs/{{name}}"


def put_job(request: Request) -> Response:
    """PUT a job: 201 and NotStarted, no operation to poll; the job that is there already is answered with 200."""
    workspace = workspace_of(request)
    name, body = answers.name_of(request, "name"), answers.read_json(request)
    if Job.find(workspace.store, name) is None and (recorded := submit(workspace, name, body)):
        answer = job_to_wire(request, workspace, recorded)
        # What the service adds to the properties is seen from the next read on.
        answer["properties"]["properties"] = recorded.run.properties
        return answers.JsonAnswer(answer, 201)
    existing = Job.get(workspace.store, name)
    if not is_same(existing, body):
        raise WireError(409, "Conflict", f"A job '{name}' exists already, with another definition.")
    return answers.JsonAnswer(job_to_wire(request, workspace, existing), 200)


def submit(workspace: Workspace, name: str, body: dict[str, Any]) -> Job | None:
    """Read what is asked and start it; None where another request submitted a job of this name first."""
    if workspace.runs.find(name):
        raise WireError(409, "Conflict", f"The name '{name}' belongs to a run that exists.")
    job = read_job(workspace, name, body)
    workspace.runs.ensure_experiment(job.experiment)
    return workspace.runner.submit(job)


def get_job(request: Request) -> dict[str, Any]:
    """GET a job; a step of a pipeline is answered without properties, so that the SDK asks the run history."""
    workspace = workspace_of(request)
    name = answers.name_of(request, "name")
    job = Job.find(workspace.store, name)
    if job is not None:
        return job_to_wire(request, workspace, job)
    run = workspace.runs.find(name)
    if run is None or run.kind != "step":
        raise WireError(404, "ResourceNotFound", f"The job '{name}' was not found.")
    return {
        "id": answers.arm_id("jobs", name),
        "name": name,
        "type": f"{answers.PROVIDER}/workspaces/jobs",
        "properties": None,
    }


def list_jobs(request: Request) -> dict[str, Any]:
    """GET the jobs, the newest first, of one type, tag or set of properties where the query names them."""
    workspace = workspace_of(request)
    asked = request.query_params
    view, kind = answers.list_view(request), asked.get("jobType", "").lower()
    if asked.get("scheduled", "false").lower() == "true" or asked.get("scheduleId"):
        return answers.paged(request, [])  # nothing starts by a schedule here

    def is_shown(job: Job) -> bool:
        return (
            (view == "all" or job.run.hidden == (view == "archived"))
            and kind in ("", job.kind)
            and query.holds(job.run.tags, asked.get("tag"))
            and (not asked.get("properties") or query.holds(_properties_of(workspace, job), asked.get("properties")))
        )

    return answers.paged_as_read(
        request, workspace.runs.list_jobs, lambda job: job_to_wire(request, workspace, job), is_shown
    )


def _properties_of(workspace: Workspace, job: Job) -> dict[str, str]:
    return properties_of(workspace.runs.of_job(job))


def cancel_job(request: Request) -> Response:
    """POST the wish to end a job: CancelRequested at once, Canceled when its process is gone."""
    workspace = workspace_of(request)
    name = answers.name_of(request, "name")
    run = workspace.runs.get(name)
    if run.kind == "step":
        raise WireError(400, "BadRequest", f"'{name}' is a step. Cancel the whole job '{run.root_id}'.")
    workspace.runner.cancel(name)
    return Response(status_code=200)


def delete_job(request: Request) -> Response:
    """DELETE a job that is over, with its logs, metrics and checkpoints; outputs stay in the datastore, as on Azure."""
    workspace = workspace_of(request)
    name = answers.name_of(request, "name")
    job = Job.find(workspace.store, name)
    if job is None:
        return Response(status_code=204)
    if not job.finished:
        raise WireError(409, "Conflict", f"The job '{name}' is {job.run.status}. Cancel it first.")
    workspace.runner.let_go(name)
    measured = [name, *(step.id for step in job.steps)]
    intent = recovery.begin_deletion(workspace.store, "job", name, workspace.runs.job_folder(name), measured)
    recovery.finish_deletion(workspace.store, intent)
    return Response(status_code=200)


def job_to_wire(request: Request, workspace: Workspace, job: Job) -> dict[str, Any]:
    """Return a job as the service writes it: what was asked, echoed, and what became of it."""
    name, state, asked = job.name, job.run, job.properties
    shown: dict[str, Any] = {
        "componentId": None,
        "identity": None,
        "notificationSetting": None,
        "secretsConfiguration": None,
        **asked,
        "description": asked.get("description") if state.description is None else state.description,
        "computeId": answers.arm_id("computes", job.compute),
        "displayName": state.display_name,
        "experimentName": job.experiment,
        "status": state.status,
        "isArchived": state.hidden,
        "tags": state.tags,
        "properties": _properties_of(workspace, job),
        "services": services_of(request, name),
        "inputs": asked.get("inputs") or {},
        "outputs": _outputs(job),
    }
    if job.kind is JobKind.PIPELINE:
        shown.setdefault("sourceJobId", None)
    else:
        shown = {
            **_NO_COMMAND,
            **shown,
            "resources": {"properties": {}} | _NO_RESOURCES | (asked.get("resources") or {}),
        }
    return {
        "id": answers.arm_id("jobs", name),
        "name": name,
        "type": f"{answers.PROVIDER}/workspaces/jobs",
        "properties": shown,
        "systemData": answers.system_data(job.created_at, job.modified_at),
    }


def properties_of(run: runs.Run) -> dict[str, str]:
    """Return the properties of a run: its own, the service's words for what it is, and how far it has come."""
    kinds = {
        "pipeline": {
            "azureml.runsource": "azureml.PipelineRun",
            "PipelineType": "Finetune",
            "runType": "HTTP",
            "azureml.pipelineComponent": "pipelinerun",
        },
        "command": {"ComputeTargetType": "AmlCompute", "_azureml.ClusterName": run.compute},
        "step": {
            "azureml.runsource": "azureml.StepRun",
            "azureml.pipelinerunid": run.root_id,
            "ComputeTargetType": "AmlCompute",
            "azureml.rootpipelinerunid": run.root_id,
            "_azureml.ClusterName": run.compute,
        },
    }
    own = {"azureml.DevPlatv2": "true", **kinds[run.kind]} if run.kind in kinds else {}
    return own | run.state.properties | run.read_progress() | run.read_checkpoints()


def services_of(request: Request, run_id: str) -> dict[str, Any]:
    """Return where a run is tracked and looked at. The SDK adds `&tid=` to the Studio address, hence its query."""
    base = answers.base_url(request)
    empty = {"port": None, "status": None, "errorMessage": None, "properties": None, "nodes": None}
    return {
        "Tracking": {"jobServiceType": "Tracking", "endpoint": base, **empty},
        "Studio": {"jobServiceType": "Studio", "endpoint": f"{base}/studio?run={run_id}", **empty},
    }


def _outputs(job: Job) -> dict[str, Any]:
    """Return the declared outputs with their addresses; one called `default` would make the SDK look for logs in it."""
    shown = {}
    for name, asked in (job.properties.get("outputs") or {}).items():
        if name in job.plan.outputs:
            uri = f"azureml://datastores/{blobs.DATASTORE}/paths/{addresses.output_path(job.name, name)}"
            shown[name] = {**_NO_OUTPUT, "jobOutputType": "uri_folder", **(asked or {}), "uri": uri}
    return shown


ROUTES = [
    route(_JOB_PATH, put_job, "PUT"),
    route(_JOB_PATH, get_job),
    route(_JOB_PATH, delete_job, "DELETE"),
    route(f"{WORKSPACE_PATH}/jobs", list_jobs),
    route(f"{_JOB_PATH}/cancel", cancel_job, "POST"),
]
