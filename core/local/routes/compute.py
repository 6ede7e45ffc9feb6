"""Compute: clusters that are shares of this machine, the sizes they can have, and the quota in cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.home import LOCATION
from core.local import quota
from core.local.jobs.nodes import node_limit
from core.local.machine import Machine, Size
from core.local.wire import answers
from core.local.wire.answers import PROVIDER, PROVIDER_PATH, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

KIND = "compute"
FIRST_COMPUTE = "this-machine"  # made with the home, so that nothing has to be created before a first run
DEFAULT_IDLE_TIME = "PT2M"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,31}")
_SIZES_PATH = f"{PROVIDER_PATH}/locations/{{location}}/vmSizes"
_USAGES_PATH = f"{PROVIDER_PATH}/locations/{{location}}/usages"


def prepare(workspace: Workspace) -> None:
    """Make the compute every home starts with, and end what an earlier server left unfinished."""
    store = workspace.store
    if store.insert("mark", "first compute", {}) is not None and not workspace.profile.is_azure:
        store.insert(KIND, FIRST_COMPUTE, _first_compute(workspace.machine))
    first = store.get(KIND, FIRST_COMPUTE)
    if first and first.get("whole_machine") and workspace.machine.find_size(first["size"]) is None:
        store.put(KIND, FIRST_COMPUTE, _first_compute(workspace.machine))
    for document in store.list(KIND):
        if document["state"] == "Creating":
            workspace.go_on(document["operation"], partial(_create, workspace, document))
        elif document["state"] == "Deleting":
            workspace.go_on(document["operation"], partial(_delete, workspace, document["name"]))


def list_computes(request: Request) -> dict[str, Any]:
    """GET all computes."""
    workspace = workspace_of(request)
    return answers.paged(request, [_to_wire(workspace, document) for document in workspace.store.list(KIND)])


def get_compute(request: Request) -> Response:
    """GET one compute; an unknown one is a 404 without a body, as the service has it."""
    workspace = workspace_of(request)
    document = workspace.store.get(KIND, answers.name_of(request, "name"))
    return Response(status_code=404) if document is None else answers.JsonAnswer(_to_wire(workspace, document))


def put_compute(request: Request) -> Response:
    """PUT a compute: create it, or change how far it scales."""
    workspace = workspace_of(request)
    name = answers.name_of(request, "name")
    name = (workspace.store.get(KIND, name) or {"name": name})["name"]
    asked = _from_wire(workspace.machine, name, answers.read_json(request))
    operation = answers.start_operation(workspace.store, answers.arm_id("computes", name))
    asked["operation"] = operation
    if workspace.store.insert(KIND, name, asked) is None:
        try:
            workspace.store.update(KIND, name, _rescale(asked))
        except WireError as error:
            answers.finish_operation(workspace.store, operation, error=error)
            raise
    document = workspace.store.require(KIND, name)
    workspace.go_on(operation, partial(_create, workspace, {**document, "operation": operation}))
    return answers.created(request, operation, _to_wire(workspace, document))


def patch_compute(request: Request) -> Response:
    """PATCH how far a compute scales."""
    workspace = workspace_of(request)
    current = workspace.store.require(KIND, answers.name_of(request, "name"))
    name, body = current["name"], answers.read_json(request)
    scale = answers.field_of(answers.field_of(body, "properties", dict, {}), "properties", dict, {})
    current.update(_read_scale(answers.field_of(scale, "scaleSettings", dict, {}), current))
    size = workspace.machine.find_size(current["size"])
    with quota.lock:
        computes = workspace.store.list(KIND)
        if size and (problem := quota.check_compute(workspace.machine, computes, name, size, current["min_nodes"])):
            raise problem
        changed = workspace.store.update(KIND, name, lambda document: {**document, **_scale_of(current)})
    return answers.JsonAnswer(_to_wire(workspace, changed))


def delete_compute(request: Request) -> Response:
    """DELETE a compute; refused while a job waits or runs there."""
    workspace = workspace_of(request)
    current = workspace.store.require(KIND, answers.name_of(request, "name"))
    name = current["name"]
    if current["state"] == "Deleting":
        return answers.accepted(request, current["operation"])
    if jobs := workspace.runner.list_jobs_on(name):
        raise WireError(409, "ComputeInUse", f"The compute '{name}' is used by {', '.join(jobs)}. Cancel that first.")
    operation = answers.start_operation(workspace.store, answers.arm_id("computes", name), deletes=True)
    workspace.store.update(KIND, name, lambda body: {**body, "state": "Deleting", "operation": operation})
    workspace.go_on(operation, lambda: _delete(workspace, name))
    return answers.accepted(request, operation)


def list_nodes(request: Request) -> dict[str, Any]:
    """POST for the nodes of a compute: the ones at work, with the jobs on them, and the ones kept idle."""
    workspace = workspace_of(request)
    document = workspace.store.require(KIND, answers.name_of(request, "name"))
    count = _count_nodes(workspace, document) if document["state"] == "Succeeded" else 0
    jobs = [*workspace.runner.list_jobs_on(document["name"]), *([None] * count)][:count]
    nodes = [
        {
            "nodeId": f"{document['name']}-{number}",
            "privateIpAddress": "127.0.0.1",
            "publicIpAddress": None,
            "port": None,
            "nodeState": "running" if job else "idle",
            "runId": job,
        }
        for number, job in enumerate(jobs)
    ]
    return {"nodes": nodes, "nextLink": None}


def refuse_power(request: Request) -> Response:
    """POST to start, stop, restart or sign in to a compute instance: there are only clusters."""
    name = answers.name_of(request, "name")
    workspace_of(request).store.require(KIND, name)
    message = f"'{name}' is a cluster: its nodes come with jobs and go when idle. Only a compute instance can do that."
    raise WireError(400, "InvalidComputeType", message)


def list_sizes(request: Request) -> dict[str, Any]:
    """GET the sizes of the location: shares of this machine."""
    _check_location(request)
    return {"value": [_size_to_wire(size) for size in workspace_of(request).machine.sizes]}


def list_usages(request: Request) -> dict[str, Any]:
    """GET the quota in cores, and what of it is used."""
    _check_location(request)
    workspace = workspace_of(request)
    used = {size.family: 0 for size in workspace.machine.sizes}
    for document in workspace.store.list(KIND):
        size = workspace.machine.find_size(document["size"])
        if size is not None and document["state"] == "Succeeded":
            used[size.family] += size.cores * _count_nodes(workspace, document)
    machine = workspace.machine
    limits = {family: machine.quota_of(family) for family in used}
    total = sum(limits.values()) if workspace.profile.is_azure else machine.quota
    rows = [("Total Cluster Dedicated Regional vCPUs", "dedicatedCores", sum(used.values()), total)]
    rows += [(family, "vmFamily", count, limits[family]) for family, count in used.items()]
    rows += [("Total Online Endpoint vCPUs", "onlineEndpointCores", quota.deployed_cores(workspace), total)]
    return answers.paged(request, [_usage_to_wire(*row) for row in rows])


def _create(workspace: Workspace, document: dict[str, Any]) -> None:
    """Give a compute the nodes it keeps at all times; raises, and leaves it Failed, where the cores are not there.

    One that was written again, or deleted, while this waited is left to that.
    """
    store, machine, name = workspace.store, workspace.machine, document["name"]
    workspace.profile.wait("compute", document["modified_at"])
    size = machine.find_size(document["size"])
    with quota.lock:
        problem = None
        if size is not None:
            problem = quota.check_compute(machine, store.list(KIND), name, size, document["min_nodes"])
        errors = [] if problem is None else [{"code": problem.code, "message": problem.message}]
        ended = {"state": "Succeeded" if problem is None else "Failed", "errors": errors}

        def end(current: dict[str, Any]) -> dict[str, Any]:
            if current["operation"] != document["operation"]:
                raise answers.superseded(answers.arm_id("computes", name))
            return {**current, **ended}

        store.update(KIND, name, end)
    if problem is not None:
        raise problem


def _delete(workspace: Workspace, name: str) -> None:
    workspace.store.delete(KIND, name)


def _first_compute(machine: Machine) -> dict[str, Any]:
    return {
        "name": FIRST_COMPUTE,
        "size": machine.largest.name,
        "whole_machine": True,
        "min_nodes": 0,
        "max_nodes": 1,
        "idle_time": DEFAULT_IDLE_TIME,
        "priority": "Dedicated",
        "description": "This machine, whole",
        "tags": {},
        "state": "Succeeded",
        "errors": [],
    }


def _from_wire(machine: Machine, name: str, body: dict[str, Any]) -> dict[str, Any]:
    if not _NAME.fullmatch(name):
        raise WireError(
            400,
            "InvalidComputeName",
            f"'{name}': a compute's name is a letter, then 1 to 31 letters, digits or hyphens.",
        )
    outer = answers.field_of(body, "properties", dict, {})
    kind = answers.field_of(outer, "computeType", str, "")
    if kind != "AmlCompute":
        raise WireError(400, "InvalidPropertyValue", f"The local workspace makes AmlCompute only, not '{kind}'.")
    inner = answers.field_of(outer, "properties", dict, {})
    asked_size = answers.field_of(inner, "vmSize", str, "")
    size = machine.find_size(asked_size)
    if size is None:
        available = ", ".join(each.name for each in machine.sizes)
        raise WireError(
            400, "InvalidPropertyValue", f"The size '{asked_size}' is not available here. Available are: {available}."
        )
    defaults = {"min_nodes": 0, "max_nodes": 1, "idle_time": DEFAULT_IDLE_TIME}
    return {
        "name": name,
        "size": size.name,
        **_read_scale(answers.field_of(inner, "scaleSettings", dict, {}), defaults),
        "priority": answers.field_of(inner, "vmPriority", str, "Dedicated"),
        "description": answers.field_of(outer, "description", str),
        "tags": answers.strings_of(body, "tags"),
        "state": "Creating",
        "errors": [],
    }


def _read_scale(scale: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    least = answers.field_of(scale, "minNodeCount", int, current["min_nodes"])
    most = answers.field_of(scale, "maxNodeCount", int, current["max_nodes"])
    if not 0 <= least <= most or most < 1:
        raise WireError(
            400,
            "InvalidPropertyValue",
            f"A compute cannot scale from {least} to {most} nodes: 0 <= least <= most, most >= 1.",
        )
    idle = answers.field_of(scale, "nodeIdleTimeBeforeScaleDown", str, current["idle_time"])
    return {"min_nodes": least, "max_nodes": most, "idle_time": idle}


def _scale_of(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("min_nodes", "max_nodes", "idle_time")}


def _rescale(asked: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(current: dict[str, Any]) -> dict[str, Any]:
        if current["state"] == "Deleting":
            raise WireError(409, "Conflict", f"The compute '{asked['name']}' is being deleted.")
        if current["size"] != asked["size"] and current["state"] != "Failed":
            raise WireError(
                409,
                "Conflict",
                f"The compute '{asked['name']}' is a {current['size']}; a compute's size cannot be changed.",
            )
        return {**current, **asked, "name": current["name"]}

    return change


def _count_nodes(workspace: Workspace, document: dict[str, Any]) -> int:
    busy = len(workspace.runner.list_jobs_on(document["name"]))
    return max(document["min_nodes"], min(busy, node_limit(workspace.machine, document)))


def _to_wire(workspace: Workspace, document: dict[str, Any]) -> dict[str, Any]:
    errors, state = document["errors"], document["state"]
    if workspace.machine.find_size(document["size"]) is None:
        state = "Failed"
        errors = [{"code": "SizeNotAvailable", "message": f"This machine has no size '{document['size']}' any more."}]
    wire_errors = [{"error": error} for error in errors]
    ready = state == "Succeeded"
    count = _count_nodes(workspace, document) if ready else 0
    nodes = count if ready else None  # what is not yet there has no nodes to count, and no place
    busy = min(count, len(workspace.runner.list_jobs_on(document["name"]))) if ready else 0
    counts = {f"{name}NodeCount": 0 for name in ("preparing", "unusable", "leaving", "preempted")}
    counts |= {"runningNodeCount": busy, "idleNodeCount": count - busy}
    answer: dict[str, Any] = {
        "id": answers.arm_id("computes", document["name"]),
        "name": document["name"],
        "type": f"{PROVIDER}/workspaces/computes",
        "location": LOCATION,
        "tags": document["tags"],
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": LOCATION if ready else None,
            "resourceId": None,
            "description": document["description"],
            "createdOn": document["created_at"],
            "modifiedOn": document["modified_at"],
            "disableLocalAuth": True,
            "isAttachedCompute": False,
            "provisioningState": state,
            "provisioningErrors": wire_errors or None,
            "provisioningWarnings": {},
            "properties": {
                "vmSize": document["size"].upper(),
                "vmPriority": document["priority"],
                "scaleSettings": {
                    "minNodeCount": document["min_nodes"],
                    "maxNodeCount": document["max_nodes"],
                    "nodeIdleTimeBeforeScaleDown": document["idle_time"],
                },
                "currentNodeCount": nodes,
                "targetNodeCount": nodes,
                "nodeStateCounts": {**counts, "runningNodeCount": busy, "idleNodeCount": count - busy}
                if ready
                else None,
                "allocationState": "Steady" if ready else None,
                "allocationStateTransitionTime": document["modified_at"] if ready else None,
                "errors": wire_errors or None,
                "osType": "Linux",
                "enableNodePublicIp": True,
                "remoteLoginPortPublicAccess": "NotSpecified",
                "isolatedNetwork": False,
                "enableBatchPrivateLink": False,
                "subnet": None,
                "virtualMachineImage": None,
                "propertyBag": {},
            },
        },
        "systemData": answers.system_data(document),
    }
    return answer


def _size_to_wire(size: Size) -> dict[str, Any]:
    tiers = [{"retailPrice": 0.0, "osType": "Linux", "vmTier": tier} for tier in ("Standard", "LowPriority")]
    return {
        "name": size.name,
        "family": size.family,
        "vCPUs": size.cores,
        "gpus": size.gpus,
        "memoryGB": size.memory_gib,
        "lowPriorityCapable": True,
        "premiumIO": False,
        "osVhdSizeMB": 0,
        "maxResourceVolumeMB": 0,
        "estimatedVMPrices": {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": tiers},
        "supportedComputeTypes": ["AmlCompute", "MIR"] if size.online else ["AmlCompute"],
    }


def _usage_to_wire(name: str, sort: str, used: int, limit: int) -> dict[str, Any]:
    return {
        "id": f"{answers.workspace_id()}/usages/{name.replace(' ', '_')}",
        "type": f"{PROVIDER}/{sort}/usages",
        "name": {"value": name, "localizedValue": name},
        "currentValue": used,
        "limit": limit,
        "unit": "Count",
    }


def _check_location(request: Request) -> None:
    location = answers.name_of(request, "location")
    if not answers.is_named(LOCATION, location):
        raise WireError(
            400, "LocationNotAvailable", f"The local workspace has one location, '{LOCATION}', not '{location}'."
        )


ROUTES = [
    route(f"{WORKSPACE_PATH}/computes", list_computes),
    route(f"{WORKSPACE_PATH}/computes/{{name}}", get_compute),
    route(f"{WORKSPACE_PATH}/computes/{{name}}", put_compute, "PUT"),
    route(f"{WORKSPACE_PATH}/computes/{{name}}", patch_compute, "PATCH"),
    route(f"{WORKSPACE_PATH}/computes/{{name}}", delete_compute, "DELETE"),
    route(f"{WORKSPACE_PATH}/computes/{{name}}/listNodes", list_nodes, "POST"),
    *(
        route(f"{WORKSPACE_PATH}/computes/{{name}}/{action}", refuse_power, "POST")
        for action in ("start", "stop", "restart", "enableSso")
    ),
    route(_SIZES_PATH, list_sizes),
    route(_USAGES_PATH, list_usages),
]
