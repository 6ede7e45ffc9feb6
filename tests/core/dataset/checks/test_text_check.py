"""What needs a look in texts: each kind is found in its forms, and nothing is in clean conversations."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy
import pytest

from core.dataset import findings, store
from core.dataset.checks.longer_checks import read_checks, run_checks
from core.dataset.checks.row_check import check_rows, describe, find_rivals
from core.dataset.checks.text_check import find_suspected
from core.dataset.findings import KINDS
from core.home import Home
from tests.chat_data import from_upload
from tests.core.dataset.checks.clean_talks import make_talks

BYTES = random.Random(7).randbytes(400)
BASE64 = base64.b64encode(BYTES).decode()
LONG = "The gate closes when the water is at its highest. The wheel turns while it falls."
PLANTED: dict[str, Sequence[str]] = {
    "prompt_marker": [
        "### Instruction:\nName a mill.\n\n### Response:\nNorth.",
        "Below is a task.\n\n### Instruction:\nName a mill.",
        "[INST] Name a mill. [/INST] North.",
        "<<SYS>>\nBe brief.\n<</SYS>>\n\nName a mill.",
        "Sure, it is north.\nHuman: And then?\nAssistant: South.",
        "Assistant: It is north.",
        "It is north.\n\nHuman:",
        "<|user|>\nName a mill.<|assistant|>",
        "<|im_start|>user",
        "It is north.</s>",
        "It is north.\n\nHuman: And then?",
        "### System:\nBe brief.",
        "<start_of_turn>user\nName a mill.<end_of_turn>",
        "### Human: Name a mill.\n### Assistant: North.",
        "USER: Name a mill.\nASSISTANT: North.",
    ],
    "cut_answer": [
        f"{LONG} After that it was moved to the",
        f"{LONG} У цьому місці стояв старий млин, який",
        "There are three reasons: the first is the tide, the second is the wind, and",
        "The three parts of it are the wheel, the gate,",
        "Here is how the three parts of it are put together:",
        "It is done like this:\n\n```python\ndef open_gate(level):\n    if level > 3:",
        "涨潮时闸门关闭，退潮时水轮转动，因此一天可以工作两次。后来人们发现这种磨坊的",
        "涨潮时闸门关闭，退潮时水轮转动，因此一天可以工作两次。后来人们把它搬到了新的地方重新",
        "تغلق البوابة عندما يبلغ الماء أعلى مستوى. وتدور العجلة أثناء هبوطه ثم تنتقل إلى",
        "La compuerta se cierra con la marea alta. La rueda gira mientras baja el agua de",
        "Вода піднімається двічі на добу. Колесо обертається, доки вона спадає, а потім",
        "Вода піднімається двічі на добу, і колесо обертається щодня. Потім воду відводять у сусідній ставок і зрошу",
        f"{LONG} People came from far away to see how the old mill was wor",
        "1. Open the valve slowly.\n2. Check the gauge.\n3. Write down the time and the level that the gauge sho",
        f"{LONG}\n\nThe mill was repaired in the year of the great flood.\n\nIn short, the wheel is turned by the wa",
        "Відкрийте клапан повільно.\n\nПеревірте манометр і труби.\n\nНаприкінці запишіть час і рівень, що показує ман",
        '{"mills": [{"name": "north", "power": 3.5}, {"name": "sou',
    ],
    "bidirectional": ["The name is \u202egnp.exe", "a \u202dbc", "if \u2066admin\u2069 then"],
    "placeholder": [
        "Dear {{name}}, your order has left.",
        "How do I cancel order {{Order Number}}?",
        "Hello {{ customer_name }}!",
        "Dear [NAME], thank you.",
        "Dear [YOUR NAME], thank you.",
        "Write to <insert address here> now.",
        "Вітаємо, {{імя}}!",
        "您好，{{name}}，您的订单已发货。",
    ],
    "inline_base64": [
        f"Here it is: data:image/png;base64,{BASE64}",
        "图片：data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAE=",
        f"The file: {BASE64}",
        "The file:\n" + "\n".join(BASE64[at : at + 76] for at in range(0, 532, 76)),
        f"文件是{BASE64}，请保存。",
    ],
    "sas_token": [
        "https://mill.blob.core.windows.net/a/b.csv?sv=2022-11-02&se=2030-01-01&sr=b&sp=r&sig=aB3dE5fG7hI9jK1lM3nO5pQ7%2Bx%3D",
        "?sig=aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW%3D&se=1700000000&skn=root",
    ],
    "connection_string": [
        "DefaultEndpointsProtocol=https;AccountName=mill;AccountKey=" + base64.b64encode(BYTES[:64]).decode(),
        "Endpoint=sb://mill.local/;SharedAccessKeyName=root;SharedAccessKey=" + base64.b64encode(BYTES[:32]).decode(),
        "Server=tcp:mill.database.windows.net,1433;Database=m;User ID=ann;Password=Wheel!2931;Encrypt=True;",
        "Use mongodb://ann:Wheel2931@mill.local:27017/db now",
        "mongodb+srv://user:pass@cluster0.mongodb.net/db",
        "postgres://ann:Wheel2931@db.mill.org:5432/mills",
        "DATABASE_URL=mysql://root:Wheel2931@10.0.0.5/mills",
    ],
    "identity_number": [
        "My number is 536-22-8726.",
        "IBAN DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "ES9121000418450200051332",
        "UA213223130000026007233566001",
        "DNI 12345678Z",
        "NIE X-1234567-L",
        "身份证号11010519491231002X。",
        "РНОКПП 3184710691",
        "Мій ідентифікаційний код: 3184710691",
        "078-05-1120",
        "CPF 529.982.247-25",
    ],
    "secret_key": [
        "key AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "aB3dE5fG7h" * 4,
        "hf_" + "aB3dE5fG7h" * 4,
        "sk-proj-" + "aB3dE5fG7h" * 4,
        "-----BEGIN RSA PRIVATE KEY-----\n" + BASE64[:64],
    ],
}


def row(*texts: str) -> bytes:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode()


def codes_of(flags: int) -> set[str]:
    return {kind.code for kind in KINDS.values() if kind.bit >= 0 and flags >> kind.bit & 1}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in PLANTED.items() for text in texts])
def test_each_form_of_a_kind_is_found_in_the_answer(code: str, text: str) -> None:
    line = row("What is it?", text)
    (flags,), _ = check_rows([line])
    assert code in codes_of(flags)
    assert codes_of(flags) <= {code, "cut_answer"}
    assert ", message 2 " in describe(line, code)


@pytest.mark.parametrize("code", ["secret_key", "sas_token", "connection_string", "identity_number", "inline_base64"])
def test_of_what_is_secret_only_the_kind_is_said(code: str) -> None:
    for text in PLANTED[code]:
        said = find_suspected(text, code)
        assert said
        assert not any(part in text for part in said.split() if any(sign.isdigit() for sign in part)), said


def test_a_password_in_an_address_is_not_shown_as_an_email() -> None:
    (flags,), _ = check_rows([row("Where?", "postgres://ann:Wheel2931@db.mill.org/mills")])
    assert codes_of(flags) == {"connection_string"}


def test_nothing_is_found_in_clean_conversations_of_five_languages() -> None:
    seed = 20_261
    print(f"seed {seed}")
    lines = [json.dumps(talk, ensure_ascii=False).encode() for talk in make_talks(seed, 3000)]
    flags, asked = check_rows(lines)
    wrong = [
        (sorted(codes_of(found)), [describe(line, code) for code in sorted(codes_of(found))])
        for line, found in zip(lines, flags, strict=True)
        if found
    ]
    assert wrong[:10] == []
    assert len(find_rivals(asked)[0]) == 0


HOSTILE = [
    "A",
    "a ",
    "{{a}} {%",
    "user: a\n",
    "pwd=abc;",
    "- a.\n",
    "```\n",
    "[YOUR ",
    "a.b@",
    "1234567 ",
    "data:a/b;c",
    "字",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_text_of_one_part_over_and_over_takes_no_longer_than_its_length_asks_for(part: str) -> None:
    lines = [row("What is it?", part * (size // len(part)) + " and the") for size in (50_000, 800_000)]
    spent = []
    for line in lines:
        begun = time.process_time()
        check_rows([line])
        spent.append(time.process_time() - begun)
    assert spent[1] < 16 * 4 * spent[0] + 0.5, spent


def test_a_talk_about_templates_may_show_their_placeholders() -> None:
    (flags,), _ = check_rows([row("How do I write a mail template?", "Begin with Dear {{name}}, and go on.")])
    assert codes_of(flags) == set()


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c."}]}',
        b'{"id": 1, "messages": [{"role":"user","content":"a"},{"role":"assistant","content":"c."}], "id": 2}',
        b'{"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"c."}], "x": {"y": 1, "y" : 2}}',
    ],
)
def test_a_key_that_stands_twice_in_one_object_is_found(line: bytes) -> None:
    (flags,), _ = check_rows([line])
    assert codes_of(flags) == {"duplicate_keys"}
    assert "twice in one object" in describe(line, "duplicate_keys")


def test_keys_in_texts_and_of_other_objects_are_not_taken_for_duplicates() -> None:
    talk = {
        "messages": [
            {"role": "user", "content": '{"role": 1, "role": 2} ":"'},
            {
                "role": "assistant",
                "content": '": x',
                "tool_calls": [{"function": {"name": "a", "arguments": '{"a":1}'}}],
            },
        ],
        "tools": [{"function": {"name": "a", "parameters": {"a": {"type": "x"}, "b": {"type": "x"}}}}],
    }
    assert check_rows([json.dumps(talk).encode(), row('a":', 'b":')])[0] == [0, 0]


def test_one_question_with_two_answers_is_found_in_all_its_rows() -> None:
    lines = [row("a?", "b."), row("a?", "c."), row("d?", "e."), row("a?", "b."), row("a?", "b.", "d?", "e."), b""]
    lines += [row("a?", "b.").replace(b"user", b"system"), row("a?", "c.").replace(b"user", b"system")]
    rivals, first = find_rivals(check_rows(lines)[1])
    assert (rivals.tolist(), first) == ([0, 1], (1, 0))
    assert len(find_rivals(check_rows([b""])[1])[0]) == 0


def test_answers_with_different_tools_are_no_rivals() -> None:
    talk: dict[str, Any] = json.loads(row("a?", "b."))
    other = json.loads(row("a?", "c.")) | {"tools": [{"type": "function"}]}
    rivals, _ = find_rivals(check_rows([json.dumps(one).encode() for one in (talk, other)])[1])
    assert len(rivals) == 0


def test_each_is_a_finding_of_the_file_and_what_an_earlier_version_kept_is_made_anew(home: Home) -> None:
    clean = [json.dumps(talk).encode() for talk in make_talks(3, 40)]
    planted = [row(f"What is {number}?", texts[0]) for number, texts in enumerate(PLANTED.values())]
    rivals = [row("Which mill?", "North."), row("Which mill?", "South.")]
    found = from_upload("planted.jsonl", b"\n".join([*clean, *planted, *rivals]), row("Which wheel?", "The north one."))
    by_code = {one.code: one for one in found.findings}
    expected = {code: (41 + number,) for number, code in enumerate(PLANTED)}
    assert {code: by_code[code].lines for code in expected if code in by_code} == expected
    assert by_code["two_answers"].count == 2
    assert found.usable
    (found.folder / "text-2.json").rename(found.folder / "text.json")
    assert not read_checks(found).text
    run_checks(found)
    again = store.read_findings(found.folder, "train")
    assert {one.code for one in again} == set(by_code)
    assert numpy.all([one.kind.severity is not findings.ERROR for one in again])
