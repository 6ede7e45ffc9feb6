"""Registries as the services answer for them: which there are, a page of names, one model. It keeps nothing."""

from __future__ import annotations

import re
from typing import Any

from core.azureml.connection import Connection
from core.azureml.settings import find_settings
from core.catalog import flights
from core.errors import NotFound, Unreachable

# Azure lists nobody's registries but a subscription's own; these are open to all, each a publisher's or the service's.
OPEN = (
    "azureml",
    "azureml-cohere",
    "azureml-deepseek",
    "azureml-meta",
    "azureml-mistral",
    "azureml-openai-oss",
)
OWN = ""  # stands for the list of the subscription's own registries
_ASSETS_API = "2021-10-01-dataplanepreview"
_OWN_API = "2022-10-01-preview"
_KEPT_S = 3600.0


def list_named(conn: Connection) -> list[str]:
    """Return the registries that are looked at without asking: the connection's own, and on Azure those open to all."""
    settings = find_settings(conn.alias) or conn.settings  # as they are now
    if conn.cloud.is_local:
        return [settings.registry_name]
    return list(dict.fromkeys((settings.registry_name, *settings.registries, *OPEN, OWN)))


def split_name(conn: Connection, name: str) -> tuple[str, str]:
    """Return registry and name of a model as it is spoken of: "Phi-4", or "azureml-meta/Llama-3.1-8B"."""
    registry, slash, rest = name.partition("/")
    return (registry, rest) if slash else (conn.settings.registry_name, name)


def join_name(conn: Connection, registry: str, name: str) -> str:
    """Return how a model is spoken of: with its registry where that is not the connection's own."""
    return name if registry == conn.settings.registry_name else f"{registry}/{name}"


def read_page(conn: Connection, registry: str, link: str) -> tuple[list[dict[str, Any]], str]:
    """Return one page of a registry's models, archived ones too, or of the own registries; and the link to the next.

    link: "" for the first. Raises TunedeckError.
    """
    what = f"the models of registry '{registry}'" if registry else "the registries of the subscription"
    if link:
        answer = ask(conn, link, what)
    elif registry == OWN:
        path = f"/subscriptions/{conn.settings.subscription_id}/providers/Microsoft.MachineLearningServices/registries"
        answer = ask(conn, path, what, {"api-version": _OWN_API})
    else:
        first = {"api-version": _ASSETS_API, "listViewType": "All"}
        answer = ask(conn, f"{find_address(conn, registry)}/models", what, first)
    found = answer.get("value") or []
    next_link = str(answer.get("nextLink") or "")
    if not isinstance(found, list) or (next_link and next_link == link):
        raise Unreachable(f"Registry '{registry}' sent a page that leads nowhere.", "It is asked again.", str(answer))
    return [each for each in found if isinstance(each, dict) and each.get("name")], next_link


def read_model(conn: Connection, registry: str, name: str, version: str) -> tuple[str, dict[str, Any]]:
    """Return the version ("latest" made a number) and the registry's answer; raises NotFound."""
    address, what = f"{find_address(conn, registry)}/models/{name}/versions", f"model '{name}'"
    try:
        if version != "latest":
            return version, ask(conn, f"{address}/{version}", what, {"api-version": _ASSETS_API})
        newest = {"api-version": _ASSETS_API, "$orderBy": "createdtime desc", "$top": "1"}
        found = ask(conn, address, what, newest).get("value") or []
        if found:
            return _version_of(found[0]), found[0]
        raise NotFound(f"Model '{name}' has no version.")
    except NotFound as error:
        if error.message.startswith("Workspace"):
            raise
        which = f"Model '{name}'" if version == "latest" else f"Version {version} of model '{name}'"
        said = f"{which} was not found in registry '{registry}'."
        raise NotFound(said, "Search for it by a part of its name.", error.detail) from error


def _version_of(body: dict[str, Any]) -> str:
    found = re.search(r"/versions/([^/]+)$", str(body.get("id") or ""))
    return found[1] if found else str(body.get("name") or "")


def find_address(conn: Connection, registry: str) -> str:
    """Return the address of a registry's assets, which the discovery service knows."""

    def discover() -> str:
        url = f"{conn.cloud.registry_discovery}/registrymanagement/v1.0/registries/{registry}/discovery"
        try:
            found = ask(conn, url, f"registry '{registry}'")
        except NotFound as error:
            hint = "Check its name. Not every registry is in every cloud."
            raise NotFound(f"Registry '{registry}' was not found in this cloud.", hint, error.detail) from error
        return (
            f"{found['primaryRegionResourceProviderUri'].rstrip('/')}/mferp/managementfrontend"
            f"/subscriptions/{found['subscriptionId']}/resourceGroups/{found['resourceGroup']}"
            f"/providers/Microsoft.MachineLearningServices/registries/{registry}"
        )

    return conn.remember(f"address of registry {registry}", discover, _KEPT_S)


def ask(conn: Connection, url: str, what: str, params: dict[str, str] | None = None) -> dict[str, Any]:
    """Send one request when there is room for it; an answer that breaks off is none."""
    with flights.slots:
        answer = conn.http("GET", url, what=what, params=params)
    try:
        found = answer.json()
    except ValueError as error:
        raise Unreachable(f"The answer for {what} broke off.", "It is asked again.", answer.text[:300]) from error
    if not isinstance(found, dict):
        raise Unreachable(f"The answer for {what} has another form.", "It is asked again.", answer.text[:300])
    return found
