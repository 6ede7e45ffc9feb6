"""What is wrong with the tool calls of a row and their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# An answer with one of these calls a tool in its text, as the formats of many open models do.
_CALLS_IN_TEXT = ("tool_call", "TOOL_CALL", "function", '"name"', "<|python_tag|>")


def check_tools(row: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yield the code, the message (from 1) and the rest of the sentence for each mistake with tools.

    row: one whose messages are objects with a role. Calls that end a row are what it teaches: they need no result.
    """
    messages, declared = row["messages"], _declared_names(row.get("tools"))
    for number, message in enumerate(messages, start=1):
        for call in calls_of(message):
            name, arguments = read_call(call)
            if declared and isinstance(name, str) and name not in declared:
                yield "undeclared_tool", number, f'calls "{name}", which is not among the row\'s tools'
            if not _are_arguments(arguments):
                yield "bad_arguments", number, "calls a tool with arguments that are not a JSON object"
    yield from _match_results(messages)


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a message."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def read_call(call: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the name of the tool that a call is to, and its arguments."""
    function = call["function"] if isinstance(call.get("function"), dict) else call
    return function.get("name"), function.get("arguments")


def _match_results(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, str]]:
    """Yield results without a call, and calls whose result never comes before the next user turn or the end."""
    waiting: list[tuple[int, Any]] = []  # the message and the id of each call without its result
    in_text = False
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role == "tool":
            given = message.get("tool_call_id")
            answered = next((call for call in waiting if None in (given, call[1]) or call[1] == given), None)
            if answered:
                waiting.remove(answered)
            elif not in_text:
                yield "result_without_call", number, "(tool) is a result that no call before it asks for"
        elif role == "user" and waiting:
            yield "unanswered_call", waiting[0][0], "calls a tool whose result never comes"
            waiting = []
        if role == "assistant":
            waiting += [(number, call.get("id")) for call in calls_of(message)]
            in_text = not calls_of(message) and _calls_in_text(message.get("content"))
        elif role == "user":
            in_text = False
    if waiting and waiting[0][0] < len(messages):
        yield "unanswered_call", waiting[0][0], "calls a tool whose result never comes"


def _calls_in_text(content: Any) -> bool:
    return isinstance(content, str) and (
        content.lstrip().startswith(("{", "[")) or any(mark in content for mark in _CALLS_IN_TEXT)
    )


def _declared_names(tools: Any) -> frozenset[str]:
    """Return the names of the tools that a row declares, none where one of them has no name that is known here."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            return frozenset()
    names = [_name_of(tool) for tool in tools] if isinstance(tools, list) else []
    return frozenset(name for name in names if name is not None) if None not in names else frozenset()


def _name_of(tool: Any) -> str | None:
    described = tool.get("function", tool) if isinstance(tool, dict) else None
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else None


def _are_arguments(arguments: Any) -> bool:
    """Tell whether arguments are an object or the text of one; a tool without any may be given none."""
    if isinstance(arguments, str) and arguments.strip():
        try:
            return isinstance(json.loads(arguments), dict)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, dict) or not arguments
