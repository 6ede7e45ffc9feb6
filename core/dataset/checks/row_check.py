"""Looks at whole rows for what a single text does not show: cut answers, keys written twice, rival answers.

Feeds the texts of their messages to text_check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import orjson
import xxhash

from core.dataset.checks.cut_answers import is_cut
from core.dataset.checks.duplicate_keys import count_parsed, count_written, find_duplicate
from core.dataset.checks.leftovers import speaks_of_templates
from core.dataset.checks.text_check import check_texts, find_suspected
from core.dataset.findings import flag

# Hashes of a row: of all before its last answer, and of that answer; zeros where there is no question.
ASKED = numpy.dtype([("question", "<u8"), ("answer", "<u8")])
_CUT, _TWICE, _PLACEHOLDER = (flag(code) for code in ("cut_answer", "duplicate_keys", "placeholder"))


def check_rows(lines: Sequence[bytes]) -> tuple[list[int], Any]:
    """Return the flags of each row, and what was asked and answered, `(rows,)` of ASKED.

    lines: JSON that the structural check passed; b"" for rows that are not looked at.
    """
    flags, asked = [0] * len(lines), numpy.zeros(len(lines), ASKED)
    texts: list[str] = []
    owners: list[int] = []
    for at, (line, written) in enumerate(zip(lines, count_written(lines), strict=True)):
        if not line:
            continue
        row = orjson.loads(line)
        messages = row["messages"]
        if written > len(row) + sum(map(len, messages)) and written > count_parsed(row) and find_duplicate(line):
            flags[at] = _TWICE
        contents = [message.get("content") or "" for message in messages]
        texts += contents
        owners += [at] * len(contents)
        roles = [message["role"] for message in messages]
        answers = [place for place, role in enumerate(roles) if role == "assistant"]
        if any(is_cut(contents[place]) and not messages[place].get("tool_calls") for place in answers):
            flags[at] |= _CUT
        if answers and "user" in roles[: (last := answers[-1])]:
            asked[at] = _hash_question(row, contents, last), _hash_answer(messages[last], contents[last])
    for at, found in zip(owners, check_texts(texts), strict=True):
        flags[at] |= found
    for at, found in enumerate(flags):
        if found & _PLACEHOLDER and speaks_of_templates(text_of(lines[at])):
            flags[at] ^= _PLACEHOLDER
    return flags, asked


def find_rivals(asked: Any) -> tuple[Any, tuple[int, int]]:
    """Return which rows (from 0) ask what another does and answer otherwise, and the first of them with an earlier one.

    asked: `(rows,)` of ASKED. Rows that answer the same as an earlier one are left to `duplicate`.
    """
    order = numpy.argsort(asked["question"], kind="stable")
    questions, answers = asked["question"][order], asked["answer"][order]
    same = numpy.concatenate((questions[1:] == questions[:-1], [False])) & (questions != 0)
    begins = numpy.flatnonzero(same & ~numpy.concatenate(([False], same[:-1])))
    rivals: list[int] = []
    first = (-1, -1)
    for begin in begins.tolist():
        end = begin + 1
        while end < len(order) and questions[end] == questions[begin]:
            end += 1
        _, places = numpy.unique(answers[begin:end], return_index=True)
        if len(places) > 1:
            group = sorted(order[begin + places].tolist())
            rivals += group
            first = (group[1], group[0]) if first[0] < 0 or group[1] < first[0] else first
    return numpy.array(sorted(rivals), numpy.int64), first


def describe(line: bytes, code: str) -> str:
    """Return where a row has what it is suspected of and what that is, as the end of "Line 5…"."""
    if code == "duplicate_keys":
        return f" has the key {find_duplicate(line)!r} twice in one object."
    for number, message in enumerate(orjson.loads(line)["messages"], 1):
        content = message.get("content") or ""
        if code == "cut_answer" and message["role"] == "assistant" and is_cut(content):
            return f", message {number} ends with {content.rstrip()[-40:]!r}."
        if code != "cut_answer" and (found := find_suspected(content, code)):
            return f", message {number} holds {found}."
    raise ValueError(f"the row has no {code}")


def text_of(line: bytes) -> str:
    """Return the text of a conversation, a checked line of JSON."""
    return "\n".join(message.get("content") or "" for message in orjson.loads(line)["messages"])


def _hash_question(row: dict[str, Any], contents: Sequence[str], last: int) -> int:
    """Return a hash of the messages before the last answer and the row's tools."""
    asked = "\0".join([message["role"] for message in row["messages"][:last]] + list(contents[:last]))
    calls = [message["tool_calls"] for message in row["messages"][:last] if "tool_calls" in message]
    extra = [calls, row.get("tools")] if calls or "tools" in row else None
    seed = xxhash.xxh3_64_intdigest(orjson.dumps(extra)) if extra else 0
    return xxhash.xxh3_64_intdigest(asked.encode("utf-8", "replace"), seed)


def _hash_answer(message: dict[str, Any], content: str) -> int:
    seed = xxhash.xxh3_64_intdigest(orjson.dumps(message["tool_calls"])) if message.get("tool_calls") else 0
    return xxhash.xxh3_64_intdigest(content.encode("utf-8", "replace"), seed)
