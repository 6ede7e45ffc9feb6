"""Talk to an endpoint: streamed answers, their timing, and the raw exchange."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pprint import pformat
from typing import Any

import requests

from core.azureml.connection import Connection
from core.azureml.service_errors import scrub
from core.errors import BadInput, ServiceRefused, TunedeckError, Unreachable
from core.serving.endpoints import EndpointView
from core.serving.scoring import (
    CHAT,
    COLD_START_S,
    NO_ROUTE,
    ScoringRequest,
    find_wait,
    keep_route,
    list_routes,
    raise_for,
    status_of_model,
)

Message = Mapping[str, str]
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
    waiting: str = ""
    """Why nothing comes yet: "Waking up" or "Busy"."""


def stream_chat(
    conn: Connection,
    endpoint: EndpointView,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
    deployment: str = "",
    patience_s: float = COLD_START_S,
) -> Iterator[Delta]:
    """Yield an answer as it is written, then one Delta with stats and exchange.

    Setting `stop` ends the answer and the connection, which ends the generation. The route is found out: where one is
    not served the next is tried, and the one that answered is remembered. A container that is not ready or too busy is
    waited for up to `patience_s`, with a Delta for each look. Raises TunedeckError.
    """
    _require_traffic(endpoint, deployment)
    _check_characters(messages)
    sampling, stop, until = sampling or Sampling(), stop or threading.Event(), time.monotonic() + patience_s
    routes = list_routes(conn, endpoint, deployment)
    for url in routes:
        chats = url.endswith(CHAT)
        body = _openai_body(messages, sampling) if chats else _score_body(messages, sampling)
        request = ScoringRequest(conn, endpoint, url, body, deployment)
        answer = yield from _post_patiently(request, chats, stop, until)
        if answer is None:
            return
        with answer:
            if status_of_model(answer) in NO_ROUTE and url != routes[-1]:
                continue
            raise_for(request, answer)
            keep_route(request)
            yield from _read_stream(request, answer, stop) if _is_stream(answer) else _read_whole(request, answer)
            return


def ask_once(
    conn: Connection, endpoint: EndpointView, messages: Sequence[Message], sampling: Sampling, deployment: str
) -> Delta:
    """Return a whole answer with its stats and exchange; waits for nothing but the answer."""
    deltas = list(stream_chat(conn, endpoint, messages, sampling, None, deployment, patience_s=0.0))
    return replace(deltas[-1], text="".join(delta.text for delta in deltas))


def split_row(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """Return a test row as (prompt up to the first user turn, the true answer to it)."""
    for number, message in enumerate(messages):
        if message.get("role") == "assistant" and number:
            return list(messages[:number]), str(message.get("content", ""))
    return list(messages), ""


# Bodies and answers ------------------------------------------------------------------------------------------------


def _openai_body(messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [dict(message) for message in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
    }
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def _score_body(messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    """Return the lesson's own request."""
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "do_sample": sampling.temperature > 0,
        "max_new_tokens": sampling.max_tokens,
    }
    return {"input_data": {"input_string": [dict(m) for m in messages], "parameters": parameters}, "params": {}}


def _post_patiently(
    request: ScoringRequest, stream: bool, stop: threading.Event, until: float
) -> Generator[Delta, None, requests.Response | None]:
    """Return the answer; None where it was stopped while a container that is not ready was waited for."""
    while True:
        answer = request.post(stream=stream)
        wait = find_wait(answer)
        if wait is None or time.monotonic() + wait[1] > until:
            return answer
        answer.close()
        yield Delta(waiting=wait[0])
        if stop.wait(wait[1]):
            return None


def _is_stream(answer: requests.Response) -> bool:
    return "json" not in answer.headers.get("Content-Type", "")


def _read_whole(request: ScoringRequest, answer: requests.Response) -> Iterator[Delta]:
    """Yield an answer that came in one piece, then its stats."""
    text, tokens, reason = _parse_whole(request.endpoint, answer)
    seconds = time.monotonic() - request.started
    yield Delta(text)
    stats = Stats(None, seconds, tokens, tokens / seconds if tokens and seconds else None, reason)
    yield Delta("", stats, _exchange(request, answer.status_code, answer.text))


def _exchange(request: ScoringRequest, status: int, text: str) -> Exchange:
    return Exchange(request.url, request.body, status, text, request.headers)


def _read_stream(request: ScoringRequest, answer: requests.Response, stop: threading.Event) -> Iterator[Delta]:
    """Yield the pieces of a server-sent event stream, then the stats; ends early when `stop` is set.

    Raises Unreachable where the stream ends in the middle: the container ended, or the connection did.
    """
    endpoint, raw = request.endpoint, list[str]()
    first: float | None = None
    pieces, usage, reason, whole = 0, 0, "", False
    for line in _lines_of(answer, endpoint):
        if stop.is_set():
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
    yield Delta("", stats, _exchange(request, answer.status_code, "\n".join(raw)))


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


def _parse_whole(endpoint: EndpointView, answer: requests.Response) -> tuple[str, int, str]:
    """Return (text, tokens, finish reason) of any of the forms /score answers in, or OpenAI's without a stream."""
    try:
        found = answer.json()
    except ValueError as error:
        raise _container_error(f"endpoint '{endpoint.name}' gave no JSON", scrub(answer.text[:2000])) from error
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, str):
        return found, 0, ""
    if isinstance(found, dict) and found.get("choices"):
        first = found["choices"][0]
        text = (first.get("message") or {}).get("content")
        found = {**found, "output": text, "finish_reason": first.get("finish_reason")}
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


def _broken_off(endpoint: EndpointView, detail: str) -> Unreachable:
    return Unreachable(
        f"The answer of '{endpoint.name}' broke off.",
        "What came is kept. Ask again in a moment; the deployment's log says more.",
        detail,
    )


def _container_error(what: str, detail: str) -> TunedeckError:
    return ServiceRefused(f"The model did not answer: {what}.", "The deployment's log says more.", detail)
