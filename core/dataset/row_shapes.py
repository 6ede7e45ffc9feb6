"""The shapes of chat data, how they are recognised, and how a row becomes messages.

The contract is the service's: a list `messages` of {role, content}; of other columns only `tools` is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from core.dataset.line_check import UNREADABLE

_ROLE_NAMES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "question": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "ai": "assistant",
    "answer": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_CONTENT_KEYS = ("content", "value", "text")
_ROLE_KEYS = ("role", "from")
_CHAT_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "chat")
_MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
_PROMPTS = ("prompt", "question", "query", "input", "instruction", "user", "human", "problem")
_ANSWERS = ("completion", "response", "answer", "output", "assistant", "chosen", "target", "solution", "reply")
_EMPTY = (None, "")


@dataclass(frozen=True)
class Shape:
    """What rows look like. mapping: part ("system", "user", "context", "assistant", "chat", "tools") -> column.

    reason: how it was recognised. columns: all of them, for an operator who corrects the mapping.
    """

    name: str
    title: str
    reason: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    sure: bool = True
    offer: Mapping[str, str] = field(default_factory=dict)
    offer_words: str = ""

    @property
    def is_contract(self) -> bool:
        """Tell whether rows are already as the service wants them."""
        return self.name == "messages"

    @property
    def is_recognised(self) -> bool:
        """Tell whether rows can be converted."""
        return self.name != "unknown"

    @property
    def words(self) -> str:
        """Return what was recognised and how, as sentences."""
        return f"{f'Recognised as {self.title}' if self.is_recognised else self.title}. {self.reason}"

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return a kept shape. Earlier versions kept more of how it was recognised."""
        return cls(
            kept["name"], kept["title"], kept["reason"], kept["mapping"], tuple(kept["columns"]), kept.get("sure", True)
        )


MESSAGE_KEYS: Mapping[str, str] = {
    "role": "Role",
    "from": "Role",
    "content": "Text",
    "value": "Text",
    "text": "Text",
    "name": "Name of a tool",
    "tool_calls": "Calls of tools",
    "tool_call_id": "Call that is answered",
}


def read_message_keys(row: Any, shape: Shape) -> list[dict[str, Any]]:
    """Return the messages of a row as they were given, by which their keys are counted."""
    chat = _as_list(row.get(shape.mapping.get("chat", "")))
    return [one for one in chat if isinstance(one, dict)] if isinstance(chat, list) else []


PARTS = ("chat", "system", "user", "context", "assistant", "tools")


def recognise(rows: Iterable[Any]) -> Shape:
    """Return the shape of sample rows; its name is "unknown" if none fits."""
    sample = [row for row in rows if isinstance(row, dict) and UNREADABLE not in row]
    columns = tuple(Counter(name for row in sample for name in row))
    if not sample:
        return Shape("unknown", "Not recognised", "No row could be read as an object.")
    for judge in (_judge_chat, _judge_alpaca, _judge_pair):
        if shape := judge(sample, columns):
            return shape
    named = ", ".join(f'"{name}"' for name in columns[:6])
    reason = f"The columns are {named}: none holds a list of messages, and no two look like a question and its answer."
    return Shape("unknown", "Not recognised", reason, {}, columns)


def with_mapping(mapping: Mapping[str, str], columns: Iterable[str] = ()) -> Shape:
    """Return the shape of an operator's own mapping of parts to columns."""
    given = {part: column for part, column in mapping.items() if column}
    name = "sharegpt" if "chat" in given else "columns"
    said = ", ".join(f'{part} is "{column}"' for part, column in given.items())
    return Shape(name, "Your mapping", f"As you set it: {said}.", given, tuple(columns))


def converter(shape: Shape) -> Callable[[Any], Any]:
    """Return a function that converts a row to the contract's shape, and returns a row that does not fit as it is."""
    if not shape.is_recognised or shape.is_contract:
        return lambda row: row
    change = _from_chat if "chat" in shape.mapping else _from_columns
    return lambda row: row if isinstance(row, dict) and UNREADABLE in row else change(row, shape.mapping)


def _judge_chat(sample: list[dict[str, Any]], columns: tuple[str, ...]) -> Shape | None:
    """Recognise a column of lists of messages, preferably `messages`."""
    order = sorted(
        columns, key=lambda name: (name not in _CHAT_COLUMNS, _CHAT_COLUMNS.index(name) if name in _CHAT_COLUMNS else 0)
    )
    for column in order:
        fits = [keys for row in sample if (keys := _message_keys(_as_list(row.get(column))))]
        if not fits or len(fits) * 2 < len(sample):
            continue
        (role, content), _ = Counter(fits).most_common(1)[0]
        mapping = {"chat": column} | ({"tools": "tools"} if "tools" in columns else {})
        as_text = any(isinstance(row.get(column), str) for row in sample)
        contract = column == "messages" and (role, content) == ("role", "content") and not as_text
        if "system" in columns and not contract:
            mapping["system"] = "system"
        name, title = ("messages", "Messages") if contract else ("sharegpt", "ShareGPT")
        if not contract and (role, content) == ("role", "content"):
            title = f'Messages in "{column}"'
        reason = (
            f'"{column}" holds lists of objects with "{role}" and "{content}" in {len(fits)} of {len(sample)} rows.'
        )
        return Shape(name, title, reason, mapping, columns)
    return None


def _judge_alpaca(_sample: list[dict[str, Any]], columns: tuple[str, ...]) -> Shape | None:
    if not {"instruction", "output"} <= set(columns):
        return None
    mapping = {"user": "instruction", "context": "input", "assistant": "output", "system": "system"}
    mapping = {part: column for part, column in mapping.items() if column in columns}
    named = '"instruction", "input" and "output"' if "input" in columns else '"instruction" and "output"'
    reason = f"It has the columns {named}."
    return Shape("alpaca", "Alpaca", reason, mapping, columns)


def _judge_pair(sample: list[dict[str, Any]], columns: tuple[str, ...]) -> Shape | None:
    """Recognise a question and an answer by their columns' names, or as the only two columns of text."""
    texts = [name for name in columns if sum(isinstance(row.get(name), str) for row in sample) * 2 >= len(sample)]
    lower = {name.lower().strip(): name for name in texts}
    prompt = _first(lower, _PROMPTS)
    answer = _first({key: name for key, name in lower.items() if name != prompt}, _ANSWERS)
    if prompt and answer:
        plain = (prompt, answer) == ("prompt", "completion")
        name, title = ("prompt", "Prompt and completion") if plain else ("columns", "Question and answer columns")
        mapping = {"user": prompt, "assistant": answer}
        if "system" in lower:
            mapping["system"] = lower["system"]
        reason = f'The columns "{prompt}" and "{answer}" hold texts, and are named like a question and its answer.'
        return Shape(name, title, reason, mapping, columns)
    if len(texts) == 2:
        reason = f'"{texts[0]}" and "{texts[1]}" are the only columns of text: taken in their order.'
        mapping = {"user": texts[0], "assistant": texts[1]}
        return Shape("columns", "Question and answer columns", reason, mapping, columns, sure=False)
    return None


def _first(names: Mapping[str, str], wanted: tuple[str, ...]) -> str | None:
    exact = next((names[word] for word in wanted if word in names), None)
    return exact or next((name for word in wanted for key, name in names.items() if word in key.split("_")), None)


def _as_list(value: Any) -> Any:
    """Return the list that a text of JSON holds, as in tables; else the value itself."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _message_keys(value: Any) -> tuple[str, str] | None:
    """Return the keys of role and content in a list of messages, None if the value is no such list."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return None
    role = next((key for key in _ROLE_KEYS if key in value[0]), None)
    content = next((key for key in _CONTENT_KEYS if key in value[0]), None)
    return (role, content) if role and content else None


def _from_chat(row: Any, mapping: Mapping[str, str]) -> Any:
    if not isinstance(row, dict):
        return row
    chat = _as_list(row.get(mapping["chat"]))
    if not isinstance(chat, list):
        return row
    messages = [_message(message) for message in chat]
    system = row.get(mapping.get("system", ""))
    if isinstance(system, str) and system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return _with_tools({"messages": messages}, row, mapping)


def _message(message: Any) -> Any:
    """Return a message under the contract's keys; anything else comes back as it is, for the check to name."""
    if not isinstance(message, dict):
        return message
    role = next((message[key] for key in _ROLE_KEYS if key in message), None)
    content = next((message[key] for key in _CONTENT_KEYS if key in message), None)
    converted = {"role": contract_role(role), "content": content}
    return converted | {key: message[key] for key in _MESSAGE_KEYS[2:] if message.get(key) not in _EMPTY}


def contract_role(role: Any) -> Any:
    """Return the contract's name of a role, "user" for "human"; anything else comes back as it is."""
    return _ROLE_NAMES.get(role.lower().strip(), role) if isinstance(role, str) else role


def _from_columns(row: Any, mapping: Mapping[str, str]) -> Any:
    if not isinstance(row, dict):
        return row
    parts = {part: row.get(column) for part, column in mapping.items()}
    question, context = parts.get("user"), parts.get("context")
    if isinstance(question, str) and isinstance(context, str) and context.strip():
        question = f"{question}\n\n{context}"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": parts.get("assistant")}]
    system = parts.get("system")
    if isinstance(system, str) and system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return _with_tools({"messages": messages}, row, mapping)


def _with_tools(converted: dict[str, Any], row: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    tools = row.get(mapping.get("tools", "tools"))
    if tools not in (None, "", []):
        converted["tools"] = _as_list(tools)
    return converted
