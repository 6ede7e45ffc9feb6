"""Named and versioned assets (data, models, components, environments): containers, versions, archiving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.local.records import Record
from core.local.wire import answers, query
from core.local.wire.answers import PROVIDER, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of


@dataclass(frozen=True, kw_only=True)
class Asset(Record, ABC):
    """One version of an asset."""

    SEGMENT: ClassVar[str]
    """What its kind is called in a path."""
    CONTENT: ClassVar[str] = "uri"
    """The field that says what the version is: it cannot be changed."""

    version: str
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    archived: bool = False

    @property
    def key(self) -> str:
        """Return the key of its document."""
        return f"{self.name}/{self.version}"

    @property
    def parent(self) -> str:
        """Return the name that all its versions share."""
        return self.name

    @classmethod
    @abstractmethod
    def from_wire(cls, workspace: Workspace, properties: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of this kind from a PUT's properties, the content among them; raises 400."""

    @classmethod
    @abstractmethod
    def read_content(cls, properties: dict[str, Any]) -> Any:
        """Return what a PUT says that the version is, None where it leaves that as it is."""

    @abstractmethod
    def to_wire(self) -> dict[str, Any]:
        """Return the properties of this kind in an answer."""

    def describe_container(self) -> dict[str, Any]:
        """Return what the container says of its newest version besides description and tags."""
        return {}


A = TypeVar("A", bound=Asset)


class AssetRoutes(Generic[A]):
    """The routes of one kind of asset."""

    def __init__(self, kind: type[A]) -> None:
        self._kind = kind
        self._container_kind = f"{kind.KIND} container"  # of what is said about a name as a whole

    def routes(self) -> list[Route]:
        """Return the routes."""
        base = f"{WORKSPACE_PATH}/{self._kind.SEGMENT}"
        version = f"{base}/{{name}}/versions/{{version}}"
        return [
            route(base, self.list_containers),
            route(f"{base}/{{name}}", self.get_container),
            route(f"{base}/{{name}}", self.put_container, "PUT"),
            route(f"{base}/{{name}}/versions", self.list_versions),
            route(version, self.get_version),
            route(version, self.put_version, "PUT"),
            route(version, self.delete_version, "DELETE"),
        ]

    # What differs for a kind of which one asset is not in the store

    def check_changeable(self, name: str) -> None:
        """Refuse to change what is this machine's own; raises 400."""

    def list_names(self, workspace: Workspace, view: str) -> list[str]:
        """Return the names in a view: "active", "archived" or "all"."""
        names = workspace.store.list_parents(self._kind.KIND)
        return [name for name in names if view == "all" or self._is_archived(workspace, name) == (view == "archived")]

    def find_version(self, workspace: Workspace, name: str, version: str) -> A | None:
        """Return a version, or None."""
        return self._kind.find(workspace.store, f"{name}/{version}")

    def versions_of(self, workspace: Workspace, name: str, limit: int | None = None) -> list[A]:
        """Return the versions of a name, the newest first; raises 404."""
        versions = self._kind.list_all(workspace.store, name, limit)
        if not versions:
            raise WireError(404, "ResourceNotFound", f"The {self._kind.KIND} '{name}' was not found.")
        return versions

    # Containers

    def list_containers(self, request: Request) -> dict[str, Any]:
        """GET the names."""
        workspace = workspace_of(request)
        names = self.list_names(workspace, answers.list_view(request))
        return answers.paged(request, names, lambda name: self.container_to_wire(workspace, name))

    def get_container(self, request: Request) -> dict[str, Any]:
        """GET what is known of a name; 404 tells the SDK that its first version is 1."""
        return self.container_to_wire(workspace_of(request), answers.name_of(request, "name"))

    def put_container(self, request: Request) -> dict[str, Any]:
        """PUT whether a name is archived."""
        workspace, name = workspace_of(request), answers.name_of(request, "name")
        properties = answers.field_of(answers.read_json(request), "properties", dict, {})
        self.check_changeable(name)
        self.versions_of(workspace, name, 1)
        archived = answers.field_of(properties, "isArchived", bool, False)
        workspace.store.put(self._container_kind, name, {"archived": archived})
        return self.container_to_wire(workspace, name)

    def _is_archived(self, workspace: Workspace, name: str) -> bool:
        container = workspace.store.get(self._container_kind, name)
        return bool(container and container["archived"])

    def container_to_wire(self, workspace: Workspace, name: str) -> dict[str, Any]:
        """Return the answer about a name, of which its newest version tells most."""
        newest = self.versions_of(workspace, name, 1)[0]
        keys = workspace.store.list_keys(self._kind.KIND, name)
        versions = [newest.version, *(key.rpartition("/")[2] for key in keys)]
        return {
            "id": answers.arm_id(self._kind.SEGMENT, name),
            "name": name,
            "type": f"{PROVIDER}/workspaces/{self._kind.SEGMENT}",
            "properties": {
                "latestVersion": newest.version,
                "nextVersion": str(max((int(each) for each in versions if each.isdecimal()), default=0) + 1),
                "isArchived": self._is_archived(workspace, name),
                "description": newest.description,
                "tags": newest.tags,
                "properties": {},
                **newest.describe_container(),
            },
            "systemData": answers.system_data(newest.created_at, newest.modified_at),
        }

    # Versions

    def list_versions(self, request: Request) -> dict[str, Any]:
        """GET the versions of a name, the newest first or as `$orderBy` says, those that the query's filters let by."""
        asked = request.query_params
        versions = self.versions_of(workspace_of(request), answers.name_of(request, "name"))
        view = answers.list_view(request) if "listViewType" in asked else "all"
        shown = [
            each
            for each in query.ordered(request, versions)
            if (view == "all" or each.archived == (view == "archived"))
            and query.holds(each.tags, asked.get("tags") or asked.get("$tags"))
            and query.holds(each.properties, asked.get("properties"))
            and asked.get("version", each.version) == each.version
            and asked.get("description", each.description) == each.description
        ]
        return answers.paged(request, [version_to_wire(each) for each in shown])

    def get_version(self, request: Request) -> dict[str, Any]:
        """GET one version."""
        return version_to_wire(self._require(request))

    def put_version(self, request: Request) -> Response:
        """PUT a version: register it, or change what may change (description, tags, properties, archived)."""
        workspace = workspace_of(request)
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        self.check_changeable(name)
        properties = answers.field_of(answers.read_json(request), "properties", dict, {})
        current = self.find_version(workspace, name, version)
        if current is None:
            own = self._kind.from_wire(workspace, properties)
            current = self._kind.from_document({"name": name, "version": version, **own})
        else:
            self._check_unchanged(workspace, properties, current)
        asset = replace(
            current,
            description=answers.field_of(properties, "description", str),
            tags=answers.strings_of(properties, "tags"),
            properties=answers.strings_of(properties, "properties"),
            archived=answers.field_of(properties, "isArchived", bool, False),
        ).put(workspace.store)
        return answers.JsonAnswer(version_to_wire(asset), 200 if current.created_at else 201)

    def _check_unchanged(self, workspace: Workspace, properties: dict[str, Any], current: A) -> None:
        """Refuse a PUT that would change the content of a version that is there; raises 409."""
        sent, kept = self._kind.read_content(properties), getattr(current, self._kind.CONTENT)
        if sent in (None, kept) or self._kind.from_wire(workspace, properties)[self._kind.CONTENT] == kept:
            return
        message = f"The {current.KIND} '{current.name}' has a version {current.version} with other content."
        raise WireError(409, "Conflict", message)

    def delete_version(self, request: Request) -> Response:
        """DELETE a version's registration; its files stay."""
        self.check_changeable(answers.name_of(request, "name"))
        self._require(request).delete(workspace_of(request).store)
        return Response(status_code=200)

    def _require(self, request: Request) -> A:
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        asset = self.find_version(workspace_of(request), name, version)
        if asset is None:
            message = f"The {self._kind.KIND} '{name}' version '{version}' was not found."
            raise WireError(404, "ResourceNotFound", message)
        return asset


def version_to_wire(asset: Asset) -> dict[str, Any]:
    """Return one version as it is answered."""
    return {
        "id": answers.arm_id(asset.SEGMENT, asset.name, "versions", asset.version),
        "name": asset.version,
        "type": f"{PROVIDER}/workspaces/{asset.SEGMENT}/versions",
        "properties": {
            "description": asset.description,
            "tags": asset.tags,
            "properties": asset.properties,
            "isArchived": asset.archived,
            "isAnonymous": False,
            **asset.to_wire(),
        },
        "systemData": answers.system_data(asset.created_at, asset.modified_at),
    }
