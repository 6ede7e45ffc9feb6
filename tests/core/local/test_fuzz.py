"""Malformed requests over every route: no 500, no traceback on the wire or in the log, and nothing outside the home.

A round is 25 requests that hypothesis makes of the routes' own table, of bodies the SDK sends with pieces exchanged,
and of names that lead elsewhere. `make test` sends 500, `make soak` 20,000 (tests/soak.py).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME, Home
from core.local.blobs import CONTAINER
from core.local.server import ROUTES
from core.local.wire import answers, storage_key
from core.local.wire.auth import Gatekeeper
from tests import tiny_model
from tests.core.local.submitting import command_body, pipeline_body, submit, wait_for
from tests.local_server import LocalServer
from tests.soak import Soak

OF_A_ROUND = 25
CANARY = "untouched"
NAMES = ("this-machine", "known", "ep", "demo", "tiny-chat", "azureml", "local", CONTAINER, "rows.jsonl", "1", "latest")
HOSTILE = (
    "..",
    "../../canary",
    "%2e%2e%2f%2e%2e%2fcanary",
    "a/../../../canary",
    "/etc/passwd",
    "\\..\\canary",
    ".",
    "",
    "a\x00b",
    "a" * 300,
    "ü",
    "💥",
    "a b",
    "a%b",
    "'; drop table documents; --",
    "<script>",
    "${{x}}",
    "\r\nX: y",
)
QUERIES = (
    "$top",
    "$skip",
    "count",
    "listViewType",
    "$orderBy",
    "run_id",
    "metric_key",
    "max_results",
    "page_token",
    "path",
    "restype",
    "comp",
    "prefix",
    "delimiter",
    "marker",
    "maxresults",
    "blockid",
    "include",
    "experiment_id",
    "experiment_name",
    "deleteFiles",
    "api-version",
    "tags",
    "jobType",
)
HEADERS = (
    "Range",
    "x-ms-range",
    "If-Match",
    "If-None-Match",
    "Content-MD5",
    "x-ms-blob-type",
    "x-ms-date",
    "Origin",
    "x-ms-meta-a",
    "Content-Type",
    "azureml-model-deployment",
    "x-azureml-token",
)
SCALE = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
SHORT = "azureml://datastores/workspaceblobstore/paths/"
BODIES: tuple[Any, ...] = (
    command_body(),
    pipeline_body(f"{SHORT}rows.jsonl", f"{tiny_model.NAME}/versions/{tiny_model.VERSION}"),
    {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "local.cpu1", "scaleSettings": SCALE}}},
    {"properties": {"dataType": "uri_file", "dataUri": f"{SHORT}rows.jsonl", "tags": {"a": "b"}, "isArchived": False}},
    {"properties": {"modelType": "custom_model", "modelUri": f"{SHORT}models/good", "flavors": {}, "tags": {}}},
    {"location": "local", "tags": {}, "properties": {"authMode": "Key", "traffic": {"demo": 100}, "properties": {}}},
    {
        "sku": {"name": "Default", "capacity": 1},
        "properties": {
            "model": f"{SHORT}models/good",
            "instanceType": "local.cpu1",
            "requestSettings": {"requestTimeout": "PT3S"},
            "livenessProbe": {"period": "PT1S", "failureThreshold": 3},
            "environmentVariables": {"A": "b"},
        },
    },
    {"keyType": "Primary", "keyValue": "k", "tail": 5, "containerType": "InferenceServer"},
    {"displayName": "d", "tags": {"a": "b"}, "hidden": False, "runId": "known", "values": ["x/data/a/versions/1"]},
    {
        "run_id": "known",
        "key": "loss",
        "value": 1.5,
        "step": 1,
        "timestamp": 1,
        "metrics": [{"key": "a", "value": 1}],
        "params": [{"key": "a", "value": "b"}],
        "tags": [{"key": "a", "value": "b"}],
    },
    {
        "experiment_ids": ["0"],
        "filter": "metrics.loss < 1 and tags.a = 'b'",
        "order_by": ["metrics.loss DESC"],
        "max_results": 5,
        "run_view_type": "ALL",
        "page_token": "1",
        "experiment_id": "0",
        "name": "e",
        "start_time": 1,
        "status": "RUNNING",
        "end_time": 5,
    },
    {"expirableSecret": True, "expireAfterHours": 1},
    {"input_data": {"input_string": [{"role": "user", "content": "hi"}], "parameters": {"max_tokens": 3}}},
)
# A part of a route's path -> the bodies that are for it, by their place above
FITTING = {
    "/jobs/": (0, 1),
    "/computes": (2,),
    "/data/{": (3,),
    "/models/": (4,),
    "/deployments/": (6, 7),
    "/onlineEndpoints": (5, 7),
    "/runs/": (8, 9, 10),
    "mlflow": (9, 10),
    "/rundata": (8,),
    "/dataversion": (8,),
    "listSecrets": (11,),
    "/endpoints/": (12,),
}
RIGHT = {
    "endpoint": "ep",
    "deployment": "demo",
    "run": "known",
    "version": "1",
    "location": "local",
    "registry": "azureml",
    "container": CONTAINER,
    "experiment": "try",
    "path": "0/known/artifacts/a",
    "blob": "rows.jsonl",
    "computes": "this-machine",
    "jobs": "known",
    "data": "rows",
    "models": tiny_model.NAME,
    "registries": "azureml",
    "datastores": "workspaceblobstore",
    "components": "chat_completion_pipeline",
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(HOSTILE),
    st.sampled_from(
        (
            10**400,
            -1,
            2**63,
            1e308,
            "PT",
            "P1D",
            "PT1M30S",
            "NaN",
            "null",
            "azureml://jobs/known/outputs/x",
            f"{SHORT}../../canary",
            f"{SHORT}",
            "azureml://registries/azureml/models/x/versions/1",
            "1_",
        )
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places_of(inner, (*path, key))


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A body the SDK sends with up to three of its pieces exchanged or taken away; sometimes only noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.binary(max_size=60), st.sampled_from((b"{", b"[]", b"null", b"\xff", b"[" * 20_000))))
    fitting = [BODIES[place] for part, places in FITTING.items() if part in path for place in places]
    body = copy.deepcopy(draw(st.sampled_from(fitting if fitting and draw(st.integers(0, 5)) else BODIES)))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places_of(body))))
        if not path:
            continue
        inside = body
        for key in path[:-1]:
            inside = inside[key]
        if isinstance(inside, dict) and draw(st.integers(0, 4)) == 0:
            del inside[path[-1]]
        else:
            inside[path[-1]] = draw(VALUES)
    return json.dumps(body).encode()


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path with query, headers, body."""
    route = draw(st.sampled_from(ROUTES))
    method = draw(st.sampled_from(sorted(route.methods or {"GET"})) if draw(st.integers(0, 19)) else st.just("PATCH"))
    path = route.path
    segments = path.split("/")
    fixed = {"subscription": SUBSCRIPTION_ID, "group": RESOURCE_GROUP, "workspace": WORKSPACE_NAME}
    if "registries/{registry}" in path:
        fixed["group"] = answers.REGISTRY_RESOURCE_GROUP
    for name in route.param_convertors:
        spare = st.one_of(st.sampled_from(NAMES), st.sampled_from(HOSTILE), st.text(max_size=10))
        before = segments[segments.index(f"{{{name}}}") - 1] if f"{{{name}}}" in segments else ""
        right = fixed.get(name) or RIGHT.get(before) or RIGHT.get(name)
        value = right if right and draw(st.integers(0, 30 if name in fixed else 3)) else draw(spare)
        safe = "/%" if draw(st.booleans()) else ""
        encoded = quote(str(value), safe=safe)
        path = path.replace(f"{{{name}:path}}", encoded).replace(f"{{{name}}}", encoded)
    query = draw(st.dictionaries(st.sampled_from(QUERIES), st.one_of(st.sampled_from(NAMES), SCALARS), max_size=3))
    if query:
        path += "?" + "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
    texts = st.one_of(
        st.sampled_from(("bytes=5-1", "bytes=-0", "bytes=0-", "*", "BlockBlob", "http://[", "demo")),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
    )
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), texts, max_size=2)) if draw(st.booleans()) else {}
    return method, path, headers, draw(bodies(route.path))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[LocalServer]:
    """A home two folders below a canary, with one of everything in it."""
    base_models = tmp_path / "base-models"
    tiny_model.build_tiny_model(base_models)
    (tmp_path / "canary").write_text(CANARY, encoding="utf-8")
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "canary").write_text(CANARY, encoding="utf-8")
    home = Home(tmp_path / "homes" / "one")
    server = LocalServer(home, {"TUNEDECK_BASE_MODELS": str(base_models)}, module="tests.core.local.trivial_server")
    try:
        server.start()
        container = home.blobs / CONTAINER
        (container / "rows.jsonl").write_text("{}\n", encoding="utf-8")
        (container / "models/good").mkdir(parents=True)
        (container / "models/good/config.json").write_text("{}", encoding="utf-8")
        submit(server, "known", command_body("--steps 2 --pause 0"))
        wait_for(server, "known", "Completed")
        server.request("PUT", "onlineEndpoints/ep", json={"properties": {"authMode": "Key"}})
        server.request("PUT", "onlineEndpoints/ep/deployments/demo", json=BODIES[6])
        yield server
    finally:
        server.stop()


def credentials_of(server: LocalServer, method: str, path: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Give a request what its family asks for: the point is what lies behind the gate."""
    if path.startswith(f"/{storage_key.ACCOUNT}/"):
        from datetime import timedelta

        sas = storage_key.make_container_sas(storage_key.derive(server.home.secret()), CONTAINER, timedelta(hours=1))
        return path + sas.replace("?", "&" if "?" in path else "?"), {}
    if path.startswith("/logs/"):
        signed = Gatekeeper(server.home.secret(), server.home.port()).sign_link(path.partition("?")[0])
        return signed, {}
    if path.startswith("/endpoints/"):
        found = server.request("POST", "onlineEndpoints/ep/listKeys")
        return path, {"Authorization": f"Bearer {found.json().get('primaryKey', 'x')}"} if found.ok else {}
    return path, {"Authorization": f"Bearer {server.token}"}


@pytest.mark.soak
def test_whatever_is_sent_there_is_no_500_and_no_traceback(served: LocalServer) -> None:
    """Some five seconds: 250 requests over real connections."""
    server = served
    seen: dict[int, int] = {}

    def one(request: tuple[str, str, dict[str, str], bytes]) -> None:
        method, path, headers, body = request
        path, credential = credentials_of(server, method, path, headers)
        status, answer = server.send_raw(method, path, {**headers, **credential}, body)
        seen[status] = seen.get(status, 0) + 1
        assert status < 500 or status == 501, f"{method} {path} {headers} {body!r}: {status} {answer[:300]!r}"
        assert b"Traceback" not in answer
        assert b'File "' not in answer

    with Soak(
        "fuzz", quick=250 // OF_A_ROUND, long=20_000 // OF_A_ROUND, what="malformed requests, 25 a round"
    ) as soak:
        for number, _ in soak.rounds():
            run = settings(
                max_examples=OF_A_ROUND,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )(given(requests())(one))
            seed(soak.seed * 100_000 + number)(run)()
            assert "Traceback" not in (server.home.logs / "server.log").read_text(encoding="utf-8")
            soak.add("requests", OF_A_ROUND)
    print({status: seen[status] for status in sorted(seen)})
    assert {200, 400, 404} <= set(seen), "the requests meet the routes and not only the gate"
    outside = [
        path for path in server.home.path.parents[1].rglob("canary*") if not path.is_relative_to(server.home.path)
    ]
    assert [path.read_text(encoding="utf-8") for path in outside] == [CANARY, CANARY]
    assert server.request("GET", "/health").status_code == 200
