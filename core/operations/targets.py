"""What a teardown can delete: of each kind, whether it is still there and how its end is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.datastore import delete_below, has_files, list_softly_deleted, path_of
from core.azureml.polling import start_write
from core.catalog.compute import get_compute
from core.errors import NotFound, ServiceFailed, SignInFailed, Throttled, TunedeckError, Unreachable
from core.operations.change import Thing, thing
from core.serving.endpoints import ProvisioningState, begin_endpoint_deletion, find_endpoint
from core.serving.registered_models import archive_model, find_registered_model, list_registered_models

_API = "2024-10-01"
_NO_ANSWER = (Unreachable, SignInFailed, ServiceFailed, Throttled)  # they do not say whether the service deletes it

Record = Callable[..., None]


@dataclass(frozen=True)
class Target:
    """One thing to delete."""

    kind: str
    """ "endpoint", "deployment" (its name is "ENDPOINT/NAME"), "compute", "model", "data" or "run" (its files)."""
    name: str
    version: str = ""
    what: str = "delete"
    """ "delete", or "archive" for a model and for data, which the service hides and keeps."""
    files: bool = False
    """Whether the files of a model are deleted too."""
    seen: tuple[str, ...] = ()
    """What it was when the operator was asked, as `core.teardown.plan.describe` says it; () where that is no matter."""

    @property
    def key(self) -> str:
        """Identity within the workspace: "endpoint:phi4-support-3f2", "model:phi4-support:3"."""
        return ":".join(filter(None, (self.kind, self.name, self.version)))

    @property
    def title(self) -> str:
        """The step's words: "Delete endpoint phi4-support-3f2"."""
        files = " and delete its files" if self.files else ""
        return f"{' '.join(filter(None, (self.what.capitalize(), self._noun, self.name, self.version)))}{files}"

    @property
    def words(self) -> str:
        """What it is in a sentence: "endpoint 'phi4-support-3f2'"."""
        return f"{self._noun} '{self.name}'"

    @property
    def label(self) -> str:
        """What it is on a receipt: "model phi4-support v3"."""
        return f"{self._noun} {self.name}{f' v{self.version}' if self.version else ''}"

    @property
    def thing(self) -> Thing:
        """The endpoint or compute that goes, in whole or in part."""
        part = self.kind == "deployment"
        return thing("endpoint" if part else self.kind, self.name.partition("/")[0] if part else self.name)

    @property
    def provisioned(self) -> bool:
        """Whether its end takes the service minutes; an asset's entry and files go at once."""
        return self.kind in {"endpoint", "deployment", "compute"}

    @property
    def _noun(self) -> str:
        return "the files of run" if self.kind == "run" else self.kind


@dataclass(frozen=True)
class Found:
    """A thing that is there. maker: the operation that made it, by its tag; None where no other can take its name."""

    state: ProvisioningState
    maker: str | None = None


def find(conn: Connection, target: Target) -> Found | None:
    """Return a thing as it is now, None once it is gone; what is archived is gone from the lists."""
    return _FINDS[target.kind](conn, target)


def send(conn: Connection, target: Target, record: Record) -> None:
    """Ask for the end of a thing. record: writes down facts of it by name.

    files: where its files lie, before anything is sent. refused: why the service archived it and did not delete it.
    freed: the bytes that went.
    """
    _SENDS[target.kind](conn, target, record)


def list_recoverable(conn: Connection, target: Target, files: str) -> list[dict[str, Any]]:
    """Return what the storage account still keeps, and bills, of files that were deleted; as a receipt lists it."""
    what = "deleted files that the account keeps for a while"
    try:
        found = list_softly_deleted(conn, files or f"azureml/{target.name}/")
    except TunedeckError:
        return [{"what": what, "bytes": None, "until": ""}]
    until = conn.now + timedelta(days=max((days for _, days in found), default=0))
    kept = {"what": what, "bytes": sum(size for size, _ in found), "until": tags.format_time(until)}
    return [kept] if found else []


def _find_endpoint(conn: Connection, target: Target) -> Found | None:
    found = find_endpoint(conn, target.name)
    return Found(found.state, found.tags.get(tags.OPERATION, "")) if found else None


def _find_deployment(conn: Connection, target: Target) -> Found | None:
    endpoint, _, name = target.name.partition("/")
    found = find_endpoint(conn, endpoint)
    deployments = [each for each in found.deployments if each.name == name] if found else []
    return Found(deployments[0].state, deployments[0].tags.get(tags.OPERATION, "")) if deployments else None


def _find_compute(conn: Connection, target: Target) -> Found | None:
    try:
        found = get_compute(conn, target.name)
    except NotFound:
        return None
    return Found(ProvisioningState(found.state), found.tags.get(tags.OPERATION, ""))


def _find_model(conn: Connection, target: Target) -> Found | None:
    return _listed(target, [model.version for model in list_registered_models(conn, target.name)])


def _find_data(conn: Connection, target: Target) -> Found | None:
    try:
        found = conn.call("read", target.words, lambda: list(conn.workspace.data.list(target.name)))
    except NotFound:
        return None
    return _listed(target, [str(version.version) for version in found])


def _find_files(conn: Connection, target: Target) -> Found | None:
    prefix, kept = _files_of(conn, target)
    return Found(ProvisioningState.SUCCEEDED) if has_files(conn, prefix, kept) else None


def _listed(target: Target, versions: list[str]) -> Found | None:
    return Found(ProvisioningState.SUCCEEDED) if target.version in versions else None


def _send_endpoint(conn: Connection, target: Target, _record: Record) -> None:
    begin_endpoint_deletion(conn, target.name)


def _send_deployment(conn: Connection, target: Target, _record: Record) -> None:
    endpoint, _, name = target.name.partition("/")
    start_write(conn, "delete", target.words, conn.workspace.online_deployments.begin_delete, name, endpoint)


def _send_compute(conn: Connection, target: Target, _record: Record) -> None:
    start_write(conn, "delete", target.words, conn.workspace.compute.begin_delete, target.name)


def _send_model(conn: Connection, target: Target, record: Record) -> None:
    if (model := find_registered_model(conn, target.name, target.version)) is not None:
        record(files=path_of(conn, model.path) or "")
    archive_model(conn, target.name, target.version)


def _send_data(conn: Connection, target: Target, record: Record) -> None:
    """Ask for its deletion, and archive it where the service refuses that."""
    data, name, version = conn.workspace.data, target.name, target.version
    asset = conn.call("read", target.words, data.get, name, version)
    record(files=path_of(conn, str(asset.path)) or "")
    path = f"{conn.workspace_path}/data/{name}/versions/{version}"
    try:
        conn.http("DELETE", path, params={"api-version": _API}, doing="delete", what=target.words)
    except (NotFound, *_NO_ANSWER):
        raise
    except TunedeckError as error:
        record(refused=error.message)
        conn.call("archive", target.words, lambda: data.archive(name, version))


def _send_files(conn: Connection, target: Target, record: Record) -> None:
    prefix, kept = _files_of(conn, target)
    record(freed=delete_below(conn, prefix, kept))


def _files_of(conn: Connection, target: Target) -> tuple[str, tuple[str, ...]]:
    """Return where a run's files lie, and what of them is a registered model's, which stays with it."""
    prefix = f"azureml/{target.name}/"
    paths = (path_of(conn, model.path) or "" for model in list_registered_models(conn))
    return prefix, tuple(path for path in paths if path.startswith(prefix))


_FINDS: Mapping[str, Callable[[Connection, Target], Found | None]] = {
    "endpoint": _find_endpoint,
    "deployment": _find_deployment,
    "compute": _find_compute,
    "model": _find_model,
    "data": _find_data,
    "run": _find_files,
}
_SENDS: Mapping[str, Callable[[Connection, Target, Record], None]] = {
    "endpoint": _send_endpoint,
    "deployment": _send_deployment,
    "compute": _send_compute,
    "model": _send_model,
    "data": _send_data,
    "run": _send_files,
}
