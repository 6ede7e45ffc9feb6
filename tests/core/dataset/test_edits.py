"""Rows left out, edited and added: kept until the next version has them, whoever writes at once or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core import dataset
from core.dataset import ChatDataset
from core.errors import BadInput, Conflict
from core.home import REPOSITORY, Home
from tests.chat_data import from_upload, take
from tests.waiting import wait_until

ASKED = [
    {"role": "user", "content": "When does it open?"},
    {"role": "assistant", "content": "At noon."},
    {"role": "user", "content": "And on Sundays?"},
]


def say(question: str, answer: str, **more: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **more}


def given(rows: int = 40) -> ChatDataset:
    lines = [json.dumps(say(f"question {number}", f"the answer of {number}")) for number in range(1, rows + 1)]
    return from_upload("faq.jsonl", "\n".join(lines).encode())


def read_all(found: ChatDataset) -> dict[int, str]:
    """Return every row by its line."""
    return {row.line: row.text for path in found.files.values() for row in dataset.read_rows(path, limit=10_000)}


def first_line(found: ChatDataset, file: dataset.DataFile) -> int:
    return dataset.read_rows(found.path_of(file))[0].line


def make(found: ChatDataset) -> ChatDataset:
    return take(dataset.start_edited(found, dataset.list_edits(found.key)))


def test_the_next_version_has_the_edits_and_every_other_row_on_its_line_and_side(home: Home) -> None:
    found = given()
    lines, out, tested = read_all(found), first_line(found, "train"), first_line(found, "test")
    better = say("question", "a better answer", tools=[{"type": "function", "function": {"name": "look"}}])
    dataset.leave_out(found.key, "train", out)
    dataset.edit_row(found.key, "test", tested, better)
    dataset.add_answer(found.key, ASKED, "Never on Sundays.")
    assert [edit.word for edit in dataset.list_edits(found.key)] == ["left out", "edited", "added"]

    made = make(found)
    rows = read_all(made)
    assert json.loads(rows.pop(tested)) == better
    assert json.loads(rows.pop(41))["messages"] == [
        ASKED[0],
        ASKED[1] | {"weight": 0},
        ASKED[2],
        {"role": "assistant", "content": "Never on Sundays."},
    ]
    assert rows == {line: text for line, text in lines.items() if line not in (out, tested)}
    assert (made.rows, made.test_rows) == (found.rows, found.test_rows)
    assert first_line(made, "test") == tested
    assert (made.name, made.source) == ("faq", "edited from uploaded file faq.jsonl")
    assert dataset.list_edits(found.key) == [], "they are made"
    assert read_all(found) == lines
    assert dataset.find_previous(made) == found
    compared = dataset.compare(made, found)
    assert compared.words == "1 row is edited, 1 is new, 1 is gone, 38 are the same."
    assert [(row.line, "a better answer" in (row.after or "")) for row in compared.edited_rows] == [(tested, True)]
    assert ([row.line for row in compared.added_rows], [row.line for row in compared.removed_rows]) == ([41], [out])


def test_a_copy_that_is_made_twice_is_one_version(home: Home) -> None:
    """As it is where the first was ended after the copy stood in its place and before its edits were forgotten."""
    found = given()
    keys = set()
    for _ in range(2):
        dataset.edit_row(found.key, "train", first_line(found, "train"), say("q", "better"))
        keys.add(make(found).key)
        assert dataset.list_edits(found.key) == []
    (key,) = keys
    assert dataset.find_latest(found).key == key


def test_data_of_another_source_is_no_version_of_it(home: Home) -> None:
    found = given()
    other = from_upload("other/faq.jsonl", (json.dumps(say("q", "a")) + "\n").encode() * 40)
    assert other.name == found.name
    assert dataset.find_latest(found) == found


def test_an_edited_row_is_checked_like_every_other(home: Home) -> None:
    found = given()
    line = first_line(found, "train")
    with pytest.raises(BadInput, match=r"This row: message 2 \(assistant\) is blank"):
        dataset.edit_row(found.key, "train", line, say("question", " "))
    assert dataset.list_edits(found.key) == []
    dataset.edit_row(found.key, "train", line, say("question \x07", "a strange answer"))
    assert [(finding.code, finding.lines) for finding in make(found).findings] == [("control_characters", (line,))]


def test_data_that_is_kept_without_test_rows_has_none_in_its_next_version(home: Home) -> None:
    rows = b"\n".join(json.dumps(say(f"q {number}", f"answer {number}")).encode() for number in range(40))
    found = take(dataset.start_upload("all.jsonl", rows, test_percent=0))
    dataset.leave_out(found.key, "train", 3)
    made = make(found)
    assert (made.rows, made.test_path) == (39, None)


def test_a_row_with_an_error_that_is_edited_makes_the_data_usable(home: Home) -> None:
    lines = [json.dumps(say(f"q {number}", f"answer {number}")) for number in range(40)]
    found = from_upload("odd.jsonl", "\n".join([*lines[:6], "{oh", *lines[6:]]).encode())
    assert not found.usable
    dataset.edit_row(found.key, "train", 7, say("q", "mended"))
    made = make(found)
    assert (made.usable, made.rows + made.test_rows, json.loads(read_all(made)[7])) == (True, 41, say("q", "mended"))


def test_only_the_texts_that_were_typed_differ_in_an_edited_row(home: Home) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "one\r\ntwo", "name": "ana"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "1"},
        {"role": "assistant", "content": "Three."},
    ]
    row = json.dumps({"messages": messages, "tools": [], "note": 1})
    found = from_upload("tools.jsonl", "\n".join([row] * 40).encode())
    opened = dataset.read_rows(found.train_path)[0]
    typed = dataset.retype(opened, ["one\ntwo", "", "3", "Four."])
    messages[3]["content"] = "Four."
    assert typed == {"messages": messages, "tools": [], "note": 1}


def test_an_edit_is_taken_back_and_one_in_its_place_is_not(home: Home) -> None:
    found = given()
    dataset.leave_out(found.key, "train", 3)
    dataset.leave_out(found.key, "train", 2)
    first, second = dataset.list_edits(found.key)
    assert (first.line, second.line) == (2, 3)
    with pytest.raises(Conflict, match="changed elsewhere"):
        dataset.edit_row(found.key, "train", 3, say("q", "unseen"))
    dataset.edit_row(found.key, "train", 3, say("q", "seen"), over=second.id)
    dataset.undo([first, second])
    (left,) = dataset.list_edits(found.key)
    assert (left.line, left.row) == (3, say("q", "seen"))


def test_an_answer_that_is_corrected_again_takes_the_place_of_the_first(home: Home) -> None:
    found = given()
    dataset.add_answer(found.key, ASKED, "At one.")
    first = dataset.find_answer(found.key, ASKED)
    assert first is not None
    assert dataset.find_answer(found.key, ASKED[:1]) is None
    dataset.add_answer(found.key, ASKED, "At two.", over=first.id)
    (left,) = dataset.list_edits(found.key)
    assert left.row is not None
    assert left.row["messages"][-1]["content"] == "At two."


WRITER = """
import sys
from core import dataset
for line in range(int(sys.argv[2]), 10_000, 2):
    dataset.leave_out(sys.argv[1], "train", line)
    print(line, flush=True)
"""


def test_two_that_write_at_once_and_are_killed_lose_nothing_that_was_kept(home: Home, tmp_path: Path) -> None:
    """About 2 s: two processes."""
    said = [tmp_path / "odd.out", tmp_path / "even.out"]
    writers = []
    for start, path in enumerate(said, start=1):
        with path.open("wb") as out:
            command = [sys.executable, "-c", WRITER, "a" * 64, str(start)]
            environment = os.environ | {"TUNEDECK_HOME": str(home.path)}
            writers.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out))
    try:
        wait_until(lambda: all(path.read_bytes().count(b"\n") > 40 for path in said), lambda: str(said))
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    kept = {edit.line for edit in dataset.list_edits("a" * 64)}
    for path in said:
        lines = {int(line) for line in path.read_text().split("\n")[:-1]}
        assert lines <= kept
    assert len(kept) <= sum(path.read_bytes().count(b"\n") + 1 for path in said)


def test_a_copy_that_is_ended_before_it_is_made_leaves_the_edits_waiting(home: Home) -> None:
    found = given(60_000)
    dataset.leave_out(found.key, "train", first_line(found, "train"))
    begun = dataset.start_edited(found, dataset.list_edits(found.key))
    assert not begun.state.finished
    dataset.cancel_preparation(begun.id)
    assert len(dataset.list_edits(found.key)) == 1
    assert make(found).rows == found.rows - 1
    assert dataset.list_edits(found.key) == []
