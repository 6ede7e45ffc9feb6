"""The fast pass finds what the slow reading of each line finds, wherever lines lie in its blocks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.dataset import row_index
from core.dataset.checks.file_check import check_file
from core.dataset.checks.line_check import check_line
from core.dataset.checks.scan import BLOCK, MAX_LINE, flags_of, scan_file
from core.dataset.findings import flag
from core.dataset.row_pages import read_rows

VALUES: Any = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=4), lambda inner: some.lists(inner, max_size=3)
)
TEXTS: Any = some.sampled_from(["nan", "\u200b", " ", "x", "Is this an echo?"]) | some.text(max_size=8)
EXTRA: Any = {
    "weight": some.sampled_from([0, 1, 0.5]),
    "mood": some.none() | some.just("glad"),
    "tool_calls": some.just([{"function": {"name": "tide", "arguments": "{}"}}]),
}
ROLES: Any = some.sampled_from(["user", "assistant", "system", "tool", "human", ""]) | VALUES
MESSAGES: Any = some.fixed_dictionaries({"role": ROLES, "content": TEXTS | VALUES}, optional=EXTRA)
ROWS: Any = some.fixed_dictionaries({"messages": some.lists(MESSAGES | VALUES, max_size=5) | VALUES}) | VALUES
GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def flags_by_line(raw: bytes) -> int:
    return flags_of(*check_line(1, raw))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=some.lists(ROWS | some.just(GOOD), min_size=1, max_size=12), escaped=some.booleans())
def test_the_fast_pass_and_the_slow_one_agree_on_every_row(tmp_path: Path, rows: list[Any], escaped: bool) -> None:
    """About 2 s: 150 files."""
    lines = [json.dumps(row, ensure_ascii=escaped).encode("utf-8", "surrogatepass") for row in rows]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert scan_file(path).rows == len(rows)
    assert row_index.read(path)["flags"].tolist() == [flags_by_line(line) for line in lines]


def test_lines_of_every_length_lie_where_the_table_says(tmp_path: Path) -> None:
    chance = random.Random(99)
    sizes = [
        10,
        300,
        BLOCK - 90,
        BLOCK,
        2 * BLOCK - 80,
        3 * BLOCK + 7,
        40,
        *(chance.randrange(5000) for _ in range(300)),
    ]
    wanted = [f"{number} " + "é" * (size // 2) for number, size in enumerate(sizes)]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": text}, GOOD["messages"][1]]}, ensure_ascii=False)
        for text in wanted
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(line + "\n" * chance.randint(0, 2) for line in lines), encoding="utf-8")
    check_file(path)
    assert [row.messages[0]["content"] for row in read_rows(path, 0, 1000)] == wanted
    whole = path.read_bytes().split(b"\n")
    assert [whole[int(line) - 1] for line in row_index.read(path)["line"]] == [line.encode() for line in lines]


def test_a_line_too_long_to_read_is_named_and_the_next_ones_are_read(tmp_path: Path) -> None:
    """About 1 s: a line of 70 MB."""
    good = json.dumps(GOOD).encode()
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([good, b'{"a": "' + b"x" * (2 * MAX_LINE + 100), good, good]))
    scan = scan_file(path)
    assert scan.examples["line_too_long"].said() == "Line 2 is longer than 32 MiB and was not read."
    assert numpy.flatnonzero(row_index.read(path)["flags"] & numpy.uint64(flag("line_too_long"))).tolist() == [1]
    assert [(row.line, bool(row.messages)) for row in read_rows(path, 2, 5)] == [(3, True), (4, True)]
