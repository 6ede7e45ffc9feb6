"""Text in other encodings than UTF-8 is read where it says what it is in; else it is said once what it looks like."""

from __future__ import annotations

import json

import pytest

from core import dataset
from core.dataset import Finding, Preparation
from core.dataset.files.encodings import guess
from core.errors import BadInput
from core.home import Home
from tests.chat_data import CASES, finish, from_upload, take

FRENCH = "Où est le café près de l’hôtel\u00a0? Là, fermé l'été dernier."


def as_lines(text: str, rows: int = 12) -> str:
    return "\n".join(
        json.dumps(
            {"messages": [{"role": "user", "content": f"{n} {text}"}, {"role": "assistant", "content": f"{text} {n}"}]},
            ensure_ascii=False,
        )
        for n in range(rows)
    )


def as_list(text: str) -> str:
    return json.dumps([json.loads(line) for line in as_lines(text).split("\n")], ensure_ascii=False, indent=1)


def as_table(text: str) -> str:
    return "\n".join(["question,answer", *(f'"{n} {text}","{text} {n}"' for n in range(12))])


WRITTEN = {"a.jsonl": as_lines, "a.json": as_list, "a.csv": as_table}


def upload(name: str, content: bytes) -> Preparation:
    return finish(dataset.start_upload(name, content))


def findings(preparation: Preparation) -> list[Finding]:
    """Return what was found, but for rows that are much like each other: these here are."""
    assert preparation.dataset is not None, preparation
    return [one for one in preparation.dataset.findings if not one.code.startswith("near_")]


@pytest.mark.parametrize(
    ("text", "codecs"),
    [
        (FRENCH, ("cp1252",)),
        ("It’s “open” – yes.", ("cp1252",)),
        ("Wie groß ist die Tür? Die Maße für Möbel.", ("cp1252", "mac_roman")),
        ("Não há solução para a situação.", ("cp1252",)),
        ("Gdzie jest łódź? Zażółć gęślą jaźń, proszę.", ("cp1250", "iso8859_2")),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", ("cp1250", "iso8859_2")),
        ("Şu iskele nerede? Kış boyunca kapalı, lütfen sonra gelin.", ("cp1254",)),
        ("Kur yra prieplauka? Ji uždaryta iki pavasario, ateikite vėliau į mūsų.", ("cp1257",)),
        ("Где находится причал? Он закрыт до весны.", ("cp1251", "koi8_u", "cp866")),
        ("Де причал? Його зачинено до весни, її немає.", ("cp1251", "koi8_u")),
        ("Πού είναι η αποβάθρα; Είναι κλειστή.", ("cp1253",)),
        ("איפה המזח? הוא סגור עד האביב", ("cp1255",)),
        ("أين الرصيف؟ إنه مغلق حتى الربيع", ("cp1256",)),
        ("码头在哪里？它一直关闭到春天，请稍后再来。", ("gb18030",)),
        ("碼頭在哪裡？它一直關閉到春天，請稍後再來。", ("big5",)),
        ("桟橋はどこですか？春まで閉まっています。", ("cp932", "euc_jp")),
        ("부두는 어디입니까? 봄까지 닫혀 있습니다.", ("euc_kr",)),
        ("ท่าเรืออยู่ที่ไหน ปิดจนถึงฤดูใบไม้ผลิ", ("cp874",)),
    ],
)
def test_the_encoding_of_a_text_is_told_by_the_letters_of_its_language(text: str, codecs: tuple[str, ...]) -> None:
    assert {codec: guess(as_lines(text).encode(codec)) for codec in codecs} == {codec: codec for codec in codecs}


def test_bytes_that_are_no_text_of_a_language_are_not_guessed_at() -> None:
    assert guess(bytes(range(128, 256)) * 20) == ""


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_a_mark_of_its_encoding_is_believed_and_said(home: Home, name: str, codec: str) -> None:
    wanted = from_upload(name, WRITTEN[name](FRENCH).encode())
    found = upload(name, WRITTEN[name](FRENCH).encode(codec))
    assert found.dataset is not None
    assert found.dataset.key == wanted.key
    said = f"The file was {codec.upper()}; it is read as that."
    assert [(one.code, one.example) for one in findings(found)] == [("mended_file", said)]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("codec", ["cp1252", "utf-16-le"])
def test_another_encoding_is_one_finding_and_is_read_when_it_is_named(home: Home, name: str, codec: str) -> None:
    wanted = from_upload(name, WRITTEN[name](FRENCH).encode())
    found = upload(name, WRITTEN[name](FRENCH).encode(codec))
    assert [one.code for one in findings(found)] == ["other_encoding"]
    assert found.dataset is not None
    assert not found.dataset.usable
    assert found.looks_like == codec
    assert take(dataset.read_again(found.id, encoding=found.looks_like)).key == wanted.key


def test_the_first_place_and_the_encoding_are_named(home: Home) -> None:
    found = upload("latin1.csv", (CASES / "latin1.csv").read_bytes())
    said = "The file is not UTF-8: line 2 has the byte 0xf9. It looks like Windows-1252."
    assert [(one.code, one.example) for one in findings(found)] == [("other_encoding", said)]


def test_a_test_file_in_another_encoding_is_read_beside_one_in_utf8(home: Home) -> None:
    train, test = as_lines(FRENCH), as_lines(FRENCH + " Oui.", 3)
    found = finish(dataset.start_upload("a.jsonl", train.encode(), test.encode("cp1252")))
    assert [(one.code, one.file) for one in findings(found)] == [("other_encoding", "test")]
    read = take(dataset.read_again(found.id, encoding=found.looks_like))
    assert read.key == from_upload("a.jsonl", train.encode(), test.encode()).key


def test_odd_bytes_in_a_text_that_is_utf8_are_findings_of_their_lines(home: Home) -> None:
    found = upload("a.jsonl", as_lines(FRENCH).encode() + b'\n{"messages": "caf\xe9"}')
    assert [(one.code, one.lines) for one in findings(found)] == [("not_utf8", (13,))]


def test_an_encoding_that_a_file_is_not_in_is_refused_in_words(home: Home) -> None:
    found = upload("a.jsonl", as_lines("Où est le café ? Là-bas, près de l'eau.").encode("cp1252"))
    with pytest.raises(BadInput) as caught:
        take(dataset.read_again(found.id, encoding="euc_jp"))
    assert caught.value.message == "The file is not EUC-JP: it cannot be read as that after line 1."


def test_the_first_rows_of_a_large_file_are_shown_in_its_encoding(home: Home) -> None:
    preview = dataset.read_preview(upload("a.jsonl", as_lines(FRENCH).encode("utf-16")).id)
    assert preview is not None
    assert preview.rows[0].messages[1]["content"] == f"{FRENCH} 0"
    assert not preview.findings
