"""Rows are filtered by length, turns, role and finding, sorted, and searched in that order."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from core import dataset
from core.dataset import row_index
from core.dataset.checks.file_check import check_file
from core.dataset.checks.scan import scan_file
from core.dataset.forms.message_reading import ROLES
from core.dataset.report import Report
from core.dataset.row_pages import EVERY_ROW, Kept, Order, has_turns, read_page
from core.home import Home

SYSTEM, TOOL = {"role": "system", "content": "Be short."}, {"role": "tool", "content": "12"}


def row(*texts: str, before: tuple[Any, ...] = (), after: tuple[Any, ...] = ()) -> str:
    roles = ("user", "assistant") * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return json.dumps({"messages": [*before, *said, *after]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six rows: the third has four messages, the fourth is no JSON, the fifth has a tool's, the second a system's."""
    path = tmp_path / "x.jsonl"
    lines = [
        row("one", "a" * 50),
        row("two", "b" * 10, before=(SYSTEM,)),
        row("three", "c" * 30, "and then", "d" * 30),
        '{"messages": [',
        row("five", "e" * 20, after=(TOOL, {"role": "assistant", "content": "done"})),
        row("one", "a" * 50),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    check_file(path)
    return path


@pytest.mark.parametrize(
    ("kept", "lines"),
    [
        (EVERY_ROW, [1, 2, 3, 4, 5, 6]),
        (Kept(order="longest"), [3, 1, 6, 5, 2, 4]),
        (Kept(order="shortest"), [2, 5, 1, 6, 3, 4]),
        (Kept(order="most turns"), [3, 5, 2, 1, 6, 4]),
        (Kept(order="fewest turns"), [1, 6, 2, 3, 5, 4]),
        (Kept(lengths=(30, 60)), [1, 5, 6]),
        (Kept(lengths=(0, 60)), [1, 2, 5, 6]),
        (Kept(lengths=(60, 0)), [3]),
        (Kept(turns=(3, 0)), [2, 3, 5]),
        (Kept(turns=(3, 3), order="longest"), [2]),
        (Kept(role="system"), [2]),
        (Kept(role="tool"), [5]),
        (Kept(turns=(9, 0)), []),
    ],
)
def test_rows_are_kept_and_sorted(path: Path, kept: Kept, lines: list[int]) -> None:
    page = read_page(path, kept=kept)
    assert [row.line for row in page.rows] == lines
    assert page.total == len(lines)
    paged = [row.line for at in range(0, 6, 2) for row in read_page(path, at, 2, kept=kept).rows]
    assert paged == lines


@pytest.mark.parametrize(("order", "lines"), [("place", [1, 6]), ("longest", [1, 6]), ("fewest turns", [1, 6])])
def test_a_search_keeps_to_the_rows_and_the_order(path: Path, order: Order, lines: list[int]) -> None:
    kept = Kept(turns=(2, 2), order=order)
    page = read_page(path, text="AAA", kept=kept)
    assert ([row.line for row in page.rows], page.total) == (lines, 2)
    first = read_page(path, 0, 1, text="AAA", kept=kept)
    assert first.next is not None
    assert [row.line for row in read_page(path, first.next, 1, text="AAA", kept=kept).rows] == lines[1:]
    assert read_page(path, text="AAA", code="duplicate", kept=kept).total == 1
    assert read_page(path, text="AAA", kept=Kept(role="tool", order=order)).total == 0


def test_turns_are_counted_for_each_row_and_not_known_where_an_earlier_version_left_none(path: Path) -> None:
    turns = row_index.read_turns(path)
    assert turns is not None
    assert turns["turns"].tolist() == [2, 3, 4, 0, 4, 2]
    assert [[name for at, name in enumerate(ROLES) if bits >> at & 1] for bits in turns["roles"][[1, 4]]] == [
        ["system", "user", "assistant"],
        ["user", "assistant", "tool"],
    ]
    row_index.turns_path(path).unlink()
    assert not has_turns(path)
    assert [row.line for row in read_page(path, kept=Kept(order="longest")).rows] == [3, 1, 6, 5, 2, 4]


def test_a_page_of_a_large_file_comes_within_300_ms_however_it_is_chosen(tmp_path: Path) -> None:
    """About 1 s: 100,000 rows."""
    path = tmp_path / "large.jsonl"
    path.write_text("\n".join(row(f"q{at}", "word " * (at % 40)) for at in range(1, 100_001)), encoding="utf-8")
    scan_file(path)
    took = []
    for asked in ({}, {"text": "q777"}, {"text": "nowhere"}):
        for kept in (Kept(order="longest"), Kept(lengths=(9, 99), turns=(2, 2), order="shortest")):
            begun = time.process_time()
            read_page(path, 500, kept=kept, **asked)
            took.append(time.process_time() - begun)
    assert numpy.max(took) < 0.3, took


def test_what_a_cut_does_is_said_of_one_row_and_of_several(home: Home) -> None:
    texts = ["a" * 400, *("short" for _ in range(20))]
    begun = dataset.start_upload("cut.jsonl", "\n".join(row(f"q{at}", text) for at, text in enumerate(texts)).encode())
    assert begun.dataset is not None
    unit = begun.dataset.stats.length_unit
    (one,) = dataset.list_length_findings(begun.dataset, 100)
    assert one.example == f"1 row is cut at 100 {unit}: 1 is lost."
    (most,) = dataset.list_length_findings(begun.dataset, 1)
    assert most.example.startswith(f"{begun.dataset.rows} rows are cut at 1 {unit}: ")
    assert most.example.endswith(" are lost.")
    assert dataset.list_length_findings(begun.dataset, -1) == ()


def test_rows_of_a_file_whose_lines_mean_nothing_are_named_as_rows(home: Home) -> None:
    begun = dataset.start_upload("broken.jsonl", "\n".join([row("a", "b"), "{", "{", *[row("c", "d")] * 9]).encode())
    assert begun.dataset is not None
    assert begun.dataset.words == "Fix 2 errors first. Line 2 is the first."
    report = Report.from_json(replace(begun.dataset.train, unit="row").to_json())
    assert report.words == "Fix 2 errors first. Row 2 is the first."
    assert replace(begun.dataset, train=report).unit_of("test") == "row"


def test_calls_thoughts_and_results_are_shown_beside_what_is_said(tmp_path: Path) -> None:
    def call(arguments: Any) -> dict[str, Any]:
        return {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": arguments}}

    answer = {"role": "assistant", "content": "Wait.", "reasoning_content": "When?", "tool_calls": [call({"hour": 14})]}
    silent = {"role": "assistant", "content": None, "tool_calls": [call('{"place": "Hafen"}'), call("no JSON")]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "3 cm"}
    path = tmp_path / "x.jsonl"
    path.write_text(row("q", "a", after=(answer, result, silent)), encoding="utf-8")
    check_file(path)
    [found] = read_page(path).rows
    assert found.messages[2:] == (
        {"role": "assistant", "content": "Wait.", "thought": "When?", "calls": "tide(hour=14)"},
        {"role": "tool", "content": "3 cm", "tool": "tide"},
        {"role": "assistant", "content": "", "calls": 'tide(place="Hafen")\ntide(no JSON)'},
    )
    for text in ("wait", "when?", "tide", "hafen"):
        assert read_page(path, text=text).total == 1, text
