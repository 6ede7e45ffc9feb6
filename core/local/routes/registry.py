"""The registry `azureml`: discovery, base models, and the component that fine-tunes chat models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from core.home import LOCATION, SUBSCRIPTION_ID
from core.local import component, wire
from core.local.registry import RegistryModel
from core.local.wire import REGISTRY_NAME, REGISTRY_PATH, REGISTRY_RESOURCE_GROUP, WireError, route

_COMPONENT_CREATED_AT = "2025-01-01T00:00:00+00:00"


def get_discovery(request: Request) -> dict[str, Any]:
    """GET where a registry is."""
    name = wire.name_of(request, "name")
    if name != REGISTRY_NAME:
        raise WireError(404, "RegistryNotFound", f"The registry '{name}' was not found.")
    base = wire.base_url(request)
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
    }


def list_models(request: Request) -> dict[str, Any]:
    """GET the names of the models, each with its newest version."""
    newest: dict[str, RegistryModel] = {}
    for model in wire.workspace_of(request).registry.list_models():
        newest.setdefault(model.name, model)
    return wire.paged(request, [_container_to_wire(model) for model in _viewed(request, list(newest.values()))])


def list_model_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a model, the newest first; an archived model is found by its name as on Azure."""
    name = wire.name_of(request, "name")
    versions = wire.workspace_of(request).registry.list_versions(name)
    if not versions:
        raise _not_found("model", name)
    shown = _viewed(request, versions) if "listViewType" in request.query_params else versions
    return wire.paged(request, [_version_to_wire(model) for model in shown])


def get_model_version(request: Request) -> dict[str, Any]:
    """GET one version of a model."""
    name, version = wire.name_of(request, "name"), wire.name_of(request, "version")
    found = wire.workspace_of(request).registry.find_model(name, version) if version != "latest" else None
    if found is None:
        raise _not_found("model", f"{name}:{version}")
    return _version_to_wire(found)


def list_components(request: Request) -> dict[str, Any]:
    """GET the names of the components: the one."""
    return wire.paged(
        request,
        [
            {
                "id": f"azureml://registries/{REGISTRY_NAME}/components/{component.NAME}",
                "name": component.NAME,
                "type": "components",
                "properties": {"latestVersion": component.VERSION, "isArchived": False, "tags": {}, "properties": {}},
                "systemData": _system_data(_COMPONENT_CREATED_AT),
            }
        ],
    )


def list_component_versions(request: Request) -> dict[str, Any]:
    """GET the versions of a component."""
    if wire.name_of(request, "name") != component.NAME:
        raise _not_found("component", wire.name_of(request, "name"))
    return wire.paged(request, [_component_to_wire()])


def get_component_version(request: Request) -> dict[str, Any]:
    """GET one version of a component."""
    name, version = wire.name_of(request, "name"), wire.name_of(request, "version")
    if (name, version) != (component.NAME, component.VERSION):
        raise _not_found("component", f"{name}:{version}")
    return _component_to_wire()


def _viewed(request: Request, models: Sequence[RegistryModel]) -> list[RegistryModel]:
    view = wire.list_view(request)
    return [model for model in models if view == "all" or model.archived == (view == "archived")]


def _container_to_wire(model: RegistryModel) -> dict[str, Any]:
    return {
        "id": f"azureml://registries/{REGISTRY_NAME}/models/{model.name}",
        "name": model.name,
        "type": "models",
        "properties": {
            "latestVersion": model.version,
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
            **({} if model.system_metadata is None else {"systemMetadata": model.system_metadata}),
        },
        "systemData": _system_data(model.created_at),
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
    return wire.system_data({"created_at": created_at, "modified_at": created_at, "created_by": REGISTRY_NAME})


def _not_found(what: str, name: str) -> WireError:
    return WireError(404, "UserError", f"The {what} '{name}' was not found in registry '{REGISTRY_NAME}'.")


ROUTES = [
    route("/registrymanagement/v1.0/registries/{name}/discovery", get_discovery),
    route(f"{REGISTRY_PATH}/models", list_models),
    route(f"{REGISTRY_PATH}/models/{{name}}/versions", list_model_versions),
    route(f"{REGISTRY_PATH}/models/{{name}}/versions/{{version}}", get_model_version),
    route(f"{REGISTRY_PATH}/components", list_components),
    route(f"{REGISTRY_PATH}/components/{{name}}/versions", list_component_versions),
    route(f"{REGISTRY_PATH}/components/{{name}}/versions/{{version}}", get_component_version),
]
