"""The safe repairs of chat data: what each would change, and the changed copy. The file itself is never touched.

Safe is what takes nothing away that could be learned, or leaves out a row that cannot be used at all.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core.dataset.findings import CODES
from core.dataset.rows import check_row, read_line, to_line
from core.dataset.shapes import ROLE_NAMES
from core.dataset.text import restore

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
REPAIRABLE = tuple(code.name for code in CODES.values() if code.repair)


@dataclass(frozen=True)
class RowDiff:
    """One row before and after; after None: it is left out. codes: the findings that are mended."""

    line: int
    codes: tuple[str, ...]
    before: str
    after: str | None


@dataclass(frozen=True)
class RepairStep:
    """What one repair does, and to how many rows."""

    code: str
    title: str
    words: str
    rows: int


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do. diffs: the first rows that change. kept, changed, removed: rows of the whole file."""

    steps: tuple[RepairStep, ...] = ()
    diffs: tuple[RowDiff, ...] = ()
    kept: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def words(self) -> str:
        """Return "12 rows change, 3 are left out, 985 stay as they are."."""
        return f"{self.changed:,} rows change, {self.removed:,} are left out, {self.kept:,} stay as they are."


@dataclass
class Repairer:
    """Mends one line after the other. codes: which findings to mend.

    copies: lines to leave out as copies; leaked: lines to leave out since they are trained on.
    """

    codes: Collection[str] = REPAIRABLE
    copies: Collection[int] = ()
    leaked: Collection[int] = ()
    counts: Counter[str] = field(default_factory=Counter)

    def mend(self, line: int, raw: bytes) -> tuple[bytes | None, tuple[str, ...]]:
        """Return the line as it should be, None to leave it out, and what was mended."""
        for code, lines in (("duplicate", self.copies), ("leakage", self.leaked)):
            if code in self.codes and line in lines:
                self.counts[code] += 1
                return None, (code,)
        row, problem = read_line(line, raw)
        if row is None:
            code = problem.code if problem else "not_json"
            return self._leave_out(raw, [code])
        mended: list[str] = []
        row = self._mend_row(row, mended)
        broken = [
            found.code
            for found in check_row(line, row)
            if found.severity == "error" or (found.code == "lone_message" and found.code in self.codes)
        ]
        if broken:
            return self._leave_out(raw, broken)
        self.counts.update(mended)
        if not mended:
            return raw, ()
        return to_line(row), tuple(dict.fromkeys(mended))

    def _leave_out(self, raw: bytes, codes: list[str]) -> tuple[bytes | None, tuple[str, ...]]:
        wanted = [code for code in dict.fromkeys(codes) if code in self.codes]
        if not wanted:
            return raw, ()
        self.counts.update(wanted)
        return None, tuple(wanted)

    def _mend_row(self, row: dict[str, Any], mended: list[str]) -> dict[str, Any]:
        messages = row.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            return row
        for code, mend in _MENDERS:
            if code in self.codes:
                changed = mend(messages)
                if changed != messages:
                    messages = changed
                    mended.append(code)
        return {**row, "messages": messages} if mended else row


def plan(lines: Iterable[tuple[int, bytes]], repairer: Repairer, total: int, shown: int = 20) -> RepairPlan:
    """Return what a repair of these lines would do. total: rows of the whole file; these are those with findings."""
    diffs: list[RowDiff] = []
    changed = removed = 0
    for line, raw in lines:
        after, codes = repairer.mend(line, raw)
        if after == raw:
            continue
        removed += after is None
        changed += after is not None
        if len(diffs) < shown:
            diffs.append(RowDiff(line, codes, _readable(raw), None if after is None else _readable(after)))
    steps = [RepairStep(code, CODES[code].title, CODES[code].repair, rows) for code, rows in repairer.counts.items()]
    return RepairPlan(tuple(steps), tuple(diffs), total - changed - removed, changed, removed)


def apply(lines: Iterable[tuple[int, bytes]], repairer: Repairer) -> Iterator[bytes]:
    """Yield the lines of the repaired copy, without line ends."""
    for line, raw in lines:
        after, _ = repairer.mend(line, raw)
        if after is not None:
            yield after.rstrip(b"\r\n")


def _readable(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").strip()
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)[:20_000]
    except (ValueError, RecursionError):
        return text[:20_000]


def _with_content(messages: list[dict[str, Any]], change: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {**one, "content": change(one["content"])} if isinstance(one.get("content"), str) else one for one in messages
    ]


def _known_roles(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def known(role: Any) -> Any:
        return ROLE_NAMES.get(role.lower().strip(), role) if isinstance(role, str) else role

    return [{**one, "role": known(one["role"])} if "role" in one else one for one in messages]


def _without_controls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _with_content(messages, lambda text: CONTROL.sub("", text))


def _restored(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _with_content(messages, restore)


def _system_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system = [one for one in messages if one.get("role") == "system"]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    if not all(isinstance(one.get("content"), str) for one in system):
        return messages
    joined = {**system[0], "content": "\n\n".join(one["content"] for one in system)}
    return [joined, *(one for one in messages if one.get("role") != "system")]


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for one in messages:
        last = made[-1] if made else {}
        plain = set(one) | set(last) <= {"role", "content"}
        same = one.get("role") == last.get("role") and one.get("role") in ("user", "assistant")
        if same and plain and isinstance(one.get("content"), str) and isinstance(last.get("content"), str):
            made[-1] = {**last, "content": f"{last['content']}\n\n{one['content']}"}
        else:
            made.append(one)
    return made


def _until_the_last_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = max((number for number, one in enumerate(messages) if one.get("role") == "assistant"), default=-1)
    return messages[: last + 1] if last >= 0 else messages


_MENDERS: tuple[tuple[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]], ...] = (
    ("unknown_role", _known_roles),
    ("control_characters", _without_controls),
    ("mojibake", _restored),
    ("system_not_first", _system_first),
    ("roles_repeat", _joined),
    ("ends_without_answer", _until_the_last_answer),
)
