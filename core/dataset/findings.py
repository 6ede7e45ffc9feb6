"""What a check can find: a table of all kinds of finding, and a finding as it is kept and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from core.recipe import MINIMUM_ROWS

DataFile = Literal["train", "test"]  # which of a data set's files
Unit = Literal["line", "row"]  # what a row is called by: its line, or its number where lines mean nothing
KEPT_LINES = 50  # of each finding; its other rows are counted, and found by their flags


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"

    @property
    def blocks(self) -> bool:
        """Whether data with such a finding cannot be trained on."""
        return self is Severity.ERROR

    @property
    def rank(self) -> int:
        """The place in an order that begins with the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Kind:
    """A row of the table. bit: its place in a row's flags, -1: of the whole file. fix: what the operator can do."""

    code: str
    bit: int
    severity: Severity
    title: str
    fix: str


ERROR, WARNING, HINT = Severity
_ROW = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
_OR_MODEL = "or choose a model whose template takes them."
KINDS: Mapping[str, Kind] = {
    kind.code: kind
    for kind in (
        Kind("empty_file", -1, ERROR, "The file is empty", "Choose a file with one conversation per line."),
        Kind("too_few_rows", -1, ERROR, "Too few rows", f"Add rows: training needs at least {MINIMUM_ROWS}."),
        Kind("not_text", -1, ERROR, "The file is not UTF-8 text", "Save it as UTF-8."),
        Kind("unread_shape", -1, ERROR, "Not read as conversations", "Say which column is what, or choose other data."),
        Kind("guessed_shape", -1, ERROR, "Which column is what is a guess", "Look at the columns, and confirm them."),
        Kind("other_encoding", -1, ERROR, "Not UTF-8 text", "Read it in the encoding that it looks like."),
        Kind("mended_file", -1, HINT, "Mended while it was read", "None: your own file is not changed."),
        Kind("bad_model", -1, ERROR, "The model's files cannot be used", "Choose another model, or mend its files."),
        Kind("not_utf8", 0, ERROR, "Not UTF-8 text", "Save the file as UTF-8."),
        Kind("not_json", 1, ERROR, "Not JSON", "Fix the line, or download the repaired file."),
        Kind("not_object", 2, ERROR, "Not an object", f"Write {_ROW} on the line."),
        Kind("no_messages", 3, ERROR, "No messages", f"Write {_ROW}."),
        Kind("empty_messages", 4, ERROR, "Empty messages", "Remove the line, or give it a question and an answer."),
        Kind("bad_message", 5, ERROR, "A message is not an object", 'Write {"role": "user", "content": "…"}.'),
        Kind("unknown_role", 6, ERROR, "Unknown role", "Roles are system, user, assistant and tool."),
        Kind("no_content", 7, ERROR, "No content", "Give the message a text, or remove the line."),
        Kind("blank_content", 8, ERROR, "Blank message", "Give the message a text, or remove the line."),
        Kind("lone_surrogate", 9, ERROR, "Lone surrogate", "Write the whole character, or remove it."),
        Kind("no_assistant", 10, ERROR, "Nothing to learn", "Add an answer to learn from, or remove the line."),
        Kind("too_deep", 11, ERROR, "Nested too deeply", "Remove the line."),
        Kind("line_too_long", 12, ERROR, "Line too long to read", "Write one object per line."),
        Kind(
            "template_refused", 13, ERROR, "Refused by the model's chat template", "Change what it names, or the model."
        ),
        Kind("bad_table_row", 14, ERROR, "Not a row of the table", "Quote fields with commas, quotes or line breaks."),
        Kind("tools_refused", 15, ERROR, "Tools refused by the template", f"Write them into the texts, {_OR_MODEL}"),
        Kind("no_user", 16, ERROR, "No question", "Add what the answer answers, or remove the row."),
        Kind("invisible_answer", 17, ERROR, "Answer that cannot be seen", "Write an answer, or remove the row."),
        Kind("content_not_text", 18, ERROR, "Content is not text", "Write it as a text."),
        Kind("not_a_text_part", 19, ERROR, "Content that is no text", "Remove the row: only text is trained on here."),
        Kind("special_tokens", 48, ERROR, "Special tokens in a text", "Remove them: the model would read false turns."),
        Kind("result_without_call", 49, ERROR, "Tool result without a call", "Add the call, or remove the result."),
        Kind("undeclared_tool", 50, ERROR, "Call to a tool that is not declared", 'Declare it under "tools".'),
        Kind("bad_arguments", 51, ERROR, "Arguments that are not JSON", "Write the arguments as a JSON object."),
        Kind("odd_weight", 52, ERROR, "Weight that is neither 0 nor 1", "Write 0 (not learned) or 1 (learned)."),
        Kind("ends_without_answer", 20, WARNING, "Ends without an answer", "Add one, or remove the last message."),
        Kind("system_not_first", 21, WARNING, "System message not at the start", "Put one at the start."),
        Kind("roles_repeat", 22, WARNING, "Two messages of one role in a row", "Join them into one message."),
        Kind("duplicate", 23, WARNING, "Copy of an earlier row", "Remove copies: they are learned more strongly."),
        Kind("near_duplicate", 24, WARNING, "Near copy of an earlier row", "Compare both, and remove one."),
        Kind("leakage", 25, WARNING, "Test row that is trained on", "Remove it from one of the files."),
        Kind("near_leakage", 26, WARNING, "Test row nearly as a training row", "Compare both, and remove one."),
        Kind("control_characters", 27, WARNING, "Control characters", "Remove them."),
        Kind("mojibake", 28, WARNING, "Garbled characters", "Save the source in its right encoding."),
        Kind("too_long", 29, WARNING, "Longer than the maximum length", "Raise that limit, or shorten the rows."),
        Kind("no_trained_tokens", 30, WARNING, "Loses every answer when cut", "Raise that limit, or remove the rows."),
        Kind("lone_message", 31, WARNING, "Single message, not trained on", "Add the question."),
        Kind(
            "tools_left_out", 32, WARNING, "Tools left out by the template", f"Write them into the texts, {_OR_MODEL}"
        ),
        Kind(
            "thoughts_left_out",
            33,
            WARNING,
            "Thoughts left out by the template",
            f"End the row with their answer, {_OR_MODEL}",
        ),
        Kind("starts_with_answer", 34, WARNING, "Starts with an answer", "Put the question before it, or remove it."),
        Kind("duplicate_keys", 35, WARNING, "A key twice in one object", "Keep one: of two, the last is read."),
        Kind("unknown_keys", 36, WARNING, "Keys that nothing reads", "None, if they are not meant to be learned."),
        Kind("unanswered_call", 37, WARNING, "Call without a result", "Add the tool's result after the call."),
        Kind("two_answers", 38, WARNING, "One question, several answers", "Keep the answer that is wanted."),
        Kind("echo", 39, WARNING, "Answer equal to its question", "Write the answer, or remove the row."),
        Kind("literal_nan", 53, WARNING, "Missing value written as text", "Remove it: the source had no value there."),
        Kind("email", 40, HINT, "E-mail address", "Remove it if it is a person's."),
        Kind("phone", 41, HINT, "Phone number", "Remove it if it is a person's."),
        Kind("card_number", 42, HINT, "Card number", "Remove it."),
        Kind("secret_key", 43, HINT, "Key or password", "Remove it, and revoke it where it was used."),
        Kind("sas_token", 44, HINT, "Signed address (SAS)", "Remove it, and revoke it where it was used."),
        Kind("connection_string", 45, HINT, "Connection string", "Remove it, and change its password or key."),
        Kind("identity_number", 46, HINT, "Identity number", "Remove it if it is a person's."),
        Kind("prompt_marker", 47, HINT, "Marker of a prompt in a text", "Remove it if it is left from a template."),
        Kind("cut_answer", 54, HINT, "Answer that may be cut", "Look whether its end is missing."),
        Kind("bidirectional", 55, HINT, "Characters that turn the direction", "Remove them if they hide something."),
        Kind("placeholder", 56, HINT, "Placeholder not filled in", "Fill it in, or remove the row."),
        Kind("weight_zero", 58, HINT, "Answers that are not learned", "None, if their weight of 0 is meant."),
        Kind("inline_base64", 57, HINT, "Encoded file in a text", "Remove it: it takes tokens and teaches nothing."),
    )
}


# Errors that are a judgement: such a row is read and trained as it is, and the operator may say that it is right so.
JUDGED = frozenset(("no_user", "special_tokens", "result_without_call", "undeclared_tool", "bad_arguments"))


@dataclass(frozen=True)
class Finding:
    """A kind of finding in a file. count: rows, 1 for the whole file. lines: the first of them; () = the whole file.

    example: the sentence about the first. file: which of a data set's files it is about.
    """

    code: str
    example: str
    count: int = 1
    lines: tuple[int, ...] = ()
    file: DataFile = "train"

    @property
    def kind(self) -> Kind:
        """What it is: severity, title and fix."""
        return KINDS[self.code]

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return a kept finding. Earlier versions kept more, which is in the table of kinds."""
        return cls(kept["code"], kept["example"], kept["count"], tuple(kept["lines"]))


def read_kept(kept: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Return kept findings but those of kinds that only earlier versions knew."""
    return [Finding.from_json(finding) for finding in kept if finding["code"] in KINDS]


def _place(finding: Finding) -> tuple[int, bool, int, str]:
    return finding.kind.severity.rank, bool(finding.lines), -finding.count, finding.code


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first, those of whole files before those of lines, common before rare."""
    return tuple(sorted(findings, key=_place))


def flag(*codes: str) -> int:
    """Return the bits of these codes."""
    return sum(1 << KINDS[code].bit for code in codes)


# Of rows that no run reads.
ERROR_FLAGS = flag(
    *(kind.code for kind in KINDS.values() if kind.severity.blocks and kind.bit >= 0 and kind.code not in JUDGED)
)
