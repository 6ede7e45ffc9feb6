"""Plain azure-ai-ml clients of a local workspace, made as a foreign script would make them: without core.azureml."""

from __future__ import annotations

from typing import Any

from core.azureml import cloud as clouds
from tests.local_server import LocalServer

SUBSCRIPTION_ID = "00000000-0000-0000-0000-000000000000"


def credential_of(server: LocalServer) -> Any:
    return clouds.LocalCredential(server.home)


def client_options(server: LocalServer) -> dict[str, Any]:
    """Return what MLClient must be told beyond what the lesson tells it."""
    return {
        "cloud": f"TunedeckLocal{server.home.port()}",
        "cloud_metadata": {
            "azure_portal": f"{server.url}/studio",
            "resource_manager": server.url,
            "active_directory": f"{server.url}/aad",
            "aml_resource_id": f"{server.url}/aml",
            "storage_endpoint": "local",
            "registry_discovery_endpoint": server.url,
        },
        "per_call_policies": _plain_http_policy(),  # a bare instance: a list would be added to and shared
        "enable_telemetry": False,
        "show_progress": False,
        "use_env_settings": False,
    }


def make_clients(server: LocalServer, policy: Any = None) -> tuple[Any, Any]:
    """Return the clients of the workspace and of the registry; `policy` must let plain http pass, as the usual one."""
    from azure.ai.ml import MLClient

    credential, options = credential_of(server), client_options(server)
    options["per_call_policies"] = policy or options["per_call_policies"]
    return (
        MLClient(credential, SUBSCRIPTION_ID, "local", "local", **options),
        MLClient(credential, registry_name="azureml", **options),
    )


def _plain_http_policy() -> Any:
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class AllowPlainHttp(SansIOHTTPPolicy):  # type: ignore[type-arg]
        def on_request(self, request: Any) -> None:
            request.context.options["enforce_https"] = False

    return AllowPlainHttp()
