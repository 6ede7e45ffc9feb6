"""What a label makes of text from elsewhere."""

from __future__ import annotations

import re

import pytest

from pages.parts.kit.words import plain

# What mdast-util-gfm-autolink-literal 2.0 makes links of, after escapes are undone.
LINKED = (re.compile(r"(?i)(https?://|www(?=\.))[-.\w]+"), re.compile(r"[-.\w+]+@[-\w]+(\.[-\w]+)+"))


@pytest.mark.parametrize(
    "text", ["https://evil.example/x", "HTTP://evil.example", "www.evil.example", "a@evil.example"]
)
def test_an_address_in_a_label_is_no_link(text: str) -> None:
    assert any(pattern.search(text) for pattern in LINKED)
    shown = plain(text).replace("\\", "")
    assert not any(pattern.search(shown) for pattern in LINKED)
    assert shown.replace("\u2060", "") == text
