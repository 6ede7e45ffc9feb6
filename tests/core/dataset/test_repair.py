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
