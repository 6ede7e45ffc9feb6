"""The registry `azureml`: discovery, base models, environments, and the component that fine-tunes chat models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.routing import Route

from core.engine import component
from core.home import LOCATION, SUBSCRIPTION_ID
from core.local.model_registry import RegistryAsset, RegistryModel
from core.local.routes.environments import own_environment
from core.local.wire import answers, query
from core.local.wire.answers import GROUP_PATH, REGISTRY_NAME, REGISTRY_PATH, REGISTRY_RESOURCE_GROUP, route
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

E = TypeVar("E", bound=RegistryAsset)


@dataclass(frozen=True)
class Shelf(Generic[E]):
    """One kind of asset in the registry."""

    segment: str
    """What the kind is called in a path."""
    what: str
    """What it is called in a sentence."""
    list_all: Callable[[Workspace], Sequence[E]]
    """Gives every version, the newest of each name first."""
    content: Callable[[E], dict[str, Any]]
    """Gives the properties of the kind."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        base = f"{REGISTRY_PATH}/{self.segment}"
        return [
            route(base, self.list_names),
            route(f"{base}/{{name}}", self.get_name),
            route(f"{base}/{{name}}/versions", self.list_versions),
            route(f"{base}/{{name}}/versions/{{version}}", self.get_version),
        ]

    def list_names(self, request: Request) -> dict[str, Any]:
        """GET the names, each with its newest version."""
        newest: dict[str, E] = {}
        for entry in self.list_all(workspace_of(request)):
            newest.setdefault(entry.name, entry)
        return answers.paged(request, _viewed(request, list(newest.values())), self._name_to_wire)

    def get_name(self, request: Request) -> dict[str, Any]:
        """GET a name, described by its newest version."""
        return self._name_to_wire(self._versions_of(request)[0])

    def list_versions(self, request: Request) -> dict[str, Any]:
        """GET the versions of a name, the newest first; an archived model is found by its name as on Azure."""
        asked, versions = request.query_params, self._versions_of(request)
        shown = [
            entry
            for entry in (_viewed(request, versions) if "listViewType" in asked else versions)
            if query.holds(entry.tags, asked.get("tags")) and query.holds(entry.properties, asked.get("properties"))
        ]
        return answers.paged(request, shown, self._version_to_wire)

    def get_version(self, request: Request) -> dict[str, Any]:
        """GET one version."""
        name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
        for entry in self._versions_of(request):
            if entry.version == version:
                return self._version_to_wire(entry)
        raise self._not_found(f"{name}:{version}")

    def _versions_of(self, request: Request) -> list[E]:
        name = answers.name_of(request, "name")
        versions = [entry for entry in self.list_all(workspace_of(request)) if entry.name == name]
        if not versions:
            raise self._not_found(name)
        return versions

    def _not_found(self, name: str) -> WireError:
        return WireError(404, "UserError", f"The {self.what} '{name}' was not found in registry '{REGISTRY_NAME}'.")

    def _name_to_wire(self, entry: E) -> dict[str, Any]:
        return self._to_wire(entry, entry.name, {"latestVersion": entry.version, "nextVersion": None})

    def _version_to_wire(self, entry: E) -> dict[str, Any]:
        below = f"{entry.name}/versions/{entry.version}"
        return self._to_wire(entry, below, {"isAnonymous": False, **self.content(entry)})

    def _to_wire(self, entry: E, below: str, own: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"azureml://registries/{REGISTRY_NAME}/{self.segment}/{below}",
            "name": below.rpartition("/")[2],
            "type": self.segment,
            "properties": {
                "description": entry.description,
                "tags": entry.tags,
                "properties": entry.properties,
                "isArchived": entry.archived,
                **own,
            },
            "systemData": answers.system_data(entry.created_at, entry.created_at, REGISTRY_NAME),
        }


def _viewed(request: Request, entries: list[E]) -> list[E]:
    view = answers.list_view(request)
    return [entry for entry in entries if view == "all" or entry.archived == (view == "archived")]


def _model_content(model: RegistryModel) -> dict[str, Any]:
    content: dict[str, Any] = {
        "modelType": "mlflow_model",
        "flavors": {},
        "modelUri": f"azureml://registries/{REGISTRY_NAME}/models/{model.name}/versions/{model.version}",
        "originAssetId": None,
        "jobName": None,
        "intellectualProperty": None,
    }
    return content if model.system_metadata is None else {**content, "systemMetadata": model.system_metadata}


def _list_environments(workspace: Workspace) -> list[RegistryAsset]:
    own = own_environment(workspace.started_at)
    return [RegistryAsset(name=own.name, version=own.version, description=own.description, created_at=own.created_at)]


def get_discovery(request: Request) -> dict[str, Any]:
    """GET where a registry is."""
    name = answers.name_of(request, "name")
    if not answers.is_named(REGISTRY_NAME, name):
        raise WireError(404, "RegistryNotFound", f"The registry '{name}' was not found.")
    base = answers.base_url(request)
    return {
        "registryId": SUBSCRIPTION_ID,
        "registryName": REGISTRY_NAME,
        "tenantId": SUBSCRIPTION_ID,
        "primaryRegion": LOCATION,
        "regions": [LOCATION],
        "subscriptionId": SUBSCRIPTION_ID,
        "resourceGroup": REGISTRY_RESOURCE_GROUP,
        "primaryRegionResourceProviderUri": f"{base}/",
        "registryFqdns": {LOCATION: {"uri": base}},
        "workspaceName": None,
        "intellectualPropertyPublisher": None,
        "isTradeRestricted": False,
    }


def list_registries(request: Request) -> dict[str, Any]:
    """GET the registries of the subscription, or of a resource group: this one lies in a group of its own."""
    group = request.path_params.get("group", REGISTRY_RESOURCE_GROUP)
    return answers.paged(request, [_registry_to_wire(request)] if group == REGISTRY_RESOURCE_GROUP else [])


def get_registry(request: Request) -> dict[str, Any]:
    """GET the registry as a resource."""
    return _registry_to_wire(request)


def _registry_to_wire(request: Request) -> dict[str, Any]:
    base = answers.base_url(request)
    place = {"subscription": SUBSCRIPTION_ID, "group": REGISTRY_RESOURCE_GROUP, "registry": REGISTRY_NAME}
    return {
        "id": answers.REGISTRY_RESOURCE_PATH.format(**place),
        "name": REGISTRY_NAME,
        "type": f"{answers.PROVIDER}/registries",
        "location": LOCATION,
        "tags": {},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "discoveryUrl": f"{base}/registrymanagement/v1.0/registries/{REGISTRY_NAME}/discovery",
            "mlFlowRegistryUri": None,
            "intellectualPropertyPublisher": None,
            "managedResourceGroup": None,
            "publicNetworkAccess": "Disabled",
            "regionDetails": [{"location": LOCATION, "acrDetails": [], "storageAccountDetails": []}],
        },
        "systemData": answers.system_data(_COMPONENT.created_at, _COMPONENT.created_at, REGISTRY_NAME),
    }


def refuse_import(_request: Request) -> dict[str, Any]:
    """POST an asset of the workspace to be shared: refused, as the registry of this name refuses most people."""
    message = f"The registry '{REGISTRY_NAME}' is read only: nothing of a workspace can be shared to it."
    raise WireError(403, "AuthorizationFailed", message)


_COMPONENT = RegistryAsset(name=component.NAME, version=component.VERSION)
_SHELVES: tuple[Shelf[Any], ...] = (
    Shelf("models", "model", lambda workspace: workspace.registry.list_models(), _model_content),
    Shelf("components", "component", lambda _: [_COMPONENT], lambda _: {"componentSpec": component.component_spec()}),
    Shelf("environments", "environment", _list_environments, lambda own: own_environment(own.created_at).to_wire()),
    Shelf("data", "data asset", lambda _: [], lambda _: {}),
)
ROUTES = [
    route("/registrymanagement/v1.0/registries/{name}/discovery", get_discovery),
    *(each for shelf in _SHELVES for each in shelf.routes()),
    route(f"{REGISTRY_PATH}/import", refuse_import, "POST"),
    route(f"{GROUP_PATH}/providers/{answers.PROVIDER}/registries", list_registries),
    route(f"{answers.PROVIDER_PATH}/registries", list_registries),
    route(answers.REGISTRY_RESOURCE_PATH, get_registry),
]
