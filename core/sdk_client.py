"""Builds azure-ai-ml clients for a cloud: patience, proxies, and plain http on loopback. Holds no client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import cloud as clouds
from core.cloud import Cloud

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

# azure-core sends a PUT again whose answer was lost (read) or was a 5xx (status): a second run. The reader and the
# ledger's runner repeat what failed themselves, and ask first whether it was done.
_NOTHING_TWICE = {"retry_read": 0, "retry_status": 0}
# A stopped server takes a thread for `read_timeout`, and no retry after that; one that is gone answers at once.
LOCAL_PATIENCE = {"connection_timeout": 1, "read_timeout": 10, "retry_total": 1, "retry_connect": 0, **_NOTHING_TWICE}
AZURE_PATIENCE = {"connection_timeout": 5, "read_timeout": 60, "retry_total": 2, **_NOTHING_TWICE}


def build_client(cloud: Cloud, credential: Any, ids: dict[str, str]) -> MLClient:
    """Return a client of a workspace (subscription_id, resource_group_name, workspace_name) or of a registry_name.

    A registry's client asks the registry where it is, so this may take a network call.
    """
    with clouds.using(cloud):
        from azure.ai.ml import MLClient

        options: dict[str, Any] = {"enable_telemetry": False, "show_progress": False, "cloud": cloud.name}
        return MLClient(credential, **ids, **options, **_options_for(cloud))


def patience_of(cloud: Cloud) -> dict[str, int]:
    """Return time-outs (seconds) and retries for a cloud, in azure-core's names."""
    return LOCAL_PATIENCE if cloud.is_local else AZURE_PATIENCE


def _options_for(cloud: Cloud) -> dict[str, Any]:
    if not cloud.is_local:
        return dict(AZURE_PATIENCE)
    return {
        "cloud_metadata": cloud.metadata,
        # A bare instance: the SDK adds policies of its own to a list it is given, and shares that list.
        "per_call_policies": _plain_http_policy(cloud.resource_manager),
        "use_env_settings": False,  # a proxy of the environment would be asked for 127.0.0.1
        "retry_backoff_factor": 0.1,
        **LOCAL_PATIENCE,
    }


def _plain_http_policy(base_url: str) -> Any:
    """Return the policy that lifts azure-core's https rule for this one address on loopback.

    It has to be of this base class: another kind is chained, and the chain is overwritten by each of the 25 pipelines.
    """
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class AllowPlainHttp(SansIOHTTPPolicy):
        def on_request(self, request: Any) -> None:
            if request.http_request.url.startswith(f"{base_url}/"):
                request.context.options["enforce_https"] = False

    return AllowPlainHttp()
