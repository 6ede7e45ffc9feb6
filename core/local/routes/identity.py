"""What makes the local workspace a cloud to foreign scripts: ARM's list of clouds, and a managed identity's tokens."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request

from core.local import storage_key, wire
from core.local.wire import WireError, route

CLOUD = "TunedeckLocalTls"
TOKEN_LIFETIME_S = 3600


def list_clouds(request: Request) -> list[dict[str, Any]]:
    """GET the clouds that the resource manager at this address knows: this one.

    azure-ai-ml makes the audience of its second token from `portal`; auth.py knows which.
    """
    base = wire.base_url(request)
    return [
        {
            "name": CLOUD,
            "portal": base,
            "resourceManager": base,
            "authentication": {"loginEndpoint": f"{base}/aad", "audiences": [base], "tenant": "local"},
            "suffixes": {"storage": storage_key.SUFFIX},
        }
    ]


def get_token(request: Request) -> dict[str, Any]:
    """GET a token for `resource`, as App Service hands them to the programs it runs."""
    keeper = wire.workspace_of(request).gatekeeper
    resource = request.query_params.get("resource", "")
    if not keeper.is_own_audience(resource):
        raise WireError(400, "invalid_resource", f"The local workspace makes no tokens for '{resource}'.")
    return {
        "access_token": keeper.sign_token(resource, TOKEN_LIFETIME_S),
        "expires_on": str(int(time.time()) + TOKEN_LIFETIME_S),
        "resource": resource,
        "token_type": "Bearer",
    }


ROUTES = [route("/metadata/endpoints", list_clouds), route("/identity/token", get_token)]
