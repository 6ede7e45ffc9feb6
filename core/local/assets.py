"""Named and versioned assets, which data and models both are: containers, versions, archiving.

Knows what neither of them is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.local.store import Store
from core.local.wire import answers, query
from core.local.wire.answers import PROVIDER, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

Document = dict[str, Any]


class Asset(ABC):
    """What differs between the kinds of assets. A document's key is `<name>/<version>`, its parent the name."""

    kind: str  # of the documents in the store
    segment: str  # of the path
    content: str  # the field of a PUT that says what a version is, which cannot be changed
    kept: str = "uri"  # the field of a document that holds it

    @abstractmethod
    def from_wire(self, request: Request, properties: Document) -> Document:
        """Return the fields of this kind from a PUT's properties, `kept` among them; raises 400."""

    @abstractmethod
    def to_wire(self, document: Document) -> Document:
        """Return the properties of this kind in an answer."""

    @abstractmethod
    def describe_container(self, newest: Document) -> Document:
        """Return what the container says besides versions, tags and description."""

    @property
    def container_kind(self) -> str:
        """Return the kind of what is said about a name as a whole."""
        return f"{self.kind} container"

    def read_content(self, properties: Document) -> Any:
        """Return what a PUT says that a version is, None where it leaves that as it is."""
        return properties.get(self.content)


class AssetRoutes:
    """The routes of one kind of asset."""

    def __init__(self, asset: Asset) -> None:
        self._asset = asset

    def routes(self) -> list[Route]:
        """Return the routes."""
        base = f"{WORKSPACE_PATH}/{self._asset.segment}"
        return [
            route(base, self.list_containers),
            route(f"{base}/{{name}}", self.get_container),
            route(f"{base}/{{name}}", self.put_container, "PUT"),
            route(f"{base}/{{name}}/versions", self.list_versions),
            route(f"{base}/{{name}}/versions/{{version}}", self.get_version),
            route(f"{base}/{{name}}/versions/{{version}}", self.put_version, "PUT"),
            route(f"{base}/{{name}}/versions/{{version}}", self.delete_version, "DELETE"),
        ]

    # Containers

    def list_containers(self, request: Request) -> Document:
        """GET the names."""
        store = workspace_of(request).store
        return answers.paged(request, self._names_shown(request), lambda name: self._container_to_wire(store, name))

    def _names_shown(self, request: Request) -> list[str]:
        store = workspace_of(request).store
        names, view = store.list_parents(self._asset.kind), answers.list_view(request)
        if view == "all":
            return names
        archived = {
            name for name in names if (store.get(self._asset.container_kind, name) or {}).get("archived", False)
        }
        return [name for name in names if (name in archived) == (view == "archived")]

    def get_container(self, request: Request) -> Document:
        """GET what is known of a name; 404 tells the SDK that its first version is 1."""
        return self._container_to_wire(workspace_of(request).store, answers.name_of(request, "name"))

    def put_container(self, request: Request) -> Document:
        """PUT whether a name is archived."""
        store, name = workspace_of(request).store, answers.name_of(request, "name")
        properties = answers.field_of(answers.read_json(request), "properties", dict, {})
        self._newest(store, name)
        store.put(
            self._asset.container_kind, name, {"archived": answers.field_of(properties, "isArchived", bool, False)}
        )
        return self._container_to_wire(store, name)

    def _newest(self, store: Store, name: str) -> Document:
        versions = store.list(self._asset.kind, parent=name, limit=1)
        if not versions:
            raise WireError(404, "ResourceNotFound", f"The {self._asset.kind} '{name}' was not found.")
        return versions[0]

    def _container_to_wire(self, store: Store, name: str) -> Document:
        newest = self._newest(store, name)
        versions = [key.rpartition("/")[2] for key in store.list_keys(self._asset.kind, name)]
        numbers = [int(version) for version in versions if version.isdecimal()]
        said = store.get(self._asset.container_kind, name) or {"archived": False}
        return {
            "id": answers.arm_id(self._asset.segment, name),
            "name": name,
            "type": f"{PROVIDER}/workspaces/{self._asset.segment}",
            "properties": {
                "latestVersion": newest["version"],
                "nextVersion": str(max(numbers, default=0) + 1),
                "isArchived": said["archived"],
                "description": newest["description"],
                "tags": newest["tags"],
                "properties": {},
                **self._asset.describe_container(newest),
            },
            "systemData": answers.system_data(newest),
        }

    # Versions

    def list_versions(self, request: Request) -> Document:
        """GET the versions of a name, the newest first or as `$orderBy` says, those that the query's filters let by."""
        store, name = workspace_of(request).store, answers.name_of(request, "name")
        self._newest(store, name)
        view = answers.list_view(request) if "listViewType" in request.query_params else "all"
        asked = request.query_params
        shown = [
            each
            for each in query.ordered(request, store.list(self._asset.kind, parent=name))
            if (view == "all" or each["archived"] == (view == "archived"))
            and query.holds(each["tags"], asked.get("tags") or asked.get("$tags"))
            and query.holds(each["properties"], asked.get("properties"))
            and asked.get("version", each["version"]) == each["version"]
            and asked.get("description", each["description"]) == each["description"]
        ]
        return answers.paged(request, [self.version_to_wire(each) for each in shown])

    def get_version(self, request: Request) -> Document:
        """GET one version."""
        return self.version_to_wire(self._require(request))

    def put_version(self, request: Request) -> Response:
        """PUT a version: register it, or change what may change (description, tags, properties, archived)."""
        store = workspace_of(request).store
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        properties = answers.field_of(answers.read_json(request), "properties", dict, {})
        asked = {
            "name": name,
            "version": version,
            "description": answers.field_of(properties, "description", str),
            "tags": answers.strings_of(properties, "tags"),
            "properties": answers.strings_of(properties, "properties"),
            "archived": answers.field_of(properties, "isArchived", bool, False),
        }
        current = store.get(self._asset.kind, self._key(name, version))
        own = (
            self._asset.from_wire(request, properties)
            if current is None
            else self._unchanged(request, properties, current)
        )
        document = store.put(self._asset.kind, self._key(name, version), {**asked, **own}, parent=name)
        return answers.JsonAnswer(self.version_to_wire(document), 201 if current is None else 200)

    def _unchanged(self, request: Request, properties: Document, current: Document) -> Document:
        """Return the content of a version that is there; raises 409 where a PUT would change it."""
        fixed = ("name", "version", "description", "tags", "properties", "archived", "created_at", "modified_at")
        own = {name: value for name, value in current.items() if name not in fixed}
        sent, kept = self._asset.read_content(properties), self._asset.kept
        if sent in (None, own[kept]) or self._asset.from_wire(request, properties)[kept] == own[kept]:
            return own
        raise WireError(
            409,
            "Conflict",
            f"The {self._asset.kind} '{current['name']}' has a version {current['version']} with other content.",
        )

    def delete_version(self, request: Request) -> Response:
        """DELETE a version's registration; its files stay."""
        store, document = workspace_of(request).store, self._require(request)
        store.delete(self._asset.kind, self._key(document["name"], document["version"]))
        return Response(status_code=200)

    def _require(self, request: Request) -> Document:
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        document = workspace_of(request).store.get(self._asset.kind, self._key(name, version))
        if document is None:
            raise WireError(
                404, "ResourceNotFound", f"The {self._asset.kind} '{name}' version '{version}' was not found."
            )
        return document

    @staticmethod
    def _key(name: str, version: str) -> str:
        return f"{name}/{version}"

    def version_to_wire(self, document: Document) -> Document:
        """Return one version as it is answered."""
        return {
            "id": answers.arm_id(self._asset.segment, document["name"], "versions", document["version"]),
            "name": document["version"],
            "type": f"{PROVIDER}/workspaces/{self._asset.segment}/versions",
            "properties": {
                "description": document["description"],
                "tags": document["tags"],
                "properties": document["properties"],
                "isArchived": document["archived"],
                "isAnonymous": False,
                **self._asset.to_wire(document),
            },
            "systemData": answers.system_data(document),
        }
