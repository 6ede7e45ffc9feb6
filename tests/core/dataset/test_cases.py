"""The small files of tests/data/chat, each of a kind that was once read wrongly: what is right for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import dataset
from core.dataset import ChatDataset
from core.dataset.checks.line_check import MISSING
from core.dataset.forms.row_shapes import converter, recognise, with_mapping
from core.home import REPOSITORY, Home
from tests.chat_data import from_upload, take
from tests.core.engine.templates import FAMILIES

FOLDER = REPOSITORY / "tests" / "data" / "chat"
Said = list[tuple[str, str]]

_Q_AND_A: Said = [("user", "Q0?"), ("assistant", "A0.")]
_BERTH: Said = [("user", "Is berth 0 free?"), ("assistant", "Yes, 0.")]
_BRIEF: Said = [("system", "Be brief."), *_Q_AND_A]
# The first row for training, calls of tools as they are shown, of files in which nothing is wrong.
READ: dict[str, Said] = {
    "alpaca_history.json": [
        ("user", "Where does tram 0 start?"),
        ("assistant", "At the mill."),
        ("user", "Is it on time?"),
        ("assistant", "Yes."),
        ("user", "And after stop 0?"),
        ("assistant", "Then stop 1."),
    ],
    "content_text_parts.jsonl": [("user", "What is berth 0?"), ("assistant", "A place, 0.")],
    "context_question_answer.jsonl": [
        ("user", "The harbour 0 opened in 1900.\n\nWhen did harbour 0 open?"),
        ("assistant", "In 1900."),
    ],
    "instruction_context_response.jsonl": [
        ("user", "How many amber stones on pier 0?\n\nPier 0 holds 0 amber stones."),
        ("assistant", "0."),
    ],
    "instruction_input_response.jsonl": [
        ("user", "Translate number 0 to words\n\n0"),
        ("assistant", "number 0 in words"),
    ],
    "legacy_function_call.jsonl": [
        ("user", "Tide at 0?"),
        ("assistant", "tide()"),
        ("tool", "0 cm"),
        ("assistant", "0 cm."),
    ],
    "list_of_messages_a_line.jsonl": _Q_AND_A,
    "messages_and_system.jsonl": _BRIEF,
    "prompt_completion_lists.jsonl": [("user", "Is berth 0 free?"), ("assistant", "Berth 0 is free.")],
    "reasoning_content.jsonl": [("user", "Is 0 even?"), ("assistant", "yes")],
    "sep_line.csv": _BERTH,
    "sharegpt_function_call.json": [
        ("system", "You help."),
        ("user", "Tide at 0?"),
        ("assistant", "tide(hour=0)"),
        ("tool", "0 cm"),
        ("assistant", "At 0 it is 0 cm."),
    ],
    "system_prompt_question.jsonl": [
        ("system", "You are the harbour's clerk."),
        ("user", "Is berth 0 free?"),
        ("assistant", "Berth 0 is free."),
    ],
    "system_sparse.csv": _BRIEF,
    "system_sparse.jsonl": _BRIEF,
    "tool_calls.jsonl": [
        ("user", "Weather 1?"),
        ("assistant", 'weather(city="Kyiv")'),
        ("tool", "7 C"),
        ("assistant", "It is 7."),
    ],
    "tool_calls_empty_content.jsonl": [
        ("user", "Weather 0?"),
        ("assistant", "w()"),
        ("tool", "7"),
        ("assistant", "It is 7."),
    ],
    "tool_calls_null_content.jsonl": [
        ("user", "Tide at 2?"),
        ("assistant", "tide(hour=2)"),
        ("tool", "2 cm"),
        ("assistant", "At 2 it is 2 cm."),
    ],
    "tool_result_empty.jsonl": [
        ("user", "Save 0?"),
        ("assistant", "Saving.w()"),
        ("tool", ""),
        ("assistant", "Saved."),
    ],
    "wrapped_list.json": _Q_AND_A,
}
# Files that were mended while they were read: what is said of that, and the first row.
MENDED: dict[str, tuple[str, Said]] = {
    "bom_in_the_middle.jsonl": ("1 line held a byte order mark.", _Q_AND_A),
    "pretty_printed.jsonl": ("12 objects were written over several lines.", _BERTH),
    "trailing_commas.jsonl": ("12 lines had a comma too many.", _BERTH),
}
# Files in which something is wrong, with a finding or two in both files: whether they can be used, the findings of
# the training file with their first line, and what is said of that line.
FOUND: dict[str, tuple[bool, dict[str, tuple[int, str]]]] = {
    "content_numbers.jsonl": (
        False,
        {"content_not_text": (1, "Line 1: message 2 (assistant) has a number as its content.")},
    ),
    "line_numbers.jsonl": (
        True,
        {
            "ends_without_answer": (80, "Line 80 ends with a user message; only answers are learned."),
            "mojibake": (90, "Line 90, message 2 holds 'The cafÃ© is open, '."),
            "email": (60, "Line 60, message 1 holds 'ann…rg'."),
        },
    ),
    "line_numbers_pretty.json": (False, {"blank_content": (50, "Line 50: message 2 (assistant) is blank.")}),
    "no_user.jsonl": (False, {"no_user": (1, "Line 1 has no user message: nothing says what the answer answers.")}),
    "one_message_alone.jsonl": (
        True,
        {"lone_message": (1, "Line 1 is one message alone; the service leaves such rows out of the training.")},
    ),
    "special_tokens_in_text.jsonl": (
        True,
        {"prompt_marker": (1, "Line 1, message 2 holds '<|im_end|>'.")},
    ),
    "starts_with_assistant.jsonl": (
        True,
        {"starts_with_answer": (1, "Line 1 starts with an answer; some models refuse that.")},
    ),
    "weight_zero.jsonl": (
        True,
        {"weight_zero": (1, "Line 1: message 2 (assistant) has the weight 0: it is not learned.")},
    ),
}
# Files that are not read: the code of the finding, and words that it says.
REFUSED: dict[str, tuple[str, str]] = {
    "alternative_replies.jsonl": ("unread_shape", "Several replies stand beside each other"),
    "identifier_columns.jsonl": ("unread_shape", 'The columns are "doc_id", "url", "n"'),
    "label_false.jsonl": ("unread_shape", "You can train on the good ones."),
    "latin1.csv": ("other_encoding", "It looks like Windows-1252."),
    "preference_instruction_input.jsonl": ("unread_shape", "You can train on the chosen ones."),
    "preference_text_pairs.jsonl": ("unread_shape", "You can train on the chosen ones."),
}


def upload(name: str, tokenizer: Path | None = None) -> ChatDataset:
    return from_upload(name, (FOLDER / name).read_bytes(), tokenizer=tokenizer)


def first_row(found: ChatDataset) -> Said:
    row = dataset.read_rows(found.train_path)[0]
    return [(message["role"], message["content"] + message.get("calls", "")) for message in row.messages]


def rows_of(name: str) -> list[Any]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def test_of_each_file_it_is_said_what_is_right() -> None:
    assert sorted([*READ, *MENDED, *FOUND, *REFUSED]) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", READ)
def test_a_file_in_which_nothing_is_wrong_keeps_all_that_it_says(home: Home, name: str) -> None:
    found = upload(name)
    assert found.findings == ()
    assert found.usable
    assert first_row(found) == READ[name]


@pytest.mark.parametrize("name", MENDED)
def test_a_file_that_is_mended_while_it_is_read_can_be_used_and_says_so(home: Home, name: str) -> None:
    said, row = MENDED[name]
    found = upload(name)
    assert [(finding.code, finding.example) for finding in found.findings] == [("mended_file", said)]
    assert found.usable
    assert found.rows + found.test_rows == 12
    assert first_row(found) == row


@pytest.mark.parametrize("name", FOUND)
def test_what_is_wrong_with_rows_is_found_on_the_line_of_the_operators_own_file(home: Home, name: str) -> None:
    usable, right = FOUND[name]
    found = upload(name)
    of_training = [finding for finding in found.findings if finding.file == "train"]
    assert {finding.code: (finding.lines[0], finding.example) for finding in of_training} == right
    assert found.usable is usable


@pytest.mark.parametrize("missing", sorted(MISSING - {""}))
def test_a_missing_value_written_as_text_is_found_in_a_row_that_is_plain_otherwise(home: Home, missing: str) -> None:
    rows = [[("user", f"q{number}"), ("assistant", missing if number == 3 else "a")] for number in range(12)]
    messages = [[{"role": role, "content": text} for role, text in row] for row in rows]
    found = from_upload("missing", "\n".join(json.dumps({"messages": some}) for some in messages).encode())
    assert [(finding.code, finding.lines) for finding in found.findings] == [("literal_nan", (4,))]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_conversations_is_refused_in_one_sentence(home: Home, name: str) -> None:
    code, said = REFUSED[name]
    found = upload(name)
    assert [finding.code for finding in found.findings] == [code]
    assert said in found.findings[0].example
    assert not found.usable


def test_tokens_of_the_chosen_model_in_a_text_block_it(home: Home, tmp_path: Path) -> None:
    found = upload("special_tokens_in_text.jsonl", FAMILIES["SmolLM2"].write(tmp_path / "model", marks=False))
    assert {finding.code for finding in found.findings if finding.kind.severity.blocks} == {"special_tokens"}
    assert not found.usable


def test_contents_that_are_numbers_are_kept_as_texts_by_the_repair(home: Home) -> None:
    found = upload("content_numbers.jsonl")
    assert dataset.count_changes(found, ["content_not_text"]) == {"content_not_text": dataset.Effect(15)}
    mended = take(dataset.start_repair(found, ["content_not_text"], None))
    assert mended.usable
    assert first_row(mended) == [("user", "2*0"), ("assistant", "0")]


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
def test_of_what_is_no_conversation_nothing_is_offered(name: str) -> None:
    assert not recognise(rows_of(name)).offer


@pytest.mark.parametrize(
    "name",
    ["weight_zero.jsonl", "tool_calls.jsonl", "no_user.jsonl", "reasoning_content.jsonl", "one_message_alone.jsonl"],
)
def test_rows_that_are_as_the_service_wants_them_come_back_as_they_are(name: str) -> None:
    rows = rows_of(name)
    shape = recognise(rows)
    assert shape.is_contract
    assert all(converter(shape)(row) is row for row in rows)
