"""Files that are not JSON Lines are read as they were meant, and findings name the lines of the operator's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import dataset
from core.dataset import ChatDataset, row_index
from core.dataset.files.lenient_json import mend_lines
from core.home import Home
from tests.chat_data import CASES, from_upload


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


def say(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


GOOD = [say(f"Is berth {n} free?", f"Yes, berth {n} is.") for n in range(20)]


def questions(found: ChatDataset) -> list[str]:
    """Return what each row asks, in the order of the lines."""
    rows = [row for path in found.files.values() for row in dataset.read_rows(path, limit=1000)]
    return [row.messages[0]["content"] if row.messages else row.text for row in sorted(rows, key=lambda row: row.line)]


def mended(found: ChatDataset) -> str:
    return next(finding.example for finding in found.findings if finding.code == "mended_file")


@pytest.mark.parametrize("between", ["", " ", ", "])
def test_objects_that_share_a_line_are_rows_of_that_line(home: Home, between: str) -> None:
    lines = [*GOOD[:4], between.join(GOOD[4:7]), *GOOD[7:]]
    found = from_upload("a.jsonl", "\n".join(lines).encode())
    assert found.usable
    assert sorted(questions(found)) == sorted(f"Is berth {n} free?" for n in range(20))
    assert found.unit_of("train") == "line"
    assert sorted(rows_by_line(found)) == list(range(1, 19))
    assert mended(found) == "1 line held several objects."


def test_objects_that_all_share_one_line_are_named_by_their_numbers(home: Home) -> None:
    found = from_upload("a.jsonl", " ".join(GOOD).encode())
    assert (found.usable, found.unit_of("train")) == (True, "row")
    assert sorted(rows_by_line(found)) == list(range(1, 21))


def test_lines_that_end_in_carriage_returns_are_lines(home: Home) -> None:
    found = from_upload("a.jsonl", "\r".join(GOOD).encode())
    assert found.usable
    assert rows_by_line(found) == dict(enumerate(GOOD, start=1))
    assert mended(found) == "The lines ended in carriage returns alone."


def test_rows_as_python_writes_them_are_read(home: Home) -> None:
    found = from_upload("a.jsonl", "\n".join(str(json.loads(row) | {"seen": None}) for row in GOOD).encode())
    assert found.usable
    assert {line: json.loads(row)["messages"] for line, row in rows_by_line(found).items()} == {
        line: json.loads(row)["messages"] for line, row in enumerate(GOOD, start=1)
    }
    assert mended(found) == "20 lines were written as Python writes them."


def test_a_mark_in_the_middle_is_dropped_from_the_text(home: Home) -> None:
    assert not [row for row in rows_by_line(upload("bom_in_the_middle.jsonl")).values() if "\ufeff" in row]


def test_a_list_of_messages_a_line_is_a_conversation(home: Home) -> None:
    given = (CASES / "list_of_messages_a_line.jsonl").read_text(encoding="utf-8").splitlines()
    found = upload("list_of_messages_a_line.jsonl")
    assert found.usable
    assert [json.loads(row)["messages"] for row in rows_by_line(found).values()] == [json.loads(line) for line in given]


def test_a_system_column_that_few_rows_fill_is_read_in_a_table_as_in_json(home: Home) -> None:
    table, lines = upload("system_sparse.csv"), upload("system_sparse.jsonl")
    assert table.usable
    assert [json.loads(row) for row in rows_by_line(table).values()] == [
        json.loads(row) for row in rows_by_line(lines).values()
    ]


def test_rows_that_were_moved_before_keep_their_lines_when_they_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{GOOD[0]}\n\n{GOOD[1]}{GOOD[2]}\n{GOOD[3]},\n", encoding="utf-8")
    row_index.write_lines(path, [4, 8, 15])
    reading = mend_lines(path)
    assert reading is not None
    kept = row_index.read_lines(path)
    assert kept is not None
    assert kept.tolist() == [4, 8, 8, 15]
    assert path.read_text(encoding="utf-8").splitlines() == GOOD[:4]


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        (
            ["just a text"] * 30,
            "not_json",
            "None of the 30 lines can be read. Line 1 is not JSON: a value is missing at character 1.",
        ),
        (
            [*GOOD[:1], *["[1, 2]"] * 29],
            "not_object",
            "29 of 30 lines cannot be read. Line 2 is a list, not an object.",
        ),
    ],
)
def test_lines_that_nearly_all_cannot_be_read_are_one_finding_that_no_repair_deletes(
    home: Home, lines: list[str], code: str, said: str
) -> None:
    found = from_upload("a.jsonl", "\n".join(lines).encode())
    unreadable = [finding for finding in found.findings if finding.code in ("not_json", "not_object")]
    assert [(finding.code, finding.example, finding.lines) for finding in unreadable] == [(code, said, ())]
    assert not found.usable


def write_list(rows: list[str], indent: int | None = None) -> str:
    return json.dumps([json.loads(row) for row in rows], indent=indent)


@pytest.mark.parametrize("indent", [None, 2])
def test_lists_that_were_joined_are_read_to_the_last(home: Home, indent: int | None) -> None:
    joined = "\n".join([write_list(GOOD[:8], indent), write_list(GOOD[8:], indent)])
    found = from_upload("a.json", joined.encode())
    assert found.usable
    assert sorted(questions(found)) == sorted(f"Is berth {n} free?" for n in range(20))
    assert "joined" in mended(found) or "several objects" in mended(found)


def test_a_list_that_ends_too_early_keeps_its_whole_objects(home: Home) -> None:
    whole = write_list(GOOD, 1)
    found = from_upload("a.json", whole[: whole.rindex("assistant")].encode())
    line = whole[: whole.rindex('{\n  "messages"')].count("\n") + 1
    assert [(one.code, one.lines) for one in found.findings if one.kind.severity.blocks] == [("not_json", (line,))]
    assert mended(found).startswith("The JSON list is damaged. Its objects were read one by one.")
    assert len(rows_by_line(found)) == 20


@pytest.mark.parametrize("indent", [None, 1])
def test_commas_too_many_in_a_list_are_dropped(home: Home, indent: int | None) -> None:
    given = write_list(GOOD, indent)
    given = given.replace("}\n  ]", "},\n  ]") if indent else given.replace("}]}", "},]}")
    found = from_upload("a.json", given.encode())
    assert found.usable
    assert sorted(questions(found)) == sorted(f"Is berth {n} free?" for n in range(20))


@pytest.mark.parametrize("between", [", ", ",\n "])
def test_a_list_as_python_writes_it_is_read(home: Home, between: str) -> None:
    given = "[" + between.join(str(json.loads(row)) for row in GOOD) + "]"
    found = from_upload("a.json", given.encode())
    assert found.usable
    assert sorted(questions(found)) == sorted(f"Is berth {n} free?" for n in range(20))


def test_one_broken_object_of_a_list_is_one_finding_on_the_line_where_it_begins(home: Home) -> None:
    given = write_list(GOOD, 1)
    begin = given.index('"Is berth 7 free?"')
    found = from_upload("a.json", (given[:begin] + "Is " + given[begin:]).encode())
    line = given[: given.rindex('{\n  "messages"', 0, begin)].count("\n") + 1
    assert [(one.code, one.lines) for one in found.findings if one.kind.severity.blocks] == [("not_json", (line,))]
    assert len(rows_by_line(found)) == 20


def test_a_list_on_one_line_that_ends_too_early_keeps_its_whole_objects(home: Home) -> None:
    found = from_upload("a.json", write_list(GOOD)[:-5].encode())
    assert [(one.code, one.lines) for one in found.findings if one.kind.severity.blocks] == [("not_json", (20,))]
    assert questions(found)[:19] == [f"Is berth {n} free?" for n in range(19)]


def test_a_list_whose_end_is_missing_is_read_and_called_damaged(home: Home) -> None:
    found = from_upload("a.json", write_list(GOOD, 1)[:-1].encode())
    assert (found.usable, len(rows_by_line(found))) == (True, 20)
    assert mended(found).startswith("The JSON list is damaged.")


BY_COLUMNS = {"question": [f"q{n}" for n in range(12)], "answer": [f"a{n}" for n in range(12)]}
ROWS = [dict(zip(BY_COLUMNS, row, strict=True)) for row in zip(*BY_COLUMNS.values(), strict=True)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("columns.json", json.dumps(BY_COLUMNS)),
        ("frame.json", json.dumps({name: dict(enumerate(cells)) for name, cells in BY_COLUMNS.items()})),
        ("named.json", json.dumps({f"row {at}": row for at, row in enumerate(ROWS)})),
        ("python.txt", str(ROWS)),
        ("alone.csv", "messages\n" + "".join(f"\"[{{'human': 'q{n}', 'gpt': 'a{n}'}}]\"\n" for n in range(12))),
    ],
)
def test_rows_are_read_however_a_program_wrote_them_together(home: Home, name: str, content: str) -> None:
    rows = rows_by_line(from_upload(name, content.encode()))
    texts = [tuple(one["content"] for one in json.loads(row)["messages"]) for row in rows.values()]
    assert sorted(texts) == sorted(zip(*BY_COLUMNS.values(), strict=True))


def test_tabs_and_backslashes_that_stand_as_they_are_in_texts_are_read(home: Home) -> None:
    line = (
        '{"messages": [{"role": "user", "content": "q\t%d"}, {"role": "assistant", "content": "\\(x\\) \\\\ %d\\n"}]}'
    )
    found = from_upload("loose.jsonl", "\n".join(line % (n, n) for n in range(12)).encode())
    assert [one.example for one in found.findings] == [
        "12 lines held tabs or backslashes that were not written as JSON does."
    ]
    texts = [one["content"] for one in json.loads(rows_by_line(found)[1])["messages"]]
    assert texts == ["q\t0", "\\(x\\) \\ 0\n"]


def test_blank_lines_among_lines_that_cannot_be_read_move_no_row(home: Home) -> None:
    lines = [
        json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]})
        for n in range(12)
    ]
    found = from_upload("gaps.jsonl", "\n".join([*lines[:6], "and so on", "", *lines[6:]]).encode())
    rows = rows_by_line(found)
    assert [(one.code, one.lines) for one in found.findings] == [("not_json", (7,))]
    assert json.loads(rows[9]) == json.loads(lines[6])


def test_numbers_that_json_does_not_know_are_no_values(home: Home) -> None:
    lines = [json.dumps(json.loads(row) | {"score": float("nan")}) for row in GOOD]
    found = from_upload("a.jsonl", "\n".join([*lines, say("NaN", "Infinity")]).encode())
    assert found.usable
    assert json.loads(rows_by_line(found)[1])["score"] is None
    assert json.loads(rows_by_line(found)[21]) == json.loads(say("NaN", "Infinity"))
    assert mended(found) == "20 lines held NaN or Infinity, which JSON does not know: they are empty."
