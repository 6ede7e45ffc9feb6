"""One request to an endpoint: its addresses, what opens it, when to wait for it, and what an answer means that is none.

The statuses are those of Azure's gateway (guide to troubleshooting online endpoints): 424 stands for whatever the
model's container answered, with its own status in a header.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.service_errors import scrub
from core.errors import (
    AccessDenied,
    BadInput,
    NotFound,
    ServiceFailed,
    ServiceRefused,
    Throttled,
    TunedeckError,
    Unreachable,
)
from core.serving.endpoints import EndpointView, find_endpoint

CONNECT_S, READ_S = 5.0, 180.0
KEY_KEPT_S = 300.0
COLD_START_S = 900.0
CHAT = "/chat/completions"
NO_ROUTE = (404, 405, 415, 501)  # the last is the local workspace's
_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_TIMEOUT = "request_settings.request_timeout_ms"
_LOG_SAYS = "Send again in a moment; the deployment's log says more."
_NOT_SERVED = (
    ServiceRefused,
    "The container of '{name}' answers on none of the routes that were tried ({status}).",
    "Look into the deployment's log for the one that it serves.",
)
# Status -> what an operator reads. {who}: the endpoint, or behind a 424 its model; {pause}, {limit}: as told, or "".
ANSWERS: dict[int, tuple[type[TunedeckError], str, str]] = {
    **dict.fromkeys(NO_ROUTE, _NOT_SERVED),
    400: (BadInput, "{who} did not take the request ({status}): {said}", "Shorten the chat or change the sampling."),
    408: (
        Unreachable,
        "{who} broke the answer off (408): it took longer than its time-out{limit}.",
        "Ask for fewer tokens, or deploy again with a longer time-out.",
    ),
    413: (BadInput, "{who} finds the chat too large (413).", "Begin a new chat, or shorten it."),
    429: (
        Throttled,
        "{who} is busy (429){pause}.",
        "Send again later. More instances, or more requests at once for each, take more.",
    ),
    500: (ServiceFailed, "{who} failed (500): {said}", _LOG_SAYS),
    502: (Unreachable, "{who} lost the connection (502): its container ended, or is being started again.", _LOG_SAYS),
    503: (Unreachable, "{who} is not ready (503){pause}: it is starting, or busy.", _LOG_SAYS),
    504: (Unreachable, "{who} gave no answer in time (504).", "Ask for fewer tokens, or look into its log."),
}
ANSWERS[422] = ANSWERS[400]
_NO_TRAFFIC = (ServiceRefused, "{name} has no deployment that gets traffic.", "Send 100% to its deployment.")
_OTHER = (ServiceRefused, "{who} answered {status}: {said}", _LOG_SAYS)
_PRIVATE = r"public.{0,20}(network|access)|private (endpoint|link)|\bip\b|firewall|virtual network"


def list_routes(conn: Connection, endpoint: EndpointView, deployment: str = "") -> list[str]:
    """Return the addresses a chat can be sent to, first the one that this deployment answered on before.

    On Azure /v1 comes second: its own image for language models streams on the other, and hands a stream of /v1 on in
    one piece (azureml-assets, foundation-model-serve).
    """
    uri = endpoint.scoring_uri
    base = uri.removesuffix("/score") if uri.endswith("/score") else "/".join(uri.split("/")[:3])
    known = _known_routes(conn).get(_identify(endpoint, deployment), "")
    chats = [f"{base}/v1{CHAT}", f"{base}{CHAT}"]
    return list(filter(None, dict.fromkeys((known, *(chats if conn.cloud.is_local else reversed(chats)), uri))))


def keep_route(request: ScoringRequest) -> None:
    """Remember where a deployment answered."""
    _known_routes(request.conn)[_identify(request.endpoint, request.deployment)] = request.url


def _known_routes(conn: Connection) -> dict[tuple[str, ...], str]:
    return conn.remember("routes of endpoints", dict, math.inf)


def _identify(endpoint: EndpointView, deployment: str) -> tuple[str, ...]:
    """Return what changes when another deployment, or another model, answers."""
    found = next((one for one in endpoint.deployments if one.name == deployment), endpoint.deployment)
    made = (found.name, found.model_id, found.tags.get(tags.OPERATION, ""), str(found.created_at)) if found else ()
    return (endpoint.name, deployment, *made)


@dataclass(frozen=True)
class ScoringRequest:
    """One request to an endpoint."""

    conn: Connection
    endpoint: EndpointView
    url: str
    body: Mapping[str, Any]
    deployment: str
    started: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> dict[str, str]:
        """The headers beside the credential."""
        return {"azureml-model-deployment": self.deployment} if self.deployment else {}

    def post(self, *, stream: bool) -> requests.Response:
        """Send it with what opens the endpoint; what was refused is read anew once, for it may have been changed."""
        answer = self._post(stream, KEY_KEPT_S)
        return self._post(stream, 0.0) if answer.status_code == 401 else answer

    def _post(self, stream: bool, kept_s: float) -> requests.Response:
        credential = read_credential(self.conn, self.endpoint, kept_s)
        with requests.Session() as session:
            session.trust_env = not self.conn.cloud.is_local  # a proxy of the environment would be asked for 127.0.0.1
            try:
                return session.post(
                    self.url,
                    json=self.body,
                    stream=stream,
                    timeout=(CONNECT_S, READ_S),
                    headers={"Authorization": f"Bearer {credential}", **self.headers},
                )
            except requests.RequestException as error:
                raise self._unreachable(error) from error

    def _unreachable(self, error: requests.RequestException) -> Unreachable:
        name = self.endpoint.name
        hint = _LOG_SAYS
        if not self.endpoint.public:
            hint = "It answers in its own network only: send from there, or allow public access."
        return Unreachable(f"Endpoint '{name}' does not answer.", hint, type(error).__name__)


def read_credential(conn: Connection, endpoint: EndpointView, kept_s: float) -> str:
    """Return the key or the token that opens an endpoint, kept for so long; raises NotFound where it was deleted."""
    name, keys = endpoint.name, conn.workspace.online_endpoints
    what = f"the {endpoint.credential} of endpoint '{name}'"

    def ask() -> str:
        if endpoint.auth_mode == "aad_token":  # the SDK asks for a token of the public cloud, whichever it is in
            scope = f"{conn.cloud.job_audience}/.default"
            return str(conn.call("read", what, conn.credential.get_token, scope).token)
        found = conn.call("read", what, keys.get_keys, name)
        return str(getattr(found, "primary_key", None) or getattr(found, "access_token", ""))

    try:
        return conn.remember(what, ask, kept_s)
    except NotFound as error:
        raise gone(endpoint) from error


def status_of_model(answer: requests.Response) -> int:
    """Return what the container answered: Azure hands its errors on as 424 and keeps the status in a header."""
    told = answer.headers.get("ms-azureml-model-error-statuscode", "")
    return int(told) if answer.status_code == 424 and told.isdigit() else answer.status_code


def find_wait(answer: requests.Response) -> tuple[str, float] | None:
    """Return why an answer is worth waiting for and how many seconds; None where it is not."""
    status = status_of_model(answer)
    if status not in (429, 503) and answer.status_code != 502:
        return None
    pause = _read_pause(answer)
    return ("Busy" if status == 429 else "Waking up"), min(pause if pause is not None else _PAUSE_S, _LONGEST_PAUSE_S)


def raise_for(request: ScoringRequest, answer: requests.Response) -> None:
    """Raise what an operator reads of an answer that is none: key refused, endpoint gone, busy, container's error."""
    if answer.ok:
        return
    endpoint, status = request.endpoint, answer.status_code
    detail = scrub(f"HTTP {status} of {request.url}\n{_read_headers(answer)}{answer.text[:2000]}")
    if status in (404, 401, 403) and find_endpoint(request.conn, endpoint.name) is None:
        raise gone(endpoint)
    if status == 401:
        hint = "The token may have ended. Ask once more; sign in anew if it stays so."
        if endpoint.auth_mode == "key":
            hint = "The key was changed elsewhere. Read the new key and send again."
        raise AccessDenied(f"The endpoint refused its {endpoint.credential} (401).", hint, detail)
    if status == 403:
        raise _denied(endpoint, answer, detail)
    told = status_of_model(answer)
    error, message, hint = _NO_TRAFFIC if status == 404 else ANSWERS.get(told, _OTHER)
    pause, limit = _read_pause(answer), _find_timeout(endpoint, request.deployment)
    words = {
        "name": endpoint.name,
        "who": f"The model behind '{endpoint.name}'" if status == 424 else f"Endpoint '{endpoint.name}'",
        "status": told,
        "said": _read_message(answer) or answer.headers.get("ms-azureml-model-error-reason") or "it says no more.",
        "pause": f", and asks for a pause of {pause:g} s" if pause else "",
        "limit": f" of {limit} s" if limit else "",
    }
    raise error(message.format_map(words), hint, detail)


def gone(endpoint: EndpointView) -> NotFound:
    """Return what is said of an endpoint that was deleted."""
    return NotFound(f"Endpoint '{endpoint.name}' was deleted.", "Your chat is kept. Export it, or deploy again.")


def _denied(endpoint: EndpointView, answer: requests.Response, detail: str) -> AccessDenied:
    if not endpoint.public or re.search(_PRIVATE, answer.text, re.IGNORECASE):
        return AccessDenied(
            f"Endpoint '{endpoint.name}' lets nobody in from this network (403).",
            "Send from the workspace's network, or have public access, or this machine's address, allowed.",
            detail,
        )
    hint = "Ask its owner for access."
    if endpoint.auth_mode != "key":
        hint = "Ask its owner for a role with onlineEndpoints/score/action, as AzureML Data Scientist."
    return AccessDenied(f"You may not use endpoint '{endpoint.name}' (403).", hint, detail)


def _find_timeout(endpoint: EndpointView, deployment: str) -> int:
    found = next((one for one in endpoint.deployments if one.name == deployment), endpoint.deployment)
    return found.settings.get(_TIMEOUT, 0) if found else 0


def _read_pause(answer: requests.Response) -> float | None:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _read_message(answer: requests.Response) -> str:
    """Return the message in the body of an error, in any of the forms of model servers; the body where it has none."""
    try:
        found = json.loads(answer.text)
    except ValueError:
        return " ".join(answer.text.split())[:300]
    for name in ("error", "message", "detail"):
        found = found.get(name, found) if isinstance(found, dict) else found
    return scrub(found if isinstance(found, str) else json.dumps(found))[:300]


def _read_headers(answer: requests.Response) -> str:
    """Return the headers by which the gateway tells more, a line each."""
    shown = ("ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason", "Retry-After", "x-request-id")
    return "".join(f"{name}: {answer.headers[name]}\n" for name in shown if name in answer.headers)
