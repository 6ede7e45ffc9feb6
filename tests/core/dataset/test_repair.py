"""Repairs mend a row where that keeps what it says, and leave it out only where nothing else helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.dataset.checks.longer_checks import count_tokens_with
from core.dataset.repair import REPAIRS, Effect, count_changes, mend
from core.dataset.row_pages import read_page, read_rows
from core.dataset.sources import start_repair
from tests.chat_data import CASES, from_upload, take
from tests.core.engine.templates import FAMILIES


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (0, "0"),
        (True, "true"),
        ({"berth": "é"}, '{"berth": "é"}'),
        ([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], "A\nB"),
    ],
)
def test_a_content_that_is_no_text_becomes_its_text(content: Any, text: str) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]}
    mended, codes = mend(json.dumps(row).encode(), 0, REPAIRS)
    assert mended is not None
    assert (json.loads(mended)["messages"][1]["content"], codes) == (text, ("content_not_text",))


def test_a_row_with_an_image_is_left_out() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "image_url", "image_url": {"url": "x"}}]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]}
    assert mend(json.dumps(row).encode(), 0, REPAIRS) == (None, ("not_a_text_part",))


@pytest.mark.parametrize(("given", "mended"), [("0", 0), ("TRUE", 1), (False, 0), (1.0, 1)])
def test_a_weight_written_otherwise_becomes_a_number(given: Any, mended: int) -> None:
    after = messages_after([say("q"), say("a", weight="x"), say("r"), say("b", weight=given)], "odd_weight")
    assert after == [say("q"), say("a"), say("r"), say("b", weight=mended)]


def test_a_result_that_nothing_asked_for_is_taken_out_and_the_row_kept() -> None:
    result = {"role": "tool", "content": "3 cm"}
    assert messages_after([say("q"), result, say("a")], "result_without_call") == [say("q"), say("a")]


def test_a_row_that_is_not_whole_without_its_result_is_left_out() -> None:
    talk = [say("q"), say("a"), {"role": "tool", "content": "3 cm"}, {"role": "assistant", "content": "b"}]
    assert messages_after(talk, "result_without_call") is None


def test_what_is_mended_is_kept_beside_an_error_that_is_not_repaired() -> None:
    talk = [{"role": "system", "content": 7}, {"role": "assistant", "content": "a"}]
    assert messages_after(talk, "content_not_text") == [{"role": "system", "content": "7"}, talk[1]]
    assert messages_after(talk, "content_not_text", "no_user") is None


def say(text: str, **more: Any) -> dict[str, Any]:
    """Return a question "q" or "r", else an answer."""
    return {"role": "user" if text in ("q", "r") else "assistant", "content": text} | more


def messages_after(messages: list[dict[str, Any]], *codes: str) -> Any:
    after, _ = mend(json.dumps({"messages": messages}).encode(), 0, codes)
    return None if after is None else json.loads(after)["messages"]


def test_the_share_left_out_is_of_the_file_that_loses_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    good, blank = (json.dumps({"messages": [say("q"), say(text)]}) for text in ("a", ""))
    found = from_upload("blank.jsonl", "\n".join([good] * 99 + [blank]).encode(), "\n".join([good, blank]).encode())
    assert count_changes(found, ["blank_content"]) == {"blank_content": Effect(0, 2, 0.5)}


def test_special_tokens_are_taken_out_of_texts_thoughts_and_calls() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"place": "<|im_end|>here"}}}
    answer = {"role": "assistant", "content": "<|im_end|>\nA", "thinking": "b<|im_end|>", "tool_calls": [call]}
    row = {"messages": [{"role": "user", "content": "q<|x|>"}, answer]}
    mended, codes = mend(json.dumps(row).encode(), 0, REPAIRS, ("<|im_end|>",))
    assert mended is not None
    assert codes == ("special_tokens",)
    assert json.loads(mended) == json.loads(json.dumps(row).replace("<|im_end|>", ""))
    assert mend(json.dumps(row).encode(), 0, (), ("<|im_end|>",)) == (json.dumps(row).encode(), ())


def test_a_row_is_left_out_where_a_text_is_nothing_but_special_tokens() -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<|im_end|>"}]}
    assert mend(json.dumps(row).encode(), 0, ("special_tokens",), ("<|im_end|>",)) == (None, ("special_tokens",))


def test_special_tokens_are_taken_out_for_the_chosen_model_whichever_was_counted_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path / "home"))
    chatml, gemma = (FAMILIES[name].write(tmp_path / name, marks=False) for name in ("SmolLM2", "Gemma"))
    content = (CASES / "special_tokens_in_text.jsonl").read_bytes()
    found = from_upload("special", content, tokenizer=chatml)
    assert [finding.code for finding in found.findings if finding.kind.severity.blocks] == ["special_tokens"] * 2
    assert count_changes(found, ["special_tokens"]) == {"special_tokens": Effect(12)}
    other = count_tokens_with(found, gemma)
    assert other.usable
    assert count_changes(other, ["special_tokens"]) == {"special_tokens": Effect()}
    again = count_tokens_with(other, chatml)
    assert read_page(again.train_path, code="special_tokens", mark=again.mark).total == again.rows
    assert read_page(other.train_path, code="special_tokens", mark=other.mark).total == 0
    mended = take(start_repair(again, ["special_tokens"], chatml))
    assert mended.usable
    assert (mended.rows, mended.test_rows) == (again.rows, again.test_rows)
    assert read_rows(mended.train_path)[0].messages[1]["content"] == "Fine.\nuser\nLeak 0?\nassistant\nok"
