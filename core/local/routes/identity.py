"""What makes the local workspace a cloud to foreign scripts: ARM's list of clouds, and a managed identity's tokens."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local.wire import answers, storage_key
from core.local.wire.answers import route
from core.local.wire.auth import SCRIPT_TOKEN_LIFETIME_S
from core.local.workspace import workspace_of

CLOUD = "TunedeckLocalTls"
# What Azure's own examples ask a token for, to see whether there is an identity: ARM by its two names, and Azure ML.
AZURE_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com")


def list_clouds(request: Request) -> list[dict[str, Any]]:
    """GET the clouds that the resource manager at this address knows: this one.

    azure-ai-ml makes the audience of its second token from `portal`; auth.py knows which.
    """
    base = answers.base_url(request)
    return [
        {
            "name": CLOUD,
            "portal": base,
            "resourceManager": base,
            "authentication": {"loginEndpoint": f"{base}/aad", "audiences": [base], "tenant": "local"},
            "suffixes": {"storage": storage_key.SUFFIX},
        }
    ]


def get_token(request: Request) -> Response | dict[str, Any]:
    """GET a token for `resource`, as App Service hands them to the programs it runs.

    One that is asked for Azure is made for this workspace: it opens nothing elsewhere.
    """
    keeper = workspace_of(request).gatekeeper
    resource = request.query_params.get("resource", "")
    is_of_azure = resource.rstrip("/").lower() in AZURE_AUDIENCES
    if not (is_of_azure or keeper.is_own_audience(resource)):
        return answers.JsonAnswer({"statusCode": 400, "message": _refusal_of(resource)}, 400)  # App Service's envelope
    audience = answers.base_url(request) if is_of_azure else resource
    return {
        "access_token": keeper.sign_token(audience, SCRIPT_TOKEN_LIFETIME_S),
        "expires_on": str(int(time.time()) + SCRIPT_TOKEN_LIFETIME_S),
        "resource": resource,
        "token_type": "Bearer",
    }


def _refusal_of(resource: str) -> str:
    return (
        f"The local workspace makes no tokens for '{resource}': it stands for the resource manager and for Azure ML. "
        "Its files are opened by the datastore's own secret, its endpoints by their keys."
    )


ROUTES = [route("/metadata/endpoints", list_clouds), route("/identity/token", get_token)]
