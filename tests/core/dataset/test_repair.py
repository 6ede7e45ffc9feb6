"""Repairs mend a row where that keeps what it says, and leave it out only where nothing else helps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.dataset.repair import REPAIRS, mend


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
