"""Opens the default datastore's container: by identity where the service allows it, else by its key or signature."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.errors import AccessDenied, ServiceRefused

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from azure.storage.blob import ContainerClient

Call = Callable[..., Any]
BLOCK_BYTES = 4 * 1024 * 1024  # a block is one request, and one step of an upload's progress
_SECRET_LIFETIME_S = 1800  # the service's signatures are good for an hour


def open_default(workspace: MLClient, identity: TokenCredential | None, call: Call) -> tuple[ContainerClient, str]:
    """Return the container of the workspace's default datastore, and the datastore's name.

    identity: tried before the datastore's own secret, and through the environment's proxy; None on this machine.
    call: `Connection.call`, which makes errors of the service ours.
    """
    store = call("read", "the default datastore", lambda: workspace.datastores.get_default())
    url = account_url(store.protocol, store.endpoint, store.account_name)
    options = {"use_env_settings": identity is not None, "connection_timeout": 5, "read_timeout": 60, "retry_total": 2}
    options |= {"max_single_put_size": BLOCK_BYTES, "max_block_size": BLOCK_BYTES}
    if url.startswith("https://") and identity is not None:
        by_identity = _container(url, store.container_name, identity, options)
        if _can_be_read(call, by_identity):
            return by_identity, store.name
    return _container(url, store.container_name, _read_secret(workspace, call, store.name), options), store.name


def account_url(protocol: str, endpoint: str, account: str) -> str:
    """Return a storage account's address: host style on Azure, path style where the endpoint is a host and port."""
    return f"{protocol}://{endpoint}/{account}" if ":" in endpoint else f"{protocol}://{account}.blob.{endpoint}"


def is_stale(container: ContainerClient) -> bool:
    """Tell whether a container was opened so long ago that its signature may run out."""
    return time.monotonic() - getattr(container, "opened_at", 0.0) > _SECRET_LIFETIME_S


def _container(url: str, name: str, credential: Any, options: dict[str, Any]) -> ContainerClient:
    from azure.storage.blob import ContainerClient

    container = ContainerClient(url, name, credential=credential, **options)
    container.opened_at = time.monotonic()  # type: ignore[attr-defined]
    return container


def _can_be_read(call: Call, container: ContainerClient) -> bool:
    """Tell whether the identity has a role on the storage account itself: owning the workspace does not give one."""
    try:
        call("read", "the datastore", container.get_container_properties)
    except (AccessDenied, ServiceRefused):
        return False
    return True


def _read_secret(workspace: MLClient, call: Call, datastore: str) -> str:
    found = call(
        "read",
        f"the key of datastore '{datastore}'",
        lambda: workspace.datastores.get(datastore, include_secrets=True),
    )
    credentials = found.credentials
    secret = str(getattr(credentials, "account_key", None) or getattr(credentials, "sas_token", None) or "")
    if not secret:
        raise AccessDenied(
            f"You may not write to the datastore '{datastore}'.",
            "Ask for the role Storage Blob Data Contributor on its storage account.",
        )
    return secret.lstrip("?")
