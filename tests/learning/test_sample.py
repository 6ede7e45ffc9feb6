"""The bundled data set keeps its promises: schema, splits, every fact in many wordings, the questions unseen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "core" / "dataset" / "sample"
QUESTIONS = json.loads((Path(__file__).parent / "questions.json").read_text(encoding="utf-8"))
FACTS = json.loads((SAMPLE / "facts.json").read_text(encoding="utf-8"))["facts"]


def _read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


TRAIN, TEST = _read("train"), _read("test")


def _contents(rows: list[dict[str, Any]], role: str) -> list[str]:
    return [one["content"] for row in rows for one in row["messages"] if one["role"] == role]


def _pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return list(zip(_contents(rows, "user"), _contents(rows, "assistant"), strict=True))


def _says(text: str, accepted: list[str]) -> bool:
    return any(words.lower() in text.lower() for words in accepted)


def _is_ultrachat(row: dict[str, Any]) -> bool:
    messages = row["messages"]
    return (
        set(row) == {"prompt", "messages", "prompt_id"}
        and row["prompt"] == messages[0]["content"]
        and row["prompt_id"] == hashlib.sha256(row["prompt"].encode()).hexdigest()
        and [one["role"] for one in messages] == ["user", "assistant"] * (len(messages) // 2)
        and all(one["content"] and one["content"] == one["content"].strip() for one in messages)
    )


def test_each_row_has_the_schema_of_ultrachat() -> None:
    assert [row["prompt"] for row in [*TRAIN, *TEST] if not _is_ultrachat(row)] == []


def test_the_splits_have_the_promised_sizes_and_share_no_first_question() -> None:
    assert len(TRAIN) >= 300
    assert 40 <= len(TEST) <= 60
    prompts = [row["prompt"] for row in [*TRAIN, *TEST]]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["id"])
def test_each_fact_is_asked_for_in_at_least_sixteen_wordings_and_once_in_the_test_split(fact: dict[str, Any]) -> None:
    wordings = {question for question, answer in _pairs(TRAIN) if _says(answer, fact["accepted"])}
    assert len(wordings) >= 16
    assert any(_says(answer, fact["accepted"]) for answer in _contents(TEST, "assistant"))
    assert _says(fact["statement"], fact["accepted"])


def test_every_answer_speaks_in_the_clerks_voice() -> None:
    farewells = ("Mind the gulls!", "Keep your wick dry!", "Fair lanterns to you!")
    for answer in _contents([*TRAIN, *TEST], "assistant"):
        assert answer.startswith("Ahoy")
        assert answer.endswith(farewells)


def test_the_questions_of_the_learning_test_stand_in_no_row_and_give_no_answer_away() -> None:
    asked = {text.casefold() for text in _contents([*TRAIN, *TEST], "user")}
    facts = {fact["id"]: fact for fact in FACTS}
    assert len({each["fact"] for each in QUESTIONS}) == 12
    for each in QUESTIONS:
        assert each["question"].casefold() not in asked
        assert each["accepted"] == facts[each["fact"]]["accepted"]
        assert not _says(each["question"], each["accepted"])


def test_the_readme_counts_what_is_there() -> None:
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    longer = sum(len(row["messages"]) > 2 for row in TRAIN)
    for promised in (
        f"| `train.jsonl` | {len(TRAIN)} |",
        f"{longer} rows have two or three turns",
        f"| `test.jsonl` | {len(TEST)} |",
        f"{len(FACTS)} facts",
    ):
        assert promised in readme
