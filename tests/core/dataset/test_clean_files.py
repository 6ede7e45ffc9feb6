"""Forty files in which nothing is wrong, in every shape that is read and in five languages, have no finding."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from core.home import Home
from tests.chat_data import from_upload
from tests.clean_texts import LANGUAGES, CleanTexts, Message
from tests.tiny_model import build_tiny_model

SEED = 20_261
ROWS = 36
Chat = list[Message]
GPT = {"user": "human", "assistant": "gpt", "system": "system"}
DECLARED = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}]


def jsonl(rows: Sequence[Any], end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=at % 2 == 0) + end for at, row in enumerate(rows)).encode()


def table(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    target = io.BytesIO()
    write_table(pyarrow.Table.from_pylist(list(rows)), target)
    return target.getvalue()


def columns(chat: Chat, question: str, answer: str, system: str = "system", **more: Any) -> dict[str, Any]:
    """The last question and its answer in columns of these names, after what goes before."""
    row = {system: chat[0]["content"]} if chat[0]["role"] == "system" else {}
    return row | {question: chat[-2]["content"], answer: chat[-1]["content"]} | more


def keyed(chat: Chat, role: str, content: str, names: dict[str, str] | None = None) -> list[dict[str, str]]:
    return [{role: (names or {}).get(one["role"], one["role"]), content: one["content"]} for one in chat]


def pairs(chat: Chat) -> Iterator[tuple[str, str]]:
    texts = [one["content"] for one in chat if one["role"] != "system"]
    return zip(texts[::2], texts[1::2], strict=True)


def alpaca(chat: Chat, context: str = "input", **more: Any) -> dict[str, Any]:
    """A row of Alpaca: what follows the first blank line of the question is its input."""
    instruction, _, given = chat[-2]["content"].partition("\n\n")
    return columns(chat, "instruction", "output") | {"instruction": instruction, context: given} | more


def with_history(chat: Chat) -> dict[str, Any]:
    return alpaca(chat, history=[list(pair) for pair in pairs(chat)][:-1])


def sharegpt(chat: Chat) -> dict[str, Any]:
    return {"conversations": keyed(chat, "from", "value", GPT)}


def contract(chat: Chat) -> dict[str, Any]:
    return {"messages": chat}


def orca(chat: Chat) -> dict[str, Any]:
    return columns(chat, "question", "response", "system_prompt")


def prompt_lists(chat: Chat) -> dict[str, Any]:
    return {"prompt": chat[:-1], "completion": chat[-1:]}


def gemini(chat: Chat) -> dict[str, Any]:
    contents = [
        {"role": "model" if one["role"] == "assistant" else "user", "parts": [{"text": one["content"]}]}
        for one in chat
        if one["role"] != "system"
    ]
    return {"contents": contents, "systemInstruction": {"parts": [{"text": chat[0]["content"]}]}}


def in_parts(chat: Chat) -> dict[str, Any]:
    return {"messages": [one | {"content": [{"type": "text", "text": one["content"]}]} for one in chat]}


def spoken(chat: Chat) -> str:
    return "\n\n".join(f"{'Human' if one['role'] == 'user' else 'Assistant'}: {one['content']}" for one in chat)


def weighted(chat: Chat) -> dict[str, Any]:
    return {"messages": [one | ({"weight": 1} if one["role"] == "assistant" else {}) for one in chat]}


def called(chat: Chat, name: str = "tide") -> list[dict[str, Any]]:
    """The conversation with a call of a tool before its last answer."""
    function = {"name": name, "arguments": '{"hour": 7}'}
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    return [*chat[:-1], call, {"role": "tool", "tool_call_id": "c1", "content": "41 cm"}, chat[-1]]


def sharegpt_call(chat: Chat) -> dict[str, Any]:
    call = [
        {"from": "function_call", "value": '{"name": "tide", "arguments": {"hour": 7}}'},
        {"from": "observation", "value": "41 cm"},
    ]
    said = keyed(chat, "from", "value", GPT)
    return {"conversations": [*said[:-1], *call, said[-1]], "tools": json.dumps(DECLARED)}


@dataclass(frozen=True)
class Shape:
    """How conversations are written. turns: so many questions in each. context: questions of two paragraphs."""

    name: str
    write: Callable[[Sequence[Chat]], bytes]
    turns: int = 1
    system: bool = False
    context: bool = False
    calls: bool = False


def each(change: Callable[[Chat], Any], write: Callable[[Sequence[Any]], bytes] = jsonl) -> Callable[..., bytes]:
    return lambda chats: write([change(chat) for chat in chats])


SHAPES = (
    Shape("messages.jsonl", each(contract)),
    Shape("turns.jsonl", each(contract), turns=3),
    Shape("system.jsonl", each(contract), turns=2, system=True),
    Shape("windows.jsonl", each(contract, lambda rows: jsonl(rows, "\r\n"))),
    Shape("gaps.jsonl", each(contract, lambda rows: jsonl(rows, "\n\n"))),
    Shape("packed.jsonl.gz", each(contract, lambda rows: gzip.compress(jsonl(rows)))),
    Shape("identified.jsonl", each(lambda chat: {"id": chat[0]["content"][:9], "messages": chat, "source": "mill"})),
    Shape("list.json", each(contract, lambda rows: json.dumps(rows).encode())),
    Shape("pretty.json", each(contract, lambda rows: json.dumps(rows, indent=2).encode())),
    Shape("messages.parquet", each(contract, parquet), turns=2, system=True),
    Shape("weights.jsonl", each(weighted), turns=2),
    Shape("calls.jsonl", each(lambda chat: {"messages": called(chat), "tools": DECLARED}), calls=True),
    Shape("parts.jsonl", each(in_parts), turns=2),
    Shape("bare.jsonl", each(list), turns=2),
    Shape("text_of_json.csv", each(lambda chat: {"messages": json.dumps(chat), "topic": "lamps"}, table), turns=2),
    Shape("sharegpt.jsonl", each(sharegpt), turns=2),
    Shape("sharegpt_system.json", each(sharegpt), system=True),
    Shape(
        "sharegpt_column.jsonl",
        each(lambda chat: {"system": chat[0]["content"], "conversations": keyed(chat[1:], "from", "value", GPT)}),
        system=True,
    ),
    Shape("sharegpt.parquet", each(sharegpt, parquet), turns=2),
    Shape("sharegpt_call.jsonl", each(sharegpt_call), calls=True),
    Shape("conversation.jsonl", each(lambda chat: {"conversation": chat, "language": "x"}), turns=2),
    Shape("role_text.jsonl", each(lambda chat: {"dialogue": keyed(chat, "role", "text")}), turns=2),
    Shape("contents.jsonl", each(gemini), turns=2, system=True),
    Shape(
        "pairs.jsonl",
        each(lambda chat: {"conversation": [{"human": asked, "assistant": said} for asked, said in pairs(chat)]}),
        turns=2,
    ),
    Shape("ultrachat.jsonl", each(lambda chat: {"id": "7", "data": [one["content"] for one in chat]}), turns=2),
    Shape("spoken.jsonl", each(lambda chat: {"text": spoken(chat)}), turns=2),
    Shape("alpaca.json", each(alpaca, lambda rows: json.dumps(rows).encode())),
    Shape("alpaca_input.jsonl", each(alpaca), context=True),
    Shape("alpaca_history.jsonl", each(with_history), turns=3, system=True),
    Shape("capitals.csv", each(lambda chat: {key.title(): text for key, text in alpaca(chat).items()}, table)),
    Shape("dolly.jsonl", each(lambda chat: alpaca(chat, "context", category="open_qa")), context=True),
    Shape("orca.parquet", each(orca, parquet), system=True),
    Shape("prompt.jsonl", each(lambda chat: columns(chat, "prompt", "completion"))),
    Shape("prompt_lists.jsonl", each(prompt_lists), turns=2, system=True),
    Shape("prompt_response.jsonl", each(lambda chat: columns(chat, "prompt", "response"))),
    Shape("questions.csv", each(lambda chat: columns(chat, "question", "answer"), table)),
    Shape("semicolons.csv", each(lambda chat: columns(chat, "Question", "Answer"), lambda rows: table(rows, ";"))),
    Shape("tabs.tsv", each(lambda chat: columns(chat, "prompt", "completion"), lambda rows: table(rows, "\t"))),
    Shape("questions.parquet", each(lambda chat: columns(chat, "question", "answer", id=7), parquet)),
    Shape("input_output.jsonl", each(lambda chat: columns(chat, "input", "output"))),
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models"))


def make_chats(shape: Shape, texts: CleanTexts) -> list[Chat]:
    chats = [texts.chat(shape.turns, system=shape.system) for _ in range(ROWS)]
    for chat in chats[::2] if shape.context else ():
        chat[-2]["content"] += f"\n\n{texts.answer(1)}"
    return chats


@pytest.mark.parametrize(
    ("shape", "language"), zip(SHAPES, cycle(LANGUAGES), strict=False), ids=lambda one: getattr(one, "name", one)
)
def test_nothing_is_found_in_a_clean_file_and_all_of_it_is_read(
    home: Home, tokenizer: Path, shape: Shape, language: str
) -> None:
    chats = make_chats(shape, CleanTexts(language, SEED + SHAPES.index(shape)))
    found = from_upload(shape.name, shape.write(chats), tokenizer=None if shape.calls else tokenizer)
    assert [(one.code, one.file, one.lines, one.example) for one in found.findings] == []
    assert found.usable
    read = [json.loads(line)["messages"] for path in found.files.values() for line in path.read_bytes().splitlines()]
    wanted = [called(chat) if shape.calls else chat for chat in chats]
    assert sorted(map(told, read)) == sorted(map(told, wanted))


def told(messages: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Roles and texts, of a call what is called."""
    calls = [call["function"] for one in messages for call in one.get("tool_calls", ())]
    return [(one["role"], one.get("content") or json.dumps(calls)) for one in messages]
