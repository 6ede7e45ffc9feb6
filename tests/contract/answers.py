"""Holds what the server answers against what the SDK itself would read: fields it does not know, fields it misses."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

_WORKSPACE = r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+"
_PROVIDER = r"/subscriptions/[^/]+/providers/Microsoft\.MachineLearningServices"
_REGISTRY = r"/mferp/managementfrontend/.*/registries/[^/]+"
_ASSETS = {"models": "Model", "data": "Data", "components": "Component", "environments": "Environment"}

_VERSIONS = {"Data": "DataVersionBase"}

# Method, path and the SDK's model of the answer; a list's model is that of its items, in `value`.
MODELS: list[tuple[str, str, str]] = [
    ("GET", rf"{_WORKSPACE}", "Workspace"),
    ("POST", rf"{_WORKSPACE}/listKeys", "ListWorkspaceKeysResult"),
    ("GET", rf"(?:{_PROVIDER}|.*/resourceGroups/[^/]+/providers/Microsoft[^/]+)/workspaces", "Workspace"),
    ("GET", rf"(?:{_PROVIDER}|.*/resourceGroups/[^/]+/providers/Microsoft[^/]+)/registries(?:/[^/]+)?", "Registry"),
    ("GET|PUT", rf"{_WORKSPACE}/computes(?:/[^/]+)?", "ComputeResource"),
    ("POST", rf"{_WORKSPACE}/computes/[^/]+/listNodes", "AmlComputeNodeInformation"),
    ("GET", rf"{_PROVIDER}/locations/[^/]+/vmSizes", "VirtualMachineSize"),
    ("GET", rf"{_PROVIDER}/locations/[^/]+/usages", "Usage"),
    ("GET|PUT", rf"{_WORKSPACE}/datastores(?:/[^/]+)?", "Datastore"),
    ("POST", rf"{_WORKSPACE}/datastores/[^/]+/listSecrets", "DatastoreSecrets"),
    ("GET|PUT", rf"{_WORKSPACE}/jobs(?:/[^/]+)?", "JobBase"),
    ("GET|PUT", rf"{_WORKSPACE}/onlineEndpoints(?:/[^/]+)?", "OnlineEndpoint"),
    ("POST", rf"{_WORKSPACE}/onlineEndpoints/[^/]+/listKeys", "EndpointAuthKeys"),
    ("GET|PUT", rf"{_WORKSPACE}/onlineEndpoints/[^/]+/deployments(?:/[^/]+)?", "OnlineDeployment"),
    ("POST", rf"{_WORKSPACE}/onlineEndpoints/[^/]+/deployments/[^/]+/getLogs", "DeploymentLogs"),
    ("GET", r"/history/v1\.0/.*/runs/[^/]+", "runhistory.Run"),
    ("PATCH", r"/history/v1\.0/.*/runs/[^/]+", "runhistory.Run"),
    ("PATCH", r"/history/v1\.0/.*/runs/[^/]+/tags", "runhistory.Run"),
    ("GET", r"/history/v1\.0/.*/runs/[^/]+/children", "runhistory.Run"),
    ("GET", r"/history/v1\.0/.*/runs/[^/]+/details", "runhistory.RunDetails"),
    *(
        row
        for base in (_WORKSPACE, _REGISTRY)
        for segment, name in _ASSETS.items()
        for row in (
            ("GET|PUT", rf"{base}/{segment}(?:/[^/]+)?", f"{name}Container"),
            ("GET|PUT", rf"{base}/{segment}/[^/]+/versions(?:/[^/]+)?", _VERSIONS.get(name, f"{name}Version")),
        )
    ),
]


@dataclass
class Answers:
    """Every answer that clients got, and what is odd about it."""

    bodies: list[tuple[str, str, int, Any]] = field(default_factory=list)

    def policy(self) -> Any:
        """Return the policy that lets a client speak plain http, and writes down what it is answered."""
        from azure.core.pipeline.policies import SansIOHTTPPolicy

        bodies = self.bodies

        class WriteDown(SansIOHTTPPolicy):  # type: ignore[type-arg]
            def on_request(self, request: Any) -> None:
                request.context.options["enforce_https"] = False

            def on_response(self, request: Any, response: Any) -> None:
                if "json" in response.http_response.headers.get("Content-Type", ""):
                    sent, got = request.http_request, response.http_response
                    path = unquote(urlsplit(sent.url).path)
                    got.read()
                    bodies.append((sent.method, path, got.status_code, got.json()))

        return WriteDown()

    def find(self, method: str, ending: str, status: int = 200) -> Any:
        """Return the last answer of one status to a path that ends so; `ending` is a pattern."""
        pattern = re.compile(f".*{ending}")
        found = [
            body for how, path, code, body in self.bodies if (how, code) == (method, status) and pattern.fullmatch(path)
        ]
        assert found, f"nobody asked {method} …{ending} with an answer of {status}"
        return found[-1]

    def differences(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return by model which fields the SDK does not know, and which it knows and never got."""
        unknown: dict[str, set[str]] = defaultdict(set)
        absent: dict[str, set[str]] = {}
        for method, path, status, body in self.bodies:
            name = model_of(method, path)
            if name is None or status >= 300 or not body:
                continue
            for item in body["nodes"] if "nodes" in body else body["value"] if _is_list(body) else [body]:
                compare(_model_class(name), item, unknown, absent)
        return {name: fields for name, fields in unknown.items() if fields}, {k: v for k, v in absent.items() if v}


def _is_list(body: dict[str, Any]) -> bool:
    return "value" in body and "id" not in body


def model_of(method: str, path: str) -> str | None:
    """Return the name of the model with which the SDK reads an answer, or None."""
    for methods, pattern, name in MODELS:
        if re.fullmatch(methods, method) and re.fullmatch(pattern, path):
            return name
    return None


def _model_class(name: str) -> Any:
    from azure.ai.ml._restclient.arm_ml_service import models
    from azure.ai.ml._restclient.runhistory import models as history_models

    module, _, last = name.rpartition(".")
    return getattr(history_models if module else models, last)


def compare(model: Any, body: Any, unknown: dict[str, set[str]], absent: dict[str, set[str]]) -> None:
    """Read a body as the SDK does, and note by the model it chose what it does not know and what is not there."""
    read = model._deserialize(body, [])
    name = type(read).__name__
    fields = type(read)._attr_to_rest_field
    known = {each._rest_name for each in fields.values()}
    unknown[name] |= set(body) - known
    missing = known - set(body)
    absent[name] = absent[name] & missing if name in absent else missing
    for attribute, each in fields.items():
        if body.get(each._rest_name) is not None:
            _descend(getattr(read, attribute), body[each._rest_name], unknown, absent)


def _descend(value: Any, body: Any, unknown: dict[str, set[str]], absent: dict[str, set[str]]) -> None:
    if hasattr(type(value), "_attr_to_rest_field"):
        compare(type(value), body, unknown, absent)
    elif isinstance(value, list) and isinstance(body, list):
        for one, raw in zip(value, body, strict=True):
            _descend(one, raw, unknown, absent)
    elif isinstance(value, dict) and isinstance(body, dict):
        for key, one in value.items():
            _descend(one, body.get(key), unknown, absent)


# What a person or a run fills freely: its keys are no one's form.
_FREE = {"tags", "flavors", "jobs", "settings", "parameters", "actionUris", "registryFqdns", "services", "outputs"}


def differences_from(sample: Any, answer: Any, free: set[str], path: str = "") -> list[str]:
    """Return where an answer lacks a key of a sample, or has another JSON type there; null fits all."""
    if path.rpartition(".")[2] in _FREE or path in free or sample is None or answer is None:
        return []
    if _json_type(sample) != _json_type(answer):
        return [f"{path}: {_json_type(answer)} instead of {_json_type(sample)}"]
    if isinstance(sample, list):
        return differences_from(sample[0], answer[0], free, f"{path}[]") if sample and answer else []
    found = []
    for key, value in sample.items() if isinstance(sample, dict) else ():
        below = f"{path}.{key}".lstrip(".")
        if key in answer:
            found += differences_from(value, answer[key], free, below)
        elif below not in free:
            found.append(f"{below}: missing")
    return found


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names[type(value)]
