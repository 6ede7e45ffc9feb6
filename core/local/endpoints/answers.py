"""Online endpoints and deployments in the form in which the service answers them. Changes nothing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from core.home import LOCATION, SUBSCRIPTION_ID
from core.local.endpoints.deployments import deployment_id
from core.local.store import Document
from core.local.wire import answers

DEFAULT_REQUEST_TIMEOUT = "PT5S"

_PROBE = {
    "failureThreshold": 30,
    "successThreshold": 1,
    "timeout": "PT2S",
    "period": "PT10S",
    "initialDelay": "PT10S",
}


def endpoint_to_wire(request: Request, document: Document) -> dict[str, Any]:
    """Return an endpoint as the service writes it."""
    name, asked = document["name"], document["asked"]
    base = f"{answers.base_url(request)}/endpoints/{name}"
    shown = {
        "description": asked.get("description"),
        "authMode": "Key",
        "properties": {
            **(asked.get("properties") or {}),
            "azureml.onlineendpointid": answers.arm_id("onlineEndpoints", name).lower(),
            "AzureAsyncOperationUri": answers.operation_url(request, document["operation"]),
        },
        "provisioningState": document["state"],
        "scoringUri": None if document["state"] == "Creating" else f"{base}/score",
        "swaggerUri": None,
        "compute": None,
        "traffic": document["traffic"],
        "mirrorTraffic": document.get("mirror") or {},
        "publicNetworkAccess": "Enabled",
    }
    return {
        "id": answers.arm_id("onlineEndpoints", name),
        "name": name,
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{answers.PROVIDER}/workspaces/onlineEndpoints",
        "tags": document["tags"],
        "properties": shown,
        "identity": {"type": "SystemAssigned", "principalId": SUBSCRIPTION_ID, "tenantId": SUBSCRIPTION_ID},
        "systemData": answers.system_data(document),
    }


def deployment_to_wire(request: Request, document: Document) -> dict[str, Any]:
    """Return a deployment as the service writes it; the defaults appear when it has been made, as on Azure."""
    asked, made = document["asked"], document["attempt"] > 1 or document["state"] != "Updating"
    requests = {
        "maxQueueWait": "PT0S",
        "requestTimeout": DEFAULT_REQUEST_TIMEOUT if made else "PT0S",
        "maxConcurrentRequestsPerInstance": 1,
    }
    told = {
        "tunedeck.health": document["health"],
        "tunedeck.restarts": str(document["restarts"]),
        "tunedeck.last_restart_at": document["last_restart_at"],
        "tunedeck.last_exit": document["last_exit"],
        "tunedeck.error": document["error"],
        "AzureAsyncOperationUri": answers.operation_url(request, document["operation"])
        if document["operation"]
        else None,
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
        "requestSettings": requests | given(asked.get("requestSettings")),
        "livenessProbe": (_PROBE if made else {}) | given(asked.get("livenessProbe")) or None,
        "readinessProbe": (_PROBE if made else {}) | given(asked.get("readinessProbe")) or None,
        "provisioningState": document["state"],
        "properties": (asked.get("properties") or {}) | given(told),
    }
    return {
        "id": deployment_id(document),
        "name": document["name"],
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{answers.PROVIDER}/workspaces/onlineEndpoints/deployments",
        "tags": document["tags"],
        "sku": {"tier": "Standard", **document["sku"]},
        "properties": shown,
        "systemData": answers.system_data(document),
    }


def given(fields: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in (fields or {}).items() if value is not None}
