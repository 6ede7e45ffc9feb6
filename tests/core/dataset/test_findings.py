"""A file with planted defects: each is found on its line, and a clean file has none."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy
import pytest

from core import dataset
from core.dataset.checks.near_copies import find_pairs, sign
from core.dataset.checks.text_check import check_texts, passes_checksum, restore
from core.home import Home
from tests.chat_data import from_upload

SEED = 20_260
WORDS = """harbour lantern winter copper garden river folded paper quiet morning table signal bridge apple
stone""".split()  # noqa: SIM905
ERRORS = {
    "not_json",
    "not_object",
    "no_messages",
    "empty_messages",
    "bad_message",
    "unknown_role",
    "no_content",
    "blank_content",
    "lone_surrogate",
    "no_assistant",
    "not_utf8",
    "too_deep",
}
PLANTED = [
    *sorted(ERRORS),
    "ends_without_answer",
    "lone_message",
    "system_not_first",
    "roles_repeat",
    "duplicate",
    "near_duplicate",
    "control_characters",
    "mojibake",
    "email",
    "phone",
    "card_number",
    "secret_key",
]


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def text(chance: random.Random, words: int = 60) -> str:
    return " ".join(chance.choices(WORDS, k=words)) + f" {chance.randrange(10**6)}."


def good(chance: random.Random) -> list[dict[str, Any]]:
    return [said("user", text(chance, 12)), said("assistant", text(chance))]


def plant(chance: random.Random, code: str, earlier: list[dict[str, Any]]) -> bytes:
    question, answer = good(chance)
    rows: dict[str, Any] = {
        "not_object": [1],
        "no_messages": {"text": "x"},
        "empty_messages": {"messages": []},
        "bad_message": {"messages": [question, "x"]},
        "unknown_role": {"messages": [said("narrator", "x"), answer]},
        "no_content": {"messages": [question, said("assistant", None)]},
        "blank_content": {"messages": [question, said("assistant", chance.choice(["", " ", "\n\t"]))]},
        "lone_surrogate": {"messages": [question, said("assistant", "\ud800")]},
        "no_assistant": {"messages": [question]},
        "ends_without_answer": {"messages": [question, answer, question]},
        "lone_message": {"messages": [answer]},
        "system_not_first": {"messages": [question, said("system", "Be brief."), answer]},
        "roles_repeat": {"messages": [question, question, answer]},
        "duplicate": {"messages": earlier, "id": "another"},
        "near_duplicate": {"messages": [earlier[0], said("assistant", earlier[1]["content"] + " end")]},
        "control_characters": {"messages": [question, said("assistant", "a\u0007b \x1b[31mred")]},
        "mojibake": {"messages": [question, said("assistant", "The cafÃ© is open, itâ€™s late.")]},
        "email": {"messages": [question, said("assistant", "Write to ann.lee@example.org today.")]},
        "phone": {"messages": [question, said("assistant", "Call +49 30 901820 77 or so.")]},
        "card_number": {"messages": [question, said("assistant", "It is 4111 1111 1111 1111, yes.")]},
        "secret_key": {"messages": [question, said("assistant", "key AKIAIOSFODNN7EXAMPLE")]},
    }
    if code == "not_json":
        return json.dumps({"messages": [question, answer]})[: -chance.randint(1, 30)].encode()
    if code == "not_utf8":
        return json.dumps({"messages": [question, answer]}).encode().replace(b"harbour", b"harb\xffur") + b" \xff"
    if code == "too_deep":
        return b'{"messages": ' + b"[" * 100_000
    return json.dumps(rows[code], ensure_ascii=code == "lone_surrogate").encode("utf-8", "surrogatepass")


def test_every_planted_defect_is_found_on_its_line(home: Home) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    rows = [good(chance) for _ in range(200)]
    lines = [json.dumps({"messages": row}).encode() for row in rows]
    planted: dict[str, list[int]] = {}
    for code in PLANTED * 3:
        lines.append(plant(chance, code, rows[chance.randrange(len(rows))]))
        planted.setdefault(code, []).append(len(lines))
    found = from_upload("planted.jsonl", b"\n".join(lines))
    by_code = {one.code: one for one in found.findings}
    shown = {code: set(by_code[code].lines) if code in by_code else set() for code in planted}
    missed = {code: places for code, places in planted.items() if not set(places) <= shown[code]}
    assert {code for code in missed if code in ERRORS} == set()
    assert len(missed) <= len(PLANTED) * 0.05, missed
    wrong = {
        one.code: one.lines
        for one in found.findings
        if one.kind.severity.blocks and set(one.lines) != set(planted.get(one.code, []))
    }
    assert wrong == {}
    assert all(one.kind.fix and one.example and one.count >= 3 for one in found.findings)
    page = dataset.read_page(found.train_path, code="card_number")
    assert [row.line for row in page.rows] == planted["card_number"]
    assert page.total == 3


def test_a_clean_file_has_no_findings(home: Home) -> None:
    chance = random.Random(SEED)
    rows = [{"messages": good(chance)} for _ in range(300)]
    fine = [
        "Größe, naïve, 日本語, Привет 🙂, “so”",
        "See 1. 2. 3. and 2024-05-06 12:30:45, 05.06.2024 12.30",
        "Order 12345678 of 1 000 000",
        "a\tb\r\nc",
        "Ünïcödé",
        "10.20.30.40 and 3.14159265358979",
    ]
    for at, content in enumerate(fine):
        rows[at]["messages"][1]["content"] = content
    found = from_upload("clean.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    assert found.findings == ()
    assert (found.rows, found.test_rows) == (270, 30)


def test_a_test_row_that_is_trained_on_is_found_also_where_it_is_only_nearly_so(home: Home) -> None:
    chance = random.Random(SEED)
    rows = [good(chance) for _ in range(40)]
    near = [rows[3][0], said("assistant", rows[3][1]["content"] + " more")]
    test = [rows[5], near, good(chance)]
    train, held = ("\n".join(json.dumps({"messages": row}) for row in some).encode() for some in (rows, test))
    found = from_upload("leak.jsonl", train, held)
    assert [(one.code, one.file, one.lines) for one in found.findings] == [
        ("leakage", "test", (1,)),
        ("near_leakage", "test", (2,)),
    ]
    assert found.usable


def test_the_longer_checks_are_remembered_and_told(home: Home) -> None:
    sample = dataset.load_sample()
    now = dataset.read_checks(sample)
    assert (now.text, now.near, now.tokens, now.running) == (True, True, True, False)
    assert dataset.start_checks(sample) == now


def test_a_repair_shows_what_it_changes_and_leaves_the_file_as_it_is(home: Home) -> None:
    chance = random.Random(SEED)
    rows = [good(chance) for _ in range(60)]
    lines = [json.dumps({"messages": row}).encode() for row in rows]
    codes = [code for code in PLANTED if code not in ("near_duplicate", "email", "phone", "card_number", "secret_key")]
    lines += [plant(chance, code, rows[at]) for at, code in enumerate(codes)]
    lines += [json.dumps({"messages": [said("human", "q"), said("gpt", "a")]}).encode()]
    found = from_upload("broken.jsonl", b"\n".join(lines))
    before = found.train_path.read_bytes()
    changes = dataset.list_changes(found, dataset.REPAIRS, first=1000)
    left_out = [diff for diff in changes if diff.after is None]
    assert (len(left_out), len(changes) - len(left_out)) == (len(ERRORS) + 2, 5)
    restored = next(diff for diff in changes if diff.codes == ("mojibake",))
    assert restored.after is not None
    assert "The café is open, it’s late." in restored.after
    counted = dataset.count_changes(found, ("mojibake", "duplicate"))
    assert counted == {"mojibake": dataset.Effect(1), "duplicate": dataset.Effect(0, 1, 1 / 80)}
    for code in ("duplicate", "lone_message"):
        assert next(diff for diff in changes if diff.codes == (code,)).after is None
    assert [diff.codes for diff in dataset.list_changes(found, ["duplicate"])] == [("duplicate",)]
    mended = from_upload("mended.jsonl", b"\n".join(line for _, line in dataset.repaired_rows(found)))
    assert found.train_path.read_bytes() == before
    assert (mended.findings, mended.rows + mended.test_rows) == ((), 66)


def test_a_row_that_only_a_models_template_refuses_is_no_repairs_business() -> None:
    assert {code for code in dataset.KINDS if code.endswith("_refused")} & set(dataset.REPAIRS) == set()


def test_pages_follow_each_other_and_a_search_finds_what_is_escaped(home: Home) -> None:
    chance = random.Random(SEED)
    rows = [
        {"messages": [said("user", f'q{n} "quoted" Ärger\nline'), said("assistant", text(chance))]} for n in range(95)
    ]
    content = "\n".join(json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows)).encode()
    found = from_upload("x.jsonl", content, content[:400].split(b"\n")[0])
    first = dataset.read_page(found.train_path, 0, 40)
    assert (len(first.rows), first.total, first.next) == (40, 95, 40)
    last = dataset.read_page(found.train_path, 80, 40)
    assert (len(last.rows), last.next) == (15, None)
    for wanted in ('"QUOTED"', "ärger", "ÄRGER\nline"):
        hits = dataset.read_page(found.train_path, 0, 200, text=wanted)
        assert (len(hits.rows), hits.total, hits.next) == (95, 95, None), wanted
    some = dataset.read_page(found.train_path, 0, 10, text="q1")
    more = dataset.read_page(found.train_path, some.next or 0, 10, text="q1")
    assert [row.line for row in (*some.rows, *more.rows)] == [2, *range(11, 21)]
    assert dataset.read_page(found.train_path, text="nowhere").total == 0


def test_a_new_version_is_compared_with_the_one_before(home: Home) -> None:
    chance = random.Random(SEED)
    rows = [json.dumps({"messages": good(chance)}) for _ in range(40)]
    first = from_upload("faq.jsonl", "\n".join(rows[:30]).encode())
    second = from_upload("faq.jsonl", "\n".join(rows[5:]).encode())
    assert dataset.find_previous(first) is None
    previous = dataset.find_previous(second)
    assert previous is not None
    assert previous.key == first.key
    change = dataset.compare(second, previous)
    assert (change.added, change.removed, change.same) == (10, 5, 25)
    assert change.words == "10 rows are new, 5 are gone, 25 are the same."
    assert len(change.added_rows) == 10


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "5500005555555559", "378282246310005"])
def test_card_numbers_are_told_from_other_digits_by_their_checksum(number: str) -> None:
    assert passes_checksum(number)
    assert not passes_checksum(number[:-1] + str((int(number[-1]) + 1) % 10))


def test_text_that_is_not_garbled_is_left_alone() -> None:
    for fine in ("Ãos 3 anos", "â la carte", "Ärger mit Ö", "10 € – “so”", "ÃO"):
        assert restore(fine) == fine
        assert check_texts([fine]) == [0], fine


def test_near_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    texts = [text(chance, 200) for _ in range(300)]
    texts += [one.replace("river", "stream", 1) for one in texts[:50]]
    signatures = numpy.stack([sign(one) for one in texts])
    pairs = find_pairs(signatures, len(texts))
    signatures.tofile(tmp_path / "signatures")
    assert find_pairs(tmp_path / "signatures", len(texts)) == pairs
    assert len(pairs) >= 48
    assert all(pair.row - 300 == pair.earlier for pair in pairs)
