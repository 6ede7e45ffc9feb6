"""Online endpoints and their deployments: what is asked is checked and recorded here, and done by deployments.py."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local import quota
from core.local.addresses import resolve_uri
from core.local.endpoints.answers import deployment_to_wire, endpoint_to_wire, given
from core.local.endpoints.deployments import deployment_id, key_of, new_deployment, read_duration
from core.local.endpoints.traffic import read_mirror, read_traffic
from core.local.store import Document, now_utc
from core.local.wire import answers, query
from core.local.wire.answers import WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.wire.json_types import DEPLOYMENT, ENDPOINT, check_shape
from core.local.workspace import Workspace, workspace_of

LONGEST_REQUEST_S = 180.0

_ENDPOINT_PATH = f"{WORKSPACE_PATH}/onlineEndpoints/{{endpoint}}"
_DEPLOYMENT_PATH = f"{_ENDPOINT_PATH}/deployments/{{deployment}}"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
# What another model, size or environment changes needs another scorer; anything else is only remembered.
_OF_THE_SCORER = ("model", "instanceType", "environmentVariables")


# Endpoints


def put_endpoint(request: Request) -> Response:
    """PUT an endpoint: create it, or change its traffic, tags and description."""
    workspace = workspace_of(request)
    name = _checked_name("endpoint", answers.name_of(request, "endpoint"))
    name = (workspace.store.get("endpoint", name) or {"name": name})["name"]
    body = answers.read_json(request)
    check_shape(body, ENDPOINT)
    asked = answers.field_of(body, "properties", dict, {})
    if asked.get("authMode") not in (None, "Key"):
        raise WireError(400, "BadRequest", f"authMode must be Key in the local workspace, not '{asked['authMode']}'.")
    traffic = read_traffic(workspace, name, answers.field_of(asked, "traffic", dict, {}))
    mirror = read_mirror(workspace, name, answers.field_of(asked, "mirrorTraffic", dict, {}), traffic)
    operation = answers.start_operation(workspace.store, answers.arm_id("onlineEndpoints", name))
    new = {
        "name": name,
        "state": "Creating",
        "asked": asked,
        "tags": answers.strings_of(body, "tags"),
        "traffic": traffic,
        "mirror": mirror,
        "keys": {"primaryKey": _new_key(), "secondaryKey": _new_key()},
        "operation": operation,
    }
    if workspace.store.insert("endpoint", name, new) is None:
        workspace.store.update("endpoint", name, lambda current: _changed_endpoint(current, new))
    workspace.deployments.wake()
    return answers.created(request, operation, endpoint_to_wire(request, workspace.store.require("endpoint", name)))


def _changed_endpoint(current: Document, new: Document) -> Document:
    if current["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The endpoint '{current['name']}' is being deleted.")
    kept = {field: current[field] for field in ("name", "keys")}
    return {**current, **new, **kept, "state": "Updating"}


def get_endpoint(request: Request) -> dict[str, Any]:
    """GET an endpoint."""
    return endpoint_to_wire(request, _require_endpoint(request))


def list_endpoints(request: Request) -> dict[str, Any]:
    """GET the endpoints, the newest first or as `orderBy` says, those that the query's filters let by."""
    asked = request.query_params
    found = [
        each
        for each in query.ordered(request, workspace_of(request).store.list("endpoint"))
        if answers.is_named(each["name"], asked.get("name", each["name"]))
        and asked.get("computeType", "Managed") == "Managed"
        and query.holds(each["tags"], asked.get("tags"))
        and query.holds(each["asked"].get("properties") or {}, asked.get("properties"))
    ]
    return answers.paged(request, [endpoint_to_wire(request, each) for each in found])


def patch_endpoint(request: Request) -> dict[str, Any]:
    """PATCH the tags of an endpoint."""
    workspace, tags = workspace_of(request), _patched_tags(request)
    name = answers.name_of(request, "endpoint")
    changed = workspace.store.update("endpoint", name, lambda each: {**each, "tags": {**each["tags"], **tags}})
    return endpoint_to_wire(request, changed)


def _patched_tags(request: Request) -> dict[str, str]:
    """Return the tags of a PATCH, which can change nothing else; raises 400 for anything else."""
    body = answers.read_json(request)
    if unknown := set(body) - {"tags"}:
        raise WireError(400, "BadRequest", f"A PATCH changes tags only, not {', '.join(sorted(unknown))}.")
    return answers.strings_of(body, "tags")


def delete_endpoint(request: Request) -> Response:
    """DELETE an endpoint with its deployments; the operation ends when their scorers are gone."""
    workspace = workspace_of(request)
    name = answers.name_of(request, "endpoint")
    if workspace.store.get("endpoint", name) is None:
        return Response(status_code=204)
    started = answers.start_operation(workspace.store, answers.arm_id("onlineEndpoints", name), deletes=True)

    def mark(current: Document) -> Document | None:
        return None if current["state"] == "Deleting" else {**current, "state": "Deleting", "operation": started}

    operation = workspace.store.update("endpoint", name, mark)["operation"]
    workspace.deployments.wake()
    return answers.accepted(request, operation)


def list_keys(request: Request) -> dict[str, Any]:
    """POST for the keys of an endpoint."""
    return dict(_require_endpoint(request)["keys"])


def regenerate_keys(request: Request) -> Response:
    """POST a new key in place of one of the two; the old one is refused from then on."""
    workspace = workspace_of(request)
    body = answers.read_json(request)
    field = {"primary": "primaryKey", "secondary": "secondaryKey"}.get(str(body.get("keyType", "")).lower())
    if field is None:
        raise WireError(400, "BadRequest", "keyType must be Primary or Secondary.")
    name = answers.name_of(request, "endpoint")
    value = str(body.get("keyValue") or "")
    if not value or value in _require_endpoint(request)["keys"].values():
        value = _new_key()  # the SDK sends the key that it wants to be rid of
    operation = answers.start_operation(workspace.store, answers.arm_id("onlineEndpoints", name))
    workspace.store.update("endpoint", name, lambda each: {**each, "keys": {**each["keys"], field: value}})
    answers.finish_operation(workspace.store, operation)
    return answers.accepted(request, operation)


# Deployments


def put_deployment(request: Request) -> Response:
    """PUT a deployment: start a scorer for a model, or change what does not need another one."""
    workspace = workspace_of(request)
    endpoint = _require_endpoint(request)
    if endpoint["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The endpoint '{endpoint['name']}' is being deleted.")
    name = _checked_name("deployment", answers.name_of(request, "deployment"))
    name = (workspace.store.get("deployment", f"{endpoint['name']}/{name}") or {"name": name})["name"]
    asked = _read_deployment(workspace, answers.read_json(request))
    new = new_deployment(endpoint["name"], name) | asked
    with quota.lock:
        quota.check_deployment(workspace, new)
        operation = new["operation"] = answers.start_operation(workspace.store, deployment_id(new))
        changed = workspace.store.insert("deployment", key_of(new), _started(new), parent=endpoint["name"])
        if changed is None:
            changed = workspace.store.update("deployment", key_of(new), lambda now: _changed_deployment(now, new))
    if changed["state"] == "Succeeded":
        answers.finish_operation(workspace.store, operation)
    workspace.deployments.wake()
    return answers.created(request, operation, deployment_to_wire(request, changed))


def _changed_deployment(current: Document, new: Document) -> Document:
    if current["state"] == "Deleting":
        raise WireError(409, "Conflict", f"The deployment '{new['name']}' is being deleted.")
    same_size = quota.instances_of(current["sku"]) == quota.instances_of(new["sku"])
    same_scorer = (
        same_size
        and current["state"] == "Succeeded"
        and all((current["asked"].get(field) or None) == (new["asked"].get(field) or None) for field in _OF_THE_SCORER)
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
    return deployment_to_wire(request, _require_deployment(request))


def list_deployments(request: Request) -> dict[str, Any]:
    """GET the deployments of an endpoint."""
    workspace = workspace_of(request)
    found = query.ordered(request, workspace.store.list("deployment", parent=_require_endpoint(request)["name"]))
    return answers.paged(request, [deployment_to_wire(request, each) for each in found])


def patch_deployment(request: Request) -> dict[str, Any]:
    """PATCH the tags of a deployment."""
    workspace, tags = workspace_of(request), _patched_tags(request)
    key = key_of(_require_deployment(request))
    changed = workspace.store.update("deployment", key, lambda each: {**each, "tags": {**each["tags"], **tags}})
    return deployment_to_wire(request, changed)


def delete_deployment(request: Request) -> Response:
    """DELETE a deployment; refused while traffic goes to it."""
    workspace = workspace_of(request)
    endpoint = _require_endpoint(request)
    deployment = workspace.store.get("deployment", f"{endpoint['name']}/{answers.name_of(request, 'deployment')}")
    if deployment is None:
        return Response(status_code=204)
    if deployment["state"] == "Deleting":
        return answers.accepted(request, deployment["operation"])
    if endpoint["traffic"].get(deployment["name"]) or (endpoint.get("mirror") or {}).get(deployment["name"]):
        raise WireError(400, "BadRequest", f"'{deployment['name']}' receives traffic. Set its traffic to 0 first.")
    return answers.accepted(request, workspace.deployments.begin_deletion(deployment))


def get_logs(request: Request) -> dict[str, Any]:
    """POST for the end of a container's log."""
    workspace = workspace_of(request)
    body = answers.read_json(request)
    container = str(body.get("containerType") or "InferenceServer")
    if container not in ("InferenceServer", "StorageInitializer"):
        raise WireError(400, "BadRequest", f"'{container}' is not a container of a deployment.")
    tail = answers.field_of(body, "tail", int, 500)
    return {"content": workspace.deployments.read_log(_require_deployment(request), container, max(1, tail))}


def _read_deployment(workspace: Workspace, body: dict[str, Any]) -> Document:
    check_shape(body, DEPLOYMENT)
    asked = answers.field_of(body, "properties", dict, {})
    for field in ("codeConfiguration", "environmentId"):
        if asked.get(field):
            raise WireError(400, "BadRequest", f"{field} is not used here: the local workspace brings its own scorer.")
    sku = {"name": "Default", "capacity": 1} | given(answers.field_of(body, "sku", dict, {}))
    if answers.field_of(sku, "capacity", int) < 1:
        raise WireError(400, "BadRequest", f"The instance count must be at least 1, not {sku['capacity']}.")
    size = workspace.machine.find_size(str(asked.get("instanceType") or ""))
    if size is None:
        known = ", ".join(each.name for each in workspace.machine.sizes)
        message = f"The size '{asked.get('instanceType')}' is not one of this machine's: {known}."
        raise WireError(400, "BadRequest", message)
    settings = answers.field_of(asked, "requestSettings", dict, {})
    if read_duration(settings.get("requestTimeout"), 5.0) > LONGEST_REQUEST_S:
        raise WireError(400, "BadRequest", f"The request timeout must be at most {LONGEST_REQUEST_S:.0f} s.")
    model = str(asked.get("model") or "")
    if not model:
        raise WireError(400, "BadRequest", "model is needed: the model to serve.")
    return {
        "asked": asked,
        "sku": sku,
        "tags": answers.strings_of(body, "tags"),
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


# Names and requests


def _checked_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        article = "an" if what == "endpoint" else "a"
        rule = "3 to 32 letters, digits and '-', a letter first and no '-' at the end"
        raise WireError(400, "BadRequest", f"'{name}' cannot be the name of {article} {what}: {rule}.")
    return name


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def _require_endpoint(request: Request) -> Document:
    return workspace_of(request).store.require("endpoint", answers.name_of(request, "endpoint"))


def _require_deployment(request: Request) -> Document:
    endpoint, deployment = (answers.name_of(request, each) for each in ("endpoint", "deployment"))
    return workspace_of(request).store.require("deployment", f"{endpoint}/{deployment}")


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
