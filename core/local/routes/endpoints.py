"""Online endpoints and their deployments: what is asked is checked and recorded here, and done by deployments.py."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.home import LOCATION
from core.local import quota, wire
from core.local.blobs import resolve_uri
from core.local.deployments import deployment_id, key_of, new_deployment, read_duration
from core.local.shapes import DEPLOYMENT, ENDPOINT, check_shape
from core.local.store import Document, now_utc
from core.local.wire import WORKSPACE_PATH, WireError, route
from core.local.workspace import Workspace

DEFAULT_REQUEST_TIMEOUT = "PT5S"
LONGEST_REQUEST_S = 180.0

_ENDPOINT_PATH = f"{WORKSPACE_PATH}/onlineEndpoints/{{endpoint}}"
_DEPLOYMENT_PATH = f"{_ENDPOINT_PATH}/deployments/{{deployment}}"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
_PROBE = {
    "failureThreshold": 30,
    "successThreshold": 1,
    "timeout": "PT2S",
    "period": "PT10S",
    "initialDelay": "PT10S",
}
# What another model, size or environment changes needs another scorer; anything else is only remembered.
_OF_THE_SCORER = ("model", "instanceType", "environmentVariables")


# Endpoints


def put_endpoint(request: Request) -> Response:
    """PUT an endpoint: create it, or change its traffic, tags and description."""
    workspace = wire.workspace_of(request)
    name = _checked_name("endpoint", wire.name_of(request, "endpoint"))
    _check_unique("endpoint", name, workspace.store.list("endpoint"))
    body = wire.read_json(request)
    check_shape(body, ENDPOINT)
    asked = wire.field_of(body, "properties", dict, {})
    if asked.get("authMode") not in (None, "Key"):
        raise WireError(400, "BadRequest", f"authMode must be Key in the local workspace, not '{asked['authMode']}'.")
    if asked.get("mirrorTraffic"):
        raise WireError(400, "BadRequest", "mirrorTraffic is not done in the local workspace.")
    traffic = _read_traffic(workspace, name, wire.field_of(asked, "traffic", dict, {}))
    operation = wire.start_operation(workspace.store, wire.arm_id("onlineEndpoints", name))
    new = {
        "name": name,
        "state": "Creating",
        "asked": asked,
        "tags": wire.strings_of(body, "tags"),
        "traffic": traffic,
        "keys": {"primaryKey": _new_key(), "secondaryKey": _new_key()},
        "operation": operation,
    }
    if workspace.store.insert("endpoint", name, new) is None:
        workspace.store.update("endpoint", name, lambda current: _changed_endpoint(current, new))
    workspace.deployments.wake()
    return wire.created(request, operation, _endpoint_to_wire(request, workspace.store.require("endpoint", name)))


def _changed_endpoint(current: Document, new: Document) -> Document:
    if current["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The endpoint '{current['name']}' is being deleted.")
    return {**current, **new, "state": "Updating", "keys": current["keys"]}


def get_endpoint(request: Request) -> dict[str, Any]:
    """GET an endpoint."""
    return _endpoint_to_wire(request, _require_endpoint(request))


def list_endpoints(request: Request) -> dict[str, Any]:
    """GET the endpoints, the newest first."""
    found = wire.workspace_of(request).store.list("endpoint")
    return wire.paged(request, [_endpoint_to_wire(request, each) for each in found])


def delete_endpoint(request: Request) -> Response:
    """DELETE an endpoint with its deployments; the operation ends when their scorers are gone."""
    workspace = wire.workspace_of(request)
    name = wire.name_of(request, "endpoint")
    if workspace.store.get("endpoint", name) is None:
        return Response(status_code=204)
    started = wire.start_operation(workspace.store, wire.arm_id("onlineEndpoints", name))

    def mark(current: Document) -> Document | None:
        return None if current["state"] == "Deleting" else {**current, "state": "Deleting", "operation": started}

    operation = workspace.store.update("endpoint", name, mark)["operation"]
    workspace.deployments.wake()
    return wire.accepted(request, operation)


def list_keys(request: Request) -> dict[str, Any]:
    """POST for the keys of an endpoint."""
    return dict(_require_endpoint(request)["keys"])


def regenerate_keys(request: Request) -> Response:
    """POST a new key in place of one of the two; the old one is refused from then on."""
    workspace = wire.workspace_of(request)
    body = wire.read_json(request)
    field = {"primary": "primaryKey", "secondary": "secondaryKey"}.get(str(body.get("keyType", "")).lower())
    if field is None:
        raise WireError(400, "BadRequest", "keyType must be Primary or Secondary.")
    value = str(body.get("keyValue") or _new_key())
    name = wire.name_of(request, "endpoint")
    operation = wire.start_operation(workspace.store, wire.arm_id("onlineEndpoints", name))
    workspace.store.update("endpoint", name, lambda each: {**each, "keys": {**each["keys"], field: value}})
    wire.finish_operation(workspace.store, operation)
    return wire.accepted(request, operation)


def _read_traffic(workspace: Workspace, endpoint: str, traffic: dict[str, Any]) -> dict[str, int]:
    read: dict[str, int] = {}
    for name, share in traffic.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
            raise WireError(400, "BadRequest", f"The traffic of '{name}' must be a whole number from 0 to 100.")
        deployment = workspace.store.get("deployment", f"{endpoint}/{name}")
        if share and (deployment is None or deployment["state"] == "Deleting"):
            raise WireError(400, "BadRequest", f"The traffic names '{name}', which '{endpoint}' does not have.")
        read[name] = share
    if sum(read.values()) not in (0, 100):
        raise WireError(400, "BadRequest", f"The traffic must add up to 0 or 100, not {sum(read.values())}.")
    return read


# Deployments


def put_deployment(request: Request) -> Response:
    """PUT a deployment: start a scorer for a model, or change what does not need another one."""
    workspace = wire.workspace_of(request)
    endpoint = _require_endpoint(request)
    if endpoint["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The endpoint '{endpoint['name']}' is being deleted.")
    name = _checked_name("deployment", wire.name_of(request, "deployment"))
    _check_unique("deployment", name, workspace.store.list("deployment", parent=endpoint["name"]))
    asked = _read_deployment(workspace, wire.read_json(request))
    new = new_deployment(endpoint["name"], name) | asked
    with quota.lock:
        quota.check_deployment(workspace, new)
        operation = new["operation"] = wire.start_operation(workspace.store, deployment_id(new))
        changed = workspace.store.insert("deployment", key_of(new), _started(new), parent=endpoint["name"])
        if changed is None:
            changed = workspace.store.update("deployment", key_of(new), lambda now: _changed_deployment(now, new))
    if changed["state"] == "Succeeded":
        wire.finish_operation(workspace.store, operation)
    workspace.deployments.wake()
    return wire.created(request, operation, _deployment_to_wire(workspace, changed))


def _changed_deployment(current: Document, new: Document) -> Document:
    if current["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The deployment '{new['name']}' is being deleted.")
    same_scorer = current["state"] == "Succeeded" and all(
        (current["asked"].get(field) or None) == (new["asked"].get(field) or None) for field in _OF_THE_SCORER
    )
    taken_over = ("asked", "sku", "tags", "model_dir", "cores", "gpus", "operation")
    changed = {**current, **{field: new[field] for field in taken_over}}
    return changed if same_scorer else _started(changed)


def _started(deployment: Document) -> Document:
    """Return a deployment that is to get a new scorer."""
    return {
        **deployment,
        "state": "Updating",
        "attempt": deployment["attempt"] + 1,
        "health": "starting",
        "error": None,
        "starting_since": now_utc(),
        "quick_restarts": 0,
        "stop_asked_at": None,
    }


def get_deployment(request: Request) -> dict[str, Any]:
    """GET a deployment."""
    return _deployment_to_wire(wire.workspace_of(request), _require_deployment(request))


def list_deployments(request: Request) -> dict[str, Any]:
    """GET the deployments of an endpoint."""
    workspace = wire.workspace_of(request)
    found = workspace.store.list("deployment", parent=_require_endpoint(request)["name"])
    return wire.paged(request, [_deployment_to_wire(workspace, each) for each in found])


def delete_deployment(request: Request) -> Response:
    """DELETE a deployment; refused while traffic goes to it."""
    workspace = wire.workspace_of(request)
    endpoint = _require_endpoint(request)
    deployment = workspace.store.get("deployment", f"{endpoint['name']}/{wire.name_of(request, 'deployment')}")
    if deployment is None:
        return Response(status_code=204)
    if deployment["state"] == "Deleting":
        return wire.accepted(request, deployment["operation"])
    if endpoint["traffic"].get(deployment["name"]):
        raise WireError(400, "BadRequest", f"'{deployment['name']}' receives traffic. Set its traffic to 0 first.")
    return wire.accepted(request, workspace.deployments.begin_deletion(deployment))


def get_logs(request: Request) -> dict[str, Any]:
    """POST for the end of a container's log."""
    workspace = wire.workspace_of(request)
    body = wire.read_json(request)
    container = str(body.get("containerType") or "InferenceServer")
    if container not in ("InferenceServer", "StorageInitializer"):
        raise WireError(400, "BadRequest", f"'{container}' is not a container of a deployment.")
    tail = wire.field_of(body, "tail", int, 500)
    return {"content": workspace.deployments.read_log(_require_deployment(request), container, max(1, tail))}


def _read_deployment(workspace: Workspace, body: dict[str, Any]) -> Document:
    check_shape(body, DEPLOYMENT)
    asked = wire.field_of(body, "properties", dict, {})
    for field in ("codeConfiguration", "environmentId"):
        if asked.get(field):
            raise WireError(400, "BadRequest", f"{field} is not used here: the local workspace brings its own scorer.")
    sku = wire.field_of(body, "sku", dict, {}) or {"name": "Default", "capacity": 1}
    if sku.get("capacity") not in (None, 1):
        raise WireError(400, "BadRequest", f"The instance count must be 1 on this machine, not {sku['capacity']}.")
    size = workspace.machine.find_size(str(asked.get("instanceType") or ""))
    if size is None:
        known = ", ".join(each.name for each in workspace.machine.sizes)
        message = f"The size '{asked.get('instanceType')}' is not one of this machine's: {known}."
        raise WireError(400, "BadRequest", message)
    settings = wire.field_of(asked, "requestSettings", dict, {})
    if read_duration(settings.get("requestTimeout"), 5.0) > LONGEST_REQUEST_S:
        raise WireError(400, "BadRequest", f"The request timeout must be at most {LONGEST_REQUEST_S:.0f} s.")
    model = str(asked.get("model") or "")
    if not model:
        raise WireError(400, "BadRequest", "model is needed: the model to serve.")
    return {
        "asked": asked,
        "sku": sku,
        "tags": wire.strings_of(body, "tags"),
        "cores": min(size.cores, workspace.machine.cores),
        "gpus": size.gpus,
        "model_dir": str(_model_folder(resolve_uri(workspace, model))),
    }


def _model_folder(folder: Path) -> Path:
    """Return the Hugging Face folder: the model itself, or the one inside an MLflow model."""
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise WireError(400, "BadArgument", f"'{folder.name}' holds no model that can be served: config.json is missing.")


# Names, requests and answers


def _checked_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        article = "an" if what == "endpoint" else "a"
        rule = "3 to 32 letters, digits and '-', a letter first and no '-' at the end"
        raise WireError(400, "BadRequest", f"'{name}' cannot be the name of {article} {what}: {rule}.")
    return name


def _check_unique(what: str, name: str, others: list[Document]) -> None:
    """Refuse a name that differs from another in its capitals only: to Azure, and to some file systems, it is that."""
    for other in others:
        if other["name"] != name and other["name"].lower() == name.lower():
            raise WireError(409, "Conflict", f"The name '{name}' is taken by the {what} '{other['name']}'.")


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def _require_endpoint(request: Request) -> Document:
    return wire.workspace_of(request).store.require("endpoint", wire.name_of(request, "endpoint"))


def _require_deployment(request: Request) -> Document:
    endpoint, deployment = (wire.name_of(request, each) for each in ("endpoint", "deployment"))
    return wire.workspace_of(request).store.require("deployment", f"{endpoint}/{deployment}")


def _endpoint_to_wire(request: Request, document: Document) -> dict[str, Any]:
    name, asked = document["name"], document["asked"]
    base = f"{wire.base_url(request)}/endpoints/{name}"
    shown = {
        "description": asked.get("description"),
        "authMode": "Key",
        "properties": asked.get("properties") or {},
        "provisioningState": document["state"],
        "scoringUri": f"{base}/score",
        "swaggerUri": None,
        "compute": None,
        "traffic": document["traffic"],
        "mirrorTraffic": {},
        "publicNetworkAccess": "Enabled",
    }
    return {
        "id": wire.arm_id("onlineEndpoints", name),
        "name": name,
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{wire.PROVIDER}/workspaces/onlineEndpoints",
        "tags": document["tags"],
        "properties": shown,
        "identity": {"type": "SystemAssigned"},
        "systemData": wire.system_data(document),
    }


def _deployment_to_wire(workspace: Workspace, document: Document) -> dict[str, Any]:
    asked = document["asked"]
    requests = {
        "maxQueueWait": "PT0S",
        "requestTimeout": DEFAULT_REQUEST_TIMEOUT,
        "maxConcurrentRequestsPerInstance": 1,
    }
    told = {
        "tunedeck.health": document["health"],
        "tunedeck.restarts": str(document["restarts"]),
        "tunedeck.last_restart_at": document["last_restart_at"],
        "tunedeck.last_exit": document["last_exit"],
        "tunedeck.error": document["error"],
    }
    shown = {
        "description": None,
        "codeConfiguration": None,
        "environmentId": None,
        "modelMountPath": None,
        "environmentVariables": {},
        "appInsightsEnabled": False,
        "privateNetworkConnection": False,
        "egressPublicNetworkAccess": "Enabled",
        "endpointComputeType": "Managed",
        **asked,
        "scaleSettings": asked.get("scaleSettings") or {"scaleType": "Default"},
        "requestSettings": requests | _given(asked.get("requestSettings")),
        "livenessProbe": _PROBE | _given(asked.get("livenessProbe")),
        "readinessProbe": _PROBE | _given(asked.get("readinessProbe")),
        "provisioningState": document["state"],
        "properties": (asked.get("properties") or {}) | _given(told),
    }
    return {
        "id": deployment_id(document),
        "name": document["name"],
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{wire.PROVIDER}/workspaces/onlineEndpoints/deployments",
        "tags": document["tags"],
        "sku": {"tier": "Standard", **document["sku"]},
        "properties": shown,
        "systemData": wire.system_data(document),
    }


def _given(fields: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


ROUTES = [
    route(f"{WORKSPACE_PATH}/onlineEndpoints", list_endpoints),
    route(_ENDPOINT_PATH, put_endpoint, "PUT"),
    route(_ENDPOINT_PATH, get_endpoint),
    route(_ENDPOINT_PATH, delete_endpoint, "DELETE"),
    route(f"{_ENDPOINT_PATH}/listKeys", list_keys, "POST"),
    route(f"{_ENDPOINT_PATH}/regenerateKeys", regenerate_keys, "POST"),
    route(f"{_ENDPOINT_PATH}/deployments", list_deployments),
    route(_DEPLOYMENT_PATH, put_deployment, "PUT"),
    route(_DEPLOYMENT_PATH, get_deployment),
    route(_DEPLOYMENT_PATH, delete_deployment, "DELETE"),
    route(f"{_DEPLOYMENT_PATH}/getLogs", get_logs, "POST"),
]
