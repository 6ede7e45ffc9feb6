"""Reads what stands for a conversation in other tools' rows as the contract's messages, {role, content}.

What cannot be read stays as it is, for the check to name. It does not know which column holds what.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.engine.chat_template import THOUGHTS

_NAMED = {
    "system": "system developer context",
    "user": "user human prompter question",
    "assistant": "assistant gpt bot model chatgpt bard ai answer chatbot",
    "tool": "tool function observation function_response ipython",
}
_ROLE_NAMES = {name: role for role, names in _NAMED.items() for name in names.split()}
ROLES = tuple(_NAMED)  # the contract's
_CALL_ROLES = ("function_call", "tool_call", "function-call")
_ROLE_KEYS = ("role", "from", "sender", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "message", "parts")
_QUESTION_KEYS = ("human", "user", "question", "prompt", "instruction", "query", "input")
_ANSWER_KEYS = ("assistant", "gpt", "bot", "answer", "response", "output", "ai", "model")
# The keys of the contract's messages, and what each is used as.
CONTRACT_KEYS: Mapping[str, str] = {
    "role": "Role",
    "content": "Text",
    "name": "Name of a tool",
    "tool_calls": "Calls of tools",
    "tool_call_id": "Call that is answered",
    "weight": "Whether it is learned",
    **dict.fromkeys(THOUGHTS, "Thought"),
}
_KEPT_KEYS = tuple(key for key in CONTRACT_KEYS if key not in ("role", "content"))
_EMPTY: tuple[Any, ...] = (None, "")
_LONGEST_PYTHON = 1 << 20  # characters; ast takes hundreds of bytes for each
_BETWEEN_OBJECTS = re.compile(r"\}\s+\{(?=')")  # as NumPy writes a list: no comma between
_ODD_KEYS = ("function_call", "train")

_USED_AS = {
    **dict.fromkeys(_CONTENT_KEYS, "Text"),
    **dict.fromkeys(_QUESTION_KEYS, "Question"),
    **dict.fromkeys(_ANSWER_KEYS, "Answer"),
    **dict.fromkeys(_ROLE_KEYS, "Role"),
    **CONTRACT_KEYS,
    "system": "System message",
    "function_call": "Call of a function",
    "train": "Whether it is learned",
}
# What a key of messages is used as, by its name in the file.
MESSAGE_KEYS: Mapping[str, str] = {
    **_USED_AS,
    **{key.capitalize(): use for key, use in _USED_AS.items()},
    **{key.upper(): use for key, use in _USED_AS.items()},
}

_SPEAKERS = "FUNCTION RESPONSE|Human|HUMAN|User|USER|Assistant|ASSISTANT|System|SYSTEM|Bot|AI|GPT|ChatGPT"
# How speakers may begin in a text, the strictest first: an answer may itself hold "User:" on a line.
_TRANSCRIPTS = tuple(
    re.compile(rf"(?:\A\s*|{before})(?:#{{1,4}} ?)?({_SPEAKERS}) ?: ?")
    for before in (r"\n\s*\n\s*", r"\n\s*", r"\s+|\s*(?=#)")
)


def contract_role(role: Any) -> Any:
    """Return the contract's name of a role, "user" for "human"; anything else comes back as it is."""
    return _ROLE_NAMES.get(role.lower().strip(), role) if isinstance(role, str) else role


def as_list(value: Any) -> Any:
    """Return the list or object that a text of JSON holds, as in tables; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return _read_python(value)
    return value


def is_call(value: Any) -> bool:
    """Tell whether a value is a call of a tool by its name."""
    return isinstance(value, dict) and isinstance(value.get("name"), str) and "arguments" in value


def _read_python(text: str) -> Any:
    """Return the list or object that a text holds as Python writes it, also a list of NumPy's; else the text."""
    if len(text) > _LONGEST_PYTHON or "'" not in text:
        return text
    try:
        return ast.literal_eval(_BETWEEN_OBJECTS.sub("}, {", text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def style_of(value: Any) -> str:
    """Return how a conversation is written, "" if the value is none.

    "role/content" and its like: the keys of its messages. "pairs": a list of objects with a question and an answer.
    "lists": a list of [question, answer]. "texts": a list of texts. "transcript": a text "Human: … Assistant: …".
    """
    value = as_list(value)
    if isinstance(value, str):
        return "transcript" if read_transcript(value) else ""
    if isinstance(value, dict):
        return style_of(inner) if (inner := _unwrap(value)) is not None else _keys_style(value)
    if not isinstance(value, list) or not value:
        return ""
    if all(isinstance(one, str) for one in value):
        return "texts"
    if all(isinstance(one, list) and len(one) == 2 for one in value):
        return "lists"
    return _keys_style(value[0]) if isinstance(value[0], dict) else ""


def read_chat(value: Any) -> list[Any] | None:
    """Return a conversation as the contract's messages, None if the value is none."""
    value = as_list(value)
    if isinstance(value, str):
        return read_transcript(value)
    if isinstance(value, dict):
        if (inner := _unwrap(value)) is not None:
            return read_chat(inner)
        return _read_pair(value) if _keys_style(value) == "pairs" else read_messages([value])
    if not isinstance(value, list):
        return None
    match style_of(value):
        case "pairs":
            return [message for pair in value for message in _read_pair(pair)]
        case "lists":
            return [message for pair in value for message in _alternate(pair)]
        case "texts":
            return _alternate(value)
    return read_messages(value)


def list_raw(value: Any) -> list[dict[str, Any]]:
    """Return the messages of a conversation with the keys that they have in the file."""
    value = as_list(value)
    if isinstance(value, dict):
        return list_raw(inner) if (inner := _unwrap(value)) is not None else [value] if _keys_style(value) else []
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _unwrap(value: Mapping[str, Any]) -> Any:
    """Return the messages in an object around them, as requests to a service and their answers have; None: in none."""
    if isinstance(choices := value.get("choices"), list) and choices:
        return _unwrap(choices[0]) if isinstance(choices[0], dict) else None
    held = value.get("messages", value.get("message"))
    return held if isinstance(held, (list, dict)) else None


def list_roles(value: Any) -> Iterator[Any]:
    """Yield the roles that are named in a conversation, under the contract's names where these are known."""
    for message in list_raw(value):
        key = _find(message, _ROLE_KEYS)
        role = message[key] if key and isinstance(message[key], str) else None
        yield "assistant" if _is_call_role(role) else contract_role(role)


def read_messages(given: list[Any]) -> list[Any]:
    """Return messages under the contract's keys and roles. Calls of functions become calls of tools."""
    read: list[Any] = []
    waiting: list[str] = []  # calls that no result has answered yet
    for number, message in enumerate(given, start=1):
        one = _read_message(message, number)
        if isinstance(one, dict):
            calls = one.get("tool_calls")
            if isinstance(calls, list):
                waiting = [str(call.get("id")) for call in calls if isinstance(call, dict) and "id" in call]
            elif one["role"] == "tool" and waiting:
                one.setdefault("tool_call_id", waiting.pop(0))
        read.append(one)
    return read


def normalise(messages: list[Any]) -> list[Any]:
    """Return the contract's messages with what is odd in them mended: the same list where nothing is."""
    if all(map(_is_plain, messages)):
        return messages
    read = read_messages(messages)
    merged = [_merge(old, new) for old, new in zip(messages, read, strict=True)]
    return messages if merged == messages else merged


def read_transcript(text: str) -> list[dict[str, Any]] | None:
    """Return the messages of a text "Human: … Assistant: …", None if it is no such text."""
    if ":" not in text:
        return None
    for pattern in _TRANSCRIPTS:
        marks = list(pattern.finditer(text))
        if len(marks) > 1 and marks[0].start() == 0:
            ends = [mark.start() for mark in marks[1:]] + [len(text)]
            messages = [
                {"role": contract_role(mark[1].replace(" ", "_")), "content": _said(text[mark.end() : end])}
                for mark, end in zip(marks, ends, strict=True)
            ]
            if {"user", "assistant"} <= {message["role"] for message in messages}:
                return messages
    return None


def _said(text: str) -> str:
    """Return what a speaker says, without the mark of a model's end that some files have there."""
    return text.strip().removesuffix("<|endoftext|>").rstrip()


def read_content(content: Any) -> Any:
    """Return the text of parts that are all texts, one below the other; anything else comes back as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts = [part_text(part) for part in content]
    return "\n".join(text for text in texts if text is not None) if None not in texts else content


def part_text(part: Any) -> str | None:
    """Return the text of a part of a content, None for a part that is no text."""
    if isinstance(part, dict) and part.get("type", "text") in ("text", "input_text", "output_text"):
        part = part.get("text")
    return part if isinstance(part, str) else None


def _is_plain(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(role := message.get("role"), str)
        and role in ROLES
        and not isinstance(message.get("content"), list)
        and not any(key in message for key in _ODD_KEYS)
    )


def _merge(old: Any, new: Any) -> Any:
    """Return a message as it was read, with the keys of the old one that nothing reads: the check names these."""
    if not isinstance(new, dict) or old is new:
        return new
    rest = {key: value for key, value in old.items() if key not in MESSAGE_KEYS}
    return new | rest


def _read_message(message: Any, number: int) -> Any:
    """Return a message under the contract's keys; anything else comes back as it is, for the check to name."""
    if not isinstance(message, dict):
        return message
    speaker, said = message.get("from"), message.get("value")
    if len(message) == 2 and isinstance(speaker, str) and isinstance(said, str) and speaker in _ROLE_NAMES:
        return {"role": _ROLE_NAMES[speaker], "content": said}  # most messages of ShareGPT, at twice the speed
    if not any(key in message for key in _ROLE_KEYS):
        message = {key.lower(): value for key, value in message.items()}
    role, content = _get(message, _ROLE_KEYS), read_content(_get(message, _CONTENT_KEYS))
    kept = {key: message[key] for key in _KEPT_KEYS if message.get(key) not in _EMPTY}
    call = message.get("function_call")
    if _is_call_role(role):
        role, call, content = _read_call(role, content)
    if "parts" in message and isinstance(content, list):
        content, call, answered = _read_gemini(content)
        if answered:
            role, kept["name"] = "tool", answered
    if call:
        kept["tool_calls"] = [_to_tool_call(one, f"call_{number}_{at}") for at, one in enumerate(_as_calls(call))]
    role = contract_role(role)
    if isinstance(message.get("train"), bool) and role == "assistant":
        kept.setdefault("weight", int(message["train"]))
    return {"role": role, "content": content} | kept


def _is_call_role(role: Any) -> bool:
    return isinstance(role, str) and role.lower().strip() in _CALL_ROLES


def _read_call(role: Any, content: Any) -> tuple[Any, Any, Any]:
    """Return role, calls and content of a message whose text is a call; one that is no JSON stays as it is."""
    calls = as_list(content)
    named = isinstance(calls, (dict, list)) and all(isinstance(one, dict) and "name" in one for one in _as_calls(calls))
    return ("assistant", calls, None) if named and calls else (role, None, content)


def _as_calls(calls: Any) -> list[Any]:
    return calls if isinstance(calls, list) else [calls]


def _to_tool_call(call: Any, call_id: str) -> Any:
    if not isinstance(call, dict):
        return call
    arguments = call.get("arguments", call.get("args", call.get("parameters", {})))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": call.get("name"), "arguments": text}}


def _read_gemini(parts: list[Any]) -> tuple[Any, list[Any], str]:
    """Return the content of Gemini's parts, their calls, and the name of the function that they answer."""
    calls = [part["functionCall"] for part in parts if isinstance(part, dict) and "functionCall" in part]
    answers = [part["functionResponse"] for part in parts if isinstance(part, dict) and "functionResponse" in part]
    if answers and isinstance(answers[0], dict):
        return json.dumps(answers[0].get("response"), ensure_ascii=False), calls, str(answers[0].get("name", ""))
    rest = [part for part in parts if not (isinstance(part, dict) and "functionCall" in part)]
    if calls and not rest:
        return None, calls, ""
    kinds = [
        part if not isinstance(part, dict) or "text" in part or "type" in part else {"type": next(iter(part), "part")}
        for part in rest
    ]
    return read_content(kinds), calls, ""


def _get(message: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((message[key] for key in keys if key in message), None)


def _find(message: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    lower = {key.lower(): key for key in message}
    return next((lower[key] for key in keys if key in lower), None)


def _keys_style(message: Mapping[str, Any]) -> str:
    role = _find(message, _ROLE_KEYS)
    content = _find(message, (*_CONTENT_KEYS, "tool_calls", "function_call"))
    if role and content:
        return f"{role}/{content if content.lower() in _CONTENT_KEYS else 'content'}"
    return "pairs" if _find(message, _QUESTION_KEYS) and _find(message, _ANSWER_KEYS) else ""


def _read_pair(pair: Any) -> list[Any]:
    if not isinstance(pair, dict):
        return [pair]
    parts = (("system", ("system",)), ("user", _QUESTION_KEYS), ("assistant", _ANSWER_KEYS))
    found = [(role, key) for role, keys in parts if (key := _find(pair, keys))]
    return [
        {"role": role, "content": read_content(pair[key])}
        for role, key in found
        if role == "assistant" or pair[key] not in _EMPTY
    ]


def _alternate(texts: Sequence[Any]) -> list[Any]:
    """Return texts as question and answer in turn; an empty question or answer is none."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts) if text not in _EMPTY]
