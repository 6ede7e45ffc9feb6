"""Online endpoints and their deployments: what is asked is checked and recorded here, and done by deployments.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local import quota
from core.local.addresses import resolve_uri
from core.local.endpoints.resources import Deployment, Endpoint, new_key, read_duration
from core.local.endpoints.traffic import read_mirror, read_traffic
from core.local.endpoints.wire_form import deployment_to_wire, endpoint_to_wire, without_nulls
from core.local.machine import Size
from core.local.provisioned import ProvisioningState
from core.local.wire import answers, query
from core.local.wire.answers import WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.wire.json_types import DEPLOYMENT, ENDPOINT, check_shape
from core.local.workspace import Workspace, workspace_of

LONGEST_REQUEST_S = 180.0

_ENDPOINT_PATH = f"{WORKSPACE_PATH}/onlineEndpoints/{{endpoint}}"
_DEPLOYMENT_PATH = f"{_ENDPOINT_PATH}/deployments/{{deployment}}"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")


# Endpoints


def put_endpoint(request: Request) -> Response:
    """PUT an endpoint: create it, or change its traffic, tags and description."""
    workspace = workspace_of(request)
    store = workspace.store
    name = _checked_name("an endpoint", answers.name_of(request, "endpoint"))
    name = current.name if (current := Endpoint.find(store, name)) else name
    body = answers.read_json(request)
    check_shape(body, ENDPOINT)
    asked = answers.field_of(body, "properties", dict, {})
    if asked.get("authMode") not in (None, "Key"):
        raise _bad_request(f"authMode must be Key in the local workspace, not '{asked['authMode']}'.")
    traffic = read_traffic(workspace, name, answers.field_of(asked, "traffic", dict, {}))
    mirror = read_mirror(workspace, name, answers.field_of(asked, "mirrorTraffic", dict, {}), traffic)
    new = Endpoint(name=name, asked=asked, tags=answers.strings_of(body, "tags"), traffic=traffic, mirror=mirror)
    new = new.start_operation(store)
    endpoint = new.insert(store) or Endpoint.update(store, name, lambda current: _changed_endpoint(current, new))
    workspace.deployments.wake()
    return answers.created(request, new.operation, endpoint_to_wire(request, endpoint))


def _changed_endpoint(current: Endpoint, new: Endpoint) -> Endpoint:
    current.check_not_deleting()
    return replace(new, name=current.name, keys=current.keys, state=ProvisioningState.UPDATING)


def get_endpoint(request: Request) -> dict[str, Any]:
    """GET an endpoint."""
    return endpoint_to_wire(request, _require_endpoint(request))


def list_endpoints(request: Request) -> dict[str, Any]:
    """GET the endpoints, the newest first or as `orderBy` says, those that the query's filters let by."""
    asked = request.query_params
    shown = [
        endpoint
        for endpoint in query.ordered(request, Endpoint.list_all(workspace_of(request).store))
        if answers.is_named(endpoint.name, asked.get("name", endpoint.name))
        and asked.get("computeType", "Managed") == "Managed"
        and query.holds(endpoint.tags, asked.get("tags"))
        and query.holds(endpoint.properties, asked.get("properties"))
    ]
    return answers.paged(request, [endpoint_to_wire(request, each) for each in shown])


def patch_endpoint(request: Request) -> dict[str, Any]:
    """PATCH the tags of an endpoint."""
    tags, name = _patched_tags(request), answers.name_of(request, "endpoint")
    return endpoint_to_wire(request, Endpoint.add_tags(workspace_of(request).store, name, tags))


def _patched_tags(request: Request) -> dict[str, str]:
    """Return the tags of a PATCH, which can change nothing else; raises 400 for anything else."""
    body = answers.read_json(request)
    if unknown := set(body) - {"tags"}:
        raise _bad_request(f"A PATCH changes tags only, not {', '.join(sorted(unknown))}.")
    return answers.strings_of(body, "tags")


def delete_endpoint(request: Request) -> Response:
    """DELETE an endpoint with its deployments; the operation ends when their scorers are gone."""
    workspace = workspace_of(request)
    endpoint = Endpoint.find(workspace.store, answers.name_of(request, "endpoint"))
    if endpoint is None:
        return Response(status_code=204)
    operation = endpoint.begin_deletion(workspace.store)
    workspace.deployments.wake()
    return answers.accepted(request, operation)


def list_keys(request: Request) -> dict[str, Any]:
    """POST for the keys of an endpoint."""
    return dict(_require_endpoint(request).keys)


def regenerate_keys(request: Request) -> Response:
    """POST a new key in place of one of the two; the old one is refused from then on."""
    store, body = workspace_of(request).store, answers.read_json(request)
    field = {"primary": "primaryKey", "secondary": "secondaryKey"}.get(str(body.get("keyType", "")).lower())
    if field is None:
        raise _bad_request("keyType must be Primary or Secondary.")
    endpoint = _require_endpoint(request)
    value = str(body.get("keyValue") or "")
    if not value or value in endpoint.keys.values():
        value = new_key()  # the SDK sends the key that it wants to be rid of
    operation = answers.start_operation(store, endpoint.arm_id)
    Endpoint.update(store, endpoint.name, lambda current: replace(current, keys=current.keys | {field: value}))
    answers.finish_operation(store, operation)
    return answers.accepted(request, operation)


# Deployments


def put_deployment(request: Request) -> Response:
    """PUT a deployment: start a scorer for a model, or change what does not need another one."""
    workspace, endpoint = workspace_of(request), _require_endpoint(request)
    store = workspace.store
    endpoint.check_not_deleting()
    name = _checked_name("a deployment", answers.name_of(request, "deployment"))
    name = current.name if (current := Deployment.find(store, f"{endpoint.name}/{name}")) else name
    body = answers.read_json(request)
    size = _check_deployment(workspace, body)
    asked = body["properties"]
    new = Deployment(
        endpoint=endpoint.name,
        name=name,
        asked=asked,
        sku={"name": "Default", "capacity": 1} | without_nulls(body.get("sku")),
        tags=answers.strings_of(body, "tags"),
        cores=min(size.cores, workspace.machine.cores),
        gpus=size.gpus,
        model_dir=str(_model_folder(resolve_uri(workspace, asked["model"]))),
    )
    with quota.lock:
        quota.check_deployment(workspace, new, size)
        new = new.start_operation(store)
        deployment = new.with_new_scorer().insert(store) or Deployment.update(
            store, new.key, lambda current: _changed_deployment(current, new)
        )
    if deployment.state.ready:
        answers.finish_operation(store, new.operation)
    workspace.deployments.wake()
    return answers.created(request, new.operation, deployment_to_wire(request, deployment))


def _changed_deployment(current: Deployment, new: Deployment) -> Deployment:
    """Return what a PUT makes of a deployment: another model, size or environment needs another scorer."""
    current.check_not_deleting()
    changed = replace(
        current,
        asked=new.asked,
        sku=new.sku,
        tags=new.tags,
        model_dir=new.model_dir,
        cores=new.cores,
        gpus=new.gpus,
        operation=new.operation,
    )
    served, asked = (
        (each.instances, each.model, each.instance_type, each.asked.get("environmentVariables") or None)
        for each in (current, new)
    )
    return changed if current.state.ready and served == asked else changed.with_new_scorer()


def get_deployment(request: Request) -> dict[str, Any]:
    """GET a deployment."""
    return deployment_to_wire(request, _require_deployment(request))


def list_deployments(request: Request) -> dict[str, Any]:
    """GET the deployments of an endpoint."""
    store, endpoint = workspace_of(request).store, _require_endpoint(request)
    shown = query.ordered(request, Deployment.list_all(store, endpoint.name))
    return answers.paged(request, [deployment_to_wire(request, each) for each in shown])


def patch_deployment(request: Request) -> dict[str, Any]:
    """PATCH the tags of a deployment."""
    tags, key = _patched_tags(request), _require_deployment(request).key
    return deployment_to_wire(request, Deployment.add_tags(workspace_of(request).store, key, tags))


def delete_deployment(request: Request) -> Response:
    """DELETE a deployment; refused while traffic goes to it."""
    workspace, endpoint = workspace_of(request), _require_endpoint(request)
    deployment = Deployment.find(workspace.store, f"{endpoint.name}/{answers.name_of(request, 'deployment')}")
    if deployment is None:
        return Response(status_code=204)
    if deployment.state.deleting:
        return answers.accepted(request, deployment.operation)
    if endpoint.sends_to(deployment.name):
        raise _bad_request(f"'{deployment.name}' receives traffic. Set its traffic to 0 first.")
    return answers.accepted(request, workspace.deployments.begin_deletion(deployment))


def get_logs(request: Request) -> dict[str, Any]:
    """POST for the end of a container's log."""
    body = answers.read_json(request)
    container = str(body.get("containerType") or "InferenceServer")
    if container not in ("InferenceServer", "StorageInitializer"):
        raise _bad_request(f"'{container}' is not a container of a deployment.")
    tail = answers.field_of(body, "tail", int, 500)
    scorer = workspace_of(request).deployments.scorer_of(_require_deployment(request))
    return {"content": scorer.read_log(container, max(1, tail))}


def _check_deployment(workspace: Workspace, body: dict[str, Any]) -> Size:
    """Check what a PUT asks of a deployment and return its size; raises 400."""
    check_shape(body, DEPLOYMENT)
    asked = answers.field_of(body, "properties", dict, {})
    for field in ("codeConfiguration", "environmentId"):
        if asked.get(field):
            raise _bad_request(f"{field} is not used here: the local workspace brings its own scorer.")
    capacity = answers.field_of(answers.field_of(body, "sku", dict, {}), "capacity", int, 1)
    if capacity < 1:
        raise _bad_request(f"The instance count must be at least 1, not {capacity}.")
    size = workspace.machine.find_size(str(asked.get("instanceType") or ""))
    if size is None:
        names = ", ".join(each.name for each in workspace.machine.sizes)
        raise _bad_request(f"The size '{asked.get('instanceType')}' is not one of this machine's: {names}.")
    if read_duration((asked.get("requestSettings") or {}).get("requestTimeout"), 0.0) > LONGEST_REQUEST_S:
        raise _bad_request(f"The request timeout must be at most {LONGEST_REQUEST_S:.0f} s.")
    if not asked.get("model"):
        raise _bad_request("model is needed: the model to serve.")
    return size


def _model_folder(folder: Path) -> Path:
    """Return the Hugging Face folder: the model itself, or the one inside an MLflow model."""
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise WireError(400, "BadArgument", f"'{folder.name}' holds no model that can be served: config.json is missing.")


# Names and requests


def _checked_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        rule = "3 to 32 letters, digits and '-', a letter first and no '-' at the end"
        raise _bad_request(f"'{name}' cannot be the name of {what}: {rule}.")
    return name


def _bad_request(message: str) -> WireError:
    return WireError(400, "BadRequest", message)


def _require_endpoint(request: Request) -> Endpoint:
    return Endpoint.get(workspace_of(request).store, answers.name_of(request, "endpoint"))


def _require_deployment(request: Request) -> Deployment:
    endpoint, deployment = (answers.name_of(request, each) for each in ("endpoint", "deployment"))
    return Deployment.get(workspace_of(request).store, f"{endpoint}/{deployment}")


ROUTES = [
    route(f"{WORKSPACE_PATH}/onlineEndpoints", list_endpoints),
    route(_ENDPOINT_PATH, put_endpoint, "PUT"),
    route(_ENDPOINT_PATH, get_endpoint),
    route(_ENDPOINT_PATH, patch_endpoint, "PATCH"),
    route(_ENDPOINT_PATH, delete_endpoint, "DELETE"),
    route(f"{_ENDPOINT_PATH}/listKeys", list_keys, "POST"),
    route(f"{_ENDPOINT_PATH}/regenerateKeys", regenerate_keys, "POST"),
    route(f"{_ENDPOINT_PATH}/deployments", list_deployments),
    route(_DEPLOYMENT_PATH, put_deployment, "PUT"),
    route(_DEPLOYMENT_PATH, get_deployment),
    route(_DEPLOYMENT_PATH, patch_deployment, "PATCH"),
    route(_DEPLOYMENT_PATH, delete_deployment, "DELETE"),
    route(f"{_DEPLOYMENT_PATH}/getLogs", get_logs, "POST"),
]
