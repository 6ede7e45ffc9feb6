"""Models registered in the workspace: list, find, register a run's output with its lineage, archive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.azureml.owners import read_made
from core.errors import BadInput, NotFound
from core.recipe import list_changed
from core.runs.jobs import OUTPUT_NAME
from core.runs.states import Run

NAME_RULE = "Use letters, digits, '-', '_' and '.'; a letter or a digit first."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True)
class RegisteredModel:
    """A tuned model in the workspace. Lineage in its tags: run, base model, data hash, recipe."""

    name: str
    version: str
    id: str
    description: str = ""
    path: str = ""
    run: str = ""
    base_model: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    archived: bool = False
    owner: str = ""
    """Who made it, as the service calls them."""
    changed_at: datetime | None = None


def list_registered_models(conn: Connection, name: str | None = None) -> list[RegisteredModel]:
    """Return all versions of every registered model, or of one, newest first."""
    models = conn.workspace.models

    def list_names() -> list[str]:
        return conn.call("read", "models", lambda: [model.name for model in models.list()])

    def list_versions(each: str) -> list[RegisteredModel]:
        try:
            return conn.call("read", f"model '{each}'", lambda: [_parse(model) for model in models.list(each)])
        except NotFound:
            return []

    [names] = [[name]] if name else abreast(conn, [list_names])
    found = [
        model for versions in abreast(conn, [partial(list_versions, each) for each in names]) for model in versions
    ]
    return sorted(found, key=lambda m: (m.created_at is not None, m.created_at or 0, m.version), reverse=True)


def find_registered_model(conn: Connection, name: str, version: str) -> RegisteredModel | None:
    """Return one registered model, or None."""
    try:
        model = conn.call("read", f"model '{name}' {version}", lambda: conn.workspace.models.get(name, version=version))
    except NotFound:
        return None
    return _parse(model)


def suggest_model_name(run: Run) -> str:
    """Return the name a run's model is registered under unless the operator says otherwise: the lesson's form."""
    name = f"{run.model.replace('/', '-')}-{run.dataset}" if run.dataset else run.model.replace("/", "-")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:200] or run.title


def check_model_name(name: str) -> str | None:
    """Return why this cannot be a registered model's name, as one sentence, or None."""
    if not name:
        return "The model has no name."
    if _NAME.fullmatch(name):
        return None
    if len(name) > 255:
        return f"The model's name has {len(name)} characters, at most 255 are allowed."
    wrong = next((char for char in name if not re.fullmatch(r"[A-Za-z0-9._-]", char)), name[0])
    what = "a space" if wrong == " " else f"'{wrong}'"
    where = "begins with" if wrong in "._-" else "has"
    return f"'{name}' cannot be a model's name: it {where} {what}."


def require_model_name(name: str) -> None:
    """Raise BadInput for a name the service refuses."""
    if problem := check_model_name(name):
        raise BadInput(problem, NAME_RULE)


def register_model(conn: Connection, run: Run, name: str, version: str, job: str = "") -> RegisteredModel:
    """Register the output of a run, with its lineage in tags; what exists under name and version is returned.

    job: the one that made the model of the checkpoint `run.kept`.
    """
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Model

    if known := find_registered_model(conn, name, version):
        return known
    model = Model(
        path=f"azureml://jobs/{job or run.name}/outputs/{OUTPUT_NAME}",
        type=AssetTypes.MLFLOW_MODEL,
        name=name,
        version=version,
        description=_describe(run),
        tags={**conn.policy_tags, **lineage(run)},
    )
    return _parse(conn.call("register", f"model '{name}'", conn.workspace.models.create_or_update, model))


def _describe(run: Run) -> str:
    state = f", of which it is {run.kept}" if run.kept else ""
    return f"{run.model} tuned on {run.dataset or 'chat data'} in run {run.name}{state}."


def archive_model(conn: Connection, name: str, version: str) -> None:
    """Hide one version from lists; its files stay."""
    conn.call("archive", f"model '{name}' {version}", lambda: conn.workspace.models.archive(name, version=version))


def lineage(run: Run) -> dict[str, str]:
    """Return where a run's output comes from, as tags."""
    kept = (tags.DATASET, tags.DATASET_KEY, tags.ROWS, tags.MODEL_VERSION)
    return {
        tags.RUN: run.name,
        tags.MODEL: run.model,
        tags.MODEL_ID: run.model_id,
        tags.RECIPE: tags.format_recipe(list_changed(run.parameters)),
        tags.MADE_BY: tags.made_by(),
        **({tags.CHECKPOINT: run.kept} if run.kept else {}),
        **{name: run.tags[name] for name in kept if name in run.tags},
    }


def _parse(model: Any) -> RegisteredModel:
    told: Mapping[str, str] = model.tags or {}
    made = read_made(model)
    return RegisteredModel(
        name=model.name,
        version=str(model.version or ""),
        id=str(model.id or ""),
        description=model.description or "",
        path=str(model.path or ""),
        run=told.get(tags.RUN) or str(getattr(model, "job_name", "") or ""),
        base_model=told.get(tags.MODEL, ""),
        tags=told,
        created_at=made.at,
        archived=bool(getattr(model, "_is_archived", False)),
        owner=made.by,
        changed_at=made.changed_at,
    )
