"""The small files of tests/data/chat that concern what rows are: how each is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.dataset.row_shapes import converter, recognise, with_mapping
from core.home import REPOSITORY, Home
from tests.chat_data import from_upload

FOLDER = REPOSITORY / "tests" / "data" / "chat"


def rows_of(name: str) -> list[Any]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return list(json.loads(text)) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def said_in(name: str) -> list[tuple[str, Any]]:
    """Return role and content of the first row's messages."""
    rows = rows_of(name)
    shape = recognise(rows)
    assert shape.sure
    assert shape.is_recognised
    return [(message["role"], message["content"]) for message in converter(shape)(rows[0])["messages"]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "alpaca_history.json",
            [
                ("user", "Where does tram 0 start?"),
                ("assistant", "At the mill."),
                ("user", "Is it on time?"),
                ("assistant", "Yes."),
                ("user", "And after stop 0?"),
                ("assistant", "Then stop 1."),
            ],
        ),
        (
            "context_question_answer.jsonl",
            [
                ("user", "The harbour 0 opened in 1900.\n\nWhen did harbour 0 open?"),
                ("assistant", "In 1900."),
            ],
        ),
        (
            "instruction_context_response.jsonl",
            [("user", "How many amber stones on pier 0?\n\nPier 0 holds 0 amber stones."), ("assistant", "0.")],
        ),
        (
            "instruction_input_response.jsonl",
            [("user", "Translate number 0 to words\n\n0"), ("assistant", "number 0 in words")],
        ),
        (
            "system_prompt_question.jsonl",
            [
                ("system", "You are the harbour's clerk."),
                ("user", "Is berth 0 free?"),
                ("assistant", "Berth 0 is free."),
            ],
        ),
        ("messages_and_system.jsonl", [("system", "Be brief."), ("user", "Q0?"), ("assistant", "A0.")]),
        ("system_sparse.jsonl", [("system", "Be brief."), ("user", "Q0?"), ("assistant", "A0.")]),
        ("prompt_completion_lists.jsonl", [("user", "Is berth 0 free?"), ("assistant", "Berth 0 is free.")]),
        ("content_text_parts.jsonl", [("user", "What is berth 0?"), ("assistant", "A place, 0.")]),
        ("content_numbers.jsonl", [("user", "2*0"), ("assistant", 0)]),
        (
            "sharegpt_function_call.json",
            [
                ("system", "You help."),
                ("user", "Tide at 0?"),
                ("assistant", None),
                ("tool", "0 cm"),
                ("assistant", "At 0 it is 0 cm."),
            ],
        ),
        (
            "legacy_function_call.jsonl",
            [("user", "Tide at 0?"), ("assistant", None), ("tool", "0 cm"), ("assistant", "0 cm.")],
        ),
    ],
)
def test_a_file_that_was_read_wrongly_keeps_all_that_it_says(name: str, said: list[tuple[str, Any]]) -> None:
    assert said_in(name) == said


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("preference_text_pairs.jsonl", "Yes, come in."),
        ("preference_instruction_input.jsonl", "number 0 in words"),
        ("label_false.jsonl", "A0."),
    ],
)
def test_judged_answers_are_named_and_only_the_good_ones_offered(name: str, offered: str) -> None:
    rows = rows_of(name)
    shape = recognise(rows)
    assert not shape.is_recognised
    assert shape.offer_words.startswith("Train on the")
    change = converter(with_mapping(shape.offer))
    assert change(rows[0])["messages"][-1] == {"role": "assistant", "content": offered}
    assert name != "label_false.jsonl" or change(rows[1]) is None


@pytest.mark.parametrize("name", ["identifier_columns.jsonl", "alternative_replies.jsonl"])
def test_what_is_no_conversation_is_not_read(name: str) -> None:
    shape = recognise(rows_of(name))
    assert not shape.is_recognised
    assert not shape.offer


@pytest.mark.parametrize(
    "name",
    ["weight_zero.jsonl", "tool_calls.jsonl", "no_user.jsonl", "reasoning_content.jsonl", "one_message_alone.jsonl"],
)
def test_rows_that_are_as_the_service_wants_them_come_back_as_they_are(name: str) -> None:
    rows = rows_of(name)
    shape = recognise(rows)
    assert shape.is_contract
    assert all(converter(shape)(row) is row for row in rows)


def test_a_list_of_messages_a_line_is_a_conversation_a_line(home: Home) -> None:
    name = "list_of_messages_a_line.jsonl"
    found = from_upload(name, (FOLDER / name).read_bytes())
    assert found.usable
    assert found.findings == ()
