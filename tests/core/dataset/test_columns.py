"""Everything in a row is used, or named as not used, with the share of rows that hold it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core import dataset
from core.dataset.columns import Filled
from core.home import Home
from tests.chat_data import from_upload, take

QA = [{"role": "user", "content": "q {n}"}, {"role": "assistant", "content": "a {n}"}]


def upload(rows: list[dict[str, Any]]) -> dataset.ChatDataset:
    return from_upload("x.jsonl", "\n".join(map(json.dumps, rows)).encode())


def filled(found: dataset.ChatDataset) -> tuple[dict[str, int], dict[str, int]]:
    held = dataset.read_columns(found)
    assert held is not None
    return {one.name: one.filled for one in held.columns}, {one.name: one.filled for one in held.keys}


def talk(number: int) -> list[dict[str, Any]]:
    return [{**message, "content": message["content"].format(n=number)} for message in QA]


def test_a_name_is_filled_where_it_has_a_value() -> None:
    names = Filled()
    for row in ({"a": 0, "b": ""}, {"a": None, "b": "x"}, {"b": [], "c": False}):
        names.add(row)
    assert names.read() == {"a": 1, "b": 1, "c": 1}
    assert names.count == 3


@pytest.mark.parametrize("shape", ["contract", "sharegpt"])
def test_each_column_and_key_is_counted_over_all_rows(home: Home, shape: str) -> None:
    rows = []
    for number in range(400):
        messages = talk(number)
        if number % 4 == 0:
            messages[1]["weight"] = 1
        if shape == "sharegpt":
            keys = {"role": "from", "content": "value"}
            messages = [{keys.get(key, key): value for key, value in message.items()} for message in messages]
        name = "messages" if shape == "contract" else "conversations"
        rows.append({name: messages, "source": "desk" if number % 2 else "", "rank": number})
    columns, keys = filled(upload(rows))
    assert list(columns.values()) == [400, 200, 400]
    assert list(columns)[1:] == ["source", "rank"]
    assert (sorted(keys.values()), keys["weight"]) == ([100, 800, 800], 100)


def test_a_column_says_types_lengths_and_samples(home: Home) -> None:
    rows = [{"question": f"q{number}", "answer": f"an answer {number}", "score": number % 3} for number in range(40)]
    held = dataset.read_columns(upload(rows))
    assert held is not None
    question, answer, score = held.columns
    assert (question.types, question.longest, question.samples[:2]) == (("text",), 3, ("q0", "q1"))
    assert (answer.longest, score.types, score.samples) == (12, ("number",), ("0", "1", "2"))


def test_a_mapping_shows_its_first_conversation_before_anything_is_read_again(home: Home) -> None:
    rows = [{"question": f"q{number}", "answer": f"a{number}", "note": "n"} for number in range(40)]
    begun = dataset.start_upload("x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    held = dataset.read_columns(take(begun))
    assert held is not None
    turned = {"user": "answer", "assistant": "question", "system": "note"}
    first = dataset.read_first_as(held, turned)
    assert first is not None
    again = take(dataset.read_again(begun.id, turned))
    assert first.messages == dataset.read_rows(again.train_path)[0].messages
    assert [message["content"] for message in first.messages] == ["n", "a0", "q0"]
