"""Online endpoints and deployments in the form in which the service answers them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from core.home import LOCATION, SUBSCRIPTION_ID
from core.local.endpoints.resources import DEFAULT_REQUEST_TIMEOUT_S, Deployment, Endpoint
from core.local.provisioned import ProvisioningState
from core.local.wire import answers

_PROBE = {
    "failureThreshold": 30,
    "successThreshold": 1,
    "timeout": "PT2S",
    "period": "PT10S",
    "initialDelay": "PT10S",
}


def endpoint_to_wire(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint as the service writes it."""
    is_there = endpoint.state is not ProvisioningState.CREATING
    return {
        "id": endpoint.arm_id,
        "name": endpoint.name,
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{answers.PROVIDER}/workspaces/onlineEndpoints",
        "tags": endpoint.tags,
        "properties": {
            "description": endpoint.asked.get("description"),
            "authMode": "Key",
            "properties": {
                **endpoint.properties,
                "azureml.onlineendpointid": endpoint.arm_id.lower(),
                "AzureAsyncOperationUri": answers.operation_url(request, endpoint.operation),
            },
            "provisioningState": endpoint.state,
            "scoringUri": f"{answers.base_url(request)}/endpoints/{endpoint.name}/score" if is_there else None,
            "swaggerUri": None,
            "compute": None,
            "traffic": endpoint.traffic,
            "mirrorTraffic": endpoint.mirror,
            "publicNetworkAccess": "Enabled",
        },
        "identity": {"type": "SystemAssigned", "principalId": SUBSCRIPTION_ID, "tenantId": SUBSCRIPTION_ID},
        "systemData": answers.system_data(endpoint.created_at, endpoint.modified_at),
    }


def deployment_to_wire(request: Request, deployment: Deployment) -> dict[str, Any]:
    """Return a deployment as the service writes it; the defaults appear when it has been made, as on Azure."""
    asked = deployment.asked
    is_made = deployment.attempt > 1 or deployment.state is not ProvisioningState.UPDATING
    probe = _PROBE if is_made else {}
    operation = deployment.operation
    own_properties = {
        "tunedeck.health": deployment.health,
        "tunedeck.restarts": str(deployment.restarts),
        "tunedeck.last_restart_at": deployment.last_restart_at,
        "tunedeck.last_exit": deployment.last_exit,
        "tunedeck.error": deployment.error,
        "AzureAsyncOperationUri": answers.operation_url(request, operation) if operation else None,
    }
    return {
        "id": deployment.arm_id,
        "name": deployment.name,
        "location": LOCATION,
        "kind": "Managed",
        "type": f"{answers.PROVIDER}/workspaces/onlineEndpoints/deployments",
        "tags": deployment.tags,
        "sku": {"tier": "Standard", **deployment.sku},
        "properties": {
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
            "requestSettings": {
                "maxQueueWait": "PT0S",
                "requestTimeout": f"PT{DEFAULT_REQUEST_TIMEOUT_S:.0f}S" if is_made else "PT0S",
                "maxConcurrentRequestsPerInstance": 1,
                **without_nulls(asked.get("requestSettings")),
            },
            "livenessProbe": probe | without_nulls(asked.get("livenessProbe")) or None,
            "readinessProbe": probe | without_nulls(asked.get("readinessProbe")) or None,
            "provisioningState": deployment.state,
            "properties": (asked.get("properties") or {}) | without_nulls(own_properties),
        },
        "systemData": answers.system_data(deployment.created_at, deployment.modified_at),
    }


def without_nulls(fields: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in (fields or {}).items() if value is not None}
