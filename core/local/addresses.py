"""The addresses of data, models and outputs: `azureml://` and ARM ids, and the files that they lead to."""

from __future__ import annotations

import re
from pathlib import Path

from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME
from core.local.backend import Backend
from core.local.blobs import CONTAINER, DATASTORE
from core.local.wire import answers
from core.local.wire.errors import WireError

_SHORT = re.compile(r"azureml://datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)", re.IGNORECASE)
_LONG = re.compile(
    r"azureml://subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/workspaces/(?P<workspace>[^/]+)"
    r"/datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)",
    re.IGNORECASE,
)
_OUTPUT = re.compile(
    r"azureml://jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths/(?P<path>.*))?/?", re.IGNORECASE
)
_CHECKPOINT = re.compile(
    r"azureml://jobs/(?P<job>[^/]+)/outputs/checkpoints/paths/(?P<checkpoint>checkpoint-\d+)/?", re.IGNORECASE
)
_REGISTRY_MODEL = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)/(?P<sort>versions|labels)/(?P<version>[^/]+)",
    re.IGNORECASE,
)
_ASSET = re.compile(
    r"(?:azureml:)?/subscriptions/.+/(?P<kind>data|models)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE
)


def is_asset(uri: str, kind: str, name: str, version: str) -> bool:
    """Tell whether an address is the ARM id of this version of a data asset or a model."""
    found = _ASSET.fullmatch(uri)
    return bool(found and (found["kind"].lower(), found["name"], found["version"]) == (kind, name, version))


def output_path(job: str, output: str) -> str:
    """Return the path in the default datastore where a job's output lies."""
    return f"azureml/{job}/{output}/"


def long_uri(path: str) -> str:
    """Return the long address of a path in the default datastore, the only one the SDK takes for a model's."""
    return (
        f"azureml://subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{RESOURCE_GROUP}/workspaces/{WORKSPACE_NAME}"
        f"/datastores/{DATASTORE}/paths/{path}"
    )


def datastore_path(uri: str) -> str | None:
    """Return the path in the default datastore an address names, or None for an address of another sort.

    Raises 400 for another workspace's or an unknown datastore.
    """
    if found := _OUTPUT.fullmatch(uri):
        return output_path(found["job"], found["output"]) + (found["path"] or "")
    found = _SHORT.fullmatch(uri) or _LONG.fullmatch(uri)
    if found is None:
        return None
    named = found.groupdict()
    own = (SUBSCRIPTION_ID, RESOURCE_GROUP, WORKSPACE_NAME)
    if any(
        not answers.is_named(wanted, named.get(part, wanted))
        for part, wanted in zip(("subscription", "group", "workspace"), own, strict=True)
    ):
        raise WireError(400, "UserError", f"'{uri}' lies in another workspace.")
    if named["datastore"] != DATASTORE:
        refused = f"'{uri}' is not in the datastore '{DATASTORE}', the one that is read here."
        raise WireError(400, "UserError", refused)
    return str(named["path"])


def resolve_uri(backend: Backend, uri: str) -> Path:
    """Return the file or folder of an address: a datastore path, a job's output, a data asset, a model, a base model.

    Raises 400 UserError for an address that cannot be read and 404 for one that names nothing.
    """
    if found := _REGISTRY_MODEL.fullmatch(uri):
        return _registry_folder(backend, found)
    if found := _ASSET.fullmatch(uri):
        kind = "data" if found["kind"].lower() == "data" else "model"
        asset = backend.store.require(kind, f"{found['name']}/{found['version']}")
        return resolve_uri(backend, asset["uri"])
    if found := _CHECKPOINT.fullmatch(uri):
        folder = backend.runs.checkpoints_of(answers.check_name("a job's name", found["job"])).folder
        return folder / found["checkpoint"]
    path = datastore_path(uri)
    if path is None:
        raise WireError(400, "UserError", f"'{uri}' is not an address this workspace can read.")
    inside = backend.blobs.container_path(CONTAINER)
    resolved = backend.blobs.path_of(CONTAINER, path.strip("/")) if path.strip("/") else inside
    if not resolved.exists():
        raise WireError(404, "ResourceNotFound", f"Nothing is at '{uri}'.")
    return resolved


def _registry_folder(backend: Backend, found: re.Match[str]) -> Path:
    name, version = found["name"], found["version"]
    model = (
        backend.registry.find_model(name, version)
        if answers.is_named(answers.REGISTRY_NAME, found["registry"])
        else None
    )
    if model is None:
        raise WireError(404, "ResourceNotFound", f"The model '{name}' version {version} was not found in the registry.")
    if model.folder is None:
        raise WireError(400, "UserError", f"The model '{name}' runs on Azure; its weights are not on this machine.")
    return model.folder
