"""Registered models: versions that name the files a job gave out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local import addresses
from core.local.assets import Asset, AssetRoutes
from core.local.jobs import recovery
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

KIND = "model"
DELETE_FILES = "deleteFiles"  # query of DELETE; Azure has no such thing, its files stay in the storage account
TYPES = ("mlflow_model", "custom_model", "triton_model")

_JOB_OUTPUT = re.compile(r"azureml://jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(/.*)?", re.IGNORECASE)


class _ModelAsset(Asset):
    """What is a model's own."""

    kind = KIND
    segment = "models"
    content = "modelUri"

    def from_wire(self, request: Request, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `modelType` and `modelUri`, a job's output made the long datastore address; raises 400."""
        uri = answers.field_of(properties, "modelUri", str, "")
        sort = answers.field_of(properties, "modelType", str, "custom_model")
        if sort not in TYPES:
            raise WireError(400, "UserError", f"The type '{sort}' of the model is not one of {', '.join(TYPES)}.")
        path = addresses.datastore_path(uri)
        if path is None:
            raise WireError(
                400, "UserError", f"'{uri}' is not a job's output or an address in this workspace's datastore."
            )
        workspace = workspace_of(request)
        job = _JOB_OUTPUT.fullmatch(uri)
        if job is not None and workspace.store.get("job", job["job"]) is None:
            raise WireError(400, "UserError", f"The job '{job['job']}' was not found.")
        try:
            addresses.resolve_uri(workspace, uri)
        except WireError as error:
            raise WireError(400, "UserError", f"The model cannot be registered: {error.message}") from error
        named = answers.field_of(properties, "jobName", str) or (job["job"] if job else None)
        return {"type": sort, "uri": addresses.long_uri(path), "job": named, "flavors": properties.get("flavors") or {}}

    def to_wire(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the properties that are a model's own."""
        return {
            "modelType": document["type"],
            "modelUri": document["uri"],
            "jobName": document["job"],
            "flavors": document["flavors"],
        }

    def describe_container(self, newest: dict[str, Any]) -> dict[str, Any]:
        """Return nothing more: a model's container has no content of its own."""
        return {}


class _ModelRoutes(AssetRoutes):
    def delete_version(self, request: Request) -> Response:
        """DELETE a version, with its files where the query says so; refused while a deployment serves it."""
        workspace = workspace_of(request)
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        document = workspace.store.require(KIND, f"{name}/{version}")
        _check_unused(workspace, name, version)
        files = None
        if request.query_params.get(DELETE_FILES, "false").lower() == "true":
            files = _files_of(workspace, document)
        intent = recovery.begin_deletion(workspace.store, KIND, f"{name}/{version}", files)
        recovery.finish_deletion(workspace.store, intent)
        return Response(status_code=200)


def _check_unused(workspace: Workspace, name: str, version: str) -> None:
    served_by = [
        f"{deployment['endpoint']}/{deployment['name']}"
        for deployment in workspace.store.list("deployment")
        if addresses.is_asset(str(deployment["asked"].get("model") or ""), "models", name, version)
    ]
    if served_by:
        raise WireError(409, "ModelInUse", f"The model '{name}' version {version} is served by {', '.join(served_by)}.")


def _files_of(workspace: Workspace, document: dict[str, Any]) -> Path | None:
    """Return the files of a version; raises 409 where another needs them, 400 where they are the whole datastore."""
    others = [
        f"{other['name']} version {other['version']}"
        for other in workspace.store.list(KIND)
        if other["uri"].rstrip("/") == document["uri"].rstrip("/")
        and (other["name"], other["version"]) != (document["name"], document["version"])
    ]
    if others:
        raise WireError(409, "FilesInUse", f"The files are also those of {', '.join(others)}.")
    try:
        files = addresses.resolve_uri(workspace, document["uri"])
    except WireError as error:
        if error.status == 404:  # already gone
            return None
        raise
    if files == workspace.blobs.container_path(addresses.CONTAINER):
        raise WireError(400, "UserError", "The model's files are the whole datastore; they are not deleted.")
    return files


ROUTES = _ModelRoutes(_ModelAsset()).routes()
