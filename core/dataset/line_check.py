"""What is wrong with one line of chat data, in a sentence, and how lines are read and written."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

from core.dataset.findings import JUDGED, KINDS, Unit

BOM = b"\xef\xbb\xbf"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
UNREADABLE = "tunedeck: unreadable row"  # the only key of what stands for a table's row that could not be read
_ROLES = ("system", "user", "assistant", "tool")
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
    return problems or _check_order(line, [message["role"] for message in messages])


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
    if role not in _ROLES:
        return "unknown_role", f"has the role '{role}'" if isinstance(role, str) else "has no role"
    if content is None and role == "assistant" and message.get("tool_calls"):
        return None
    if not isinstance(content, str):
        said = "has no content" if content is None else f"has {_type_of(content)} as its content"
        return "no_content", f"({role}) {said}"
    if not content.strip() and not (role == "assistant" and message.get("tool_calls")):
        return "blank_content", f"({role}) is blank"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return "lone_surrogate", f"({role}) holds half of a character (a lone surrogate)"
    return None


def _check_order(line: int, roles: list[str]) -> list[Problem]:
    if "assistant" not in roles:
        return [Problem(line, "no_assistant", " has no assistant message: there is nothing to learn.")]
    problems = []
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
