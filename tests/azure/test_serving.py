"""A model behind an endpoint of Azure: its settings, the route it answers on, and what its gateway says instead."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.azureml import tags
from core.azureml.connection import Connection
from core.errors import AccessDenied, BadInput, TunedeckError, Unreachable
from core.operations import start_deploy
from core.serving import endpoints
from core.serving.chat import Delta, Sampling, stream_chat
from core.serving.deployment_settings import SETTINGS, find_default
from core.serving.endpoints import EndpointView
from core.serving.scoring import ANSWERS
from tests.azure.serving import ENDPOINT, MODEL, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.tokens import read_token
from tests.azure.walking import Walk, walking

CHOSEN = {
    "request_settings__request_timeout_ms": 120,
    "liveness_probe__initial_delay": 900,
    "readiness_probe__period": 20,
}
QUESTION = [{"role": "user", "content": "Hello"}]
HOST = f"{ENDPOINT}.eastus.inference.ml.azure.com"
INNER, REASON = "ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    """An operator at the stand-in with short programs."""
    with walking(azure) as operator:
        yield operator


@pytest.fixture
def endpoint(walk: Walk) -> EndpointView:
    """An endpoint that answers. The first test of the module waits some seconds for it."""
    return serve(walk, 2, **CHOSEN)


def test_a_deployment_gets_the_settings_that_were_chosen_and_the_services_beside_them(endpoint: EndpointView) -> None:
    made = endpoint.deployment
    assert made is not None
    assert made.instances == 2
    chosen = {name.replace("__", "."): value for name, value in CHOSEN.items()}
    assert made.settings == {setting.name: chosen.get(setting.name, setting.service) for setting in SETTINGS}


def test_what_nobody_chose_is_the_lessons_or_the_services_and_says_so() -> None:
    defaults = {setting.name: find_default(setting, {}) for setting in SETTINGS}
    assert defaults["request_settings.request_timeout_ms"] == (90, "lesson")
    assert defaults["liveness_probe.initial_delay"] == (600, "lesson")
    assert defaults["request_settings.max_concurrent_requests_per_instance"] == (1, "service")
    assert find_default(SETTINGS[0], {SETTINGS[0].name: 30}, "shop") == (30, "runs now on shop")


@pytest.mark.parametrize(
    ("settings", "instances", "said"),
    [
        ({"request_settings.request_timeout_ms": 181}, 1, "'Request time-out (s)' is 1 to 180, not 181."),
        ({"liveness_probe.period": 0}, 1, "'A probe every (s)' is at least 1, not 0."),
        ({}, 51, "A deployment has 1 to 50 instances, not 51."),
    ],
)
def test_a_value_that_azure_refuses_is_refused_before_anything_is_sent(
    walk: Walk, settings: Mapping[str, int], instances: int, said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        start_deploy(walk.conn.alias, "", MODEL, "other", SIZE, None, "1", instances, settings)
    assert refused.value.message == said


# Chat ----------------------------------------------------------------------------------------------------------------


def ask(walk: Walk, endpoint: EndpointView) -> tuple[list[Delta], list[str]]:
    """Return what came, and on which routes it was asked for."""
    since = len(walk.azure.rules)
    deltas = list(stream_chat(walk.conn, endpoint, QUESTION, Sampling(max_tokens=3)))
    return deltas, routes_since(walk, since)


def routes_since(walk: Walk, since: int) -> list[str]:
    return [each.url.partition(HOST)[2] for each in walk.azure.rules.asked(HOST, since)]


@pytest.mark.parametrize("status", [404, 405, 415])
def test_the_route_is_found_remembered_and_found_anew_for_another_deployment(
    walk: Walk, endpoint: EndpointView, status: int
) -> None:
    deployment = endpoint.deployments[0]
    of_status = replace(endpoint, deployments=(replace(deployment, tags={tags.OPERATION: str(status)}),))
    walk.azure.rules.add(f"{HOST}/chat/completions", 424, headers={INNER: str(status)})
    walk.azure.rules.add(f"{HOST}/v1/chat", status)
    deltas, routes = ask(walk, of_status)
    assert deltas[0].text == "hello"
    assert routes == ["/chat/completions", "/v1/chat/completions", "/score"]
    assert ask(walk, of_status)[1] == ["/score"]
    again = replace(endpoint, deployments=(replace(deployment, tags={tags.OPERATION: f"after {status}"}),))
    assert ask(walk, again)[1] == ["/chat/completions", "/v1/chat/completions"]


def test_an_answer_that_is_not_streamed_is_read_too(walk: Walk, endpoint: EndpointView) -> None:
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    walk.azure.rules.add(HOST, 200, body=json.dumps(body))
    (text, last), _ = ask(walk, endpoint)
    assert text.text == "whole"
    assert last.stats is not None
    assert (last.stats.tokens, last.stats.finish_reason, last.stats.first_token_s) == (1, "stop", None)


@dataclass(frozen=True)
class Refusal:
    """An answer that is none, and what an operator reads. inner: of the model's container, behind a 424."""

    status: int
    read: str
    inner: int = 0
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


OUTER, BEHIND = f"Endpoint '{ENDPOINT}'", f"The model behind '{ENDPOINT}'"
NOWHERE = f"The container of '{ENDPOINT}' answers on none of the routes that were tried"
REFUSALS = (
    Refusal(404, f"{ENDPOINT} has no deployment that gets traffic."),
    Refusal(408, f"{OUTER} broke the answer off (408): it took longer than its time-out of 120 s."),
    Refusal(413, f"{OUTER} finds the chat too large (413)."),
    Refusal(429, f"{OUTER} is busy (429), and asks for a pause of 7 s.", headers={"Retry-After": "7"}),
    Refusal(500, f"{OUTER} failed (500): it says no more."),
    Refusal(502, f"{OUTER} lost the connection (502): its container ended, or is being started again."),
    Refusal(503, f"{OUTER} is not ready (503): it is starting, or busy."),
    Refusal(504, f"{OUTER} gave no answer in time (504)."),
    Refusal(418, f"{OUTER} answered 418: a teapot", body="a teapot"),
    Refusal(424, f"{BEHIND} did not take the request (400): too long", 400, '{"error": {"message": "too long"}}'),
    Refusal(424, f"{BEHIND} did not take the request (422): no roles", 422, '{"detail": "no roles"}'),
    *(Refusal(424, f"{NOWHERE} ({status}).", status) for status in (404, 405, 415, 501)),
    Refusal(424, f"{BEHIND} is busy (429).", 429),
    Refusal(424, f"{BEHIND} is not ready (503): it is starting, or busy.", 503),
    Refusal(424, f"{BEHIND} gave no answer in time (504).", 504),
    Refusal(424, f"{BEHIND} failed (500): model_error", 500, headers={REASON: "model_error"}),
)


def test_each_answer_that_is_none_is_explained_with_the_status_of_the_container_behind_it(
    walk: Walk, endpoint: EndpointView
) -> None:
    for refusal in REFUSALS:
        headers = {**refusal.headers, **({INNER: str(refusal.inner)} if refusal.inner else {})}
        walk.azure.rules.clear()
        walk.azure.rules.add(HOST, refusal.status, body=refusal.body, headers=headers, times=3)
        since = len(walk.azure.rules)
        with pytest.raises(TunedeckError) as caught:
            list(stream_chat(walk.conn, endpoint, QUESTION, patience_s=0.0))
        assert caught.value.message == refusal.read
        assert caught.value.hint
        assert f"HTTP {refusal.status}" in caught.value.detail
        nowhere = (refusal.inner or refusal.status) in (404, 405, 415, 501)
        assert len(routes_since(walk, since)) == (3 if nowhere else 1), "only a missing route leads to the next"


def test_each_status_of_the_table_is_provoked() -> None:
    assert {each.inner or each.status for each in REFUSALS} >= set(ANSWERS)


@pytest.mark.parametrize(
    ("body", "changed", "read"),
    [
        ("Public network access is disabled", {}, f"Endpoint '{ENDPOINT}' lets nobody in from this network (403)."),
        ("Forbidden", {"public": False}, f"Endpoint '{ENDPOINT}' lets nobody in from this network (403)."),
        ("Forbidden", {}, f"You may not use endpoint '{ENDPOINT}' (403)."),
    ],
)
def test_a_403_says_whether_the_network_or_a_role_is_in_the_way(
    walk: Walk, endpoint: EndpointView, body: str, changed: dict[str, Any], read: str
) -> None:
    walk.azure.rules.add(HOST, 403, body=body)
    with pytest.raises(AccessDenied) as caught:
        ask(walk, replace(endpoint, **changed))
    assert caught.value.message == read


def test_a_refused_key_is_read_anew_once_and_tries_no_other_route(walk: Walk, endpoint: EndpointView) -> None:
    walk.azure.rules.add(HOST, 401, times=2)
    since = len(walk.azure.rules)
    with pytest.raises(AccessDenied, match=r"refused its key \(401\)"):
        ask(walk, endpoint)
    first, *more = routes_since(walk, since)
    assert more == [first]
    assert walk.azure.rules.asked("/listKeys", since)


def test_a_container_that_starts_is_waited_for_and_says_so_at_each_look(walk: Walk, endpoint: EndpointView) -> None:
    soon = {"Retry-After": "0.01"}
    for status, headers in ((503, soon), (502, soon), (424, {**soon, INNER: "503"}), (429, soon)):
        walk.azure.rules.add(HOST, status, headers=headers)
    deltas, routes = ask(walk, endpoint)
    assert len(set(routes[:5])) == 1
    assert [delta.waiting for delta in deltas[:5]] == ["Waking up"] * 3 + ["Busy", ""]
    assert deltas[4].text == "0 "


def test_waiting_for_a_container_is_ended_by_stop(walk: Walk, endpoint: EndpointView) -> None:
    walk.azure.rules.add(HOST, 503, headers={"Retry-After": "50"}, times=9)
    stop, deltas = threading.Event(), []
    for delta in stream_chat(walk.conn, endpoint, QUESTION, stop=stop):
        deltas.append(delta)
        stop.set()
    assert [delta.waiting for delta in deltas] == ["Waking up"]


def test_an_endpoint_is_opened_by_the_token_it_asks_for(walk: Walk, endpoint: EndpointView) -> None:
    key = walk.conn.workspace.online_endpoints.get_keys(ENDPOINT).primary_key
    path = f"{walk.conn.workspace_path}/onlineEndpoints/{ENDPOINT}"
    wire = walk.conn.http("GET", path, params={"api-version": "2022-02-01-preview"}, what="the endpoint").json()
    for mode, name in (("AMLToken", "aml_token"), ("AADToken", "aad_token")):
        wire["properties"]["authMode"] = mode
        walk.azure.rules.clear()
        walk.azure.rules.add(f"^GET .*/onlineEndpoints/{ENDPOINT}\\?", 200, body=json.dumps(wire), times=9)
        walk.azure.rules.add(f"/onlineEndpoints/{ENDPOINT}/token", 200, body=json.dumps({"accessToken": key}))
        if name == "aad_token":
            walk.azure.rules.add(HOST, 200, body='{"output": "let in"}')
        found = endpoints.get_endpoint(walk.conn, ENDPOINT)
        assert (found.auth_mode, found.credential) == (name, "token")
        anew = replace(walk, conn=Connection(walk.azure.settings(), walk.azure.home))
        assert ask(anew, found)[0][0].text in ("0 ", "let in")
    sent = walk.azure.rules.asked(HOST)[-1].authorization
    assert read_token(sent.removeprefix("Bearer "))["aud"].rstrip("/") == "https://ml.azure.com"


def test_an_answer_that_breaks_off_keeps_what_came(walk: Walk, endpoint: EndpointView) -> None:
    """The last test of the module: the container is killed."""
    came, dying = list[str](), [{"role": "user", "content": "die in the middle"}]
    with pytest.raises(Unreachable, match=f"The answer of '{ENDPOINT}' broke off") as lost:
        came.extend(each.text for each in stream_chat(walk.conn, endpoint, dying))
    assert came == ["0 ", "1 ", "2 "]
    assert lost.value.hint.startswith("What came is kept.")
