from __future__ import annotations

import json
from typing import Any

import pytest

from core import dataset
from core.dataset.forms.row_shapes import converter, recognise, with_mapping
from core.home import Home
from tests.chat_data import from_upload

QA = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "name", "messages"),
    [
        ({"messages": QA, "prompt_id": "x"}, "messages", QA),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt", QA),
        (
            {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "sharegpt",
            [{"role": "system", "content": "s"}, *QA],
        ),
        (
            {"conversations": json.dumps([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}])},
            "sharegpt",
            QA,
        ),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", QA),
        (
            {"instruction": "q", "input": "more", "output": "a"},
            "alpaca",
            [{"role": "user", "content": "q\n\nmore"}, QA[1]],
        ),
        ({"prompt": "q", "completion": "a"}, "prompt", QA),
        ({"id": 3, "Question": "q", "Answer": "a", "topic": "t"}, "columns", QA),
        ({"left": "q", "right": "a"}, "columns", QA),
    ],
)
def test_each_shape_becomes_the_contract_and_says_why(row: dict[str, Any], name: str, messages: list[Any]) -> None:
    shape = recognise([row] * 5)
    assert shape.name == name
    assert shape.reason
    assert converter(shape)(row)["messages"] == messages


def test_two_columns_that_are_named_like_nothing_are_taken_with_a_doubt() -> None:
    assert "taken in their order" in recognise([{"left": "q", "right": "a"}]).reason
    assert not recognise([{"left": "q", "right": "a"}]).sure
    assert not recognise([{"my_question": "q", "an_answer": "a", "third": "t"}]).sure


def test_tools_and_tool_calls_are_kept() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    row = {"messages": [QA[0], call], "tools": [{"name": "weather"}], "prompt_id": "x"}
    assert recognise([row]).is_contract
    old = {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        "tools": '[{"name": "w"}]',
    }
    assert converter(recognise([old]))(old) == {"messages": QA, "tools": [{"name": "w"}]}


def test_an_operators_own_mapping_wins_over_what_was_recognised() -> None:
    shape = with_mapping({"user": "b", "assistant": "a"}, ("a", "b"))
    assert converter(shape)({"a": "yes", "b": "no?"})["messages"][0] == {"role": "user", "content": "no?"}


def test_numbers_and_nothing_are_not_recognised() -> None:
    assert recognise([]).name == "unknown"
    assert recognise([{"a": 1, "b": [2]}]).name == "unknown"
    assert recognise(["text", None]).name == "unknown"


def test_a_sharegpt_file_is_taken_and_its_shape_kept(home: Home) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": f"a{n}"}]} for n in range(40)
    ]
    found = from_upload("x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert (found.usable, found.rows, found.test_rows) == (True, 36, 4)
    assert found.shape is not None
    assert (found.shape.title, dict(found.shape.mapping)) == ("ShareGPT", {"chat": "conversations"})
    assert found.shape.reason == '"conversations" holds lists of objects with "from" and "value" in 40 of 40 rows.'


def test_a_mapping_is_taken_with_an_upload(home: Home) -> None:
    rows = "\n".join(json.dumps({"x": f"a{n}", "y": f"q{n}", "z": "t"}) for n in range(12))
    started = dataset.start_upload("x.jsonl", rows.encode())
    started = dataset.read_again(started.id, {"user": "y", "assistant": "x"})
    assert started.dataset is not None
    assert dataset.read_rows(started.dataset.train_path)[0].messages[0] == {"role": "user", "content": "q0"}


@pytest.mark.parametrize("role", [{}, [], 3])
def test_a_role_that_is_no_text_is_a_finding(home: Home, role: Any) -> None:
    messages = [{"role": role, "content": "What is open?"}, {"role": "assistant", "content": "Berth 3."}]
    found = from_upload("a.jsonl", "\n".join([json.dumps({"messages": messages})] * 12).encode())
    assert "unknown_role" in [finding.code for finding in found.findings]


def test_a_thought_beside_an_answer_is_kept_whatever_the_keys_of_messages() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "reasoning_content": "b"}]
    row = {"conversations": turns}
    answer = {"role": "assistant", "content": "a", "reasoning_content": "b"}
    assert converter(recognise([row]))(row)["messages"] == [{"role": "user", "content": "q"}, answer]
    assert dataset.MESSAGE_KEYS["reasoning_content"] == "Thought"
