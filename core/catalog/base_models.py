"""Base models of a registry: what they are, what they may be trained on, and where that was read."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from core.azureml.connection import Connection
from core.errors import NotFound

Value = str | int | float | bool

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
class AllowList:
    """Sizes a model permits."""

    sizes: tuple[str, ...] | None
    """None where no list could be read; then the deny-list counts."""
    source: Literal["tag", "property", "metadata", "none"] = "none"
    """Where the list was read."""
    source_name: str = ""
    """The tag's or property's own name."""
    problem: str | None = None
    """A sentence where a list is there and cannot be read."""
    hint: str = ""
    """What to do about the problem."""

    def permits(self, size_name: str) -> bool | None:
        """Tell whether a size is in the list, case ignored; None where there is no list."""
        if self.sizes is None:
            return None
        return size_name.lower() in {size.lower() for size in self.sizes}


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
    retired_on: date | None
    """The day on which fine-tuning ends or ended."""
    archived: bool
    runs_on: str
    """ "" where this workspace may train it, else where it can be: "Azure"."""
    finetunable: bool
    finetune: AllowList
    inference: AllowList
    defaults: dict[str, Value]
    defaults_problem: str | None
    weights_source: str
    tags: dict[str, str] = field(repr=False)
    description: str = field(default="", repr=False)

    @property
    def retired(self) -> bool:
        """Tell whether fine-tuning has ended."""
        return self.retired_on is not None and self.retired_on <= datetime.now(UTC).date()


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


def parse_literal(text: str) -> Any:
    """Return what a tag says: JSON, else a Python literal, else a list split at commas; ValueError where cut off."""
    text = text.strip()
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    bare = re.fullmatch(r"\[([^\[\]{}()\"':]*)\]", text)  # a list whose names have no quotes
    text = bare.group(1) if bare else text
    if re.search(r"[\[\]{}()\"':]", text):
        raise ValueError(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def read_allow_list(
    kind: Literal["finetune", "inference"],
    model_name: str,
    tags: Mapping[str, str],
    properties: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> AllowList:
    """Return the sizes a model permits, from the first place that says: tag, property, metadata.

    A list that cannot be read does not hide one that can: its problem is kept beside that.
    """
    sources: list[tuple[Literal["tag", "property", "metadata"], str, Any]] = [
        ("tag", f"{kind}_compute_allow_list", tags.get(f"{kind}_compute_allow_list")),
        ("tag", "computes_allow_list", tags.get("computes_allow_list")),
        ("property", f"{kind}-recommended-sku", properties.get(f"{kind}-recommended-sku")),
        ("metadata", f"supportedComputes.{kind}Computes", _dig(metadata, "supportedComputes", f"{kind}Computes")),
        ("metadata", f"SKU.{kind}RecommendedSkus", _dig(metadata, "SKU", f"{kind}RecommendedSkus")),
    ]
    problem: str | None = None
    for source, source_name, value in sources:
        if value in (None, "", []):
            continue
        try:
            return AllowList(_to_names(value), source, source_name, problem, _hint(problem, found=True))
        except ValueError as cut:
            shown = str(cut) if len(str(cut)) <= 40 else f"{str(cut)[:37]}…"
            problem = problem or f"The allow-list of '{model_name}' could not be read: \"{shown}\" is cut off."
    return AllowList(None, problem=problem, hint=_hint(problem, found=False))


def read_defaults(model_name: str, text: str | None) -> tuple[dict[str, Value], str | None]:
    """Return a model's own parameters, and a sentence where they are there and cannot be read."""
    if not text:
        return {}, None
    try:
        found = parse_literal(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        shown = text if len(text) <= 40 else f"{text[:37]}…"
        return {}, f"The defaults of '{model_name}' could not be read: \"{shown}\" is no dictionary. They are left out."
    return {str(key): value for key, value in found.items() if isinstance(value, str | int | float | bool)}, None


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
    runs_on = tags.get(RUNS_ON_TAG, "")
    return BaseModel(
        name=name,
        version=version,
        id=str(body.get("id") or f"azureml://registries/azureml/models/{name}/versions/{version}"),
        title=tags.get("displayName") or str(metadata.get("displayName") or name),
        licence=tags.get("license") or str(metadata.get("license") or "licence not stated"),
        publisher=tags.get("author") or str(metadata.get("publisher") or ""),
        context_length=_to_int(tags.get("textContextWindow") or metadata.get("textContextWindow")),
        task=tags.get("task") or _first(_dig(metadata, "tasks", "inferenceTasks")),
        retired_on=_read_retirement(tags, properties, metadata),
        archived=bool(wire.get("isArchived")),
        runs_on="" if runs_on == "Local" else runs_on,
        finetunable=_is_finetunable(finetune, inference, tags, properties, metadata),
        finetune=finetune,
        inference=inference,
        defaults=defaults,
        defaults_problem=defaults_problem,
        weights_source=tags.get("weights_source", ""),
        tags=tags,
        description=str(wire.get("description") or ""),
    )


def _is_finetunable(
    finetune: AllowList,
    inference: AllowList,
    tags: Mapping[str, str],
    properties: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> bool:
    """A model that says where it is served and nothing of fine-tuning is for inference only."""
    tasks = f"{tags.get('finetuning-tasks', '')} {properties.get('finetuning-tasks', '')}"
    tasks += f" {_dig(metadata, 'tasks', 'fineTuningTasks') or ''}"
    if CHAT_TASK in tasks or finetune.sizes is not None or finetune.problem:
        return True
    return not tasks.strip() and inference.sizes is None


def _read_retirement(
    tags: Mapping[str, str], properties: Mapping[str, Any], metadata: Mapping[str, Any]
) -> date | None:
    """Return the day fine-tuning ends, else the day of the model's own retirement."""
    dates = {**_flat(metadata.get("deprecation")), **{k: str(v) for k, v in properties.items()}, **tags}
    for wanted in ("finetuneretirementdate", "finetuningretirementdate", "retirementdate", "inferenceretirementdate"):
        for key, value in dates.items():
            if key.lower().replace("_", "").replace("-", "") == wanted:
                try:
                    return date.fromisoformat(value[:10])
                except ValueError:
                    continue
    return None


def _order(model: BaseModel) -> tuple[bool, bool, bool, str]:
    return bool(model.runs_on), not model.finetunable, model.archived or model.retired, model.name.lower()


def _to_names(value: Any) -> tuple[str, ...]:
    found = parse_literal(value) if isinstance(value, str) else value
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, Iterable) or isinstance(found, Mapping):
        raise ValueError(str(value))
    return tuple(dict.fromkeys(str(name).strip() for name in found if str(name).strip()))


def _hint(problem: str | None, *, found: bool) -> str:
    if problem is None:
        return ""
    if found:
        return "Another list of the model is used instead."
    return "The deny-list is used instead. Check the GPU memory yourself."


def _dig(metadata: Mapping[str, Any], *path: str) -> Any:
    value: Any = metadata
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _flat(values: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, Mapping) else {}


def _first(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and values else ""


def _to_int(text: Any) -> int | None:
    digits = str(text or "").replace(",", "").strip()
    return int(digits) if re.fullmatch(r"[0-9]{1,12}", digits) else None
