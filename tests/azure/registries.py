"""Azure's registries: 3,039 models in seven of them, made by rule, in the form and the pages of the service.

A list tells names and newest versions alone, as Azure does; what a model is for, only the model itself tells. The
registry azureml has the models of the workspace behind as well, which answers for them itself.
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from core.local import profile
from tests import tiny_model
from tests.azure.behind import PROVIDER, SUBSCRIPTION
from tests.azure.rules import Answer
from tests.azure.sites import Site

OWN = "contoso-models"
MODELS = 3039
PAGE = 100
_SIZES = {"azureml-meta": 110, "azureml-mistral": 60, "azureml-openai-oss": 20, "azureml-deepseek": 40}
_SIZES |= {"azureml-cohere": 20, OWN: 350}
_MAKERS = ("bert", "distilbert", "roberta", "t5", "resnet", "vit", "whisper", "deberta", "electra", "mt5")
_USES = ("fill-mask", "text-classification", "translation", "image-classification", "automatic-speech-recognition")
_PATH = re.compile(r"/mferp/managementfrontend/.*/registries/([^/]+)/models(?:/([^/]+)(?:/versions(?:/([^/]+))?)?)?$")
_DISCOVERY = re.compile(r"/registrymanagement/v1\.0/registries/([^/]+)/discovery$")


def find_answer(site: Site, host: str, target: str) -> Answer | None:
    """Return the answer to what is asked of a registry, None where that is another's business."""
    parts = urlsplit(target)
    if host == site.management and parts.path == f"/subscriptions/{SUBSCRIPTION}/{PROVIDER}/registries":
        return Answer.of({"value": [{"name": OWN, "type": f"{PROVIDER}/registries", "location": site.region}]})
    if (named := _DISCOVERY.search(parts.path)) and named[1] in _SIZES:
        return Answer.of(_discovery(site, named[1]))
    found = _PATH.search(parts.path)
    if not found or found[1] not in list_registries():
        return None
    registry, name, version = found[1], found[2], found[3]
    if name is None:
        return Answer.of(_page(site, registry, parts.path, dict(parse_qsl(parts.query))))
    model = list_registries()[registry].get(name)
    if model is None or model.get("behind"):
        return None if registry == "azureml" else Answer.error(404, "UserError", f"The model '{name}' was not found.")
    body = _version(registry, model)
    if version is None:
        return Answer.of({"value": [body]})
    return Answer.of(body) if version == model["version"] else Answer.error(404, "UserError", "No such version.")


@cache
def list_registries() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the models of each registry by name."""
    data = Path(profile.__file__).with_name("azure_profile.json")
    published: list[dict[str, Any]] = json.loads(data.read_text(encoding="utf-8"))["models"]
    behind = [{"name": tiny_model.NAME, "version": tiny_model.VERSION, "behind": True}]
    behind += [{**model, "version": str(int(model["version"]) + 1), "behind": True} for model in published]
    fillers = itertools.cycle(itertools.product(_MAKERS, _USES))
    count = MODELS - len(behind) - sum(_SIZES.values())
    small = [_filler(maker, use, number) for number, (maker, use) in enumerate(itertools.islice(fillers, count))]
    found = {"azureml": [*behind, *small]}
    for registry, size in _SIZES.items():
        found[registry] = [_like(published[number % len(published)], registry, number) for number in range(size)]
    return {registry: {model["name"]: model for model in models} for registry, models in found.items()}


def _filler(maker: str, use: str, number: int) -> dict[str, Any]:
    metadata = {"tasks": {"inferenceTasks": [use]}, "license": "apache-2.0", "publisher": maker}
    return {"name": f"{maker}-{use}-{number:04d}", "version": "1", "system_metadata": metadata}


def _like(model: dict[str, Any], registry: str, number: int) -> dict[str, Any]:
    """Return a model that another publisher offers: the same but for its name."""
    publisher = registry.removeprefix("azureml-")
    metadata = {**(model["system_metadata"] or {}), "publisher": publisher}
    metadata.pop("displayName", None)
    name = f"{publisher}-{model['name']}-{number:03d}"
    return {**model, "name": name, "version": str(number % 7 + 1), "system_metadata": metadata}


def _discovery(site: Site, registry: str) -> dict[str, Any]:
    return {
        "registryName": registry,
        "primaryRegion": site.region,
        "regions": [site.region],
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "rg-registries",
        "primaryRegionResourceProviderUri": f"https://{site.api}/",
        "registryFqdns": {site.region: {"uri": f"https://{site.api}"}},
    }


def _page(site: Site, registry: str, path: str, query: dict[str, str]) -> dict[str, Any]:
    models, start = list(list_registries()[registry].values()), int(query.get("$skip", "0"))
    page: dict[str, Any] = {"value": [_container(registry, model) for model in models[start : start + PAGE]]}
    if start + PAGE < len(models):
        page["nextLink"] = f"https://{site.api}{path}?{urlencode(query | {'$skip': str(start + PAGE)})}"
    return page


def _container(registry: str, model: dict[str, Any]) -> dict[str, Any]:
    about = {"description": None, "tags": {}, "properties": {}, "isArchived": bool(model.get("archived"))}
    return {
        "id": f"azureml://registries/{registry}/models/{model['name']}",
        "name": model["name"],
        "type": "models",
        "properties": {**about, "latestVersion": model["version"], "nextVersion": None},
    }


def _version(registry: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"azureml://registries/{registry}/models/{model['name']}/versions/{model['version']}",
        "name": model["version"],
        "type": "models",
        "properties": {
            "description": "",
            "tags": model.get("head_tags") or {},
            "properties": {},
            "isArchived": bool(model.get("archived")),
            "modelType": "mlflow_model",
            "flavors": {},
            "systemMetadata": model["system_metadata"],
        },
    }
