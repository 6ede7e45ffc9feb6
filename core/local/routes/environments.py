"""Environments: the one there is, the Python that the local workspace trains and serves with. None can be made here."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Any

from starlette.requests import Request

from core.local import wire
from core.local.wire import PROVIDER, REGISTRY_NAME, REGISTRY_PATH, WORKSPACE_PATH, WireError, route

NAME = "this-machine"
VERSION = "1"
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def list_containers(request: Request) -> dict[str, Any]:
    """GET the names of the environments."""
    shown = [] if wire.list_view(request) == "archived" else [_container_to_wire(request)]
    return wire.paged(request, shown)


def get_container(request: Request) -> dict[str, Any]:
    """GET what is known of a name."""
    _check_name(request)
    return _container_to_wire(request)


def list_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a name."""
    _check_name(request)
    shown = [] if wire.list_view(request) == "archived" else [_version_to_wire(request)]
    return wire.paged(request, shown)


def get_version(request: Request) -> dict[str, Any]:
    """GET one version."""
    _check_name(request)
    if wire.name_of(request, "version") != VERSION:
        raise _not_found(f"{NAME}:{wire.name_of(request, 'version')}")
    return _version_to_wire(request)


def _check_name(request: Request) -> None:
    if wire.name_of(request, "name") != NAME:
        raise _not_found(wire.name_of(request, "name"))


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
    return wire.arm_id("environments", NAME, *below), kind


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
    started_at = wire.workspace_of(request).started_at
    return wire.system_data({"created_at": started_at, "modified_at": started_at})


ROUTES = [
    made
    for base in (f"{WORKSPACE_PATH}/environments", f"{REGISTRY_PATH}/environments")
    for made in (
        route(base, list_containers),
        route(f"{base}/{{name}}", get_container),
        route(f"{base}/{{name}}/versions", list_versions),
        route(f"{base}/{{name}}/versions/{{version}}", get_version),
    )
]
