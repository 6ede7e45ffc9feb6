"""What is wrong with one line of chat data, in words, and how to mend it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

from core.dataset.findings import Severity

ROLES = ("system", "user", "assistant", "tool")
_SHAPE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
UNREADABLE = "tunedeck: unreadable row"  # the only key of what stands for a table's row that could not be read
FIX_LINE = "Fix the line, or download the repaired file."


@dataclass(frozen=True)
class Problem:
    """One finding. `line` counts from 1, 0 = the whole file; an error blocks, a warning does not."""

    line: int
    field: str
    message: str
    fix: str
    severity: Severity = "error"
    code: str = ""


def read_line(line: int, raw: bytes) -> tuple[dict[str, Any] | None, Problem | None]:
    """Return the object on a line, or what keeps it from being read."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return None, Problem(
            line, "", f"Line {line} is not UTF-8 text: {what}.", "Save the file as UTF-8.", code="not_utf8"
        )
    try:
        row = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return None, Problem(
            line, "", f"Line {line} is not JSON: {explain_json(text, error)}.", FIX_LINE, code="not_json"
        )
    except RecursionError:
        return None, Problem(line, "", f"Line {line} is nested too deeply.", FIX_LINE, code="too_deep")
    except ValueError as error:
        return None, Problem(
            line, "", f"Line {line} is not JSON: {error} is not a number in JSON.", FIX_LINE, code="not_json"
        )
    if not isinstance(row, dict):
        return None, Problem(
            line, "", f"Line {line} is {_kind(row)}, not an object.", f"Write {_SHAPE} on the line.", code="not_object"
        )
    return row, None


def to_line(row: Any) -> bytes:
    """Return a row as a line of JSONL, without its end; half a character stays escaped, for the check to name."""
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(row).encode()


def check_row(line: int, row: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with the messages of a row, first things first."""
    if UNREADABLE in row:
        return [_unreadable(line, row[UNREADABLE])]
    if "messages" not in row:
        known = ", ".join(f'"{name}"' for name in list(row)[:4]) or "nothing"
        return [
            Problem(
                line,
                "messages",
                f'Line {line} has no "messages"; it has {known}.',
                f"Write {_SHAPE}.",
                code="no_messages",
            )
        ]
    messages = row["messages"]
    if not isinstance(messages, list):
        return [
            Problem(
                line,
                "messages",
                f'Line {line}: "messages" is {_kind(messages)}, not a list.',
                f"Write {_SHAPE}.",
                code="no_messages",
            )
        ]
    if not messages:
        fix = "Remove the line, or give it a question and an answer."
        return [Problem(line, "messages", f'Line {line}: "messages" is empty.', fix, code="empty_messages")]
    problems = [problem for number, one in enumerate(messages) if (problem := _check_message(line, number, one))]
    return problems or _check_order(line, [str(one["role"]) for one in messages])


def _unreadable(line: int, told: Any) -> Problem:
    said = told.get("said") if isinstance(told, dict) else "cannot be read"
    fix = "Put fields that hold a comma, a quote or a line break into double quotes."
    return Problem(line, "", f"Line {line} {said}.", fix, code="bad_table_row")


def explain_json(text: str, error: json.JSONDecodeError) -> str:
    """Return in words what JSON misses, with the character it misses it at (counted from 1)."""
    at = error.pos + 1
    body = text.rstrip()
    if error.msg.startswith("Unterminated string"):
        return f"a closing quote is missing for the text that begins at character {at}"
    if len(body) <= error.pos < 1_000_000 and (closers := _open_brackets(body)):
        kind = "a closing" if len(closers) == 1 else "the closing"
        return f'{kind} "{"".join(closers)}" is missing at character {len(body) + 1}'
    if error.msg.startswith("Expecting property name"):
        quoted = body[error.pos : error.pos + 1] == "'"
        return (
            f"character {at} has a single quote; JSON needs double quotes"
            if quoted
            else f"a name is missing at character {at}"
        )
    if error.msg.startswith("Illegal trailing comma"):
        return f"a comma too many stands at character {at}"
    words = {
        "Expecting ',' delimiter": "a comma is missing",
        "Expecting ':' delimiter": "a colon is missing",
        "Expecting value": "a value is missing",
        "Extra data": "more follows after the end of the object",
        "Invalid control character at": "a line break or tab stands inside a text",
        "Invalid \\escape": "a backslash stands before a letter that cannot be escaped",
        "Invalid \\uXXXX escape": "a \\u is not followed by four digits",
    }
    known = next((said for start, said in words.items() if error.msg.startswith(start)), error.msg.lower())
    return f"{known} at character {at}"


def _check_message(line: int, number: int, message: Any) -> Problem | None:
    field = f"messages[{number}]"
    if not isinstance(message, dict):
        fix = 'Write {"role": "user", "content": "…"}.'
        return Problem(
            line,
            field,
            f"Line {line}: message {number + 1} is {_kind(message)}, not an object.",
            fix,
            code="bad_message",
        )
    role = message.get("role")
    if role not in ROLES:
        said = f"has the role '{role}'" if isinstance(role, str) else "has no role"
        fix = "Roles are system, user and assistant."
        return Problem(line, f"{field}.role", f"Line {line}: message {number + 1} {said}.", fix, code="unknown_role")
    content = message.get("content")
    if content is None and role == "assistant" and message.get("tool_calls"):
        return None
    if not isinstance(content, str):
        said = "has no content" if content is None else f"has {_kind(content)} as its content"
        fix = "Give it a text, or remove the line."
        return Problem(
            line, f"{field}.content", f"Line {line}: message {number + 1} ({role}) {said}.", fix, code="no_content"
        )
    if not content.strip():
        fix = "Give it a text, or remove the line."
        return Problem(
            line, f"{field}.content", f"Line {line}: message {number + 1} ({role}) is blank.", fix, code="blank_content"
        )
    if any("\ud800" <= character <= "\udfff" for character in content):
        said = f"Line {line}: message {number + 1} ({role}) holds half of a character (a lone surrogate)."
        return Problem(
            line, f"{field}.content", said, "Write the whole character, or remove it.", code="lone_surrogate"
        )
    return None


def _check_order(line: int, roles: list[str]) -> list[Problem]:
    if "assistant" not in roles:
        fix = "Add the answer the model is to learn, or remove the line."
        return [
            Problem(
                line,
                "messages",
                f"Line {line} has no assistant message: there is nothing to learn.",
                fix,
                code="no_assistant",
            )
        ]
    problems = []
    if len(roles) == 1:
        said = f"Line {line} is one message alone; the service leaves such rows out of the training."
        problems.append(Problem(line, "messages", said, "Add the question.", "warning", code="lone_message"))
    if roles[-1] != "assistant":
        said = f"Line {line} ends with a {roles[-1]} message; only answers are learned."
        fix = "Add the answer, or remove the last message."
        problems.append(Problem(line, f"messages[{len(roles) - 1}]", said, fix, "warning", code="ends_without_answer"))
    if "system" in roles[1:]:
        said = f"Line {line} has a system message that is not the first."
        problems.append(
            Problem(line, "messages", said, "Put one system message at the start.", "warning", code="system_not_first")
        )
    if any(first == second for first, second in itertools.pairwise(roles) if first in ("user", "assistant")):
        said = f"Line {line} has two messages of one role in a row; some models refuse that."
        problems.append(Problem(line, "messages", said, "Join them into one message.", "warning", code="roles_repeat"))
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


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        dict: "an object",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
