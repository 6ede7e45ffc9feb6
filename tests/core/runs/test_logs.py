"""What is found in a log."""

from __future__ import annotations

from core.runs.logs import Level, find_lines

LOG = """12:00:00 loading
12:00:01 UserWarning: padding is slow
Traceback (most recent call last):
  File "train.py", line 3
    step()
ValueError: not a number
12:00:02 0 errors so far
12:00:03 mirrored""".splitlines()


def numbers(search: str, level: Level) -> list[int]:
    return [number for number, _ in find_lines(LOG, search, level)]


def test_lines_are_found_by_what_they_hold_and_by_their_level() -> None:
    assert numbers("", Level.ALL) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers("TRAIN", Level.ALL) == [4]
    assert numbers("", Level.WARNINGS) == [2, 3, 4, 5, 6]
    assert numbers("", Level.ERRORS) == [3, 4, 5, 6]  # what is indented belongs to the line above it
    assert numbers("step", Level.ERRORS) == [5]
