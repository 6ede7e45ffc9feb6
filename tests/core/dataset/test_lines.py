"""A finding names the line of the operator's own file, whatever became of the rows since."""

from __future__ import annotations

import io

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.home import Home
from tests.chat_data import CASES, from_upload, take

BROKEN = {60, 80, 90, 95}  # an address, a blank message, garbled text, a copy


def lines_of(found: dataset.ChatDataset, code: str) -> list[int]:
    return sorted(line for finding in found.findings if finding.code == code for line in finding.lines)


def test_test_rows_that_were_taken_out_before_a_line_do_not_move_it(home: Home) -> None:
    found = from_upload("line_numbers.jsonl", (CASES / "line_numbers.jsonl").read_bytes())
    for code in {finding.code for finding in found.findings}:
        assert set(lines_of(found, code)) <= BROKEN, code
    assert {line for finding in found.findings for line in finding.lines} == BROKEN
    assert all(f"Line {finding.lines[0]}" in finding.example for finding in found.findings)


@pytest.mark.parametrize("file", ["train", "test"])
def test_each_row_of_both_files_is_found_by_its_own_line(home: Home, file: dataset.DataFile) -> None:
    given = (CASES / "line_numbers.jsonl").read_bytes().splitlines()
    found = from_upload("line_numbers.jsonl", b"\n\n".join(given))
    assert found.test_rows
    for row in dataset.read_rows(found.path_of(file), limit=1000):
        assert row.text.encode() == given[(row.line - 1) // 2]
        assert dataset.find_row(found.path_of(file), row.line) == row


def test_a_repaired_copy_keeps_the_lines_of_the_file_it_was_made_of(home: Home) -> None:
    given = (CASES / "line_numbers.jsonl").read_bytes().splitlines()
    doubled = b"\n".join([given[0], *given])
    found = from_upload("doubled.jsonl", doubled)
    repaired = take(dataset.start_repair(found, ["duplicate"]))
    kept = {row.line: row.text for path in repaired.files.values() for row in dataset.read_rows(path, limit=1000)}
    assert len(kept) == len(given) - 1
    assert not {2, 96} & set(kept)
    assert kept[101].encode() == given[99]


def test_the_same_rows_from_a_file_with_other_lines_are_named_by_its_lines(home: Home) -> None:
    given = (CASES / "line_numbers.jsonl").read_bytes().splitlines()
    first = from_upload("line_numbers.jsonl", b"\n".join(given))
    second = from_upload("spaced.jsonl", b"\n\n".join(given))
    assert first.key == second.key
    assert {line for finding in second.findings for line in finding.lines} == {2 * line - 1 for line in BROKEN}


def test_rows_of_a_file_without_lines_are_named_by_their_number_in_copies_too(home: Home) -> None:
    out = io.BytesIO()
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}]
    rows = [
        {"messages": turns if number in (3, 17) else [{**turns[0], "content": f"q{number}"}, turns[1]]}
        for number in range(40)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    found = from_upload("talks.parquet", out.getvalue())
    assert [finding.example for finding in found.findings if finding.code == "duplicate"] == [
        "1 row is a copy of an earlier row. Row 18 is the first."
    ]
    repaired = take(dataset.start_repair(found, ["duplicate"]))
    assert {repaired.unit_of(file) for file in repaired.files} == {"row"}
