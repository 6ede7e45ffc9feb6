"""Files that are not JSON Lines are read as they were meant, and findings name the lines of the operator's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import dataset
from core.dataset import ChatDataset
from core.home import Home
from tests.chat_data import from_upload

CASES = Path(__file__).parents[2] / "data" / "chat"


def upload(name: str) -> ChatDataset:
    return from_upload(name, (CASES / name).read_bytes())


def rows_by_line(found: ChatDataset) -> dict[int, str]:
    """Return the text of each row of both files, by its line."""
    rows = [row for path in found.files.values() for row in dataset.read_rows(path, limit=1000)]
    return {row.line: row.text for row in sorted(rows, key=lambda row: row.line)}


def test_the_objects_of_a_list_over_several_lines_are_on_the_lines_where_they_begin(home: Home) -> None:
    given = (CASES / "line_numbers_pretty.json").read_text(encoding="utf-8").splitlines()
    rows = rows_by_line(upload("line_numbers_pretty.json"))
    assert list(rows) == [at for at, line in enumerate(given, start=1) if line == "  {"]


def test_a_first_line_that_says_the_delimiter_is_no_header(home: Home) -> None:
    found = upload("sep_line.csv")
    rows = rows_by_line(found)
    assert found.usable
    assert min(rows) == 3
    assert [one["content"] for one in json.loads(rows[3])["messages"]] == ["Is berth 0 free?", "Yes, 0."]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_inside_of_an_object_is_read(home: Home, indent: int | None) -> None:
    whole = json.loads((CASES / "wrapped_list.json").read_text(encoding="utf-8"))
    found = from_upload("wrapped_list.json", json.dumps(whole, indent=indent).encode())
    rows = rows_by_line(found)
    assert len(rows) == len(whole["data"])
    assert [json.loads(row)["messages"][0]["content"] for row in rows.values()] == [
        row["prompt"] for row in whole["data"]
    ]
    assert list(rows)[:2] == ([1, 2] if indent is None else [4, 8])


def test_a_delimiter_inside_of_a_quoted_header_does_not_count(home: Home) -> None:
    lines = ['"prompt";"completion"', *(f'"a, b, {n}";"c, d, {n}"' for n in range(12))]
    rows = rows_by_line(from_upload("faq.csv", "\n".join(lines).encode()))
    assert [one["content"] for one in json.loads(rows[2])["messages"]] == ["a, b, 0", "c, d, 0"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trailing_commas.jsonl", "lines had a comma too many."),
        ("pretty_printed.jsonl", "objects were written over several lines."),
        ("bom_in_the_middle.jsonl", "1 line held a byte order mark."),
    ],
)
def test_lines_that_are_not_quite_json_are_read_and_it_is_said(home: Home, name: str, said: str) -> None:
    given = (CASES / name).read_text(encoding="utf-8").splitlines()
    found = upload(name)
    assert found.usable
    assert list(rows_by_line(found)) == [at for at, line in enumerate(given, 1) if line.lstrip("\ufeff")[:1] == "{"]
    assert any(said in finding.example for finding in found.findings if finding.code == "mended_file")
