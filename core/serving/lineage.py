"""Where a model comes from and where it went: data, recipe, job, model, endpoint, as the workspace tells it today.

Reads tags and the service's own words, and nothing of this home: every Tunedeck reads the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.datastore import File, asset_of, list_files, path_of
from core.azureml.owners import read_made
from core.dataset import HASH_TAG
from core.errors import BadInput, NotFound, TunedeckError
from core.recipe import list_changed
from core.runs.states import JobState
from core.serving.endpoints import list_endpoints
from core.serving.registered_models import list_registered_models

SCHEMA = "tunedeck.lineage/1"
_API = "2024-10-01"
_MOST = 3  # models and endpoints of one run that are followed, the newest
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,254}", re.ASCII)
_STATES = ("active", "archived")
_INPUTS = {"train_file_path": "training data", "test_file_path": "test data"}


class Kind(StrEnum):
    """What a piece of the chain is."""

    DATA = "data"
    RECIPE = "recipe"
    JOB = "job"
    MODEL = "model"
    ENDPOINT = "endpoint"


@dataclass(frozen=True)
class Piece:
    """One piece of the chain, with what the workspace says of it."""

    kind: Kind
    name: str = ""
    version: str = ""
    id: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """By their words: "created by", "content hash"; what is not told is left out."""
    files: Mapping[str, File] = field(default_factory=dict)
    """By their paths in the default datastore."""
    missing: str = ""
    """Why there is nothing, or why its files are not listed; one sentence."""

    @property
    def title(self) -> str:
        """ "phi4-support:3"."""
        return ":".join(filter(None, (self.name, self.version)))

    @property
    def exists(self) -> bool:
        """Whether the workspace had it."""
        return bool(self.id)

    @property
    def bytes(self) -> int:
        """What its files occupy."""
        return sum(each.bytes for each in self.files.values())

    def models(self) -> list[str]:
        """Return what the deployments of an endpoint serve, as "name:version"."""
        return [value for name, value in self.facts.items() if name.endswith(": model")]


@dataclass(frozen=True)
class Lineage:
    """The chain of one run or one endpoint."""

    workspace: str
    """Its id in the resource manager."""
    resource_manager: str
    read_at: str
    pieces: tuple[Piece, ...]
    schema: str = SCHEMA

    def of(self, kind: Kind) -> list[Piece]:
        """Return the pieces of one kind; there is at least one."""
        return [piece for piece in self.pieces if piece.kind is kind]

    @property
    def doubts(self) -> list[str]:
        """Where tags say something else than the service; the chain follows the service."""
        found = []
        for kind, told, other, fact in _TOLD:
            for piece in self.of(kind):
                told_there = piece.facts.get(told, "")
                known = {each.title if not fact else each.facts.get(fact, "") for each in self.of(other)} - {""}
                if told_there and known and told_there not in known:
                    words = f"{fact or other} is {told_there}; it is {', '.join(sorted(known))}"
                    found.append(f"The tags of {kind} {piece.title} say that its {words}.")
        return found

    def to_json(self) -> str:
        """Return all of it, for a download."""
        return json.dumps(asdict(self) | {"doubts": self.doubts}, indent=2)


# What a tag tells, and what it is held against: a fact of another piece, or that piece's own name.
_TOLD = (
    (Kind.JOB, "data hash in tags", Kind.DATA, "content hash"),
    (Kind.JOB, "settings in tags", Kind.RECIPE, "settings"),
    (Kind.JOB, "base model in tags", Kind.RECIPE, "base model"),
    (Kind.MODEL, "run in tags", Kind.JOB, ""),
    (Kind.MODEL, "data hash in tags", Kind.DATA, "content hash"),
    (Kind.MODEL, "settings in tags", Kind.RECIPE, "settings"),
    (Kind.ENDPOINT, "model in tags", Kind.MODEL, ""),
    (Kind.ENDPOINT, "run in tags", Kind.JOB, ""),
)


def parse_lineage(document: Mapping[str, Any]) -> Lineage:
    """Return the lineage of a file that `to_json` wrote; raises BadInput for any other."""
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        pieces = tuple(_parse_piece(each) for each in document["pieces"])
        workspace, manager, read_at = (str(document[name]) for name in ("workspace", "resource_manager", "read_at"))
        return Lineage(workspace, manager, read_at, pieces)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            "The file is not a lineage that this Tunedeck reads.", f"It reads {SCHEMA}.", repr(error)
        ) from error


def _parse_piece(given: Mapping[str, Any]) -> Piece:
    told = {name: str(given[name]) for name in ("name", "version", "id", "missing")}
    facts = {str(name): str(value) for name, value in given["facts"].items()}
    files = {str(path): File(int(of["bytes"]), str(of["etag"]), str(of["md5"])) for path, of in given["files"].items()}
    return Piece(Kind(given["kind"]), facts=facts, files=files, **told)


def read_lineage(conn: Connection, run: str = "", endpoint: str = "") -> Lineage:
    """Return the chain of a run, or of an endpoint; raises NotFound where the workspace has no such thing.

    Many requests: read it through a Reader.
    """
    look = Look(conn)
    start = look.read(Kind.ENDPOINT, endpoint) if endpoint else look.read(Kind.JOB, run)
    if start is None:
        raise NotFound(f"There is no '{endpoint or run}' in {conn.title}.", "Choose one of the workspace's.")
    if endpoint:
        models = _follow(look, Kind.MODEL, start.models(), "The endpoint has no deployment.")
        ends, job = [start], _find_job(look, models)
    else:
        models, job = _list_models(look, start), start
        ends = _list_endpoints(look, models)
    recipe = look.read(Kind.RECIPE, job.name) if job.exists else None
    given = [job.facts[words] for words in _INPUTS.values() if words in job.facts]
    data = _follow(look, Kind.DATA, given, "Nothing says which data: the job is not here.")
    pieces = (*data, recipe or Piece(Kind.RECIPE, missing="It stands with the job."), job, *models, *ends)
    read_at = tags.format_time(datetime.now(UTC))
    return Lineage(conn.workspace_path, conn.cloud.resource_manager, read_at, pieces)


def _follow(look: Look, kind: Kind, addresses: Iterable[str], none: str) -> list[Piece]:
    """Return what these addresses name, as far as it is an asset of this workspace. none: what is said of none."""
    found = []
    for address in dict.fromkeys(addresses):
        name, _, version = address.rpartition(":")
        if "/" in address or not name:
            found.append(Piece(kind, address, missing=f"It is no {kind} asset of this workspace."))
        else:
            gone = Piece(kind, name, version, missing="It is no longer in the workspace.")
            found.append(look.read(kind, name, version) or gone)
    return found or [Piece(kind, missing=none)]


def _find_job(look: Look, models: Iterable[Piece]) -> Piece:
    name = next((job for model in models if (job := model.facts.get("job", ""))), "")
    if not name:
        return Piece(Kind.JOB, missing="No tag says which job made the model.")
    return look.read(Kind.JOB, name) or Piece(Kind.JOB, name, missing="This job is not in the workspace.")


def _list_models(look: Look, job: Piece) -> list[Piece]:
    if not JobState(job.facts.get("state", "")).finished:
        return [Piece(Kind.MODEL, missing="The run has not ended.")]
    known = [
        f"{each.name}:{each.version}"
        for each in list_registered_models(look.conn)
        if each.run == job.name or f"/{job.name}/" in each.path  # a tag can be changed, the path cannot
    ]
    return _follow(look, Kind.MODEL, known[:_MOST], "No model was registered from this run.")


def _list_endpoints(look: Look, models: Iterable[Piece]) -> list[Piece]:
    titles = {model.title for model in models if model.exists}
    known = [
        each.name
        for each in (list_endpoints(look.conn) if titles else ())
        if titles & {_title_of(deployment.model_id) for deployment in each.deployments}
    ]
    found = [look.read(Kind.ENDPOINT, name) for name in known[:_MOST]]
    return list(filter(None, found)) or [Piece(Kind.ENDPOINT, missing="No endpoint serves it.")]


class Look:
    """One look at a workspace: what was read once is not asked for again."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self._read: dict[str, Mapping[str, Any] | None] = {}

    def read(self, kind: Kind, name: str, version: str = "") -> Piece | None:
        """Return a thing as it is now; None where the workspace has none of that name."""
        collection, describe = _READ[kind]
        body = self._get(collection, name, *(("versions", version) if version else ()))
        if body is None:
            return None
        piece = Piece(kind, name, version, str(body.get("id") or name), _plain(describe(self, body)))
        if kind not in (Kind.DATA, Kind.MODEL):
            return piece
        own = body.get("properties") or {}
        return self._with_files(piece, str(own.get("modelUri") or own.get("dataUri") or ""))

    def _get(self, *path: str) -> Mapping[str, Any] | None:
        below = "/".join(path)
        if not all(map(_NAME.fullmatch, path)):  # names come from tags and files, too
            return None
        if below not in self._read:
            what = f"{path[0]} '{path[1]}'"
            url = f"{self.conn.workspace_path}/{below}"
            try:
                answer = self.conn.http("GET", url, params={"api-version": _API}, what=what)
                self._read[below] = answer.json()
            except NotFound:
                self._read[below] = None
        return self._read[below]

    def deployments(self, endpoint: str) -> Iterator[Mapping[str, Any]]:
        """Yield the deployments of an endpoint as the service writes them."""
        url = f"{self.conn.workspace_path}/onlineEndpoints/{endpoint}/deployments?api-version={_API}"
        for answer in self.conn.pages(url, f"the deployments of '{endpoint}'"):
            yield from answer.json().get("value") or []

    def _with_files(self, piece: Piece, address: str) -> Piece:
        try:
            path = path_of(self.conn, address)
            files = list_files(self.conn, path) if path else None
        except TunedeckError as error:
            return replace(piece, missing=f"Its files cannot be listed: {error.message}")
        if files is None:
            return replace(piece, missing="Its files lie elsewhere, or are too many to list.")
        return replace(piece, files=files, missing="" if files else "Its files were deleted.")


def _plain(facts: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _made(body: Mapping[str, Any]) -> dict[str, object]:
    made, told = read_made(body), _tags_of(body)
    return {
        "created by": made.by,
        "created at": tags.format_time(made.at) if made.at else "",
        "made in home": told.get(tags.MADE_BY),
        "operation": told.get(tags.OPERATION),
    }


def _tags_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    return body.get("tags") or (body.get("properties") or {}).get("tags") or {}


def _title_of(address: str) -> str:
    """Return "name:version" of an asset of this workspace; another address without what may open it."""
    asset = None if "/registries/" in address.lower() else asset_of(address)
    return ":".join(asset) if asset else address.partition("?")[0]


def _describe_data(_look: Look, body: Mapping[str, Any]) -> dict[str, object]:
    own, told = body["properties"], _tags_of(body)
    return {
        "content hash": told.get(HASH_TAG),
        "rows": told.get("rows"),
        "source": told.get("source"),
        "state": _STATES[bool(own.get("isArchived"))],
        "address": _title_of(str(own.get("dataUri") or "")),
        **_made(body),
    }


def _node(body: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the component of a pipeline's one node, and the node's inputs as text."""
    node: Mapping[str, Any] = next(iter((body["properties"].get("jobs") or {}).values()), {})
    given = (node.get("inputs") or {}).items()
    component = ":".join(asset_of(str(node.get("componentId") or "")) or ())
    return component, {
        name: str(each.get("value", each.get("uri", ""))) for name, each in given if isinstance(each, dict)
    }


def _describe_job(_look: Look, body: Mapping[str, Any]) -> dict[str, object]:
    own, told, (component, inputs) = body["properties"], _tags_of(body), _node(body)
    return {
        "title": told.get(tags.TITLE),
        "display name": own.get("displayName"),
        "experiment": own.get("experimentName"),
        "state": own.get("status"),
        "compute": inputs.get("compute_finetune") or told.get(tags.COMPUTE),
        **{words: _title_of(inputs[name]) for name, words in _INPUTS.items() if name in inputs},
        "data name": told.get(tags.DATASET),
        "rows": told.get(tags.ROWS),
        "data hash in tags": told.get(tags.DATASET_KEY),
        "base model in tags": told.get(tags.MODEL_ID),
        **_settings_in(told),
        **_made(body),
        "component": component,
    }


def _settings_in(told: Mapping[str, str]) -> dict[str, object]:
    if not told.get(tags.RECIPE):
        return {}
    return {"settings in tags": tags.format_recipe(list_changed(tags.parse_recipe(told[tags.RECIPE])))}


def _describe_recipe(_look: Look, body: Mapping[str, Any]) -> dict[str, object]:
    component, inputs = _node(body)
    return {
        "base model": inputs.get("mlflow_model_path", "").partition("?")[0],
        "component": component,
        "GPUs": inputs.get("number_of_gpu_to_use_finetuning"),
        "settings": tags.format_recipe(list_changed(inputs)),
    }


def _describe_model(_look: Look, body: Mapping[str, Any]) -> dict[str, object]:
    own, told = body["properties"], _tags_of(body)
    return {
        "job": told.get(tags.RUN) if told.get(tags.CHECKPOINT) else own.get("jobName") or told.get(tags.RUN),
        "checkpoint": told.get(tags.CHECKPOINT),
        "run in tags": told.get(tags.RUN),
        "type": own.get("modelType"),
        "state": _STATES[bool(own.get("isArchived"))],
        "address": _title_of(str(own.get("modelUri") or "")),
        "base model": told.get(tags.MODEL_ID) or told.get(tags.MODEL),
        "data hash in tags": told.get(tags.DATASET_KEY),
        **_settings_in(told),
        **_made(body),
    }


def _describe_endpoint(look: Look, body: Mapping[str, Any]) -> dict[str, object]:
    told = _tags_of(body)
    traffic = {str(name).lower(): share for name, share in (body["properties"].get("traffic") or {}).items()}
    facts: dict[str, object] = {"state": body["properties"].get("provisioningState")}
    for each in look.deployments(str(body["name"])):
        name, own = str(each["name"]), each["properties"]
        facts |= {
            f"{name}: model": _title_of(str(own.get("model") or "")),
            f"{name}: size": f"{(each.get('sku') or {}).get('capacity') or 1} × {own.get('instanceType')}",
            f"{name}: traffic": f"{traffic.get(name.lower(), 0)} %",
            f"{name}: created at": _made(each)["created at"],
        }
    in_tags = {"model in tags": told.get(tags.REGISTERED_MODEL), "run in tags": told.get(tags.RUN)}
    return {**facts, "delete at": told.get(tags.DELETE_AT), **in_tags, **_made(body)}


# Where each kind stands in a workspace, and what is read of it.
_READ = {
    Kind.DATA: ("data", _describe_data),
    Kind.RECIPE: ("jobs", _describe_recipe),
    Kind.JOB: ("jobs", _describe_job),
    Kind.MODEL: ("models", _describe_model),
    Kind.ENDPOINT: ("onlineEndpoints", _describe_endpoint),
}
