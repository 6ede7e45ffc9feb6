"""Environments: the Python that the local workspace trains and serves with, and images, which are kept and given back.

No image is built or run here: a job or a deployment that names one is refused (jobs/request.py, routes/endpoints.py).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.local.assets import Asset, AssetRoutes
from core.local.jobs.request import OWN_ENVIRONMENT
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace

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


@dataclass(frozen=True, kw_only=True)
class Environment(Asset):
    """One version of an environment: an image, and what is to be installed in it."""

    KIND = "environment"
    SEGMENT = "environments"
    CONTENT = "spec"

    spec: dict[str, Any]
    anonymous: bool = False

    @classmethod
    def read_content(cls, properties: dict[str, Any]) -> Any:
        """Return image, conda file, build and serving routes, None where none of them is sent."""
        return {name: properties[name] for name in _SPEC if properties.get(name) not in (None, _NO_IMAGE[name])} or None

    @classmethod
    def from_wire(cls, _workspace: Workspace, properties: dict[str, Any]) -> dict[str, Any]:
        """Read what the image is made of; raises 400."""
        for name, shape in _SPEC.items():
            answers.field_of(properties, name, shape)
        spec = cls.read_content(properties) or {}
        if not spec.get("image") and not spec.get("build"):
            raise WireError(400, "UserError", "An environment needs an image or a build context.")
        return {"spec": spec, "anonymous": answers.field_of(properties, "isAnonymous", bool, False)}

    def to_wire(self) -> dict[str, Any]:
        """Return the properties that are an environment's own."""
        return {**_NO_IMAGE, **self.spec, "isAnonymous": self.anonymous}


class EnvironmentRoutes(AssetRoutes[Environment]):
    """The environments of the workspace: this machine's first, then those that were made."""

    def list_names(self, workspace: Workspace, view: str) -> list[str]:
        """Return the names in a view."""
        return [*([] if view == "archived" else [OWN_ENVIRONMENT]), *super().list_names(workspace, view)]

    def find_version(self, workspace: Workspace, name: str, version: str) -> Environment | None:
        """Return a version, or None."""
        if name != OWN_ENVIRONMENT:
            return super().find_version(workspace, name, version)
        own = own_environment(workspace.started_at)
        return own if version == own.version else None

    def versions_of(self, workspace: Workspace, name: str, limit: int | None = None) -> list[Environment]:
        """Return the versions of a name, the newest first; raises 404."""
        return (
            [own_environment(workspace.started_at)]
            if name == OWN_ENVIRONMENT
            else super().versions_of(workspace, name, limit)
        )

    def check_changeable(self, name: str) -> None:
        """Refuse to change what is this machine's own; raises 400."""
        if name == OWN_ENVIRONMENT:
            message = f"'{OWN_ENVIRONMENT}' is this machine's own Python: it is neither changed nor archived."
            raise WireError(400, "UserError", message)


def own_environment(started_at: str) -> Environment:
    """Return the Python of this machine as an environment."""
    return Environment(
        name=OWN_ENVIRONMENT,
        version="1",
        description="The Python of this machine, with the libraries that train and serve",
        spec={"environmentType": "Curated", "condaFile": _conda_file()},
        created_at=started_at,
        modified_at=started_at,
    )


@cache
def _conda_file() -> str:
    """Return the Python and the libraries of this machine in the form of a conda file."""
    pins = [f"{name}=={version}" for name in _PACKAGES if (version := _find_installed(name))]
    dependencies = [f"python={platform.python_version()}", "pip", {"pip": pins}]
    return json.dumps({"name": OWN_ENVIRONMENT, "dependencies": dependencies})


def _find_installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


ROUTES = EnvironmentRoutes(Environment).routes()
