"""Files of chat data (JSON Lines, one conversation a line under "messages") and the service's rule for splitting."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.engine.answers import is_learned
from core.engine.chat_template import Message, Tools
from core.engine.chat_tokens import check_messages, find_tools
from core.engine.splits import deal
from core.errors import BadInput, NotFound
from core.recipe import MINIMUM_ROWS

KNOWN_COLUMNS = {"messages", "prompt", "prompt_id"}
SHOWN = 5


@dataclass(frozen=True)
class ChatFile:
    """Usable conversations with the line each stands on, and its tools.

    dropped: rows that are empty, hold a single message, or no answer to learn from.
    """

    name: str
    conversations: list[list[Message]]
    lines: list[int]
    tools: list[Tools]
    dropped: int = 0
    unused_columns: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the counts for a report."""
        return {
            "file": self.name,
            "rows": len(self.conversations),
            "dropped_rows": self.dropped,
            "messages": sum(map(len, self.conversations)),
            "unused_columns": list(self.unused_columns),
        }

    def words(self) -> str:
        """Return the counts as a log line."""
        words = f"{len(self.conversations)} conversations in {self.name}"
        if self.dropped:
            words += f", {self.dropped} rows without a conversation left out"
        if self.unused_columns:
            words += f", columns not used: {', '.join(self.unused_columns)}"
        return words + "."

    def take(self, indices: np.ndarray) -> ChatFile:
        """Return some of the rows."""
        kept = [int(index) for index in indices]
        conversations, lines = [self.conversations[i] for i in kept], [self.lines[i] for i in kept]
        tools = [self.tools[i] for i in kept]
        return replace(self, conversations=conversations, lines=lines, tools=tools, dropped=0)


def read_chat_file(path: Path) -> ChatFile:
    """Read and check a file; raises NotFound, or BadInput naming the first lines that are wrong.

    Rows with no conversation (null, empty, or one message alone) are left out, as the service does; those without an
    answer to learn from too.
    """
    if not path.is_file():
        raise NotFound(f"The data file {path.name} was not found.", detail=str(path))
    conversations, lines, tools, problems, dropped, columns = [], [], [], [], 0, set()
    with path.open(encoding="utf-8", errors="strict") as file:
        try:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                row, problem = _read_row(text)
                if problem:
                    problems.append(f"Line {line} of {path.name}: {problem}")
                    continue
                given = find_tools(row)
                columns |= row.keys() - KNOWN_COLUMNS - ({"tools"} if given else set())
                messages = row["messages"]
                if len(messages) < 2 or not any(map(is_learned, messages)):
                    dropped += 1
                    continue
                conversations.append(messages)
                lines.append(line)
                tools.append(given)
        except UnicodeDecodeError as error:
            raise BadInput(f"{path.name} is not text in UTF-8.", "Save it as UTF-8 JSON Lines.", str(error)) from error
    if problems:
        more = f"{len(problems) - 1} more lines are wrong." if len(problems) > 1 else "Correct it, then start again."
        raise BadInput(problems[0], more, "\n".join(problems[:SHOWN]))
    return ChatFile(path.name, conversations, lines, tools, dropped, tuple(sorted(columns)))


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
    rows = len(chat_file.conversations)
    if rows < MINIMUM_ROWS:
        raise BadInput(
            f"{chat_file.name} holds {rows} usable conversations; fine-tuning needs at least {MINIMUM_ROWS}.",
            "Add conversations with a question and an answer each.",
        )


def split(train: ChatFile, validation: ChatFile | None, test: ChatFile | None, seed: int) -> dict[str, ChatFile]:
    """Return train, validation and test rows by the service's rule; what was given is never touched but train."""
    given = {"validation": validation, "test": test}
    missing = [name for name, chat_file in given.items() if chat_file is None]
    dealt = {name: train.take(places) for name, places in deal(len(train.conversations), seed, missing).items()}
    return dealt | {name: chat_file for name, chat_file in given.items() if chat_file is not None}
