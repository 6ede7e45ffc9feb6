"""A row of a table that cannot be read is a finding on its line, and the rest is read."""

from __future__ import annotations

import csv
import io
import random
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.dataset import ChatDataset
from core.dataset.files.csv_reader import read_table
from core.dataset.files.file_formats import convert
from core.dataset.preparation import preview_lines
from core.dataset.progress import Meter, Progress
from core.errors import BadInput
from core.home import Home
from tests.chat_data import from_upload

GOOD = [f"question {n},answer {n}" for n in range(20)]


def take(home: Home, lines: list[str] | bytes, name: str = "faq.csv") -> ChatDataset:
    content = lines if isinstance(lines, bytes) else ("\n".join(["question,answer", *lines]) + "\n").encode()
    return from_upload(name, content)


def findings(found: ChatDataset) -> list[tuple[str, tuple[int, ...], str]]:
    return [(one.code, one.lines, one.example) for one in found.findings]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("q,a,more", "Line 5 has 3 fields; the header has 2."),
        ("q", "Line 5 has 1 field; the header has 2."),
        ('q,"a', "Line 5 cannot be read: a double quote stands inside a field; inside quotes it is written twice."),
        ('q,"a"b', "Line 5 cannot be read: a double quote stands inside a field; inside quotes it is written twice."),
    ],
)
def test_a_bad_row_is_told_on_its_line_and_the_others_are_read(home: Home, bad: str, said: str) -> None:
    quoted = [f'"question {n}","answer {n}"' for n in range(20)]
    found = take(home, [*quoted[:3], bad, *quoted[3:]])
    assert not found.usable
    assert findings(found) == [("bad_table_row", (5,), said)]
    assert found.rows == 21
    row = dataset.find_row(found.train_path, 4)
    assert row is not None
    assert row.messages[0]["content"] == "question 2", "rows stand on the lines of the file"
    started = dataset.start_repair(found)
    assert started.dataset is not None
    assert (started.dataset.usable, started.dataset.rows + started.dataset.test_rows) == (True, 20)


def test_a_quote_that_is_never_closed_costs_its_line_alone(home: Home) -> None:
    found = take(home, [*GOOD[:3], 'q,"a', *GOOD[3:]])
    assert findings(found) == [("bad_table_row", (5,), "Line 5 cannot be read: a closing double quote is missing.")]
    assert found.rows == 21


def test_a_row_that_is_not_utf8_is_told_too(home: Home) -> None:
    content = "\n".join(["question,answer", *GOOD, "où,là"]).encode().replace(b"answer 7", b"answer \xe9")
    found = take(home, content)
    assert findings(found) == [("bad_table_row", (9,), "Line 9 is not UTF-8 text: byte 0xe9.")]


def test_rows_of_several_lines_keep_the_numbers_of_those_after_them(home: Home) -> None:
    found = take(home, ['"question\nof three\nlines","an ""answer"""', "", *GOOD, "q,a,b"])
    assert findings(found) == [("bad_table_row", (26,), "Line 26 has 3 fields; the header has 2.")]
    first = dataset.find_row(found.train_path, 2)
    assert first is not None
    assert [one["content"] for one in first.messages] == ["question\nof three\nlines", 'an "answer"']
    preview = preview_lines([b"", b'{"question": "q", "answer": "a"}', b"", b"[]"])
    assert [row.line for row in preview.rows] == [2, 4]


def test_a_table_without_errors_leaves_no_blank_lines(home: Home) -> None:
    rows = "\n".join(["question,answer", *(f'"q\n{n}",a{n}' for n in range(20))]).encode()
    given = dataset.start_upload("faq.csv", rows, b"question,answer\n1,2\n").dataset
    assert given is not None
    assert (given.usable, given.rows, given.test_rows) == (True, 20, 1)
    assert given.train_path.read_bytes().count(b"\n") == 20
    assert [row.line for row in dataset.read_rows(given.train_path, 18, 2)] == [38, 40]


def test_quotes_that_swallow_everything_end_in_a_sentence_and_soon(tmp_path: Path) -> None:
    """About 2 s: each line ends inside a quote, so each would have all that follow read again."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + 'x","a\n' * 200_000, encoding="utf-8")
    begun = time.monotonic()
    with pytest.raises(BadInput, match="its double quotes do not belong together"):
        for _ in read_table(path, ","):
            pass
    assert time.monotonic() - begun < 20


def test_random_tables_give_the_rows_that_the_csv_module_wrote(tmp_path: Path) -> None:
    chance = random.Random(20_261_125)
    cells = ["a", '"', "\n", ",", "é", " ", "\r\n", "x,y", ""]
    for _ in range(100):
        rows = [["".join(chance.choices(cells, k=chance.randint(0, 4))) for _ in range(2)] for _ in range(12)]
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerows([["q", "a"], *rows])
        path = tmp_path / "x.csv"
        path.write_text(out.getvalue(), encoding="utf-8", newline="")
        read = list(read_table(path, ","))
        assert [[row["q"], row["a"]] for _, row in read] == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_table_says_of_how_many_lines_it_has_converted_how_many(tmp_path: Path, end: str, closed: bool) -> None:
    rows = [{"question": f"q{n}", "answer": f"a{n}" if n % 3 else f"a\n{n}"} for n in range(2500)]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["question", "answer"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    table, columns = tmp_path / "faq.csv", tmp_path / "faq.parquet"
    written = text.getvalue().replace("\n", end)
    table.write_bytes((written if closed else written.removesuffix(end)).encode())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), columns)
    lines = text.getvalue().count("\n")
    for path, total, done in ((table, lines, [2, 1336, 2669]), (columns, 2500, [1, 1001, 2001])):
        heard: list[Progress] = []
        convert(path, path.name, Meter(heard.append, period_s=0))
        assert [(now.rows, now.total_rows) for now in heard] == [(at, total) for at in done]
        assert path.read_bytes().count(b"\n") == 2500
