"""The safe repairs of chat data: what they would change, and the repaired copy. The file itself is never changed.

A repair is safe if it removes nothing that could be learned, or leaves out a row that cannot be used at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.dataset import row_index
from core.dataset.chat_dataset import ChatDataset
from core.dataset.checks.line_check import CONTROL, check_row, read_line, to_line
from core.dataset.checks.text_check import restore
from core.dataset.checks.tool_check import check_tools
from core.dataset.findings import KINDS, DataFile, flag
from core.dataset.forms.message_reading import read_content
from core.dataset.model.token_counts import read_special

_REFUSALS = ("template_refused", "tools_refused")  # of one model; another may take the row
# What a repair does with a row that has a finding.
REPAIRS: Mapping[str, str] = {
    kind.code: "The line is left out."
    for kind in KINDS.values()
    if kind.severity.blocks and kind.bit >= 0 and kind.code not in _REFUSALS
} | {
    "content_not_text": "It becomes its text; parts of text are joined.",
    "odd_weight": "It becomes 0 or 1 where it says so; else it is removed, and the answer is learned.",
    "result_without_call": "The result is taken out; a row that is not whole without it is left out.",
    "special_tokens": "They are taken out of the texts; a row is left out where nothing else stands in one.",
    "ends_without_answer": "What follows the last answer is left out.",
    "system_not_first": "System messages are joined at the start.",
    "roles_repeat": "They are joined into one message.",
    "duplicate": "The copy is left out.",
    "leakage": "The row is left out of the test file.",
    "control_characters": "They are removed.",
    "mojibake": "The characters are restored.",
    "lone_message": "The row is left out, as the service does.",
}
# Errors that may be none, and whose repair only leaves rows out: it is done where it is asked for, never by itself.
ASKED_FOR = frozenset(("no_user", "undeclared_tool", "bad_arguments"))
_WEIGHTS = {"0": 0, "1": 1, "true": 1, "false": 0}
_MOST_CHARACTERS = 20_000  # of a row that is shown
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class RowDiff:
    """One row before and after its repair; after None: it is left out. codes: the findings that are repaired."""

    line: int
    codes: tuple[str, ...]
    before: str
    after: str | None


@dataclass(frozen=True)
class Effect:
    """How many rows of both files a repair changes and leaves out. share: of a file's rows left out, the larger one."""

    changed: int = 0
    left_out: int = 0
    share: float = 0.0


def list_changes(
    dataset: ChatDataset, codes: Collection[str], file: DataFile = "train", first: int = 20
) -> list[RowDiff]:
    """Return the first rows that a repair changes, before and after; reads these rows and few others."""
    path = dataset.path_of(file)
    rows, mark = row_index.read(path), dataset.mark
    flags, special = row_index.read_flags(path, mark), read_special(path, mark)
    changes: list[RowDiff] = []
    for at in row_index.find_flagged(path, *codes, mark=mark)[: 4 * first]:
        raw = row_index.read_line_at(path, int(rows["offset"][at]))
        after, mended = mend(raw, int(flags[at]), codes, special)
        if after != raw:
            changed = None if after is None else readable(after)
            changes.append(RowDiff(int(rows["line"][at]), mended, readable(raw), changed))
    return changes[:first]


def count_changes(dataset: ChatDataset, codes: Collection[str]) -> dict[str, Effect]:
    """Return by code what its repair does to the rows of both files; reads those in which it was found."""
    return {code: _count_effect(dataset, code) for code in codes}


def _count_effect(dataset: ChatDataset, code: str) -> Effect:
    changed, left_out, share = 0, 0, 0.0
    for path in dataset.files.values():
        offsets, mark = row_index.read(path)["offset"], dataset.mark
        flags, special = row_index.read_flags(path, mark), read_special(path, mark)
        gone = 0
        for at in row_index.find_flagged(path, code, mark=mark):
            raw = row_index.read_line_at(path, int(offsets[at])).strip()
            after, _ = mend(raw, int(flags[at]), (code,), special)
            gone += after is None
            changed += after is not None and after != raw
        left_out += gone
        share = max(share, gone / max(1, len(offsets)))
    return Effect(changed, left_out, share)


def repaired_rows(
    dataset: ChatDataset, codes: Collection[str] = REPAIRS, file: DataFile = "train"
) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of the repaired copy of a file: the line of the operator's own file, and the row as a line."""
    path = dataset.path_of(file)
    flags, special = row_index.read_flags(path, dataset.mark), read_special(path, dataset.mark)
    own_lines = row_index.read(path)["line"]
    for first, lines in row_index.iterate(path):
        for at, raw in enumerate(lines, first):
            after, _ = mend(raw.strip(), int(flags[at]), codes, special)
            if after is not None:
                yield int(own_lines[at]), after


def mend(
    raw: bytes, flags: int, codes: Collection[str], special: Collection[str] = ()
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return a line as it should be, None to leave it out, and which findings that repairs.

    flags: what was found in it. codes: which findings to repair. special: tokens of the model that its file's texts
    hold. A row of which that leaves a message without a text is left out.
    """
    for code in ("duplicate", "leakage"):
        if code in codes and flags & flag(code):
            return None, (code,)
    row, problem = read_line(0, raw)
    if row is None:
        return _leave_out(raw, [problem.code] if problem else [], codes)
    mended: list[str] = []
    row = _mend_row(row, codes, mended, special)
    broken = [problem.code for problem in check_row(0, row) if problem.blocks]
    if "special_tokens" in mended and "blank_content" in broken:
        return None, ("special_tokens",)
    if not broken and len(row["messages"]) == 1:
        broken = ["lone_message"]
    after, left_out = _leave_out(raw, broken, codes)
    return (to_line(row), tuple(mended)) if mended and after is not None else (after, left_out)


def _leave_out(raw: bytes, broken: list[str], codes: Collection[str]) -> tuple[bytes | None, tuple[str, ...]]:
    """Leave a broken line out, if something that is wrong with it is to be repaired."""
    wanted = tuple(dict.fromkeys(code for code in broken if code in codes))
    return (None, wanted) if wanted else (raw, ())


def _mend_row(
    row: dict[str, Any], codes: Collection[str], mended: list[str], special: Collection[str]
) -> dict[str, Any]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return row
    menders: list[tuple[str, Callable[[Messages], Messages]]] = [("special_tokens", partial(_take_out, special))]
    for code, change in (*menders, *_MENDERS):
        if code in codes and (changed := change(messages)) != messages:
            messages = changed
            mended.append(code)
    return {**row, "messages": messages} if mended else row


def readable(raw: bytes) -> str:
    """Return a line as it is shown: JSON on several lines, where it is JSON."""
    text = raw.decode("utf-8", "replace").strip()
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)[:_MOST_CHARACTERS]
    except (ValueError, RecursionError):
        return text[:_MOST_CHARACTERS]


def _change_texts(change: Callable[[str], str], messages: Messages) -> Messages:
    return [
        {**message, "content": change(message["content"])} if isinstance(message.get("content"), str) else message
        for message in messages
    ]


def _take_out(tokens: Collection[str], said: Any) -> Any:
    """Return messages without these tokens in their texts, those of calls among them."""
    if isinstance(said, str):
        return re.sub("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))), "", said) if tokens else said
    if isinstance(said, dict):
        return {key: _take_out(tokens, value) for key, value in said.items()}
    return [_take_out(tokens, each) for each in said] if isinstance(said, list) else said


def _write_contents(messages: Messages) -> Messages:
    return [
        message
        if isinstance(message.get("content", ""), str | None)
        else message | {"content": _as_text(message["content"])}
        for message in messages
    ]


def _as_text(content: Any) -> Any:
    """Return a content as a text: parts of text joined, else as JSON writes it; one that has other parts as it is."""
    parts = content if isinstance(content, list) else []
    if isinstance(text := read_content(content), str):
        return text
    has_others = any(isinstance(part, dict) and "type" in part for part in parts)
    return content if has_others else json.dumps(content, ensure_ascii=False)


def _write_weights(messages: Messages) -> Messages:
    """Return messages with the weights 0 and 1 only, whatever they are written as; any other is none."""
    written = []
    for message in messages:
        rest = {key: value for key, value in message.items() if key != "weight"}
        weight = message.get("weight")
        meant = weight if weight is None else _WEIGHTS.get(str(weight).strip().lower().removesuffix(".0"))
        written.append(message if weight is None else rest if meant is None else {**message, "weight": meant})
    return written


def _take_out_results(messages: Messages) -> Messages:
    """Return messages without results that nothing asked for, where that leaves nothing else to find."""
    if not all("role" in message for message in messages):
        return messages
    alone = {at for code, at, _ in check_tools({"messages": messages}) if code == "result_without_call"}
    rest = [message for at, message in enumerate(messages, start=1) if at not in alone]
    before, after = ({problem.code for problem in check_row(0, {"messages": some})} for some in (messages, rest))
    return rest if after <= before - {"result_without_call"} else messages


def _put_system_first(messages: Messages) -> Messages:
    system = [message for message in messages if message.get("role") == "system"]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    if not all(isinstance(message.get("content"), str) for message in system):
        return messages
    joined = {**system[0], "content": "\n\n".join(message["content"] for message in system)}
    return [joined, *(message for message in messages if message.get("role") != "system")]


def _join_repeats(messages: Messages) -> Messages:
    joined: Messages = []
    for message in messages:
        last = joined[-1] if joined else {}
        plain = set(message) | set(last) <= {"role", "content"}
        same = message.get("role") == last.get("role") and message.get("role") in ("user", "assistant")
        if same and plain and isinstance(message.get("content"), str) and isinstance(last.get("content"), str):
            joined[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return joined


def _end_with_answer(messages: Messages) -> Messages:
    last = max((number for number, message in enumerate(messages) if message.get("role") == "assistant"), default=-1)
    return messages[: last + 1] if last >= 0 else messages


_MENDERS: tuple[tuple[str, Callable[[Messages], Messages]], ...] = (
    ("content_not_text", _write_contents),
    ("odd_weight", _write_weights),
    ("control_characters", partial(_change_texts, partial(CONTROL.sub, ""))),
    ("mojibake", partial(_change_texts, restore)),
    ("system_not_first", _put_system_first),
    ("roles_repeat", _join_repeats),
    ("ends_without_answer", _end_with_answer),
    ("result_without_call", _take_out_results),
)
