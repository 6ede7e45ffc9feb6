"""Builds azure-ai-ml clients for a cloud: patience, proxies, http on loopback, a look at each job. Holds no client."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.azureml import cloud as clouds
from core.azureml.addresses import Cloud
from core.azureml.heard import hear
from core.errors import BadInput

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_JOB = re.compile(r"/workspaces/[^/]+/jobs/([^/]+)$")
_REPORT = "Retry; if it comes again, report the details (`make report`)."
_checking = threading.local()  # `look`: what a thread's next jobs are shown to before they are sent

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
    # A bare instance: the SDK adds policies of its own to a list it is given, and shares that list.
    options: dict[str, Any] = {"per_call_policies": _gate(cloud)}
    if cloud.is_custom:
        options["cloud_metadata"] = cloud.metadata
    if not cloud.is_local:
        return {**AZURE_PATIENCE, **options}
    return {
        "use_env_settings": False,  # a proxy of the environment would be asked for 127.0.0.1
        "retry_backoff_factor": 0.1,
        **LOCAL_PATIENCE,
        **options,
    }


@contextmanager
def checking_job(name: str, check: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Show `check` the properties of each job that this thread sends; what it raises keeps the job from being sent.

    Raises BadInput for a job of another name.
    """

    def look(sent: str, body: dict[str, Any]) -> None:
        if sent != name:
            raise BadInput(f"The job '{sent}' was to be sent in place of '{name}'. Nothing was sent.", _REPORT)
        check(body.get("properties") or {})

    _checking.look = look
    try:
        yield
    finally:
        _checking.look = None


def _gate(cloud: Cloud) -> Any:
    """Return what each request of a client passes: plain http for the local workspace alone, and no unchecked job.

    What is answered is heard (core/azureml/heard.py).

    It has to be of this base class: another kind is chained, and the chain is overwritten by each of the 25 pipelines.
    """
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    base_url = f"{cloud.resource_manager}/"

    class Gate(SansIOHTTPPolicy[Any, Any]):
        def on_request(self, request: Any) -> None:
            sent = request.http_request
            if cloud.is_local and sent.url.startswith(base_url):
                request.context.options["enforce_https"] = False
            job = _JOB.search(urlsplit(sent.url).path) if sent.method == "PUT" else None
            if job is None:
                return
            clouds.let_go_of_cloud()
            if look := getattr(_checking, "look", None):
                look(job[1], json.loads(sent.content))

        def on_response(self, request: Any, response: Any) -> None:
            hear(request.http_request.method, response.http_response.status_code, response.http_response.headers)

    return Gate()
