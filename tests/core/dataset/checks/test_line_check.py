from __future__ import annotations

import json
from typing import Any

import pytest

from core.dataset.checks.line_check import Problem, check_line

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ahoy"}]}'


def find(text: str | bytes, line: int = 7) -> list[Problem]:
    return check_line(line, text.encode() if isinstance(text, str) else text)[1]


def row(*messages: Any) -> str:
    return json.dumps({"messages": list(messages)})


def said(role: str, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_good_row_has_no_findings() -> None:
    assert find(GOOD) == []
    assert find(row(said("system"), said("user"), said("assistant"), said("user"), said("assistant"))) == []


@pytest.mark.parametrize("content", [None, "", " "])
def test_an_answer_that_calls_tools_needs_no_content(content: str | None) -> None:
    assert find(row(said("user"), said("assistant", content) | {"tool_calls": [{"id": "1"}]})) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD[:-1], f'Line 7 is not JSON: a closing "}}" is missing at character {len(GOOD)}.'),
        (GOOD[:-2], f'Line 7 is not JSON: the closing "]}}" is missing at character {len(GOOD) - 1}.'),
        (GOOD[:-5], "Line 7 is not JSON: a closing quote is missing for the text that begins at character 83."),
        (GOOD.replace('"Hi"}, ', '"Hi"} '), "Line 7 is not JSON: a comma is missing at character 49."),
        ("{'messages': []}", "Line 7 is not JSON: character 2 has a single quote; JSON needs double quotes."),
        (GOOD + GOOD, f"Line 7 is not JSON: more follows after the end of the object at character {len(GOOD) + 1}."),
        ('{"messages": NaN}', "Line 7 is not JSON: NaN is not a number in JSON."),
        ("hello", "Line 7 is not JSON: a value is missing at character 1."),
        ("[1]", "Line 7 is a list, not an object."),
        ("null", "Line 7 is null, not an object."),
        ('{"text": 1, "b": 2}', 'Line 7 has no "messages"; it has "text", "b".'),
        ('{"messages": "x"}', 'Line 7: "messages" is a text, not a list.'),
        ('{"messages": []}', 'Line 7: "messages" is empty.'),
        (row("x"), "Line 7: message 1 is a text, not an object."),
        (row(said("human"), said("assistant")), "Line 7: message 1 has the role 'human'."),
        (row({"content": "x"}, said("assistant")), "Line 7: message 1 has no role."),
        (row(said("user"), said("assistant", None)), "Line 7: message 2 (assistant) has no content."),
        (row(said("user", [1]), said("assistant")), "Line 7: message 1 (user) has a list as its content."),
        (row(said("user"), said("assistant", " ")), "Line 7: message 2 (assistant) is blank."),
        (
            row(said("user"), said("assistant", "\ud800")),
            "Line 7: message 2 (assistant) holds half of a character (a lone surrogate).",
        ),
        (row(said("user")), "Line 7 has no assistant message: there is nothing to learn."),
        ("\ufeff" + GOOD, "Line 7 is not JSON: a byte order mark stands before the object at character 1."),
        (GOOD.replace('"Hi"', "9" * 5000), "Line 7 holds a number with too many digits."),
        (GOOD.encode().replace(b"Hi", b"H\xe9"), "Line 7 is not UTF-8 text: byte 0xe9 at position 45."),
    ],
)
def test_a_broken_row_says_what_and_where(text: str | bytes, message: str) -> None:
    found = find(text)
    assert [(problem.said(), problem.blocks) for problem in found] == [(message, True)]
    assert found[0].line == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row(said("user"), said("assistant"), said("user")), "ends with a user message; only answers are learned."),
        (row(said("user"), said("system"), said("assistant")), "has a system message that is not the first."),
        (row(said("user"), said("user"), said("assistant")), "has two messages of one role in a row"),
    ],
)
def test_what_only_some_models_refuse_is_a_warning(text: str, message: str) -> None:
    found = find(text)
    assert [problem.blocks for problem in found] == [False]
    assert message in found[0].message


CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": "{}"}}
CALLS = said("assistant", "") | {"tool_calls": [CALL]}
RESULT = said("tool", "3 m") | {"tool_call_id": "c1"}
WEATHER = [{"type": "function", "function": {"name": "weather"}}]


def called(arguments: Any) -> dict[str, Any]:
    return CALLS | {"tool_calls": [CALL | {"function": {"name": "tide", "arguments": arguments}}]}


def with_tools(tools: Any, *messages: Any) -> str:
    return json.dumps({"messages": messages, "tools": tools})


def many(text: str) -> dict[str, Any]:
    return said("user", [{"type": "text", "text": text}])


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (row(said("system"), said("assistant")), "no_user", "has no user message"),
        (row(said("system"), said("assistant", "a"), said("user"), said("assistant", "b")), "starts_with_answer", ""),
        (row(said("user"), said("assistant", "\u200b\u2060 ")), "invisible_answer", "message 2 (assistant) has only"),
        (row(said("user", "\ufeff"), said("assistant")), "blank_content", "cannot be seen"),
        (
            row(said("user"), said("assistant", 4)),
            "content_not_text",
            "message 2 (assistant) has a number as its content",
        ),
        (row(said("user"), said("assistant", True)), "content_not_text", "has true or false as its content"),
        (row(said("user"), said("assistant", {"a": 1})), "content_not_text", "has an object as its content"),
        (row(many("Hi"), said("assistant")), "content_not_text", "message 1 (user) has its text in parts"),
        (
            row(said("user", [{"type": "image_url", "image_url": {}}]), said("assistant")),
            "not_a_text_part",
            "message 1 (user) has an image in its content",
        ),
        (row(said("user"), said("tool"), said("assistant", "b")), "result_without_call", "message 2 (tool)"),
        (
            row(said("user"), CALLS, RESULT | {"tool_call_id": "c2"}, said("assistant")),
            "result_without_call",
            "message 3",
        ),
        (row(said("user"), CALLS, said("user"), said("assistant", "b")), "unanswered_call", "message 2 calls a tool"),
        (row(said("user"), CALLS, said("assistant", "b")), "unanswered_call", "message 2 calls a tool"),
        (with_tools(WEATHER, said("user"), CALLS), "undeclared_tool", 'message 2 calls "tide"'),
        (with_tools(json.dumps(WEATHER), said("user"), CALLS), "undeclared_tool", 'message 2 calls "tide"'),
        (row(said("user"), called("{'height': 3}")), "bad_arguments", "message 2 calls a tool with arguments"),
        (row(said("user"), called([1])), "bad_arguments", "message 2 calls a tool with arguments"),
        (
            row(said("user"), said("assistant", "b") | {"weight": 0.5}),
            "odd_weight",
            "message 2 (assistant) has a weight",
        ),
        (row(said("user"), said("assistant", "b") | {"weight": "1"}), "odd_weight", "neither 0 nor 1"),
        (row(said("user"), said("assistant", "b") | {"weight": 0}), "no_assistant", "only answers whose weight is 0"),
        (
            row(said("user", "What is it?"), said("assistant", "What is it?")),
            "echo",
            "message 2 (assistant) is the same",
        ),
        (row(said("user"), said("assistant", "nan")), "literal_nan", 'message 2 (assistant) is "nan"'),
        (row(said("user"), said("assistant", "b") | {"mood": "glad"}), "unknown_keys", 'message 2 has "mood"'),
    ],
)
def test_what_is_learned_wrongly_is_named_by_its_kind(text: str, code: str, message: str) -> None:
    found = [problem for problem in find(text) if problem.code == code]
    assert len(found) == 1
    assert message in found[0].message


@pytest.mark.parametrize(
    "text",
    [
        row(said("user"), CALLS),
        row(said("user"), CALLS, RESULT, said("assistant", "b")),
        row(said("user"), CALLS, RESULT | {"content": ""}, said("assistant", "b")),
        row(said("user"), called({"height": 3}), RESULT, said("assistant", "b")),
        row(
            said("user"), said("assistant", '<tool_call>{"name": "tide"}</tool_call>'), said("tool"), said("assistant")
        ),
        with_tools(WEATHER, said("user"), said("assistant", "b")),
        row(said("user"), said("assistant", "b") | {"weight": 1, "mood": None, "reasoning_content": "Hm."}),
        row(said("user", "你好"), said("assistant", "你好")),
        row(said("user", "Hello!"), said("assistant", "Hello!")),
        row(said("user", "\u200fمرحبا"), said("assistant", "\u200eأهلا")),
        row(said("user", "❤️"), said("assistant", "👩‍🚀")),
    ],
)
def test_what_is_right_has_no_findings(text: str) -> None:
    assert find(text) == []


def test_a_row_is_called_by_its_number_where_lines_mean_nothing() -> None:
    problem = find(row(said("user", " "), said("assistant")), 1234)[0]
    assert problem.said("row") == "Row 1,234: message 1 (user) is blank."


def test_deep_nesting_does_not_end_the_check() -> None:
    assert find("[" * 100_000)[0].blocks
