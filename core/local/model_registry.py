"""What the local registry holds: base models that train on this machine, and the Phi family that trains on Azure."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from core.local.machine import Machine
from core.local.profile import Profile, list_published

MANIFEST = "tunedeck.json"
RUNS_ON = "tunedeck.runs_on"  # tag and property of every model: "Local" or "Azure"
WEIGHTS_BYTES = "weights_bytes"
_AZURE_MODELS = Path(__file__).with_name("registry_models.json")
_ALLOW_LISTS = ("finetune_compute_allow_list", "inference_compute_allow_list")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RegistryAsset:
    """One version of what a registry holds."""

    name: str
    version: str
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict, repr=False)
    properties: dict[str, str] = field(default_factory=dict, repr=False)
    archived: bool = False
    created_at: str = "2025-01-01T00:00:00+00:00"


@dataclass(frozen=True, kw_only=True)
class RegistryModel(RegistryAsset):
    """One version of a base model."""

    folder: Path | None = None
    """Its Hugging Face folder, None where it only runs on Azure."""
    system_metadata: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ModelRegistry:
    """The models of one home, read from the folders at every call: a folder put there by hand is published at once."""

    base_models: Path
    machine: Machine
    profile: Profile = field(default_factory=Profile)

    def list_models(self) -> list[RegistryModel]:
        """Return every version of every model, by name, the newest version of each first."""
        models = [*self._local_models(), *(_published_models() if self.profile.is_azure else _azure_models())]
        models.sort(key=lambda model: _version_order(model.version), reverse=True)
        return sorted(models, key=lambda model: (model.folder is None, model.name.lower()))

    def list_versions(self, name: str) -> list[RegistryModel]:
        """Return the versions of one model, the newest first."""
        return [model for model in self.list_models() if model.name == name]

    def find_model(self, name: str, version: str = "latest") -> RegistryModel | None:
        """Return one version of a model, or None."""
        return next((model for model in self.list_versions(name) if version in ("latest", model.version)), None)

    def _local_models(self) -> list[RegistryModel]:
        manifests = sorted(self.base_models.glob(f"*/*/{MANIFEST}"))
        models = (self._read_folder(each) for each in manifests if not each.parent.parent.name.startswith("."))
        return [model for model in models if model is not None]

    def _read_folder(self, manifest: Path) -> RegistryModel | None:
        """Return the model of a folder; one whose manifest cannot be read is logged and not published."""
        try:
            if not manifest.is_file():
                raise ValueError("not a regular file")  # reading a pipe would wait for ever
            fields: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            name, version = str(fields["name"]), str(fields["version"])
            tags, properties = _strings(fields.get("tags", {})), _strings(fields.get("properties", {}))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            _log.warning("%s is not a model's manifest: %r", manifest, error)
            return None
        if (name, version) != (manifest.parent.parent.name, manifest.parent.name):
            _log.warning("%s names %s %s, which is not its folder", manifest, name, version)
            return None
        for allow_list in _ALLOW_LISTS:
            if tags.get(allow_list, "local") == "local":
                tags[allow_list] = str([size.name for size in self.machine.sizes])
        mark = {RUNS_ON: "Local"}
        tags[WEIGHTS_BYTES] = str(sum(each.stat().st_size for each in manifest.parent.glob("*.safetensors")))
        return RegistryModel(
            name=name,
            version=version,
            description=str(fields.get("description", "")),
            tags={**tags, **mark},
            properties={**properties, **mark},
            folder=manifest.parent,
            created_at=datetime.fromtimestamp(manifest.stat().st_mtime, UTC).isoformat(),
        )


@cache
def _azure_models() -> tuple[RegistryModel, ...]:
    models = (RegistryModel(**fields) for fields in json.loads(_AZURE_MODELS.read_text(encoding="utf-8"))["models"])
    mark = {RUNS_ON: "Azure"}
    return tuple(
        replace(model, tags={**model.tags, **mark}, properties={**model.properties, **mark}) for model in models
    )


@cache
def _published_models() -> tuple[RegistryModel, ...]:
    """Return models of Azure's registry; none of them says where it runs."""
    return tuple(RegistryModel(description="", **fields) for fields in list_published())


def _strings(pairs: dict[str, Any]) -> dict[str, str]:
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in pairs.items()}


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Return a sort key in which 10 follows 9 and 0.0.82 follows 0.0.9."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"[.\-_]", version)]
