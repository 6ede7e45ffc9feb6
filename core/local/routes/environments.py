"""Environments: the Python that the local workspace trains and serves with, and images, which are kept and given back.

No image is built or run here: a job or a deployment that names one is refused (job_request.py, routes/endpoints.py).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local.assets import Asset, AssetRoutes
from core.local.jobs.request import OWN_ENVIRONMENT
from core.local.wire import answers
from core.local.wire.answers import PROVIDER, REGISTRY_NAME, REGISTRY_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

KIND = "environment"
NAME = OWN_ENVIRONMENT
VERSION = "1"
_SPEC: dict[str, type] = {
    "image": str,
    "condaFile": str,
    "build": dict,
    "inferenceConfig": dict,
    "osType": str,
    "autoRebuild": str,
}
_NO_IMAGE: dict[str, Any] = {
    **dict.fromkeys(("image", "condaFile", "build", "inferenceConfig")),
    "environmentType": "UserCreated",
    "osType": "Linux",
    "autoRebuild": "Disabled",
}
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def list_containers(request: Request) -> dict[str, Any]:
    """GET the names of the registry's environments: the one."""
    return answers.paged(request, _if_active(request, _container_to_wire(request)))


def get_container(request: Request) -> dict[str, Any]:
    """GET what is known of a name."""
    _check_name(request)
    return _container_to_wire(request)


def list_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a name."""
    _check_name(request)
    return answers.paged(request, _if_active(request, _version_to_wire(request)))


def get_version(request: Request) -> dict[str, Any]:
    """GET one version."""
    _check_name(request)
    if answers.name_of(request, "version") != VERSION:
        raise _not_found(f"{NAME}:{answers.name_of(request, 'version')}")
    return _version_to_wire(request)


class _ImageAsset(Asset):
    """An environment that was made here: an image, and what is to be installed in it."""

    kind = KIND
    segment = "environments"
    kept = "spec"

    def read_content(self, properties: dict[str, Any]) -> Any:
        """Return image, conda file, build and serving routes, None where none of them is sent."""
        return {name: properties[name] for name in _SPEC if properties.get(name) not in (None, _NO_IMAGE[name])} or None

    def from_wire(self, request: Request, properties: dict[str, Any]) -> dict[str, Any]:
        """Read what the image is made of; raises 400."""
        for name, shape in _SPEC.items():
            answers.field_of(properties, name, shape)
        spec = self.read_content(properties) or {}
        if not spec.get("image") and not spec.get("build"):
            raise WireError(400, "UserError", "An environment needs an image or a build context.")
        return {"spec": spec, "anonymous": answers.field_of(properties, "isAnonymous", bool, False)}

    def to_wire(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the properties that are an environment's own."""
        return {**_NO_IMAGE, **document["spec"], "isAnonymous": document["anonymous"]}

    def describe_container(self, newest: dict[str, Any]) -> dict[str, Any]:
        """Return nothing more: a container has no content of its own."""
        return {}


class _WorkspaceRoutes(AssetRoutes):
    """The environments of the workspace: this machine's first, then those that were made."""

    def list_containers(self, request: Request) -> dict[str, Any]:
        """GET the names."""
        store = workspace_of(request).store
        made = [self._container_to_wire(store, name) for name in self._names_shown(request)]
        return answers.paged(request, [*_if_active(request, _container_to_wire(request)), *made])

    def get_container(self, request: Request) -> dict[str, Any]:
        """GET what is known of a name."""
        return _container_to_wire(request) if _is_own(request) else super().get_container(request)

    def list_versions(self, request: Request) -> dict[str, Any]:
        """GET the versions of a name."""
        return list_versions(request) if _is_own(request) else super().list_versions(request)

    def get_version(self, request: Request) -> dict[str, Any]:
        """GET one version."""
        return get_version(request) if _is_own(request) else super().get_version(request)

    def put_container(self, request: Request) -> dict[str, Any]:
        """PUT whether a name is archived."""
        _refuse_own(request)
        return super().put_container(request)

    def put_version(self, request: Request) -> Response:
        """PUT a version."""
        _refuse_own(request)
        return super().put_version(request)

    def delete_version(self, request: Request) -> Response:
        """DELETE a version."""
        _refuse_own(request)
        return super().delete_version(request)


def _is_own(request: Request) -> bool:
    return answers.name_of(request, "name") == NAME


def _refuse_own(request: Request) -> None:
    if _is_own(request):
        raise WireError(400, "UserError", f"'{NAME}' is this machine's own Python: it is neither changed nor archived.")


def _if_active(request: Request, shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [] if answers.list_view(request) == "archived" else [shown]


def _check_name(request: Request) -> None:
    if answers.name_of(request, "name") != NAME:
        raise _not_found(answers.name_of(request, "name"))


def _not_found(name: str) -> WireError:
    return WireError(404, "ResourceNotFound", f"The environment '{name}' was not found; here is only '{NAME}'.")


def _conda_file() -> str:
    """Return the Python and the libraries of this machine in the form of a conda file."""
    found = [(name, importlib.metadata.version(name)) for name in _PACKAGES if _is_installed(name)]
    pins = [f"{name}=={version}" for name, version in found]
    return json.dumps({"name": NAME, "dependencies": [f"python={platform.python_version()}", "pip", {"pip": pins}]})


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _address(request: Request, *below: str) -> tuple[str, str]:
    """Return the id and the type of something below `environments`, of the workspace or of the registry."""
    if "registry" in request.path_params:
        return "/".join((f"azureml://registries/{REGISTRY_NAME}/environments", NAME, *below)), "environments"
    kind = f"{PROVIDER}/workspaces/environments" + ("/versions" if below else "")
    return answers.arm_id("environments", NAME, *below), kind


def _container_to_wire(request: Request) -> dict[str, Any]:
    address, kind = _address(request)
    return {
        "id": address,
        "name": NAME,
        "type": kind,
        "properties": {
            "description": "The Python of this machine",
            "tags": {},
            "properties": {},
            "isArchived": False,
            "latestVersion": VERSION,
            "nextVersion": str(int(VERSION) + 1),
        },
        "systemData": _system_data(request),
    }


def _version_to_wire(request: Request) -> dict[str, Any]:
    address, kind = _address(request, "versions", VERSION)
    return {
        "id": address,
        "name": VERSION,
        "type": kind,
        "properties": {
            "description": "The Python of this machine, with the libraries that train and serve",
            "tags": {},
            "properties": {},
            "isArchived": False,
            "isAnonymous": False,
            "environmentType": "Curated",
            "osType": "Linux",
            "image": None,
            "build": None,
            "condaFile": _conda_file(),
            "inferenceConfig": None,
            "autoRebuild": "Disabled",
        },
        "systemData": _system_data(request),
    }


def _system_data(request: Request) -> dict[str, str]:
    started_at = workspace_of(request).started_at
    return answers.system_data({"created_at": started_at, "modified_at": started_at})


_OF_REGISTRY = f"{REGISTRY_PATH}/environments"
ROUTES = [
    *_WorkspaceRoutes(_ImageAsset()).routes(),
    route(_OF_REGISTRY, list_containers),
    route(f"{_OF_REGISTRY}/{{name}}", get_container),
    route(f"{_OF_REGISTRY}/{{name}}/versions", list_versions),
    route(f"{_OF_REGISTRY}/{{name}}/versions/{{version}}", get_version),
]
