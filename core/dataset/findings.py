"""What a check can find: one table of codes, and a finding as it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
KEPT_LINES = 50  # of each finding; the rest is counted, and found by RowTable


@dataclass(frozen=True)
class Code:
    """A row of the table. bit: its place in a row's flags, -1: of the whole file. repair: what the safe fix does."""

    name: str
    bit: int
    severity: Severity
    title: str
    fix: str
    repair: str = ""


_REMOVE = "The line is left out."
CODES = {
    code.name: code
    for code in (
        Code("empty_file", -1, "error", "The file is empty", "Choose a file with one conversation per line."),
        Code("too_few_rows", -1, "error", "Too few rows", "Add rows: training needs at least 10."),
        Code("not_text", -1, "error", "The file is not UTF-8 text", "Save it as UTF-8."),
        Code("json_list", -1, "error", "One JSON list, not one object per line", "Write each object on its own line."),
        Code("byte_order_mark", -1, "warning", "Byte order mark", "Nothing: it is left out of the copy that is used."),
        Code("nothing_trained", -1, "error", "No row trains anything", "Allow longer rows, or shorten them."),
        Code("bad_model", -1, "error", "The model's own files cannot be used", "Choose another model."),
        Code("not_utf8", 0, "error", "Not UTF-8 text", "Save the file as UTF-8.", _REMOVE),
        Code("not_json", 1, "error", "Not JSON", "Fix the line, or download the repaired file.", _REMOVE),
        Code("not_object", 2, "error", "Not an object", "Write one object with messages on the line.", _REMOVE),
        Code("no_messages", 3, "error", "No messages", "Give the row a list of messages.", _REMOVE),
        Code(
            "empty_messages",
            4,
            "error",
            "Empty messages",
            "Remove the line, or give it a question and an answer.",
            _REMOVE,
        ),
        Code("bad_message", 5, "error", "A message is not an object", "Write a role and a content.", _REMOVE),
        Code(
            "unknown_role",
            6,
            "error",
            "Unknown role",
            "Roles are system, user, assistant and tool.",
            "Known other names of roles are written as the contract has them; else the line is left out.",
        ),
        Code("no_content", 7, "error", "No content", "Give the message a text, or remove the line.", _REMOVE),
        Code("blank_content", 8, "error", "Blank message", "Give the message a text, or remove the line.", _REMOVE),
        Code("lone_surrogate", 9, "error", "Half of a character", "Write the whole character, or remove it.", _REMOVE),
        Code("no_assistant", 10, "error", "Nothing to learn", "Add the answer the model is to learn.", _REMOVE),
        Code("too_deep", 11, "error", "Nested too deeply", "Remove the line.", _REMOVE),
        Code("line_too_long", 12, "error", "Line too long to read", "Write one object per line.", _REMOVE),
        Code("template_refused", 13, "error", "Refused by the model's chat template", "Change the order of the roles."),
        Code("bad_table_row", 14, "error", "Not a row of the table", "Put the field into double quotes.", _REMOVE),
        Code(
            "ends_without_answer",
            20,
            "warning",
            "Does not end with the assistant",
            "Add the answer.",
            "What follows the last answer is left out.",
        ),
        Code(
            "system_not_first",
            21,
            "warning",
            "System message is not the first",
            "Put it at the start.",
            "System messages are joined at the start.",
        ),
        Code(
            "roles_repeat",
            22,
            "warning",
            "Two messages of one role in a row",
            "Join them into one message.",
            "They are joined into one message.",
        ),
        Code(
            "duplicate",
            23,
            "warning",
            "Copy of an earlier row",
            "Remove copies: they are learned more strongly.",
            "The copy is left out.",
        ),
        Code("near_duplicate", 24, "warning", "Nearly a copy of an earlier row", "Look at both, and remove one."),
        Code(
            "leakage",
            25,
            "warning",
            "Test row that is trained on",
            "Remove it from one of the files.",
            "The row is left out of the test file.",
        ),
        Code("near_leakage", 26, "warning", "Test row nearly as in training", "Look at both, and remove one."),
        Code("control_characters", 27, "warning", "Control characters", "Remove them.", "They are taken out."),
        Code(
            "mojibake",
            28,
            "warning",
            "Garbled characters",
            "Save the source with its right encoding.",
            "The characters are restored.",
        ),
        Code("too_long", 29, "warning", "Longer than is trained on", "Allow longer rows, or shorten them."),
        Code("no_trained_tokens", 30, "warning", "Loses every answer when cut", "Allow longer rows, or remove it."),
        Code(
            "lone_message",
            31,
            "warning",
            "One message alone, not trained on",
            "Add the question.",
            "The row is left out, as the service does.",
        ),
        Code("email", 40, "hint", "E-mail address", "Remove it, where it is a person's."),
        Code("phone", 41, "hint", "Phone number", "Remove it, where it is a person's."),
        Code("card_number", 42, "hint", "Card number", "Remove it."),
        Code("secret_key", 43, "hint", "Key or password", "Remove it, and make it invalid where it was used."),
    )
}
_ORDER: dict[str, int] = {"error": 0, "warning": 1, "hint": 2}


@dataclass(frozen=True)
class Finding:
    """What was found, as a group. count: rows (1 for the whole file). lines: the first ones, from 1; () = whole file.

    example: the sentence about the first line. repair: what the safe fix does with such a row, "" = there is none.
    file: "train" or "test".
    """

    code: str
    severity: Severity
    title: str
    count: int
    lines: tuple[int, ...]
    field: str
    example: str
    fix: str
    repair: str = ""
    file: Literal["train", "test"] = "train"


def make_finding(
    code: str, count: int, lines: Iterable[int], field: str = "", example: str = "", fix: str = ""
) -> Finding:
    """Return the finding of a code."""
    row = CODES[code]
    kept = tuple(lines)[:KEPT_LINES]
    return Finding(code, row.severity, row.title, count, kept, field, example or row.title, fix or row.fix, row.repair)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first, those of whole files before those of lines, common before rare."""
    return tuple(sorted(findings, key=lambda one: (_ORDER[one.severity], bool(one.lines), -one.count, one.code)))


def flag(*names: str) -> int:
    """Return the bits of these codes."""
    return sum(1 << CODES[name].bit for name in names)


ERROR_FLAGS = flag(*(code.name for code in CODES.values() if code.severity == "error" and code.bit >= 0))
