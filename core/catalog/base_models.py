"""Base models of a registry: what they are, what they may be trained on, and where that was read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.azureml.connection import Connection
from core.catalog import registries
from core.catalog.allow_list import AllowList, Value, dig, read_allow_list, read_defaults
from core.catalog.card import Card, read_card, to_int
from core.catalog.kept import Facets, Kept, Key
from core.catalog.lifecycle import Lifecycle, read_lifecycle

CHAT_TASK = "chat-completion"
RUNS_ON_TAG = "tunedeck.runs_on"  # the local registry's mark: "Local" or "Azure"
_FRESH_S, _LOCAL_FRESH_S = 600.0, 10.0


@dataclass(frozen=True)
class BaseModel:
    """One version of a chat model in a registry."""

    name: str
    """As it is asked for: "Phi-4" of the connection's own registry, "azureml-meta/Llama-3.1-8B" of another."""
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


def get_base_model(conn: Connection, name: str, version: str = "latest") -> BaseModel:
    """Return one version of a model, or raise NotFound. name: as BaseModel has it."""
    registry, bare = registries.split_name(conn, name)
    kept = Kept(conn.home, conn.alias)
    known = kept.find_model((registry, bare, version))
    if known and known.body and time.time() - known.read_at < fresh_s(conn):
        return to_base_model(name, version, known.body)
    version, body = registries.read_model(conn, registry, bare, version)
    keep_model(kept, (registry, bare, version), body)
    return to_base_model(name, version, body)


def fresh_s(conn: Connection) -> float:
    """Return for how long a model is taken as it was read."""
    return _LOCAL_FRESH_S if conn.cloud.is_local else _FRESH_S


def keep_model(kept: Kept, key: Key, body: Mapping[str, Any]) -> None:
    """Keep a registry's answer on disk, to be found by what it says."""
    kept.keep_model(key, body, find_facets(to_base_model(key[1], key[2], body)))


def find_facets(model: BaseModel) -> Facets:
    """Return what a model is searched by."""
    words = " ".join((model.title, model.publisher, model.task, model.licence)).lower()
    ends = model.lifecycle.finetuning.retired_on
    return Facets(
        words=words,
        task=model.task,
        tunable=model.finetunable,
        tuning_ends=ends.isoformat() if ends else "",
        runs_on=model.runs_on,
        archived=model.lifecycle.archived,
        publisher=model.publisher,
        licence=model.licence,
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
    return BaseModel(
        name=name,
        version=version,
        id=str(body.get("id") or ""),
        title=tags.get("displayName") or str(metadata.get("displayName") or name.rpartition("/")[2]),
        licence=licence or "licence not stated",
        publisher=tags.get("author") or str(metadata.get("publisher") or ""),
        context_length=to_int(tags.get("textContextWindow") or metadata.get("textContextWindow")),
        task=task,
        lifecycle=read_lifecycle(wire),
        runs_on="" if runs_on == "Local" else runs_on,
        finetunable=finetunable,
        finetunable_source=source,
        card=read_card(name, licence, str(body.get("id") or ""), wire),
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


def _first(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and values else ""
