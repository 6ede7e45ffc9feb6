from __future__ import annotations

import pytest

from core.words import duration, percent


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (41.4, "41 s"),
        (59.7, "1 min"),
        (60, "1 min"),
        (62, "1 min 2 s"),
        (3599.6, "1 h"),
        (11100, "3 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units_and_are_rounded_before_they_are_chosen(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("share", "words"), [(0.0, "0%"), (0.62, "62%"), (0.999, "99%"), (1.0, "100%")])
def test_a_share_is_whole_only_at_the_end(share: float, words: str) -> None:
    assert percent(share) == words
