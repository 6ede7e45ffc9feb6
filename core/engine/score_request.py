"""What may be asked of a deployment, in Azure's form and in OpenAI's; one table of parameters for both.

`BadRequest` is a sentence and a status.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.engine.chat_template import Message
from core.engine.chat_tokens import check_messages
from core.engine.generation import Sampling


class BadRequest(Exception):
    """A request that cannot be answered. status: 400 for what cannot be read, 422 for a value that cannot be used."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True)
class ChatRequest:
    """A checked request."""

    messages: list[Message]
    sampling: Sampling
    stream: bool = False


@dataclass(frozen=True)
class Limit:
    """A number that may be sent: whole or not, and its range, ends included."""

    low: float
    high: float
    whole: bool = False


NUMBERS: dict[str, Limit] = {
    "temperature": Limit(0, 2),
    "top_p": Limit(0, 1),
    "top_k": Limit(0, 100_000, whole=True),
    "repetition_penalty": Limit(0.1, 10),
    "max_new_tokens": Limit(1, 1_000_000, whole=True),
    "max_tokens": Limit(1, 1_000_000, whole=True),
    "max_completion_tokens": Limit(1, 1_000_000, whole=True),
    "seed": Limit(0, 2**63 - 1, whole=True),
}
MAX_TOKENS = ("max_new_tokens", "max_tokens", "max_completion_tokens")

# Sent by many clients, with one value that is what is done here anyway.
ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "return_full_text": (False,),
}
WITHOUT_EFFECT = ("model", "user", "stream_options", "metadata", "store")


def read_score_request(body: Any) -> ChatRequest:
    """Read Azure's form. `input_string` is a list of messages, or that list in a list."""
    data = body.get("input_data") if isinstance(body, dict) else None
    if not isinstance(data, dict) or "input_string" not in data:
        raise BadRequest("The request needs 'input_data' with 'input_string', a list of messages.", 400)
    messages = data["input_string"]
    if isinstance(messages, list) and messages and isinstance(messages[0], list):
        if len(messages) > 1:
            raise BadRequest(f"'input_string' holds {len(messages)} conversations; send one at a time.")
        messages = messages[0]
    parameters = {**_mapping(body.get("params"), "params"), **_mapping(data.get("parameters"), "parameters")}
    return ChatRequest(_read_messages(messages), read_sampling(parameters))


def read_chat_request(body: Any) -> ChatRequest:
    """Read OpenAI's form."""
    if not isinstance(body, dict) or "messages" not in body:
        raise BadRequest("The request needs 'messages', a list of messages.", 400)
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.")
    parameters = {name: value for name, value in body.items() if name not in ("messages", "stream")}
    return ChatRequest(_read_messages(body["messages"]), read_sampling(parameters), stream)


def read_sampling(parameters: Mapping[str, Any]) -> Sampling:
    """Return the sampling asked for. Without temperature, top_p or do_sample an answer is greedy."""
    given = {name: value for name, value in parameters.items() if value is not None and name not in WITHOUT_EFFECT}
    values: dict[str, Any] = {}
    for name, value in given.items():
        values[name] = _reader(name)(name, value)
    wants_sampling = values.get("do_sample", "temperature" in values or "top_p" in values)
    temperature = values.get("temperature", 1.0) if wants_sampling else None
    longest = next((values[name] for name in MAX_TOKENS if name in values), Sampling.max_new_tokens)
    return Sampling(
        max_new_tokens=longest,
        temperature=temperature or None,
        top_p=values.get("top_p") or 1.0,
        top_k=values.get("top_k") or None,
        repetition_penalty=values.get("repetition_penalty", 1.0),
        stop=values.get("stop", ()),
        seed=values.get("seed"),
    )


def _reader(name: str) -> Callable[[str, Any], Any]:
    if name in NUMBERS:
        return _read_number
    if name in ONLY:
        return _read_only
    special = {"stop": _read_stop, "do_sample": _read_bool}
    if name in special:
        return special[name]
    known = ", ".join(["do_sample", "stop", *NUMBERS])
    raise BadRequest(f"'{name}' is not a parameter of this deployment; known are {known}.")


def _read_number(name: str, value: Any) -> float | int:
    limit = NUMBERS[name]
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not limit.low <= value <= limit.high or (limit.whole and value != int(value)):
        kind = "a whole number" if limit.whole else "a number"
        raise BadRequest(f"'{name}' must be {kind} from {limit.low:g} to {limit.high:g}, not {value!r}.")
    return int(value) if limit.whole else float(value)


def _read_only(name: str, value: Any) -> Any:
    if value not in ONLY[name]:
        raise BadRequest(f"'{name}' = {value!r} is not offered by this deployment.")
    return value


def _read_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false, not {value!r}.")
    return value


def _read_stop(_name: str, value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > 16 or not all(isinstance(word, str) and word for word in words):
        raise BadRequest("'stop' must be a text or a list of up to 16 texts.")
    return tuple(words)


def _read_messages(messages: Any) -> list[Message]:
    if isinstance(messages, list):
        messages = [_flatten(each) for each in messages]
    if problem := check_messages(messages):
        raise BadRequest(problem, 400)
    return [{"role": each["role"], "content": each["content"]} for each in messages]


def _flatten(message: Any) -> Any:
    """Return a message whose content came in parts, as OpenAI's clients may send it, with one text."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise BadRequest("Only text can be read: a message holds a part that is not text.")
    return {**message, "content": "".join(part["text"] for part in content)}


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be an object.", 400)
    return value
