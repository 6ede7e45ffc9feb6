"""What is wrong with one line of chat data, in a sentence, and how lines are read and written."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from core.dataset.checks.tool_check import check_tools
from core.dataset.findings import JUDGED, KINDS, Unit
from core.dataset.forms.message_reading import CONTRACT_KEYS, ROLES, part_text

BOM = b"\xef\xbb\xbf"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
UNREADABLE = "tunedeck: unreadable row"  # the only key of what stands for a table's row that could not be read
_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
# Format characters, fillers and variation selectors: a text of them alone cannot be seen.
_INVISIBLE = "".join(
    chr(code)
    for begin, end in (
        *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
        *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164)),
        *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xE0000, 0xE007F)),
    )
    for code in range(begin, end + 1)
)
_UNSEEN = _SPACES + _INVISIBLE
UNSEEN_SIGNS = frozenset(("", *_UNSEEN))
# How a source's missing value looks as a text.
MISSING = frozenset(("", "nan", "NaN", "NAN", "NaT", "<NA>", "None", "null", "NULL"))
# What a row with the same order of roles has as well, if it is plain: each message has a role and a text, and no more.
ORDER_CODES = (
    *("no_user", "starts_with_answer", "lone_message", "ends_without_answer", "system_not_first", "roles_repeat"),
)
_SHORT = 16  # characters; an answer that gives a greeting back is no echo
_PARTS = {"image": "an image", "audio": "audio", "input_audio": "audio", "video": "a video", "file": "a file"}
_JSON_MISTAKES = {
    "Expecting ',' delimiter": "a comma is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Expecting value": "a value is missing",
    "Extra data": "more follows after the end of the object",
    "Illegal trailing comma": "there is a comma too many",
    "Invalid control character at": "a line break or tab stands inside a text",
    "Invalid \\escape": "a backslash stands before a letter that cannot be escaped",
    "Invalid \\uXXXX escape": "a \\u is not followed by four digits",
    "Unexpected UTF-8 BOM": "a byte order mark stands before the object",
}
_OTHER_MISTAKE = "something stands where it must not"
_TYPES = {list: "a list", dict: "an object", str: "a text", bool: "true or false", int: "a number", float: "a number"}


class _NotANumberError(ValueError):
    """NaN or Infinity, of which JSON knows none."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a line (from 1): the code of a kind of finding, and what follows the place in a sentence."""

    line: int
    code: str
    message: str

    def said(self, unit: Unit = "line") -> str:
        """Return the whole sentence: "Row 5: message 2 (user) is blank."."""
        return f"{unit.capitalize()} {self.line:,}{self.message}"

    @property
    def blocks(self) -> bool:
        """Whether it must be mended before the data is used."""
        return KINDS[self.code].severity.blocks

    @property
    def breaks(self) -> bool:
        """Whether the line cannot be trained on."""
        return self.blocks and self.code not in JUDGED


def read_line(line: int, raw: bytes) -> tuple[dict[str, Any] | None, Problem | None]:
    """Return the object on a line, or why it cannot be read."""
    try:
        text = raw.decode("utf-8")
        row = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        what = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return None, Problem(line, "not_utf8", f" is not UTF-8 text: {what}.")
    except json.JSONDecodeError as error:
        return None, Problem(line, "not_json", f" is not JSON: {_explain_json(text, error)}.")
    except RecursionError:
        return None, Problem(line, "too_deep", " is nested too deeply.")
    except _NotANumberError as error:
        return None, Problem(line, "not_json", f" is not JSON: {error} is not a number in JSON.")
    except ValueError:  # what is left: Python reads no whole number of that many digits
        return None, Problem(line, "not_json", " holds a number with too many digits.")
    if not isinstance(row, dict):
        return None, Problem(line, "not_object", f" is {_type_of(row)}, not an object.")
    return row, None


def to_line(row: Any) -> bytes:
    """Return a row as a line of JSONL, without its end; a lone surrogate stays escaped, for the check to name."""
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(row).encode()


def check_line(line: int, raw: bytes) -> tuple[dict[str, Any], list[Problem]]:
    """Return the object on a line, {} where there is none, and what is wrong with it."""
    try:
        row, problem = orjson.loads(raw), None
    except ValueError:
        row = None
    if not isinstance(row, dict):
        row, problem = read_line(line, raw)
    return row or {}, [problem] if problem else check_row(line, row or {})


def check_row(line: int, row: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with the messages of a row, first things first."""
    if UNREADABLE in row:
        problem = row[UNREADABLE]
        said = problem.get("said") if isinstance(problem, dict) else "cannot be read"
        return [Problem(line, "bad_table_row", f" {said}.")]
    if "messages" not in row:
        names = ", ".join(f'"{name}"' for name in list(row)[:4]) or "nothing"
        return [Problem(line, "no_messages", f' has no "messages"; it has {names}.')]
    messages = row["messages"]
    if not isinstance(messages, list):
        said = f': "messages" is {_type_of(messages)}, not a list.'
        return [Problem(line, "no_messages", said)]
    if not messages:
        return [Problem(line, "empty_messages", ': "messages" is empty.')]
    mistakes = [_check_message(message) for message in messages]
    problems = [
        Problem(line, mistake[0], f": message {number} {mistake[1]}.")
        for number, mistake in enumerate(mistakes, start=1)
        if mistake
    ]
    return problems or [
        *_check_order(line, messages),
        *(Problem(line, code, f": message {number} {said}.") for code, number, said in _look_at_messages(row)),
    ]


def _explain_json(text: str, error: json.JSONDecodeError) -> str:
    """Return in words what is wrong with the JSON, and at which character (from 1)."""
    at = error.pos + 1
    body = text.rstrip()
    if error.msg.startswith("Unterminated string"):
        return f"a closing quote is missing for the text that begins at character {at}"
    if len(body) <= error.pos < 1_000_000 and (closers := _open_brackets(body)):
        kind = "a closing" if len(closers) == 1 else "the closing"
        return f'{kind} "{"".join(closers)}" is missing at character {len(body) + 1}'
    if error.msg.startswith("Expecting property name"):
        if body[error.pos : error.pos + 1] == "'":
            return f"character {at} has a single quote; JSON needs double quotes"
        return f"a name is missing at character {at}"
    mistake = next((said for start, said in _JSON_MISTAKES.items() if error.msg.startswith(start)), _OTHER_MISTAKE)
    return f"{mistake} at character {at}"


def _check_message(message: Any) -> tuple[str, str] | None:
    """Return the code of what is wrong with a message, and the rest of the sentence about it."""
    if not isinstance(message, dict):
        return "bad_message", f"is {_type_of(message)}, not an object"
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        return "unknown_role", f"has the role '{role}'" if isinstance(role, str) else "has no role"
    if message.get("weight") not in (None, 0, 1):
        return "odd_weight", f"({role}) has a weight that is neither 0 nor 1"
    may_be_blank = role == "tool" or (role == "assistant" and message.get("tool_calls"))
    if content is None:
        return None if role == "assistant" and may_be_blank else ("no_content", f"({role}) has no content")
    if not isinstance(content, str):
        return _check_parts(role, content)
    if is_blank(content) and not may_be_blank:
        if not content.strip():
            return "blank_content", f"({role}) is blank"
        code = "invisible_answer" if role == "assistant" else "blank_content"
        return code, f"({role}) has only characters that cannot be seen"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return "lone_surrogate", f"({role}) holds half of a character (a lone surrogate)"
    return None


def is_blank(text: str) -> bool:
    """Tell whether nothing of a text can be seen."""
    return text[:1] in UNSEEN_SIGNS and not text.strip(_UNSEEN)


def _check_parts(role: str, content: Any) -> tuple[str, str]:
    """Return what is wrong with a content that is no text."""
    parts = content if isinstance(content, list) else []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) and part_text(part) is None else None
        if isinstance(kind, str):
            named = next((said for start, said in _PARTS.items() if kind.startswith(start)), f'a part "{kind}"')
            return "not_a_text_part", f"({role}) has {named} in its content"
    if parts and all(part_text(part) is not None for part in parts):
        return "content_not_text", f"({role}) has its text in parts"
    return "content_not_text", f"({role}) has {_type_of(content)} as its content"


def _look_at_messages(row: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yield the code, the message (from 1) and the rest of the sentence for what needs a look in sound messages."""
    before: dict[str, Any] = {}
    for number, message in enumerate(row["messages"], start=1):
        role, content = message["role"], message.get("content")
        if content and content in MISSING:
            yield "literal_nan", number, f'({role}) is "{content}": a missing value written as text'
        if role == "assistant" and before.get("role") == "user" and is_echo(content, before.get("content")):
            yield "echo", number, "(assistant) is the same as the question before it"
        if role == "assistant" and message.get("weight") is not None and message["weight"] == 0:
            yield "weight_zero", number, "(assistant) has the weight 0: it is not learned"
        unknown = [key for key, value in message.items() if key not in CONTRACT_KEYS and value is not None]
        if unknown:
            yield "unknown_keys", number, f'has "{unknown[0]}", which nothing reads'
        before = message
    yield from check_tools(row)


def is_echo(answer: Any, question: Any) -> bool:
    """Tell whether an answer only repeats its question; a greeting given back is none."""
    if answer != question or not isinstance(answer, str):
        return False
    wide = sum(character >= "\u2e80" for character in answer)  # a sign of Chinese says as much as a syllable or more
    return len(answer) + 2 * wide >= _SHORT or any(mark in answer for mark in "?？؟")


def _check_order(line: int, messages: Sequence[dict[str, Any]]) -> list[Problem]:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        return [Problem(line, "no_assistant", " has no assistant message: there is nothing to learn.")]
    if all(message.get("weight") in (0, False) for message in messages if message["role"] == "assistant"):
        return [Problem(line, "no_assistant", " has only answers whose weight is 0: there is nothing to learn.")]
    problems = []
    if len(roles) > 1 and "user" not in roles:
        problems.append(Problem(line, "no_user", " has no user message: nothing says what the answer answers."))
    elif len(roles) > 1 and next(role for role in roles if role != "system") == "assistant":
        problems.append(Problem(line, "starts_with_answer", " starts with an answer; some models refuse that."))
    if len(roles) == 1:
        said = " is one message alone; the service leaves such rows out of the training."
        problems.append(Problem(line, "lone_message", said))
    if roles[-1] != "assistant":
        said = f" ends with a {roles[-1]} message; only answers are learned."
        problems.append(Problem(line, "ends_without_answer", said))
    if "system" in roles[1:]:
        said = " has a system message that is not the first."
        problems.append(Problem(line, "system_not_first", said))
    if any(first == second for first, second in itertools.pairwise(roles) if first in ("user", "assistant")):
        said = " has two messages of one role in a row; some models refuse that."
        problems.append(Problem(line, "roles_repeat", said))
    return problems


def _open_brackets(text: str) -> list[str]:
    """Return the brackets that would close an unfinished line, innermost first."""
    closers: list[str] = []
    inside, escaped = False, False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
        elif character in "}]" and closers:
            closers.pop()
    return closers[::-1]


def _type_of(value: Any) -> str:
    return "null" if value is None else _TYPES.get(type(value), type(value).__name__)


def _refuse_constant(name: str) -> None:
    raise _NotANumberError(name)
