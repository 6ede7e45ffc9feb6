"""What is no problem here counts no more, is kept with the data, and its next versions take it over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core import dataset
from core.dataset import ChatDataset, Finding
from core.dataset.findings import ERROR_FLAGS, JUDGED, KINDS, Severity, flag
from core.errors import BadInput


def say(question: str, answer: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


def make(name: str, *lines: str) -> ChatDataset:
    """Check 20 good rows and these; row 21 on is the copy of the first where "copy" is among the lines."""
    rows = [say(f"question {number}", f"answer {number}") for number in range(20)]
    begun = dataset.start_upload(name, "\n".join([*rows, *lines]).encode(), say("x", "y").encode())
    assert begun.dataset is not None
    return begun.dataset


COPY = say("question 0", "answer 0")


def test_a_group_that_is_set_aside_counts_no_more_until_it_is_taken_back(home: Path) -> None:
    found = make("copies.jsonl", COPY, COPY)
    assert found.warnings == 2
    dataset.put_aside(found.folder, "duplicate", "train")
    now = dataset.find_dataset(found.key)
    assert now is not None
    assert (now.warnings, [now.is_set_aside(finding) for finding in now.findings]) == (0, [True])
    assert dataset.count_rows(now, now.findings) == 2
    assert now == found.look_again()
    dataset.take_back(found.folder, "duplicate", "train")
    assert found.look_again().warnings == 2


def test_what_is_set_aside_holds_for_one_file_alone(home: Path) -> None:
    begun = dataset.start_upload(
        "both.jsonl",
        "\n".join([*(say(f"question {number}", "a") for number in range(20)), say("question 0", "a")]).encode(),
        "\n".join([say("other", "b"), say("other", "b")]).encode(),
    )
    found = begun.dataset
    assert found is not None
    assert found.warnings == 2
    dataset.put_aside(found.folder, "duplicate", "test")
    assert found.look_again().warnings == 1
    assert [(finding.file, found.look_again().is_set_aside(finding)) for finding in found.findings] == [
        ("train", False),
        ("test", True),
    ]


def test_the_next_version_and_a_repaired_copy_take_it_over_and_other_data_does_not(home: Path) -> None:
    first = make("orders.jsonl", COPY)
    dataset.put_aside(first.folder, "duplicate", "train")
    second = make("orders.jsonl", COPY, COPY)
    assert (second.key != first.key, second.warnings) == (True, 0)
    other = make("others.jsonl", COPY, COPY, COPY)
    assert other.warnings == 3
    broken = make("orders.jsonl", COPY, "{")
    assert (broken.warnings, broken.errors) == (0, 1)
    repaired = dataset.start_repair(broken, ["not_json"]).dataset
    assert repaired is not None
    assert (repaired.usable, repaired.warnings, repaired.rows) == (True, 0, 21)


def test_what_breaks_a_run_cannot_be_set_aside(home: Path) -> None:
    found = make("broken.jsonl", "{")
    with pytest.raises(BadInput, match="'Not JSON' cannot be set aside"):
        dataset.put_aside(found.folder, "not_json", "train")
    assert not found.look_again().usable


def test_an_error_that_is_a_judgement_blocks_until_it_is_set_aside(home: Path) -> None:
    found = make("judged.jsonl")
    judged = replace(found, train=found.train.with_findings([Finding("no_user", "", 1, (3,))]))
    assert (judged.usable, judged.words) == (False, "Fix 1 error first.")
    dataset.put_aside(found.folder, "no_user", "train")
    assert (judged.look_again().usable, judged.look_again().words) == (True, "")


def test_errors_that_are_a_judgement_leave_their_rows_readable() -> None:
    assert all(KINDS[code].severity is Severity.ERROR for code in JUDGED)
    assert not ERROR_FLAGS & flag(*JUDGED)
    assert all(dataset.may_be_set_aside(code) for code in JUDGED)
    assert not dataset.may_be_set_aside("too_few_rows")


def test_rows_of_two_groups_count_once(home: Path) -> None:
    found = make("both.jsonl", COPY)
    groups = [*found.findings, Finding("too_long", "", 21, (1,)), Finding("mended_file", "")]
    assert [finding.code for finding in found.findings] == ["duplicate"]
    assert dataset.count_rows(found, groups, 1) == 21


def test_rows_of_an_error_that_is_set_aside_are_shown_and_counted(home: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    unasked = {
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hello there."}]
    }
    calling = [{"role": "user", "content": "Look."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    calling += [{"role": "tool", "tool_call_id": "1", "content": "3"}, {"role": "assistant", "content": "Three."}]
    found = make("unasked.jsonl", json.dumps(unasked), json.dumps({"messages": calling, "tools": []}))
    judged = {finding.code for finding in found.findings if finding.kind.severity is Severity.ERROR}
    assert {"no_user"} <= judged <= JUDGED
    assert not found.usable
    for code in judged:
        dataset.put_aside(found.folder, code, "train")
    assert found.look_again().usable
    assert [len(row.messages) for row in dataset.read_rows(found.train_path, 20, 2)] == [2, 4]
    lengths, _ = dataset.read_lengths(found.train_path, found.mark)
    assert len(lengths) == found.rows == 22
