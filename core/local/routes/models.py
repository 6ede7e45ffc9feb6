"""Registered models: versions that name the files a job gave out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local import addresses
from core.local.assets import Asset, AssetRoutes
from core.local.blobs import CONTAINER
from core.local.endpoints.resources import Deployment
from core.local.jobs import recovery
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

DELETE_FILES = "deleteFiles"  # query of DELETE; Azure has no such thing, its files stay in the storage account
TYPES = ("mlflow_model", "custom_model", "triton_model")

_JOB_OUTPUT = re.compile(r"azureml://jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(/.*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Model(Asset):
    """One version of a registered model."""

    KIND = "model"
    SEGMENT = "models"

    type: str
    uri: str
    job: str | None = None
    flavors: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, workspace: Workspace, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `modelType` and `modelUri`, a job's output made the long datastore address; raises 400."""
        uri = answers.field_of(properties, "modelUri", str, "")
        kind = answers.field_of(properties, "modelType", str, "custom_model")
        if kind not in TYPES:
            raise WireError(400, "UserError", f"The type '{kind}' of the model is not one of {', '.join(TYPES)}.")
        path = addresses.datastore_path(uri)
        if path is None:
            message = f"'{uri}' is not a job's output or an address in this workspace's datastore."
            raise WireError(400, "UserError", message)
        job = _JOB_OUTPUT.fullmatch(uri)
        if job is not None and workspace.store.get("job", job["job"]) is None:
            raise WireError(400, "UserError", f"The job '{job['job']}' was not found.")
        try:
            addresses.resolve_uri(workspace, uri)
        except WireError as error:
            raise WireError(400, "UserError", f"The model cannot be registered: {error.message}") from error
        job_name = answers.field_of(properties, "jobName", str) or (job["job"] if job else None)
        flavors = properties.get("flavors") or {}
        return {"type": kind, "uri": addresses.long_uri(path), "job": job_name, "flavors": flavors}

    @classmethod
    def read_content(cls, properties: dict[str, Any]) -> Any:
        """Return `modelUri`."""
        return properties.get("modelUri")

    def to_wire(self) -> dict[str, Any]:
        """Return the properties that are a model's own."""
        return {"modelType": self.type, "modelUri": self.uri, "jobName": self.job, "flavors": self.flavors}


class ModelRoutes(AssetRoutes[Model]):
    """The registered models: a version that is served stays, and its files can go with it."""

    def delete_version(self, request: Request) -> Response:
        """DELETE a version, with its files where the query says so; refused while a deployment serves it."""
        workspace = workspace_of(request)
        model = Model.get(workspace.store, f"{answers.name_of(request, 'name')}/{answers.name_of(request, 'version')}")
        _check_unused(workspace, model)
        with_files = request.query_params.get(DELETE_FILES, "false").lower() == "true"
        files = _find_files(workspace, model) if with_files else None
        intent = recovery.begin_deletion(workspace.store, model.KIND, model.key, files)
        recovery.finish_deletion(workspace.store, intent)
        return Response(status_code=200)


def _check_unused(workspace: Workspace, model: Model) -> None:
    served_by = [
        deployment.key
        for deployment in Deployment.list_all(workspace.store)
        if addresses.is_asset(deployment.model, model.SEGMENT, model.name, model.version)
    ]
    if served_by:
        message = f"The model '{model.name}' version {model.version} is served by {', '.join(served_by)}."
        raise WireError(409, "ModelInUse", message)


def _find_files(workspace: Workspace, model: Model) -> Path | None:
    """Return the files of a version; raises 409 where another needs them, 400 where they are the whole datastore."""
    others = [
        f"{other.name} version {other.version}"
        for other in Model.list_all(workspace.store)
        if other.uri.rstrip("/") == model.uri.rstrip("/") and other.key != model.key
    ]
    if others:
        raise WireError(409, "FilesInUse", f"The files are also those of {', '.join(others)}.")
    try:
        files = addresses.resolve_uri(workspace, model.uri)
    except WireError as error:
        if error.status == 404:  # already gone
            return None
        raise
    if files == workspace.blobs.container_path(CONTAINER):
        raise WireError(400, "UserError", "The model's files are the whole datastore; they are not deleted.")
    return files


ROUTES = ModelRoutes(Model).routes()
