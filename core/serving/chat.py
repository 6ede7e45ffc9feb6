"""Talk to an endpoint: streamed answers, their timing, and the raw exchange."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pprint import pformat
from typing import Any

import requests

from core.azureml.connection import Connection
from core.azureml.service_errors import scrub
from core.errors import AccessDenied, BadInput, NotFound, ServiceRefused, Throttled, TunedeckError, Unreachable
from core.serving.endpoints import EndpointView, find_endpoint

Message = Mapping[str, str]
CONNECT_S, READ_S = 5.0, 180.0
KEY_KEPT_S = 300.0
_RAW_LIMIT = 200_000
_SCRIPT = """\
import os

import requests

body = {body}
headers = {headers} | {{"Authorization": "Bearer " + os.environ["ENDPOINT_KEY"]}}
answer = requests.post({url!r}, json=body, headers=headers, timeout=180)
print(answer.status_code, answer.text)
"""


@dataclass(frozen=True)
class Sampling:
    """How words are drawn. temperature 0 takes the likeliest word each time."""

    temperature: float = 0.6
    top_p: float = 0.9
    max_tokens: int = 200
    seed: int | None = None


@dataclass(frozen=True)
class Stats:
    """How long an answer took, measured by the client."""

    first_token_s: float | None
    """None where the answer came in one piece."""
    seconds: float
    tokens: int
    tokens_per_s: float | None
    finish_reason: str = ""


@dataclass(frozen=True)
class Exchange:
    """The raw request and answer; the key is never in it."""

    url: str
    request: Mapping[str, Any]
    status: int = 0
    answer: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_curl(self) -> str:
        """Return the request as a shell command; the key is read from $ENDPOINT_KEY."""
        headers = {"Authorization": "Bearer $ENDPOINT_KEY", "Content-Type": "application/json", **self.headers}
        lines = [f"curl {shlex.quote(self.url)}"]
        lines += [f'  -H "{name}: {value}"' for name, value in headers.items()]
        lines += [f"  -d {shlex.quote(json.dumps(self.request, ensure_ascii=False))}"]
        return " \\\n".join(lines)

    def to_python(self) -> str:
        """Return the request as a Python script that prints the whole answer; the key is read from $ENDPOINT_KEY."""
        body = {**self.request, "stream": False} if "stream" in self.request else dict(self.request)
        return _SCRIPT.format(url=self.url, headers=dict(self.headers), body=pformat(body, width=100, sort_dicts=False))


@dataclass(frozen=True)
class Delta:
    """A piece of an answer; the last one carries stats and exchange."""

    text: str = ""
    stats: Stats | None = None
    exchange: Exchange | None = None


def stream_chat(
    conn: Connection,
    endpoint: EndpointView,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
    deployment: str = "",
) -> Iterator[Delta]:
    """Yield an answer as it is written, then one Delta with stats and exchange.

    Setting `stop` ends the answer and the connection, which ends the generation. Falls back to /score where the
    endpoint has no /v1 route. Raises TunedeckError: key refused, endpoint gone, no traffic, container's own error.
    """
    _require_traffic(endpoint, deployment)
    _check_characters(messages)
    sampling = sampling or Sampling()
    if endpoint.chat_uri:
        request = _Request(conn, endpoint, endpoint.chat_uri, _openai_body(messages, sampling), deployment)
        answer = request.post(stream=True)
        # The plain MLflow server of Azure has no /v1 route.
        if _status_of_model(answer) not in (404, 405) or find_endpoint(conn, endpoint.name) is None:
            _raise_for(conn, endpoint, answer)
            with answer:
                yield from _read_stream(request, answer, stop)
            return
        answer.close()
    whole = score_once(conn, endpoint, messages, sampling, deployment)
    yield Delta(whole.text)
    yield Delta("", whole.stats, whole.exchange)


def score_once(
    conn: Connection,
    endpoint: EndpointView,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    deployment: str = "",
) -> Delta:
    """Send the lesson's own request to /score and return the answer in one piece, with stats and exchange."""
    _require_traffic(endpoint, deployment)
    _check_characters(messages)
    sampling = sampling or Sampling()
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "do_sample": sampling.temperature > 0,
        "max_new_tokens": sampling.max_tokens,
    }
    body = {"input_data": {"input_string": [dict(m) for m in messages], "parameters": parameters}, "params": {}}
    request = _Request(conn, endpoint, endpoint.scoring_uri, body, deployment)
    answer = request.post()
    _raise_for(conn, endpoint, answer)
    seconds = time.monotonic() - request.started
    text, tokens, reason = _parse_score(endpoint, answer)
    stats = Stats(None, seconds, tokens, tokens / seconds if tokens and seconds else None, reason)
    return Delta(text, stats, request.exchange(answer.status_code, answer.text))


def split_row(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """Return a test row as (prompt up to the first user turn, the true answer to it)."""
    for number, message in enumerate(messages):
        if message.get("role") == "assistant" and number:
            return list(messages[:number]), str(message.get("content", ""))
    return list(messages), ""


# The wire ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Request:
    """One request to an endpoint."""

    conn: Connection
    endpoint: EndpointView
    url: str
    body: Mapping[str, Any]
    deployment: str
    started: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> dict[str, str]:
        return {"azureml-model-deployment": self.deployment} if self.deployment else {}

    def post(self, stream: bool = False) -> requests.Response:
        """Send it with the endpoint's key; a refused key is read anew once, for it may have been changed."""
        answer = self._post(stream, KEY_KEPT_S)
        return self._post(stream, 0.0) if answer.status_code == 401 else answer

    def _post(self, stream: bool, key_kept_s: float) -> requests.Response:
        name = self.endpoint.name
        what, read = f"the key of endpoint '{name}'", self.conn.workspace.online_endpoints.get_keys
        try:
            keys = self.conn.remember(what, lambda: self.conn.call("read", what, read, name), key_kept_s)
        except NotFound as error:
            raise _gone(self.endpoint) from error
        with requests.Session() as session:
            session.trust_env = not self.conn.cloud.is_local  # a proxy of the environment would be asked for 127.0.0.1
            try:
                return session.post(
                    self.url,
                    json=self.body,
                    stream=stream,
                    timeout=(CONNECT_S, READ_S),
                    headers={"Authorization": f"Bearer {keys.primary_key}", **self.headers},
                )
            except requests.RequestException as error:
                raise Unreachable(
                    f"Endpoint '{name}' does not answer.",
                    "Send again in a moment; the deployment's log says more.",
                    type(error).__name__,
                ) from error

    def exchange(self, status: int, text: str) -> Exchange:
        """Return what was sent and answered."""
        return Exchange(self.url, self.body, status, text, self.headers)


def _status_of_model(answer: requests.Response) -> int:
    """Return what the container answered: Azure hands its errors on as 424 and keeps the status in a header."""
    told = answer.headers.get("ms-azureml-model-error-statuscode", "")
    return int(told) if answer.status_code == 424 and told.isdigit() else answer.status_code


def _openai_body(messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [dict(message) for message in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
    }
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def _read_stream(request: _Request, answer: requests.Response, stop: threading.Event | None) -> Iterator[Delta]:
    """Yield the pieces of a server-sent event stream, then the stats; ends early when `stop` is set.

    Raises Unreachable where the stream ends in the middle: the container ended, or the connection did.
    """
    endpoint, raw = request.endpoint, list[str]()
    first: float | None = None
    pieces, usage, reason, whole = 0, 0, "", False
    for line in _lines_of(answer, endpoint):
        if stop is not None and stop.is_set():
            reason = "stopped"
            break
        text = line.decode("utf-8", errors="replace")
        if sum(map(len, raw)) < _RAW_LIMIT:
            raw.append(text)
        whole = whole or text.endswith("[DONE]")
        if not text.startswith("data:") or text.endswith("[DONE]"):
            continue
        chunk = _parse_chunk(endpoint, text)
        if "error" in chunk:
            raise _container_error(str(chunk["error"]), text)
        usage = int((chunk.get("usage") or {}).get("completion_tokens") or usage)
        for choice in chunk.get("choices") or []:
            reason = choice.get("finish_reason") or reason
            piece = (choice.get("delta") or {}).get("content") or ""
            if piece:
                first = first or time.monotonic()
                pieces += 1
                yield Delta(piece)
    if not whole and not reason:
        raise _broken_off(endpoint, "the stream ended without [DONE]")
    seconds = time.monotonic() - request.started
    tokens = usage or pieces
    writing = time.monotonic() - first if first else 0.0
    speed = (tokens - 1) / writing if tokens > 1 and writing > 0 else None
    stats = Stats(first - request.started if first else None, seconds, tokens, speed, reason)
    yield Delta("", stats, request.exchange(answer.status_code, "\n".join(raw)))


def _lines_of(answer: requests.Response, endpoint: EndpointView) -> Iterator[bytes]:
    try:
        yield from answer.iter_lines(chunk_size=1)
    except requests.RequestException as error:
        raise _broken_off(endpoint, type(error).__name__) from error


def _parse_chunk(endpoint: EndpointView, text: str) -> dict[str, Any]:
    try:
        chunk = json.loads(text.removeprefix("data:"))
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise _container_error(f"endpoint '{endpoint.name}' sent what is no event", scrub(text[:2000]))
    return chunk


def _parse_score(endpoint: EndpointView, answer: requests.Response) -> tuple[str, int, str]:
    """Return (text, tokens, finish reason) of any of the forms /score answers in."""
    try:
        found = answer.json()
    except ValueError as error:
        raise _container_error(f"endpoint '{endpoint.name}' gave no JSON", scrub(answer.text[:2000])) from error
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, str):
        return found, 0, ""
    if not isinstance(found, dict) or found.get("error") or found.get("output") is None:
        told = found.get("error") if isinstance(found, dict) else found
        raise _container_error(f"endpoint '{endpoint.name}' gave no text", json.dumps(told)[:2000])
    return (
        str(found["output"]),
        int((found.get("usage") or {}).get("completion_tokens") or 0),
        found.get("finish_reason") or "",
    )


# Errors ------------------------------------------------------------------------------------------------------------


def _require_traffic(endpoint: EndpointView, deployment: str) -> None:
    if deployment or endpoint.live:
        return
    if endpoint.deployment is not None and endpoint.deployment.up:
        name = endpoint.deployment.name
        raise ServiceRefused(f"{endpoint.name} is up but gets no traffic.", f"Send 100% to {name}.")


def _check_characters(messages: Sequence[Message]) -> None:
    """Raise BadInput for half of a character: JSON can hold one, and no model can read it."""
    for number, message in enumerate(messages, 1):
        try:
            json.dumps(dict(message), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadInput(
                f"Message {number} ({message.get('role', 'no role')}) holds half of a character.",
                "Most often it is an emoji that was cut. Take it out, and send again.",
                f"\\u{ord(error.object[error.start]):04x} after {error.start} characters of its JSON",
            ) from error


def _raise_for(conn: Connection, endpoint: EndpointView, answer: requests.Response) -> None:
    if answer.ok:
        return
    detail = scrub(f"HTTP {answer.status_code}\n{answer.text[:2000]}")
    status = answer.status_code
    if status in (404, 401, 403) and find_endpoint(conn, endpoint.name) is None:
        raise _gone(endpoint)
    if status == 401:
        raise AccessDenied(
            "The endpoint refused its key (401).",
            "The key was changed elsewhere. Read the new key and send again.",
            detail,
        )
    if status == 403:
        raise AccessDenied(f"You may not use endpoint '{endpoint.name}'.", "Ask its owner for access.", detail)
    if status == 404:
        raise ServiceRefused(
            f"{endpoint.name} has no deployment that gets traffic.", "Send 100% to its deployment.", detail
        )
    if status == 408:
        raise Unreachable(f"Endpoint '{endpoint.name}' took longer than its time-out.", "Ask for fewer tokens.", detail)
    if status == 429:
        raise Throttled(f"Endpoint '{endpoint.name}' is busy (429).", "Send again in a moment.", detail)
    if status == 503:
        raise Unreachable(f"Endpoint '{endpoint.name}' is starting.", "Send again in a moment.", detail)
    raise _container_error(f"endpoint '{endpoint.name}' answered {status}", detail)


def _broken_off(endpoint: EndpointView, detail: str) -> Unreachable:
    return Unreachable(
        f"The answer of '{endpoint.name}' broke off.",
        "What came is kept. Ask again in a moment; the deployment's log says more.",
        detail,
    )


def _gone(endpoint: EndpointView) -> NotFound:
    return NotFound(f"Endpoint '{endpoint.name}' was deleted.", "Your chat is kept. Export it, or deploy again.")


def _container_error(what: str, detail: str) -> TunedeckError:
    return ServiceRefused(f"The model did not answer: {what}.", "The deployment's log says more.", detail)
