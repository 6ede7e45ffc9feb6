"""Files of chat data (JSON Lines, one conversation a line under "messages") and the service's rule for splitting."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.engine.answers import is_learned
from core.engine.chat_template import Message, Tools
from core.engine.chat_tokens import check_messages, find_tools
from core.engine.splits import deal
from core.errors import BadInput, NotFound
from core.recipe import MINIMUM_ROWS

KNOWN_COLUMNS = {"messages", "prompt", "prompt_id"}
SHOWN = 5


class ChatRow(NamedTuple):
    """A conversation, the line it stands on and its tools."""

    line: int
    messages: list[Message]
    tools: Tools


@dataclass(frozen=True)
class ChatFile:
    """Where the usable conversations of a file are: it may be larger than memory, so they are read when needed.

    starts, lines: int64 (rows,), the byte at which each begins and the line it stands on. dropped: rows that are empty,
    hold a single message, or no answer to learn from.
    """

    path: Path
    starts: np.ndarray
    lines: np.ndarray
    messages: int = 0
    dropped: int = 0
    unused_columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def read(self) -> Iterator[ChatRow]:
        """Yield the rows from the file, which must not have changed."""
        with self.path.open("rb") as file:
            for start, line in zip(self.starts, self.lines, strict=True):
                file.seek(int(start))
                row, _ = _read_row(file.readline().decode())
                yield ChatRow(int(line), row["messages"], find_tools(row))

    def facts(self) -> dict[str, Any]:
        """Return the counts for a report."""
        return {
            "file": self.path.name,
            "rows": len(self),
            "dropped_rows": self.dropped,
            "messages": self.messages,
            "unused_columns": list(self.unused_columns),
        }

    def words(self) -> str:
        """Return the counts as a log line."""
        words = f"{len(self)} conversations in {self.path.name}"
        if self.dropped:
            words += f", {self.dropped} rows without a conversation left out"
        if self.unused_columns:
            words += f", columns not used: {', '.join(self.unused_columns)}"
        return words + "."

    def take(self, indices: np.ndarray) -> ChatFile:
        """Return some of the rows."""
        return replace(self, starts=self.starts[indices], lines=self.lines[indices])


def read_chat_file(path: Path) -> ChatFile:
    """Read and check a file; raises NotFound, or BadInput naming the first lines that are wrong.

    Rows with no conversation (null, empty, or one message alone) are left out, as the service does; those without an
    answer to learn from too.
    """
    if not path.is_file():
        raise NotFound(f"The data file {path.name} was not found.", detail=str(path))
    starts, lines, count, dropped, columns = array("q"), array("q"), 0, 0, set[str]()
    problems, start = Problems(), 0
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            begin, start = start, start + len(raw)
            if not raw.strip():
                continue
            try:
                row, problem = _read_row(raw.decode())
            except UnicodeDecodeError as error:
                said = f"{path.name} is not text in UTF-8."
                raise BadInput(said, "Save it as UTF-8 JSON Lines.", str(error)) from error
            if problem:
                problems.add(f"Line {line} of {path.name}: {problem}")
                continue
            columns |= row.keys() - KNOWN_COLUMNS - ({"tools"} if find_tools(row) else set())
            messages = row["messages"]
            if len(messages) < 2 or not any(map(is_learned, messages)):
                dropped += 1
                continue
            starts.append(begin)
            lines.append(line)
            count += len(messages)
    problems.check("more lines are wrong.", "Correct it, then start again.")
    return ChatFile(path, np.array(starts), np.array(lines), count, dropped, tuple(sorted(columns)))


class Problems:
    """Sentences about what is wrong in a file, of which the first few are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, problem: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(problem)

    def check(self, more: str, alone: str = "") -> None:
        """Raise BadInput where there are any. more: what follows the number of the others; alone: a hint without."""
        if self.count:
            hint = f"{self.count - 1} {more}" if self.count > 1 else alone
            raise BadInput(self.shown[0], hint, "\n".join(self.shown))


def _read_row(text: str) -> tuple[dict[str, Any], str]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"not valid JSON ({error.msg} at character {error.pos + 1})."
    if not isinstance(row, dict):
        return {}, "not a JSON object."
    if "messages" not in row:
        return {}, "it has no 'messages'."
    if not row["messages"]:
        return {**row, "messages": []}, ""
    messages = row["messages"]
    if isinstance(messages, list):  # keys without a value are dropped before the check, as the service does
        messages = [_without_nulls(each) for each in messages]
    problem = check_messages(messages)
    return {**row, "messages": messages}, problem or ""


def _without_nulls(message: Any) -> Any:
    return {key: value for key, value in message.items() if value is not None} if isinstance(message, dict) else message


def check_enough(chat_file: ChatFile) -> None:
    """Raise BadInput where there are too few rows to train on."""
    rows = len(chat_file)
    if rows < MINIMUM_ROWS:
        raise BadInput(
            f"{chat_file.path.name} holds {rows} usable conversations; fine-tuning needs at least {MINIMUM_ROWS}.",
            "Add conversations with a question and an answer each.",
        )


def split(train: ChatFile, validation: ChatFile | None, test: ChatFile | None, seed: int) -> dict[str, ChatFile]:
    """Return train, validation and test rows by the service's rule; what was given is never touched but train."""
    given = {"validation": validation, "test": test}
    missing = [name for name, chat_file in given.items() if chat_file is None]
    dealt = {name: train.take(places) for name, places in deal(len(train), seed, missing).items()}
    return dealt | {name: chat_file for name, chat_file in given.items() if chat_file is not None}
