"""What a service answered, as shapes: which keys of which type, at which kind of address, and no value of anybody's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

Shape = dict[str, str]
"""The path of a key, as "value[].properties.vmSize", and the type of what stands there; "any" where it was null."""
Shapes = dict[str, Shape]
"""By request: method, kind of address, status."""

# Words of addresses that are the service's own; any other is a name of somebody's, and becomes a star.
_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        subscriptions resourceGroups providers Microsoft.MachineLearningServices Microsoft.Authorization workspaces
        computes jobs onlineEndpoints deployments models versions data datastores registries registrymanagement
        locations components usages quotas vmSizes permissions roleAssignments listSecrets listKeys default discovery
        history v1.0 v1 v2.0 runs rundata artifacts metric metrics children mlflow api 2.0 runs:batch get get-history
        search environments codes startPendingUpload retail prices oauth2 token tenants metadata endpoints score chat
        completions getLogs cancel operations batch entities index logs mferp managementfrontend
        """,
    )
)
_WORKSPACE = "/subscriptions/*/resourceGroups/*/providers/Microsoft.MachineLearningServices/workspaces/*"
_OWN_KEYS = {"tags", "inputs", "outputs", "environmentVariables", "jobs", "parameters", "traffic", "run_tags"}
_PLAIN_KEY = re.compile(r"[A-Za-z@$_][\w@$.-]{0,60}")
_KNOWN_HOSTS = re.compile(r"(management|login|prices)\.[\w.]+")


@contextmanager
def recording(into: Shapes) -> Iterator[None]:
    """Note the shape of every answer in JSON that this process gets from a host in the block."""
    adapter = requests.adapters.HTTPAdapter
    send = adapter.send

    def send_and_note(self: Any, request: Any, **options: Any) -> requests.Response:
        answer = send(self, request, **options)
        here = (urlsplit(request.url).hostname or "") == "127.0.0.1"  # the stand-in asks its own workspace behind it
        if not here and "json" in answer.headers.get("Content-Type", ""):
            shape = into.setdefault(f"{request.method} {mask(request.url)} {answer.status_code}", {})
            _merge(shape, _read(answer.content))
        return answer

    adapter.send = send_and_note  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        adapter.send = send  # type: ignore[method-assign]


def mask(url: str) -> str:
    """Return a request's address with a star for each name that is not the service's own word."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not _KNOWN_HOSTS.fullmatch(host):
        host = "*." + host.split(".", 1)[-1]
    path = "/".join(word if word in _WORDS or not word else "*" for word in parts.path.split("/"))
    return host + path.replace(_WORKSPACE, "/<workspace>")


def find_differences(expected: Shapes, found: Shapes) -> list[str]:
    """Return the keys that the stand-in answers with and the service does not, or as another type.

    A list that is empty there shows nothing of what would stand in it, and is no difference.
    """
    told = []
    for request, shape in expected.items():
        there = found.get(request)
        if there is None:
            continue
        parents = {"", *there}
        for path, kind in shape.items():
            if path not in there and not path.endswith("[]") and path.rpartition(".")[0] in parents:
                told.append(f"{request}: no {path}")
            elif path in there and "any" not in (kind, there[path]) and kind != there[path]:
                told.append(f"{request}: {path} is {there[path]}, not {kind}")
    return told


def _read(content: bytes) -> Shape:
    try:
        return dict(_walk(json.loads(content), ""))
    except ValueError:
        return {}


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and type of what stands at and below a value."""
    if path:
        yield path, _kind(value)
    if isinstance(value, dict):
        own = path.rpartition(".")[2] in _OWN_KEYS or path.endswith("properties.properties")
        for key, inner in value.items():
            name = key if _PLAIN_KEY.fullmatch(key) and not own else "*"
            yield from _walk(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, f"{path}[]")


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "text", dict: "object", list: "list"}
    return kinds.get(type(value), "any")


def _merge(into: Shape, more: Shape) -> None:
    for path, kind in more.items():
        into[path] = kind if into.get(path, kind) in (kind, "any") else "any"
