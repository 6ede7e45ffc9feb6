"""Base models of a registry: what they are, what they may be trained on, and where that was read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from core.azureml.connection import Connection
from core.catalog.allow_list import AllowList, Value, dig, read_allow_list, read_defaults
from core.catalog.card import Card, read_card, to_int
from core.catalog.lifecycle import Lifecycle, read_lifecycle
from core.errors import NotFound

CHAT_TASK = "chat-completion"
RUNS_ON_TAG = "tunedeck.runs_on"  # the local registry's mark: "Local" or "Azure"
_REGISTRY_API = "2021-10-01-dataplanepreview"
_READ_WHOLE = 200  # a registry of up to so many models is read whole
_MOST_FOUND = 30  # details fetched for one search
_KEPT_S = 600
_THREADS = 4

# Chat models of the registry "azureml" that its pipeline can tune, looked up there by name: it holds thousands.
KNOWN_MODELS = (
    "Phi-4",
    "Phi-3.5-mini-instruct",
    "Phi-3.5-MoE-instruct",
    "Phi-3-mini-4k-instruct",
    "Phi-3-mini-128k-instruct",
    "Phi-3-small-8k-instruct",
    "Phi-3-small-128k-instruct",
    "Phi-3-medium-4k-instruct",
    "Phi-3-medium-128k-instruct",
    "Llama-2-7b-chat",
    "mistralai-Mistral-7B-Instruct-v0-3",
    "mistralai-Mixtral-8x7B-Instruct-v01",
)


@dataclass(frozen=True)
class BaseModel:
    """One version of a chat model in a registry."""

    name: str
    version: str
    id: str
    title: str
    licence: str
    publisher: str
    context_length: int | None
    """Tokens; None where it is not known."""
    task: str
    lifecycle: Lifecycle
    runs_on: str
    """ "" where this workspace may train it, else where it can be: "Azure"."""
    finetunable: bool
    """Whether its chat can be fine-tuned, dates left aside."""
    finetunable_source: str
    """What says so; "" where nothing says anything of fine-tuning."""
    card: Card
    finetune: AllowList
    inference: AllowList
    defaults: dict[str, Value]
    defaults_problem: str | None
    weights_source: str
    tags: dict[str, str] = field(repr=False)
    description: str = field(default="", repr=False)


def list_base_models(conn: Connection, search: str = "") -> list[BaseModel]:
    """Return the chat-completion models of the registry, those that can be trained here first.

    A registry of thousands is not read whole: without a search the known models are fetched, with one the names that
    hold it.
    """
    versions = conn.remember("registry names", lambda: _read_names(conn), _KEPT_S)
    words = search.lower().split()
    if len(versions) <= _READ_WHOLE or words:
        names = [name for name in versions if all(word in name.lower() for word in words)]
        if len(versions) > _READ_WHOLE:
            names = sorted(names, key=lambda name: (name not in KNOWN_MODELS, len(name)))[:_MOST_FOUND]
    else:
        names = [name for name in KNOWN_MODELS if name in versions]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda name: _find_chat_model(conn, name, versions[name]), names))
    return sorted((model for model in found if model), key=_order)


def get_base_model(conn: Connection, name: str, version: str = "latest") -> BaseModel:
    """Return one version of a model, or raise NotFound."""
    try:
        if version == "latest":
            latest = conn.call("read", f"model '{name}'", lambda: conn.registry.models.get(name, label="latest"))
            version = str(latest.version)
        return conn.remember(f"model {name} {version}", lambda: _read_model(conn, name, version), _KEPT_S)
    except NotFound as error:
        if error.message.startswith("Workspace"):
            raise
        which = f"Model '{name}'" if version == "latest" else f"Version {version} of model '{name}'"
        said = f"{which} was not found in registry '{conn.settings.registry_name}'."
        raise NotFound(said, "Search for it by a part of its name.", error.detail) from error


def _read_names(conn: Connection) -> dict[str, str]:
    """Return the registry's model names with the newest version of each, archived ones too, without their details."""

    def ask() -> dict[str, str]:
        from azure.ai.ml.constants import ListViewType

        found = conn.registry.models.list(list_view_type=ListViewType.ALL)
        return {str(model.name): str(model.latest_version or "") for model in itertools.islice(found, 20_000)}

    return conn.call("read", f"the models of registry '{conn.settings.registry_name}'", ask)


def _find_chat_model(conn: Connection, name: str, version: str) -> BaseModel | None:
    try:
        model = get_base_model(conn, name, version or "latest")
    except NotFound:
        return None  # its last version was deleted after the names were read
    return model if model.task == CHAT_TASK else None


def _read_model(conn: Connection, name: str, version: str) -> BaseModel:
    """Read one version past the SDK, whose model drops whether it is archived and the system metadata."""
    root = conn.remember("registry address", lambda: _registry_root(conn), _KEPT_S * 6)
    answer = conn.http(
        "GET",
        f"{root}/models/{name}/versions/{version}",
        params={"api-version": _REGISTRY_API},
        what=f"model '{name}'",
    )
    return to_base_model(name, version, answer.json())


def _registry_root(conn: Connection) -> str:
    """Return the address of the registry's assets, which its discovery service knows."""
    registry = conn.settings.registry_name
    found = conn.http(
        "GET",
        f"{conn.cloud.registry_discovery}/registrymanagement/v1.0/registries/{registry}/discovery",
        what=f"registry '{registry}'",
    ).json()
    return (
        f"{found['primaryRegionResourceProviderUri'].rstrip('/')}/mferp/managementfrontend"
        f"/subscriptions/{found['subscriptionId']}/resourceGroups/{found['resourceGroup']}"
        f"/providers/Microsoft.MachineLearningServices/registries/{registry}"
    )


def to_base_model(name: str, version: str, body: Mapping[str, Any]) -> BaseModel:
    """Return the model that a registry's answer describes."""
    wire = body.get("properties") or {}
    tags = {str(key): str(value) for key, value in (wire.get("tags") or {}).items() if value is not None}
    properties = wire.get("properties") or {}
    metadata = wire.get("systemMetadata") or wire.get("system_metadata") or {}
    defaults, defaults_problem = read_defaults(name, tags.get("model_specific_defaults"))
    finetune = read_allow_list("finetune", name, tags, properties, metadata)
    inference = read_allow_list("inference", name, tags, properties, metadata)
    task = tags.get("task") or _first(dig(metadata, "tasks", "inferenceTasks"))
    finetunable, source = _read_finetunable(task, finetune, inference, wire)
    runs_on = tags.get(RUNS_ON_TAG, "")
    licence = tags.get("license") or str(metadata.get("license") or "")
    asset_id = str(body.get("id") or f"azureml://registries/azureml/models/{name}/versions/{version}")
    return BaseModel(
        name=name,
        version=version,
        id=asset_id,
        title=tags.get("displayName") or str(metadata.get("displayName") or name),
        licence=licence or "licence not stated",
        publisher=tags.get("author") or str(metadata.get("publisher") or ""),
        context_length=to_int(tags.get("textContextWindow") or metadata.get("textContextWindow")),
        task=task,
        lifecycle=read_lifecycle(wire),
        runs_on="" if runs_on == "Local" else runs_on,
        finetunable=finetunable,
        finetunable_source=source,
        card=read_card(name, licence, asset_id, wire),
        finetune=finetune,
        inference=inference,
        defaults=defaults,
        defaults_problem=defaults_problem,
        weights_source=tags.get("weights_source", ""),
        tags=tags,
        description=str(wire.get("description") or ""),
    )


def _read_finetunable(
    task: str, finetune: AllowList, inference: AllowList, wire: Mapping[str, Any]
) -> tuple[bool, str]:
    """Tell whether a model's chat can be fine-tuned, and what says so.

    A model that says where it is served and nothing of fine-tuning is for inference only.
    """
    metadata = wire.get("systemMetadata") or wire.get("system_metadata") or {}
    places = {
        "tag finetuning-tasks": (wire.get("tags") or {}).get("finetuning-tasks"),
        "property finetuning-tasks": (wire.get("properties") or {}).get("finetuning-tasks"),
        "metadata tasks.fineTuningTasks": dig(metadata, "tasks", "fineTuningTasks"),
    }
    for place, tasks in places.items():
        if tasks:
            return CHAT_TASK in str(tasks), place
    if finetune.sizes is not None or finetune.minimum or finetune.problem:
        return task in (CHAT_TASK, ""), f"{finetune.source} {finetune.source_name}".removeprefix("none").strip()
    return inference.sizes is None and task in (CHAT_TASK, ""), ""


def _order(model: BaseModel) -> tuple[bool, bool, bool, str]:
    life = model.lifecycle
    return bool(model.runs_on), not model.finetunable, life.archived or life.finetuning.is_over, model.name.lower()


def _first(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and values else ""
