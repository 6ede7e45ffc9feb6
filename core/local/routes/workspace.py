"""The workspace itself: what it is, where its other services are, how its long-running operations do, its health."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core.engine.memory import free_bytes
from core.home import LOCATION, RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME
from core.local.jobs import recovery
from core.local.records import Record
from core.local.wire import answers, storage_key
from core.local.wire.answers import GROUP_PATH, OPERATION_PATH, PROVIDER, PROVIDER_PATH, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

VERSION = "0.1.0"

# What a workspace on Azure has besides, and this one does not.
_NOT_HERE: dict[str, Any] = {
    "keyVault": None,
    "applicationInsights": None,
    "containerRegistry": None,
    "imageBuildCompute": None,
    "notebookInfo": None,
    "managedNetwork": {
        "isolationMode": "Disabled",
        "changeableIsolationModes": [],
        "enableNetworkMonitor": False,
        "enableFirewallLog": False,
    },
    "networkAcls": {"defaultAction": "Deny", "bypass": "", "ipRules": [], "resourceAccessRules": []},
    "ipAllowlist": [],
    "privateLinkCount": 0,
    "allowRoleAssignmentOnRG": False,
    "softDeleteEnabled": False,
    "storageHnsEnabled": False,
    "linkedModelInventoryArmId": None,
    "serverlessComputeSettings": None,
    "sdkTelemetryAppInsightsKey": None,
    "sasGetterUri": "",
    "enableDataIsolation": False,
    "enableServiceSideCMKEncryption": False,
    "EnableSoftwareBillOfMaterials": False,
    "hbiWorkspace": False,
    "v1LegacyMode": False,
}
_MOST_TAGS = 50


@dataclass(frozen=True, kw_only=True)
class Tags(Record):
    """What people wrote on the workspace."""

    KIND = "tags"

    tags: dict[str, str] = field(default_factory=dict)

    def after(self, operation: str, given: dict[str, str]) -> dict[str, str]:
        """Return the tags after "merge", "replace" or "delete"; names are compared without case, as on Azure."""
        named = {name.lower() for name in given}
        left = {} if operation == "replace" else {k: v for k, v in self.tags.items() if k.lower() not in named}
        tags = left if operation == "delete" else {**left, **given}
        if len(tags) > _MOST_TAGS:
            raise WireError(400, "InvalidTagCount", f"A resource has at most {_MOST_TAGS} tags.")
        return tags


def get_workspace(request: Request) -> dict[str, Any]:
    """GET the workspace."""
    return _to_wire(request)


def list_workspaces(request: Request) -> dict[str, Any]:
    """GET the workspaces of the resource group or the subscription: this one."""
    return answers.paged(request, [_to_wire(request)])


def list_keys(request: Request) -> dict[str, Any]:
    """POST for the keys of what belongs to the workspace: its storage is all there is."""
    key = storage_key.derive(workspace_of(request).home.secret())
    return {
        "userStorageKey": storage_key.encode(key),
        "userStorageArmId": _to_wire(request)["properties"]["storageAccount"],
        "appInsightsInstrumentationKey": None,
        "containerRegistryCredentials": None,
        "notebookAccessKeys": None,
    }


def get_discovery(request: Request) -> dict[str, Any]:
    """GET the addresses of the data-plane services."""
    base = answers.base_url(request)
    return {"api": base, "history": base, "experimentation": base, "studio": f"{base}/studio"}


def list_permissions(_request: Request) -> dict[str, Any]:
    """GET what the caller may do: whoever holds the home's secret may do everything."""
    return {"value": [{"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}]}


def patch_tags(request: Request) -> dict[str, Any]:
    """PATCH the workspace's tags: Azure's Tags API, which merges, replaces or deletes them and touches nothing else."""
    body = answers.read_json(request)
    operation = str(body.get("operation") or "").lower()
    if operation not in ("merge", "replace", "delete"):
        raise WireError(400, "InvalidTagOperation", "The operation must be Merge, Replace or Delete.")
    given = answers.strings_of(answers.field_of(body, "properties", dict, {}), "tags")
    for name, value in given.items():
        if not name.strip() or len(name) > 512 or re.search(r"[<>%&\\?/]", name):
            raise WireError(400, "InvalidTagName", f"The tag name '{name[:99]}' is not allowed.")
        if len(value) > 256:
            raise WireError(400, "InvalidTagValueLength", f"The value of tag '{name}' is longer than 256 characters.")
    store = workspace_of(request).store
    Tags(name=WORKSPACE_NAME).insert(store)
    changed = Tags.update(store, WORKSPACE_NAME, lambda current: replace(current, tags=current.after(operation, given)))
    return {
        "id": f"{answers.workspace_id()}/providers/Microsoft.Resources/tags/default",
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": {"tags": changed.tags},
    }


def get_operation(request: Request) -> Response:
    """GET how a long-running operation does; while it goes on, endpoints say Updating and all else InProgress."""
    name = answers.name_of(request, "operation")
    operation = recovery.settle_operation(workspace_of(request).store, name)
    updates_endpoint = not operation.status.finished and "/onlineEndpoints/" in operation.target
    answer: dict[str, Any] = {
        "id": f"{OPERATION_PATH.format(subscription=SUBSCRIPTION_ID)}/{name}",
        "name": name,
        "status": "Updating" if updates_endpoint else operation.status,
        "percentComplete": operation.percent_complete,
        "startTime": answers.to_answer_time(operation.created_at),
    }
    if operation.status.finished:
        answer["endTime"] = answers.to_answer_time(operation.modified_at)
    if operation.error:
        answer["error"] = operation.error
    return answers.JsonAnswer(answer, headers=answers.POLL_AGAIN)


def get_health(request: Request) -> dict[str, Any]:
    """GET who serves which home."""
    workspace = workspace_of(request)
    return {
        "home": str(workspace.home.path),
        "pid": os.getpid(),
        "version": VERSION,
        "started_at": workspace.started_at,
        "profile": workspace.profile.name,
        "tls": bool(workspace.gatekeeper.tls_port),
        "free_memory_bytes": free_bytes(),
        "free_bytes": shutil.disk_usage(workspace.home.path).free,
        "faults": [fault.words for fault in workspace.faults.active()],
        "machine": {
            "cores": workspace.machine.cores,
            "memory_gib": workspace.machine.memory_gib,
            "gpus": list(workspace.machine.gpus),
            "card_gib": workspace.machine.card_gib,
            "processor": workspace.machine.processor,
            "system": workspace.machine.system,
            "problem": workspace.machine.problem,
        },
    }


def put_clock(request: Request) -> dict[str, Any]:
    """PUT the clock of a profile forward; this machine's own cannot be."""
    profile = workspace_of(request).profile
    if not profile.is_azure:
        raise WireError(501, "NotImplemented", "Only the clock of `serve --profile azure` can be put forward.")
    seconds = answers.field_of(answers.read_json(request), "advanceSeconds", (int, float), 0)
    if not 0 <= seconds <= 10**7:
        raise WireError(400, "BadRequest", "advanceSeconds must be 0 to 10,000,000.")
    profile.clock.advance(float(seconds))
    return {"advancedSeconds": seconds}


def get_studio(_request: Request) -> Response:
    """GET the page behind the "Web View" link that the SDK prints; the dashboard's address is not known here."""
    return HTMLResponse("<!doctype html><title>Tunedeck</title><p>This run is shown in the Tunedeck dashboard.</p>")


def _to_wire(request: Request) -> dict[str, Any]:
    workspace = workspace_of(request)
    base = answers.base_url(request)
    group = f"/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{RESOURCE_GROUP}"
    return {
        "id": answers.workspace_id(),
        "name": WORKSPACE_NAME,
        "type": f"{PROVIDER}/workspaces",
        "location": LOCATION,
        "kind": "Default",
        "etag": None,
        "sku": {"name": "Basic", "tier": "Basic"},
        "tags": tags.tags if (tags := Tags.find(workspace.store, WORKSPACE_NAME)) else {},
        "identity": {"type": "SystemAssigned", "principalId": SUBSCRIPTION_ID, "tenantId": SUBSCRIPTION_ID},
        "properties": {
            "friendlyName": "Local workspace",
            "description": f"Trains and serves on this machine: {machine_words(request)}",
            "provisioningState": "Succeeded",
            "workspaceId": SUBSCRIPTION_ID,
            "tenantId": SUBSCRIPTION_ID,
            "discoveryUrl": f"{base}/discovery",
            "mlFlowTrackingUri": base,
            "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{storage_key.ACCOUNT}",
            "publicNetworkAccess": "Disabled",
            "creationTime": answers.to_answer_time(workspace.started_at),
            "systemDatastoresAuthMode": "accesskey",
            **_NOT_HERE,
        },
        "systemData": answers.system_data(workspace.started_at, workspace.started_at),
    }


def machine_words(request: Request) -> str:
    """Return the machine in words: cores, memory, GPUs."""
    machine = workspace_of(request).machine
    gpus = ", ".join(machine.gpus) or "no GPU"
    return f"{machine.cores} cores, {machine.memory_gib:g} GiB memory, {gpus}"


ROUTES = [
    route("/health", get_health),
    route("/discovery", get_discovery),
    route("/profile/clock", put_clock, "PUT"),
    route("/studio", get_studio),
    route(WORKSPACE_PATH, get_workspace),
    route(f"{WORKSPACE_PATH}/listKeys", list_keys, "POST"),
    route(f"{WORKSPACE_PATH}/providers/Microsoft.Authorization/permissions", list_permissions),
    route(f"{WORKSPACE_PATH}/providers/Microsoft.Resources/tags/default", patch_tags, "PATCH"),
    route(f"{GROUP_PATH}/providers/{PROVIDER}/workspaces", list_workspaces),
    route(f"{PROVIDER_PATH}/workspaces", list_workspaces),
    route(f"{OPERATION_PATH}/{{operation}}", get_operation, in_thread=True),  # may write how it ended
]
