"""What was said on the chat page in this browser session, and how it is taken away. Draws nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from core.chat import Exchange, Message, Stats
from core.errors import TunedeckError
from pages.parts.state import ui


@dataclass
class Turn:
    """A question and its answer. prompt: all messages that were sent; row: the test row it comes from, from 1."""

    question: str
    prompt: list[Message]
    expected: str = ""
    row: int = 0
    answer: str = ""
    stats: Stats | None = None
    exchange: Exchange | None = None
    error: TunedeckError | None = None
    stopped: bool = False
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Chat:
    """The turns with one endpoint. waiting: a turn that has been asked and not been sent yet."""

    endpoint: str
    turns: list[Turn] = field(default_factory=list)
    waiting: Turn | None = None

    def ask(self, question: str, system: str = "") -> None:
        """Put a question after what was said before."""
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for turn in self.turns:
            if turn.answer and not turn.row:
                messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        self.waiting = Turn(question, [*messages, {"role": "user", "content": question}])

    def ask_row(self, row: int, prompt: list[Message], expected: str) -> None:
        """Put a test row's question on its own: the talk before it would change the answer."""
        question = next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
        self.waiting = Turn(question, list(prompt), expected, row)

    def ask_again(self) -> None:
        """Put the last question once more, in the place of its answer."""
        last = self.turns.pop()
        self.waiting = Turn(last.question, last.prompt, last.expected, last.row)

    def clear(self) -> None:
        """Forget everything that was said."""
        self.turns.clear()
        self.waiting = None

    def to_json(self) -> str:
        """Return the transcript, without any key."""
        turns = [
            {
                "asked_at": turn.asked_at.isoformat(timespec="seconds"),
                "messages": [dict(message) for message in turn.prompt],
                "answer": turn.answer,
                "expected": turn.expected or None,
                "test_row": turn.row or None,
                "stopped": turn.stopped,
                "error": turn.error.message if turn.error else None,
                "tokens": turn.stats.tokens if turn.stats else None,
                "seconds": round(turn.stats.seconds, 3) if turn.stats else None,
            }
            for turn in self.turns
        ]
        return json.dumps({"endpoint": self.endpoint, "turns": turns}, indent=2, ensure_ascii=False)


def chat_with(endpoint: str) -> Chat:
    """Return what this session said to an endpoint."""
    key = f"{ui().alias}/{endpoint}"
    if key not in ui().chats:
        ui().chats[key] = Chat(endpoint)
    found: Chat = ui().chats[key]
    return found
