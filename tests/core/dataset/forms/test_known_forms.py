"""Every form of the table in docs/data.md, by an example: recognised, and read or refused as the table says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.dataset.forms.known_forms import FORMS
from core.dataset.forms.row_shapes import converter, recognise, with_mapping
from core.home import REPOSITORY

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
QA = [Q, A]
S = {"role": "system", "content": "s"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_2_0", "type": "function", "function": {"name": "tide", "arguments": '{"hour": 0}'}}],
}
RESULT = {"role": "tool", "content": "7", "tool_call_id": "call_2_0"}
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
SYSTEM_OF_JSON = {"role": "system", "content": '{"tone": "dry"}'}
QUIZ = "Questions with choices, answered by a number or letter"
HH, HH_BAD = "\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: no"

READ: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("Messages", {"messages": QA}, QA),
    ("Messages", {"messages": QA, "system": "s"}, [S, *QA]),
    ("Messages", {"messages": [S, *QA], "system": "other"}, [S, *QA]),
    ("Messages", {"system": [{"text": "s"}], "messages": [{"role": "user", "content": [{"text": "q"}]}, A]}, [S, *QA]),
    ("Messages", {"messages": [{"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}]}, QA),
    ('Messages in "conversation"', {"conversation_hash": "x", "conversation": QA, "turn": 1}, QA),
    (
        'Messages in "conversations"',
        {"conversations": [Q | {"train": True}, A | {"train": False}]},
        [Q, A | {"weight": 0}],
    ),
    ('Messages in "Dialogue"', {"Dialogue": [{"Role": "USER", "Content": "q"}, {"Role": "bot", "Content": "a"}]}, QA),
    (
        'Messages in "conversations"',
        {"conversations": [{"role": "user", "value": "q"}, {"role": "bot", "value": "a"}]},
        QA,
    ),
    ("A request and its answer", {"input": [S, Q], "output": A, "id": 1}, [S, *QA]),
    ("A request and its answer", {"messages": [Q], "response": "a"}, QA),
    ("A request and its answer", {"inputs": {"messages": [Q]}, "outputs": {"choices": [{"message": A}]}}, QA),
    (
        "Questions and calls (xLAM)",
        {"query": "q", "answers": '[{"name": "tide", "arguments": {"hour": 0}}]', "tools": "[]"},
        [Q, {**CALL, "tool_calls": [CALL["tool_calls"][0] | {"id": "call_1_0"}]}],
    ),
    ("ShareGPT", {"conversations": SHAREGPT, "system": "s"}, [S, *QA]),
    ("ShareGPT", {"conversations": str(SHAREGPT)}, QA),
    ("Question and answer columns", {"": "0", "question": "q", "answer": "a"}, QA),
    ("Question and answer columns", {"question": "q", "answer": "a", "chat_history": QA}, [*QA, *QA]),
    ("Question and answer columns", {"input": "q", "context": "c", "output": "a"}, [Q | {"content": "q\n\nc"}, A]),
    ("Questions and answers in lists", {"data": {"question": "q", "answer": "a"}}, QA),
    ("ShareGPT", {"conversations": str(SHAREGPT).replace("}, {", "}\n {")}, QA),
    ("Alpaca", {"instruction": "Sort.", "input": "[3, 1]", "output": "a"}, [Q | {"content": "Sort.\n\n[3, 1]"}, A]),
    ("Prompt and completion", {"prompt": "q", "completion": "a", "system": '{"tone": "dry"}'}, [SYSTEM_OF_JSON, *QA]),
    (
        "Texts with speakers",
        {"chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>\n\n\nFUNCTION RESPONSE: 7\n\n\nASSISTANT: a <|endoftext|>"},
        [*QA, {"role": "tool", "content": "7"}, A],
    ),
    ("ShareGPT", {"items": SHAREGPT, "id": "x"}, QA),
    ("ShareGPT", {"conversations": json.dumps(SHAREGPT)}, QA),
    (
        "ShareGPT",
        {
            "conversations": [
                SHAREGPT[0],
                {"from": "function_call", "value": '{"name": "tide", "arguments": {"hour": 0}}'},
                {"from": "observation", "value": "7"},
                SHAREGPT[1],
            ],
            "tools": "[]",
        },
        [Q, CALL, RESULT, A],
    ),
    (
        "Messages",
        {
            "messages": [
                Q,
                {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": '{"hour": 0}'}},
                {"role": "function", "name": "tide", "content": "7"},
                A,
            ],
            "functions": [{"name": "tide"}],
        },
        [Q, CALL, RESULT | {"name": "tide"}, A],
    ),
    (
        "Gemini",
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "s"}]},
            "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
        },
        [S, *QA],
    ),
    (
        "An export of Claude",
        {
            "uuid": "x",
            "name": "Tides",
            "chat_messages": [
                {"uuid": "y", "sender": "human", "text": "q"},
                {"uuid": "z", "sender": "assistant", "text": "a"},
            ],
        },
        QA,
    ),
    ("Questions and answers in lists", {"conversation": [{"human": "q", "assistant": "a"}]}, QA),
    ("Questions and answers in lists", {"turns": [{"system": "s", "input": "q", "output": "a"}]}, [S, *QA]),
    ("Texts in turn (UltraChat)", {"id": "0", "data": ["q", "a"]}, QA),
    ("Prompt and completion as messages", {"prompt": [Q], "completion": [A]}, QA),
    ("Alpaca", {"instruction": "q", "input": "", "output": "a"}, QA),
    ("Alpaca", {"instruction": "q", "input": "i", "output": "a"}, [Q | {"content": "q\n\ni"}, A]),
    ("Alpaca", {"instruction": "q", "output": "a", "system": "s", "history": [["q", "a"]]}, [S, *QA, *QA]),
    ("Instruction and response", {"INSTRUCTION": "q", "RESPONSE": "a", "SOURCE": "x"}, QA),
    ("Instruction and response", {"Instruction": "q", "Input": "i", "response": "a"}, [Q | {"content": "q\n\ni"}, A]),
    ("Instruction and response", {"instruction": "q", "context": "i", "response": "a"}, [Q | {"content": "q\n\ni"}, A]),
    ("A question about a text", {"context": "c", "question": "q", "answer": "a"}, [Q | {"content": "c\n\nq"}, A]),
    ("A question about an article", {"article": "c", "question": "q", "answer": "a"}, [Q | {"content": "c\n\nq"}, A]),
    (
        "A question with choices",
        {"question": "q", "choices": ["x", "y"], "solution": "a"},
        [Q | {"content": "q\n\nx\ny"}, A],
    ),
    ("System, question and response (OpenOrca)", {"system_prompt": "s", "question": "q", "response": "a"}, [S, *QA]),
    ("Prompt and completion", {"prompt": "q", "completion": "a"}, QA),
    ("Prompt and generation (Metharme)", {"prompt": "q", "generation": "a"}, QA),
    ("Article and summary", {"article": "q", "summary": "a"}, QA),
    ("Two messages (CAMEL)", {"role_1": "x", "topic": "y", "message_1": "q", "message_2": "a"}, QA),
    ("Instruction and revision", {"instruction": "q", "revision": "a"}, QA),
    ("Question and answer columns", {"input_text": "q", "output_text": "a"}, QA),
    ("Question and answer columns", {"id": 3, "Question": "q", "Answer": "a", "topic": "t"}, QA),
    ("Question and answer columns", {"question": "q", "answer": 7}, [Q, A | {"content": 7}]),
    ("Texts with speakers", {"text": "### Human: q### Assistant: a"}, QA),
    ("Texts with speakers", {"text": "Human: q Assistant: a"}, QA),
    ("Texts with speakers", {"text": HH}, QA),
]

REFUSED: list[tuple[str, dict[str, Any], list[Any] | None]] = [
    ("Tokenised text", {"input_ids": [1], "attention_mask": [1], "labels": [1]}, None),
    ("Images and text", {"messages": QA, "images": ["x.png"]}, None),
    ("Audio and text", {"instruction": "q", "output": "a", "audios": ["x.wav"]}, None),
    ("Video and text", {"messages": QA, "videos": ["x.mp4"]}, None),
    ("Preference data in messages (DPO)", {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": A}, QA),
    (
        "Preference data (DPO)",
        {"instruction": "q", "input": "i", "chosen": "a", "rejected": "b"},
        [Q | {"content": "q\n\ni"}, A],
    ),
    ("Preference data (DPO)", {"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, [S, *QA]),
    ("Preference data (DPO)", {"instruction": "q", "chosen_response": "a", "rejected_response": "b"}, QA),
    ("Preference data (DPO)", {"prompt": [Q], "chosen": [A], "rejected": [A]}, QA),
    ("Preference data (DPO)", {"prompt": "q", "chosen": QA, "rejected": QA}, QA),
    (
        "Preference data (DPO)",
        {"input": {"messages": [Q], "tools": []}, "preferred_output": [A], "non_preferred_output": [A]},
        QA,
    ),
    ("Preference data of whole conversations (DPO)", {"chosen": QA, "rejected": QA}, QA),
    ("Preference data of whole conversations (DPO)", {"chosen": HH, "rejected": HH_BAD}, QA),
    ("Preference data without questions (DPO)", {"chosen": "The sky is blue.", "rejected": "It is green."}, None),
    ("Two answers to choose from", {"conversation_a": QA, "conversation_b": QA, "winner": "model_a"}, None),
    ("Answers judged step by step", {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}, None),
    ("Several answers to a question", {"prompt": "q", "answers": [{"answer": "a", "rank": 1}]}, None),
    ("Extracts with their places (SQuAD)", {"context": "c", "question": "q", "answers": {"text": ["a"]}}, None),
    ("Answers with a reward", {"prompt": [Q], "reward_model": {"ground_truth": "7"}, "data_source": "x"}, None),
    ("Conversations labelled good or bad (KTO)", {"messages": QA, "label": True}, QA),
    ("Conversations labelled good or bad (KTO)", {"messages": QA, "label": False}, None),
    ("Answers labelled good or bad (KTO)", {"prompt": "q", "completion": "a", "label": True}, QA),
    ("Answers labelled good or bad (KTO)", {"prompt": [Q], "completion": [A], "label": False}, None),
    ("Answers labelled good or bad (KTO)", {"instruction": "q", "output": "a", "kto_tag": True}, QA),
    ("A tree of replies (OASST)", {"message_id": "x", "parent_id": "y", "text": "q", "role": "prompter"}, None),
    ("A tree of replies (OASST)", {"message_tree_id": "x", "prompt": {"text": "q", "replies": []}}, None),
    ("One message a row", {"conversation_id": 1, "role": "user", "content": "q"}, None),
    ("An export of ChatGPT", {"title": "Tides", "mapping": {"x": {"message": None}}, "current_node": "x"}, None),
    ("MOSS", {"conversation_id": "1", "chat": {"turn_1": {"Human": "q", "MOSS": "a"}}}, None),
    ("Requests of a batch", {"custom_id": "1", "method": "POST", "url": "/v1", "body": {"messages": [Q]}}, None),
    ("Texts in parts (input_output)", {"segments": [{"label": True, "text": "a"}]}, None),
    ("Translations", {"translation": {"en": "a", "fr": "b"}}, None),
    ("Pairs for search", {"query": "q", "positive": "a", "negative": "b"}, None),
    ("Questions without an answer", {"article": "c", "unanswerable_question": "q"}, None),
    ("Critiques and revisions", {"scores": "1", "critiques": "x", "instruction": "q", "answer": "x"}, None),
    ("Critiques and revisions", {"scores": "1", "critiques": "x", "instruction": "q", "revision": "a"}, QA),
    ("Reflections", {"instruction": "q", "output": "x", "reflection": "y", "corrected": "a"}, QA),
    ("Several answers to a question", {"instruction": "q", "generations": ["a", "b"]}, None),
    ("Several answers to a question", {"question": "q", "answer": ["a"]}, None),
    (QUIZ, {"question": "q", "choices": ["a", "b"], "answer": 1}, None),
    (QUIZ, {"question": "q", "choices": {"text": ["a", "b"]}, "answerKey": "B"}, None),
    ("Two answers to choose from", {"question": "q", "answer_0": "a", "answer_1": "b", "score_0": 1}, None),
    ("Texts in a model's template", {"text": "<s>[INST] q [/INST] a </s>"}, None),
    (
        "Texts in a model's template",
        {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"},
        None,
    ),
    ("Texts and their classes", {"text": "q", "label": 3}, None),
    ("Plain text", {"text": "The sky is blue.", "url": "x"}, None),
    ("Questions without answers", {"prompt": "The sky is"}, None),
    ("Questions without answers", {"prompt": [Q]}, None),
]


def _name(value: Any) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("title", "row", "messages"), READ, ids=_name)
def test_a_known_form_is_read_and_sure(title: str, row: dict[str, Any], messages: list[Any]) -> None:
    shape = recognise([row] * 5)
    assert (shape.title, shape.sure, shape.is_recognised) == (title, True, True)
    assert converter(shape)(row)["messages"] == messages
    again = with_mapping(shape.mapping, shape.columns)
    assert converter(again)(row)["messages"] == messages


@pytest.mark.parametrize(("title", "row", "offered"), REFUSED, ids=_name)
def test_a_refused_form_is_named_and_offers_what_can_be_learned(
    title: str, row: dict[str, Any], offered: list[Any] | None
) -> None:
    shape = recognise([row] * 5)
    assert (shape.title, shape.is_recognised) == (title, False)
    assert shape.reason.endswith(".")
    assert converter(shape)(row) is row
    read = converter(with_mapping(shape.offer))(row) if shape.offer else None
    assert (read and read["messages"]) == offered


def test_the_table_of_the_docs_is_the_one_that_is_used_and_each_row_of_it_has_an_example() -> None:
    said = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    refused = {form.title: "Refused: " if not form.mapping else "" for form in FORMS}
    rows = [f"| {form.title} | {form.columns} | {refused[form.title]}{form.reads} |" for form in FORMS]
    assert [line for line in said if line.startswith("| ")][1:] == rows
    assert {title.split(' in "')[0] for title, *_ in READ + REFUSED} == set(refused)
