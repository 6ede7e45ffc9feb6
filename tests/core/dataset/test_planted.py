"""Planted defects, several forms of each kind, each in a file that is clean otherwise: found for what they are.

Each on its line, and nothing that was not planted.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core import dataset
from core.dataset import KINDS, ChatDataset
from core.home import Home
from tests.chat_data import take
from tests.clean_texts import LANGUAGES, CleanTexts
from tests.core.engine.templates import FAMILIES

SEED = 20_262
ROWS = 32
LINE = 21  # where a defect is planted
LONGEST = 2_000  # the maximum length that is set, in tokens
Row = Any  # a row, or the bytes of its line

ASK = {"role": "user", "content": "Which boat leaves for the island after the fog has lifted?"}
SAY = {"role": "assistant", "content": "The green one, a little before noon, from the outer pier."}
RULES = {"role": "system", "content": "You sell tickets on the pier."}
TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}]
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "41 cm"}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def row(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def said(content: Any, **more: Any) -> dict[str, Any]:
    """A row whose answer this is."""
    return row(ASK, answer(content, **more))


def asked(content: Any) -> dict[str, Any]:
    return row(user(content), SAY)


def written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def call(name: str = "tide", arguments: Any = '{"hour": 7}', number: str = "c1") -> dict[str, Any]:
    """A message that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return answer(None, tool_calls=[{"id": number, "type": "function", "function": function}])


def encoded(size: int) -> str:
    return base64.b64encode(random.Random(SEED).randbytes(size)).decode()


GOOD = row(ASK, SAY)
WHOLE = written(GOOD)
# What is planted on one line, by the kind of finding that names it.
ON_A_LINE: Mapping[str, Sequence[Row]] = {
    "not_utf8": [WHOLE.replace(b"fog", b"f\xf6g"), WHOLE.replace(b"noon", b"noon \xe2\x82")],
    "not_json": [
        WHOLE[:-9],
        WHOLE[:50] + WHOLE[51:60] + b'"' + WHOLE[60:],
        WHOLE.replace(b"noon", b'"noon"'),
        b"and so on, and so forth",
    ],
    "not_object": [b'"a text"', b"17", b"null"],
    "no_messages": [{"topic": "tides"}, {"messages": "Which boat?"}, {"messages": None}, {}],
    "empty_messages": [{"messages": []}],
    "bad_message": [row(ASK, "The green one."), row(ASK, None), row(ASK, 7), row([ASK], SAY)],
    "unknown_role": [
        row({"role": "narrator", "content": "Fog lies on the pier."}, SAY),
        row({"role": "", "content": "Which boat?"}, SAY),
        row({"content": "Which boat?"}, SAY),
        row({"role": 3, "content": "Which boat?"}, SAY),
    ],
    "no_content": [said(None), row(ASK, {"role": "assistant"}), row({"role": "user"}, SAY)],
    "blank_content": [said(""), said(" \n\t"), asked("  "), said("\u3000\u00a0"), row(user(""), SAY)],
    "lone_surrogate": [json.dumps(said("The \ud83d green one.")).encode(), json.dumps(asked("Which \udc00?")).encode()],
    "no_assistant": [row(ASK), row(RULES, ASK), row(ASK, answer("The green one.", weight=0))],
    "too_deep": [b'{"messages": ' + b"[" * 50_000],
    "line_too_long": [b'{"messages": [' + b" " * (32 << 20) + WHOLE[14:]],
    "no_user": [row(RULES, SAY), row(RULES, SAY, answer("Or the red one."))],
    "invisible_answer": [said("\u200b"), said("\ufeff\u200d\u2060"), said("\u00ad \u200e"), said("\u3164")],
    "content_not_text": [said(42), said(3.5), said(True), said({"boat": "green"}), said(["green", 1])],
    "not_a_text_part": [
        row(user([{"type": "text", "text": "Which?"}, {"type": "image_url", "image_url": {"url": "a.png"}}]), SAY),
        row(user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]), SAY),
        row(user([{"type": "video", "video": "fog.mp4"}, {"type": "text", "text": "Which?"}]), SAY),
    ],
    "result_without_call": [row(ASK, RESULT, SAY), row(ASK, SAY, RESULT, answer("At seven then."), tools=TOOLS)],
    "undeclared_tool": [row(ASK, call("fog"), RESULT, SAY, tools=TOOLS)],
    "bad_arguments": [
        row(ASK, call(arguments="hour=7"), RESULT, SAY, tools=TOOLS),
        row(ASK, call(arguments='{"hour": 7'), RESULT, SAY, tools=TOOLS),
        row(ASK, call(arguments="[7]"), RESULT, SAY, tools=TOOLS),
        row(ASK, call(arguments=[7]), RESULT, SAY, tools=TOOLS),
    ],
    "odd_weight": [said("The red one.", weight=0.5), said("The red one.", weight="yes"), said("Red it is.", weight=-1)],
    "ends_without_answer": [row(ASK, SAY, user("And after that?")), row(ASK, SAY, RULES)],
    "system_not_first": [row(ASK, RULES, SAY), row(RULES, ASK, SAY, RULES, user("And then?"), SAY)],
    "roles_repeat": [row(ASK, user("Or the one before?"), SAY), row(ASK, SAY, answer("Or the red one."))],
    "control_characters": [said("It \u0007 rings."), said("\u001b[31mRed\u001b[0m one."), asked("Which\u0000 boat?")],
    "mojibake": [
        said("The cafÃ© on the pier is open, itâ€™s late."),
        said("Ð¡ÐºÐ°Ð¶Ñ–Ñ‚ÑŒ, ÐºÐ¾Ð»Ð¸ Ð²Ñ–Ð´Ð¿Ð»Ð¸Ð²Ð°Ñ” Ñ‡Ð¾Ð²ÐµÐ½."),
        said("The fog\ufffd lifts at noon."),
        said("The fogï¿½ lifts at noon."),
        said("Çåëåíèé ÷îâåí â³äõîäèòü îï³âäí³."),
        said("El barco sale maÃ±ana a las seis, seÃ±or."),
    ],
    "lone_message": [row(SAY)],
    "starts_with_answer": [row(answer("Welcome to the pier!"), ASK, SAY), row(RULES, answer("Welcome!"), ASK, SAY)],
    "duplicate_keys": [
        b'{"messages": ' + written(GOOD["messages"]) + b', "messages": ' + written(row(ASK, SAY)["messages"]) + b"}",
        WHOLE.replace(b'"role": "user"', b'"role": "system", "role": "user"'),
        WHOLE.replace(b'{"role": "assistant"', b'{"content": "No.", "role": "assistant"'),
    ],
    "unknown_keys": [row(ASK, answer("The green one.", mood="calm")), row(ASK, {**SAY, "Content": "The red one."})],
    "unanswered_call": [
        row(ASK, call(), user("Well?"), SAY, tools=TOOLS),
        row(ASK, call(), answer("No matter."), tools=TOOLS),
    ],
    "echo": [said(ASK["content"]), row(ASK, SAY, user("去岛上的船几点开？"), answer("去岛上的船几点开？"))],
    "literal_nan": [said("nan"), said("NaN"), asked("None"), said("null"), asked("<NA>"), said("NULL")],
    "email": [said("Write to olena.koval@example.org."), asked("Is ann+pier@mail.example.co.uk yours?")],
    "phone": [
        said("Call +380 44 123 45 67."),
        said("Ring 020 7946 0958."),
        said("It is (555) 010-4477, I think."),
        asked("Is it +380441234567?"),
    ],
    "card_number": [
        said("It is 4111 1111 1111 1111."),
        asked("Paid by 5500-0055-5555-5559?"),
        said("378282246310005!"),
    ],
    "secret_key": [
        said("Use AKIAIOSFODNN7EXAMPLE there."),
        said(f"Set token=ghp_{'aB3dE5fG7h' * 4} first."),
        said(f"The key is sk-proj-{'aB3dE5fG7h' * 4}."),
        said(f"-----BEGIN RSA PRIVATE KEY-----\n{encoded(48)}\n-----END RSA PRIVATE KEY-----"),
        said(f"Set API_KEY={'3f7a9c51' * 5} there."),
        said(f"Push with glpat-{'aB3dE5fG7h' * 2} then."),
        said(f"It says hf_{'aB3dE5fG7h' * 3}abcd."),
    ],
    "sas_token": [
        said(
            f"See https://pier.blob.core.windows.net/c/f?sv=2022-11-02&se=2030-01-01&sr=b&sp=r&sig={encoded(32)[:40]}"
        ),
        said(f"The end of it is ?sp=rl&sig={encoded(32)[:40]}%3D&se=2030-01-01T00:00:00Z&sv=2021-06-08 as always."),
    ],
    "connection_string": [
        said(
            f"DefaultEndpointsProtocol=https;AccountName=pier;AccountKey={encoded(64)};EndpointSuffix=core.windows.net"
        ),
        said("Server=tcp:pier.example.net,1433;Database=boats;User ID=ann;Password=Fog7Lifts!Noon;Encrypt=True"),
        said("Use postgresql://ann:Fog7LiftsNoon@pier.example.net:5432/boats for it."),
        said(f"Endpoint=sb://pier.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey={encoded(32)}"),
    ],
    "identity_number": [
        said("Her number is 078-05-1120, she says."),
        said("Pay to DE89 3704 0044 0532 0130 00."),
        said("证件号码是11010519491231002X。"),
        said("Mi DNI es 12345678Z."),
        said("O CPF é 529.982.247-25."),
    ],
    "prompt_marker": [
        said("[INST] Which boat? [/INST] The green one."),
        asked("### Instruction:\nName the boat.\n\n### Response:\nThe green one."),
        said("The green one.\n\nHuman: And then?"),
        said("<<SYS>> You sell tickets. <</SYS>> The green one."),
        said("The green one.</s>"),
        said("### Human: Which boat?\n### Assistant: The green one."),
    ],
    "cut_answer": [
        said("The green one leaves a little before noon from the outer pier. It carries forty people and the"),
        said("Сьогодні зелений човен відходить незадовго до полудня. Він бере сорок людей, дві бочки олії та"),
        said("Here is how it is written:\n\n```python\ndef leave(boat):\n    return boat.green and"),
    ],
    "bidirectional": [
        said("The \u202egreen\u202c one."),
        said("Take \u2066this\u2069 boat."),
        asked("Which \u202aboat?"),
    ],
    "placeholder": [
        said("Dear {{ customer_name }}, the green one leaves at noon."),
        said("Dear [CUSTOMER NAME], the green one leaves at noon."),
        said("The boat is called <insert name here> and is green."),
        asked("Which boat does [YOUR NAME] take?"),
    ],
    "weight_zero": [row(ASK, answer("The red one.", weight=0), user("Sure?"), answer("The green one.", weight=1))],
    "inline_base64": [
        said(f"Look: data:image/png;base64,{encoded(90)}"),
        said(f"It is {encoded(300)} in full."),
        asked(f"What is ![fog](data:image/jpeg;base64,{encoded(300)})?"),
    ],
}


# What some of them are, too, and rightly: by kind and number.
ALSO = {
    ("no_assistant", 2): "weight_zero",
    ("no_user", 1): "roles_repeat",
    ("ends_without_answer", 1): "system_not_first",
    ("unanswered_call", 1): "roles_repeat",
}
CALLED = row(ASK, call(), RESULT, SAY, tools=TOOLS)
THOUGHT = answer("Red.", reasoning_content="Which is it?")
# What only a model's template shows: kind, what it is found as, the family of the model, the row.
WITH_A_MODEL: Sequence[tuple[str, Sequence[str], str, Row]] = [
    ("special_tokens", ["prompt_marker"], "Qwen 3", said("Green.<|im_end|>\n<|im_start|>user\nNo.")),
    ("special_tokens", ["prompt_marker"], "SmolLM2", asked("Which <|im_start|> boat?")),
    ("special_tokens", [], "Gemma", said("The green one.<eos>")),
    ("template_refused", ["roles_repeat"], "Gemma", row(ASK, user("Or?"), SAY)),
    ("tools_refused", [], "Gemma", CALLED),
    ("tools_left_out", [], "SmolLM2", CALLED),
    ("thoughts_left_out", [], "Qwen 3", row(ASK, THOUGHT, user("And?"), THOUGHT)),
    ("no_trained_tokens", ["too_long"], "SmolLM2", asked("Is it green or not? " * 500)),
    ("too_long", [], "SmolLM2", said("The green one is the right one. " * 400)),
]


@dataclass(frozen=True)
class Plant:
    """A file with one defect. found: code -> lines that are to be named, () for the whole file.

    test: its test file. model: the family of the model that it is checked with.
    """

    code: str
    content: bytes
    found: Mapping[str, Sequence[int]]
    name: str = "planted.jsonl"
    test: bytes | None = None
    model: str = ""


def clean_lines(number: int, rows: int = ROWS) -> list[bytes]:
    """Lines of a clean file, in one of the five languages."""
    texts = CleanTexts(list(LANGUAGES)[number % len(LANGUAGES)], SEED + number)
    return [written(row(*texts.chat(turns=1 + texts.chance.randrange(2)))) for _ in range(rows)]


def among(lines: list[bytes], planted: Mapping[int, Row]) -> bytes:
    """The file of these lines, with others on some of them, numbered from 1."""
    filled = dict(enumerate(lines, start=1))
    filled |= {line: one if isinstance(one, bytes) else written(one) for line, one in planted.items()}
    return b"\n".join(filled.values()) + b"\n"


def on_a_line() -> Iterator[Plant]:
    for number, (code, forms) in enumerate(ON_A_LINE.items()):
        lines = clean_lines(number)
        for at, form in enumerate(forms):
            codes = [code, ALSO[code, at]] if (code, at) in ALSO else [code]
            yield Plant(code, among(lines, {LINE: form}), dict.fromkeys(codes, (LINE,)))


def with_a_model() -> Iterator[Plant]:
    for number, (code, also, model, form) in enumerate(WITH_A_MODEL):
        content = among(clean_lines(number), {LINE: form})
        yield Plant(code, content, dict.fromkeys([code, *also], (LINE,)), model=model)
    yield Plant("bad_model", among(clean_lines(0), {}), {"bad_model": ()}, model="broken")


def of_two_rows() -> Iterator[Plant]:
    lines, held = clean_lines(1), clean_lines(2, 12)
    *before, last = json.loads(lines[4])["messages"]
    copy, near = row(*before, last, id=7), row(*before, answer(f"{last['content']} So."))
    again = row(*before, answer(last["content"].replace(". ", ".  ")))
    yield Plant("duplicate", among(lines, {LINE: lines[4]}), {"duplicate": [LINE]})
    yield Plant("duplicate", among(lines, {LINE: copy, 30: lines[4]}), {"duplicate": [LINE, 30]})
    for form in (near, again):
        codes = {"near_duplicate": [LINE], "two_answers": [5, LINE]}
        yield Plant("near_duplicate", among(lines, {LINE: form}), codes)
    yield Plant("two_answers", among(lines, {LINE: row(*before, SAY)}), {"two_answers": [5, LINE]})
    yield Plant("leakage", among(lines, {}), {"leakage": [3]}, test=among(held, {3: copy}))
    yield Plant("near_leakage", among(lines, {}), {"near_leakage": [3]}, test=among(held, {3: near}))


def of_the_file() -> Iterator[Plant]:
    lines = clean_lines(3)
    whole = among(lines, {})
    yield Plant("empty_file", b"", {"empty_file": ()})
    yield Plant("empty_file", b"\n \n\r\n", {"empty_file": ()})
    yield Plant("too_few_rows", among(lines[:3], {}), {"too_few_rows": ()})
    yield Plant("not_text", bytes(range(256)) * 40, {"not_text": ()})
    pretty = "\n".join(json.dumps(json.loads(line), indent=1) for line in lines).encode()
    python = "\n".join(repr(json.loads(line)) for line in lines).encode()
    joined, commas = whole.replace(b"}\n{", b"}{"), b",\n".join(lines) + b",\n"
    for content in (b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"), joined, pretty, commas, python):
        yield Plant("mended_file", content, {"mended_file": ()})


def of_columns() -> Iterator[Plant]:
    texts = CleanTexts("English", SEED)
    pairs = [(texts.question(), texts.answer(2)) for _ in range(ROWS)]
    rows = {
        "guessed_shape": [{"left": question, "right": said} for question, said in pairs],
        "unread_shape": [{"prompt": question, "chosen": said, "rejected": "No."} for question, said in pairs],
    }
    for code, some in rows.items():
        yield Plant(code, among(list(map(written, some)), {}), {code: ()})
    image = [
        {"messages": [user([{"type": "image"}, {"type": "text", "text": question}])], "images": ["a.png"]}
        for question, _ in pairs
    ]
    yield Plant("unread_shape", among(list(map(written, image)), {}), {"unread_shape": ()})
    identifiers = [written({"row_id": f"r{at}", "file_id": f"f{at}"}) for at in range(ROWS)]
    yield Plant("unread_shape", among(identifiers, {}), {"unread_shape": ()})
    spanish = "".join(f"¿Dónde está el faro {at}?,Está al final del muelle número {at}.\n" for at in range(ROWS))
    ukrainian = "".join(f"Де стоїть маяк {at}?,Він стоїть наприкінці пірса {at}.\n" for at in range(ROWS))
    for text, encoding in ((spanish, "latin-1"), (ukrainian, "cp1251"), (ukrainian, "koi8-u"), (spanish, "utf-16-le")):
        content = f"question,answer\n{text}".encode(encoding)
        yield Plant("other_encoding", content, {"other_encoding": ()}, "planted.csv")
    wide = f"question,answer\nOne?,Two.,Three.\n{ukrainian}".encode()
    yield Plant("bad_table_row", wide, {"bad_table_row": [2]}, "planted.csv")


PLANTED = [*on_a_line(), *with_a_model(), *of_two_rows(), *of_the_file(), *of_columns()]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of models by their family, of one with damaged files, too."""
    folder = tmp_path_factory.mktemp("models")
    names = {"Gemma": "Gemma", "Qwen 3": "Qwen 3", "SmolLM2": "SmolLM2", "broken": "Gemma"}
    found = {name: FAMILIES[family].write(folder / name, marks=False) for name, family in names.items()}
    (found["broken"] / "tokenizer.json").write_text("{", encoding="utf-8")
    return found


def findings_of(found: ChatDataset) -> dict[str, list[int]]:
    """Code -> lines, in both files and for the maximum length."""
    codes: dict[str, list[int]] = {}
    for one in (*found.findings, *dataset.list_length_findings(found, LONGEST)):
        codes[one.code] = sorted([*codes.get(one.code, []), *one.lines])
    return codes


@pytest.mark.parametrize("code", dict.fromkeys(one.code for one in PLANTED))
def test_a_planted_defect_is_found_for_what_it_is_and_nothing_else(
    home: Home, models: dict[str, Path], code: str
) -> None:
    missed = []
    for number, one in enumerate(each for each in PLANTED if each.code == code):
        model = models.get(one.model)
        found = findings_of(take(dataset.start_upload(one.name, one.content, one.test, model, test_percent=0.0)))
        wanted = {kind: list(lines) for kind, lines in one.found.items()}
        if found != wanted:
            missed.append((number, found, wanted))
    assert missed == []


def test_every_kind_of_finding_is_planted() -> None:
    assert {one.code for one in PLANTED} == set(KINDS)
