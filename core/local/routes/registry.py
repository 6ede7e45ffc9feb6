"""The registry `azureml`: discovery, base models, and the component that fine-tunes chat models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from core.engine import component
from core.home import LOCATION, SUBSCRIPTION_ID
from core.local.registry import RegistryModel
from core.local.wire import answers, query
from core.local.wire.answers import GROUP_PATH, REGISTRY_NAME, REGISTRY_PATH, REGISTRY_RESOURCE_GROUP, route
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

_COMPONENT_CREATED_AT = "2025-01-01T00:00:00+00:00"


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


def list_models(request: Request) -> dict[str, Any]:
    """GET the names of the models, each with its newest version."""
    newest: dict[str, RegistryModel] = {}
    for model in workspace_of(request).registry.list_models():
        newest.setdefault(model.name, model)
    return answers.paged(request, [_container_to_wire(model) for model in _viewed(request, list(newest.values()))])


def get_model(request: Request) -> dict[str, Any]:
    """GET what is known of a model's name."""
    name = answers.name_of(request, "name")
    versions = workspace_of(request).registry.list_versions(name)
    if not versions:
        raise _not_found("model", name)
    return _container_to_wire(versions[0])


def list_model_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a model, the newest first; an archived model is found by its name as on Azure."""
    name = answers.name_of(request, "name")
    versions = workspace_of(request).registry.list_versions(name)
    if not versions:
        raise _not_found("model", name)
    asked = request.query_params
    shown = [
        model
        for model in (_viewed(request, versions) if "listViewType" in asked else versions)
        if query.holds(model.tags, asked.get("tags")) and query.holds(model.properties, asked.get("properties"))
    ]
    return answers.paged(request, [_version_to_wire(model) for model in shown])


def get_model_version(request: Request) -> dict[str, Any]:
    """GET one version of a model."""
    name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
    found = workspace_of(request).registry.find_model(name, version) if version != "latest" else None
    if found is None:
        raise _not_found("model", f"{name}:{version}")
    return _version_to_wire(found)


def list_components(request: Request) -> dict[str, Any]:
    """GET the names of the components: the one."""
    return answers.paged(request, [_component_container_to_wire()])


def get_component(request: Request) -> dict[str, Any]:
    """GET what is known of a component's name."""
    _check_component(request)
    return _component_container_to_wire()


def list_component_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a component."""
    _check_component(request)
    return answers.paged(request, [_component_to_wire()])


def get_component_version(request: Request) -> dict[str, Any]:
    """GET one version of a component."""
    name, version = answers.name_of(request, "name"), answers.name_of(request, "version")
    if (name, version) != (component.NAME, component.VERSION):
        raise _not_found("component", f"{name}:{version}")
    return _component_to_wire()


def _check_component(request: Request) -> None:
    if answers.name_of(request, "name") != component.NAME:
        raise _not_found("component", answers.name_of(request, "name"))


def list_data(request: Request) -> dict[str, Any]:
    """GET the data assets of the registry: there are none."""
    return answers.paged(request, [])


def get_data(request: Request) -> dict[str, Any]:
    """GET a data asset, or one of its versions: there is none."""
    raise _not_found("data asset", answers.name_of(request, "name"))


def list_registries(request: Request) -> dict[str, Any]:
    """GET the registries of the subscription, or of a resource group: the one, which lies in a group of its own."""
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
        "systemData": _system_data(_COMPONENT_CREATED_AT),
    }


def refuse_import(_request: Request) -> dict[str, Any]:
    """POST an asset of the workspace to be shared: refused, as the registry of this name refuses most people."""
    message = f"The registry '{REGISTRY_NAME}' is read only: nothing of a workspace can be shared to it."
    raise WireError(403, "AuthorizationFailed", message)


def _viewed(request: Request, models: Sequence[RegistryModel]) -> list[RegistryModel]:
    view = answers.list_view(request)
    return [model for model in models if view == "all" or model.archived == (view == "archived")]


def _container_to_wire(model: RegistryModel) -> dict[str, Any]:
    return {
        "id": f"azureml://registries/{REGISTRY_NAME}/models/{model.name}",
        "name": model.name,
        "type": "models",
        "properties": {
            "latestVersion": model.version,
            "nextVersion": None,
            "isArchived": model.archived,
            "description": model.description,
            "tags": model.tags,
            "properties": model.properties,
        },
        "systemData": _system_data(model.created_at),
    }


def _version_to_wire(model: RegistryModel) -> dict[str, Any]:
    address = f"azureml://registries/{REGISTRY_NAME}/models/{model.name}/versions/{model.version}"
    return {
        "id": address,
        "name": model.name,
        "type": "models",
        "properties": {
            "modelType": "mlflow_model",
            "flavors": {},
            "description": model.description,
            "tags": model.tags,
            "properties": model.properties,
            "isArchived": model.archived,
            "isAnonymous": False,
            "modelUri": address,
            "originAssetId": None,
            "jobName": None,
            "intellectualProperty": None,
            **({} if model.system_metadata is None else {"systemMetadata": model.system_metadata}),
        },
        "systemData": _system_data(model.created_at),
    }


def _component_container_to_wire() -> dict[str, Any]:
    return {
        "id": f"azureml://registries/{REGISTRY_NAME}/components/{component.NAME}",
        "name": component.NAME,
        "type": "components",
        "properties": {
            "description": None,
            "latestVersion": component.VERSION,
            "nextVersion": None,
            "isArchived": False,
            "tags": {},
            "properties": {},
        },
        "systemData": _system_data(_COMPONENT_CREATED_AT),
    }


def _component_to_wire() -> dict[str, Any]:
    return {
        "id": f"azureml://registries/{REGISTRY_NAME}/components/{component.NAME}/versions/{component.VERSION}",
        "name": component.VERSION,
        "type": "components",
        "properties": {
            "componentSpec": component.component_spec(),
            "isArchived": False,
            "isAnonymous": False,
            "tags": {},
            "properties": {},
        },
        "systemData": _system_data(_COMPONENT_CREATED_AT),
    }


def _system_data(created_at: str) -> dict[str, str]:
    return answers.system_data(created_at, created_at, REGISTRY_NAME)


def _not_found(what: str, name: str) -> WireError:
    return WireError(404, "UserError", f"The {what} '{name}' was not found in registry '{REGISTRY_NAME}'.")


ROUTES = [
    route("/registrymanagement/v1.0/registries/{name}/discovery", get_discovery),
    route(f"{REGISTRY_PATH}/models", list_models),
    route(f"{REGISTRY_PATH}/models/{{name}}", get_model),
    route(f"{REGISTRY_PATH}/models/{{name}}/versions", list_model_versions),
    route(f"{REGISTRY_PATH}/models/{{name}}/versions/{{version}}", get_model_version),
    route(f"{REGISTRY_PATH}/components", list_components),
    route(f"{REGISTRY_PATH}/components/{{name}}", get_component),
    route(f"{REGISTRY_PATH}/components/{{name}}/versions", list_component_versions),
    route(f"{REGISTRY_PATH}/components/{{name}}/versions/{{version}}", get_component_version),
    route(f"{REGISTRY_PATH}/data", list_data),
    *(route(f"{REGISTRY_PATH}/data/{{name}}{below}", get_data) for below in ("", "/versions", "/versions/{version}")),
    route(f"{REGISTRY_PATH}/import", refuse_import, "POST"),
    route(f"{GROUP_PATH}/providers/{answers.PROVIDER}/registries", list_registries),
    route(f"{answers.PROVIDER_PATH}/registries", list_registries),
    route(answers.REGISTRY_RESOURCE_PATH, get_registry),
]
