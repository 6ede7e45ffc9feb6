"""Compute: clusters that are shares of this machine, the sizes they can have, and the quota in cores."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.home import LOCATION, SUBSCRIPTION_ID
from core.local import quota
from core.local.compute import LOW_PRIORITY, Compute, Scale
from core.local.machine import Machine, Size
from core.local.provisioned import ProvisioningState
from core.local.wire import answers
from core.local.wire.answers import PROVIDER, PROVIDER_PATH, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

FIRST_COMPUTE = "this-machine"  # made with the home, so that nothing has to be created before a first run

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,31}")
_PATH = f"{WORKSPACE_PATH}/computes/{{name}}"
_SIZES_PATH = f"{PROVIDER_PATH}/locations/{{location}}/vmSizes"
_USAGES_PATH = f"{PROVIDER_PATH}/locations/{{location}}/usages"


def prepare(workspace: Workspace) -> None:
    """Make the compute every home starts with, and end what an earlier server left unfinished."""
    store = workspace.store
    if store.insert("mark", "first compute", {}) is not None and not workspace.profile.is_azure:
        _first_compute(workspace.machine).insert(store)
    first = Compute.find(store, FIRST_COMPUTE)
    if first and first.whole_machine and workspace.machine.find_size(first.size) is None:
        _first_compute(workspace.machine).put(store)
    for compute in Compute.list_all(store):
        if compute.state is ProvisioningState.CREATING:
            workspace.go_on(compute.operation, partial(_create, workspace, compute))
        elif compute.state.deleting:
            workspace.go_on(compute.operation, partial(compute.delete, store))


def list_computes(request: Request) -> dict[str, Any]:
    """GET all computes."""
    workspace = workspace_of(request)
    return answers.paged(request, [_to_wire(workspace, each) for each in Compute.list_all(workspace.store)])


def get_compute(request: Request) -> Response:
    """GET one compute; an unknown one is a 404 without a body, as the service has it."""
    workspace = workspace_of(request)
    compute = Compute.find(workspace.store, answers.name_of(request, "name"))
    return Response(status_code=404) if compute is None else answers.JsonAnswer(_to_wire(workspace, compute))


def put_compute(request: Request) -> Response:
    """PUT a compute: create it, or change how far it scales."""
    workspace = workspace_of(request)
    store, name = workspace.store, answers.name_of(request, "name")
    current = Compute.find(store, name)
    asked = _from_wire(workspace.machine, current.name if current else name, answers.read_json(request))
    asked = asked.start_operation(store)
    try:
        compute = asked.insert(store) or Compute.update(store, name, lambda current: _changed(current, asked))
    except WireError as error:
        answers.finish_operation(store, asked.operation, error=error)
        raise
    workspace.go_on(asked.operation, partial(_create, workspace, compute))
    return answers.created(request, asked.operation, _to_wire(workspace, compute))


def patch_compute(request: Request) -> Response:
    """PATCH how far a compute scales."""
    workspace = workspace_of(request)
    store, body = workspace.store, answers.read_json(request)
    current = _require(request)
    properties = answers.field_of(answers.field_of(body, "properties", dict, {}), "properties", dict, {})
    scale = _read_scale(answers.field_of(properties, "scaleSettings", dict, {}), current)
    with quota.lock:
        if problem := _find_problem(workspace, current.scaled(scale)):
            raise problem
        changed = Compute.update(store, current.name, lambda compute: compute.scaled(scale))
    return answers.JsonAnswer(_to_wire(workspace, changed))


def delete_compute(request: Request) -> Response:
    """DELETE a compute; refused while a job waits or runs there."""
    workspace, current = workspace_of(request), _require(request)
    name, store = current.name, workspace.store
    if current.state.deleting:
        return answers.accepted(request, current.operation)
    if jobs := workspace.runner.list_jobs_on(name):
        raise WireError(409, "ComputeInUse", f"The compute '{name}' is used by {', '.join(jobs)}. Cancel that first.")
    operation = current.begin_deletion(store)
    workspace.go_on(operation, partial(current.delete, store))
    return answers.accepted(request, operation)


def list_nodes(request: Request) -> dict[str, Any]:
    """POST for the nodes of a compute: the ones at work, with the jobs on them, and the ones kept idle."""
    workspace, compute = workspace_of(request), _require(request)
    count = count_nodes(workspace, compute) if compute.state.ready else 0
    jobs = [*workspace.runner.list_jobs_on(compute.name), *([None] * count)][:count]
    nodes = [
        {
            "nodeId": f"{compute.name}-{number}",
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
    name = _require(request).name
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
    machine = workspace.machine
    used = {size.family: 0 for size in machine.sizes}
    low = dict(used)
    for compute in Compute.list_all(workspace.store):
        size = machine.find_size(compute.size)
        if size is not None and compute.state.ready:
            count = low if compute.low_priority else used
            count[size.family] += size.cores * count_nodes(workspace, compute)
    limits = {family: machine.quota_of(family) for family in used}
    total = sum(limits.values()) if workspace.profile.is_azure else machine.quota
    rows = [("Total Cluster Dedicated Regional vCPUs", "dedicatedCores", sum(used.values()), total)]
    rows += [(family, "vmFamily", count, limits[family]) for family, count in used.items()]
    if not workspace.profile.is_azure:
        rows += [("Total Online Endpoint vCPUs", "onlineEndpointCores", quota.deployed_cores(workspace), total)]
    else:  # a family's two rows have one name there, and differ in their type
        rows += [("TotalLowPriorityCores", "lowPriorityCores", sum(low.values()), machine.quota_of(LOW_PRIORITY))]
        rows += [(family, "vmFamily/lowPriorityCores", count, -1) for family, count in low.items()]
    return answers.paged(request, [_usage_to_wire(*row) for row in rows])


def _require(request: Request) -> Compute:
    return Compute.get(workspace_of(request).store, answers.name_of(request, "name"))


def _create(workspace: Workspace, asked: Compute) -> None:
    """Give a compute the nodes it keeps at all times; raises, and leaves it Failed, where the cores are not there.

    If it was written again or deleted in the meantime, the operation ends as superseded.
    """
    workspace.profile.wait("compute", asked.modified_at)
    with quota.lock:
        problem = _find_problem(workspace, asked)
        state = ProvisioningState.FAILED if problem else ProvisioningState.SUCCEEDED
        errors = [{"code": problem.code, "message": problem.message}] if problem else []

        def end(current: Compute) -> Compute:
            if current.operation != asked.operation:
                raise answers.superseded(asked.arm_id)
            return replace(current, state=state, errors=errors)

        Compute.update(workspace.store, asked.name, end)
    if problem:
        raise problem


def _find_problem(workspace: Workspace, compute: Compute) -> WireError | None:
    size = workspace.machine.find_size(compute.size)
    if size is None:
        return None
    return quota.check_compute(workspace.machine, Compute.list_all(workspace.store), compute, size)


def _first_compute(machine: Machine) -> Compute:
    return Compute(
        name=FIRST_COMPUTE,
        size=machine.largest.name,
        whole_machine=True,
        description="This machine, whole",
        state=ProvisioningState.SUCCEEDED,
    )


def _from_wire(machine: Machine, name: str, body: dict[str, Any]) -> Compute:
    if not _NAME.fullmatch(name):
        message = f"'{name}': a compute's name is a letter, then 1 to 31 letters, digits or hyphens."
        raise WireError(400, "InvalidComputeName", message)
    outer = answers.field_of(body, "properties", dict, {})
    kind = answers.field_of(outer, "computeType", str, "")
    if kind != "AmlCompute":
        raise _invalid(f"The local workspace makes AmlCompute only, not '{kind}'.")
    inner = answers.field_of(outer, "properties", dict, {})
    asked_size = answers.field_of(inner, "vmSize", str, "")
    size = machine.find_size(asked_size)
    if size is None:
        available = ", ".join(each.name for each in machine.sizes)
        raise _invalid(f"The size '{asked_size}' is not available here. Available are: {available}.")
    return Compute(
        name=name,
        size=size.name,
        priority=answers.field_of(inner, "vmPriority", str, "Dedicated"),
        description=answers.field_of(outer, "description", str),
        tags=answers.strings_of(body, "tags"),
    ).scaled(_read_scale(answers.field_of(inner, "scaleSettings", dict, {}), Scale()))


def _read_scale(settings: dict[str, Any], current: Scale) -> Scale:
    least = answers.field_of(settings, "minNodeCount", int, current.min_nodes)
    most = answers.field_of(settings, "maxNodeCount", int, current.max_nodes)
    if not 0 <= least <= most or most < 1:
        raise _invalid(f"A compute cannot scale from {least} to {most} nodes: 0 <= least <= most, most >= 1.")
    idle_time = answers.field_of(settings, "nodeIdleTimeBeforeScaleDown", str, current.idle_time)
    return Scale(min_nodes=least, max_nodes=most, idle_time=idle_time)


def _invalid(message: str) -> WireError:
    return WireError(400, "InvalidPropertyValue", message)


def _changed(current: Compute, asked: Compute) -> Compute:
    current.check_not_deleting()
    if current.size != asked.size and not current.state.failed:
        message = f"The compute '{current.name}' is a {current.size}; a compute's size cannot be changed."
        raise WireError(409, "Conflict", message)
    return replace(asked, name=current.name, whole_machine=current.whole_machine)


def count_nodes(workspace: Workspace, compute: Compute) -> int:
    """Return how many nodes a compute that is there has now, idle ones included."""
    busy = len(workspace.runner.list_jobs_on(compute.name))
    return max(compute.min_nodes, min(busy, compute.node_limit(workspace.machine)))


def _to_wire(workspace: Workspace, compute: Compute) -> dict[str, Any]:
    errors, state = compute.errors, compute.state
    if workspace.machine.find_size(compute.size) is None:
        state = ProvisioningState.FAILED
        errors = [{"code": "SizeNotAvailable", "message": f"This machine has no size '{compute.size}' any more."}]
    wire_errors = [{"error": error} for error in errors] or None
    return {
        "id": compute.arm_id,
        "name": compute.name,
        "type": f"{PROVIDER}/workspaces/computes",
        "location": LOCATION,
        "tags": compute.tags,
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": LOCATION if state.ready else None,
            "resourceId": None,
            "description": compute.description,
            "createdOn": compute.created_at,
            "modifiedOn": compute.modified_at,
            "disableLocalAuth": True,
            "isAttachedCompute": False,
            "provisioningState": state,
            "provisioningErrors": wire_errors,
            "provisioningWarnings": {},
            "properties": {
                "vmSize": compute.size.upper(),
                "vmPriority": compute.priority,
                "scaleSettings": {
                    "minNodeCount": compute.min_nodes,
                    "maxNodeCount": compute.max_nodes,
                    "nodeIdleTimeBeforeScaleDown": compute.idle_time,
                },
                **(_allocation_to_wire(workspace, compute) if state.ready else _NO_ALLOCATION),
                "errors": wire_errors,
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
        "systemData": answers.system_data(compute.created_at, compute.modified_at),
    }


def _allocation_to_wire(workspace: Workspace, compute: Compute) -> dict[str, Any]:
    count = count_nodes(workspace, compute)
    busy = min(count, len(workspace.runner.list_jobs_on(compute.name)))
    starting = min(busy, workspace.runner.count_starting(compute.name))
    return {
        "currentNodeCount": count,
        "targetNodeCount": count,
        "nodeStateCounts": {
            "preparingNodeCount": starting,
            "runningNodeCount": busy - starting,
            "idleNodeCount": count - busy,
            "unusableNodeCount": 0,
            "leavingNodeCount": 0,
            "preemptedNodeCount": 0,
        },
        "allocationState": "Resizing" if starting else "Steady",
        "allocationStateTransitionTime": max(compute.modified_at, workspace.runner.find_scaled_at(compute.name)),
    }


_NO_ALLOCATION = dict.fromkeys(
    ("currentNodeCount", "targetNodeCount", "nodeStateCounts", "allocationState", "allocationStateTransitionTime")
)


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
        "id": f"/subscriptions/{SUBSCRIPTION_ID}/usages/{name.replace(' ', '_')}",
        "type": f"{PROVIDER}/{sort}/usages",
        "name": {"value": name, "localizedValue": name},
        "currentValue": used,
        "limit": limit,
        "unit": "Count",
    }


def _check_location(request: Request) -> None:
    location = answers.name_of(request, "location")
    if not answers.is_named(LOCATION, location):
        message = f"The local workspace has one location, '{LOCATION}', not '{location}'."
        raise WireError(400, "LocationNotAvailable", message)


ROUTES = [
    route(f"{WORKSPACE_PATH}/computes", list_computes),
    route(_PATH, get_compute),
    route(_PATH, put_compute, "PUT"),
    route(_PATH, patch_compute, "PATCH"),
    route(_PATH, delete_compute, "DELETE"),
    route(f"{_PATH}/listNodes", list_nodes, "POST"),
    *(route(f"{_PATH}/{action}", refuse_power, "POST") for action in ("start", "stop", "restart", "enableSso")),
    route(_SIZES_PATH, list_sizes),
    route(_USAGES_PATH, list_usages),
]
