"""What was said on the chat page, kept in the home and found again by `?chat=`. Draws nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from core.errors import TunedeckError
from core.serving import transcripts
from core.serving.chat import Exchange, Message, Stats
from pages.parts.kit.state import ui

_RAW_KEPT = 20_000


@dataclass
class Reply:
    """What one endpoint said to one question.

    wanted: what the operator wrote in its place. waiting: why nothing has come yet.
    """

    endpoint: str
    answer: str = ""
    stats: Stats | None = None
    exchange: Exchange | None = None
    error: TunedeckError | None = None
    stopped: bool = False
    wanted: str = ""
    waiting: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return it as it is kept; a very long raw answer is cut."""
        kept = None
        if self.exchange is not None:
            kept = asdict(self.exchange) | {"answer": self.exchange.answer[:_RAW_KEPT]}
        wanted = {"wanted": self.wanted} if self.wanted else {}
        return wanted | {
            "endpoint": self.endpoint,
            "answer": self.answer,
            "stats": asdict(self.stats) if self.stats else None,
            "exchange": kept,
            "error": _error_record(self.error),
            "stopped": self.stopped,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Reply:
        """Return what `to_record` gave."""
        stats, exchange, error = record.get("stats"), record.get("exchange"), record.get("error")
        return cls(
            record["endpoint"],
            record.get("answer", ""),
            Stats(**stats) if stats else None,
            Exchange(**exchange) if exchange else None,
            TunedeckError(*error) if error else None,
            bool(record.get("stopped")),
            record.get("wanted", ""),
        )


@dataclass
class Turn:
    """A question and its answers, the second endpoint's after the first's.

    prompt: all messages that were sent; row: the test row it comes from, from 1; expected, base: what that row says and
    what the base model said to it in the evaluation.
    """

    question: str
    prompt: list[Message]
    expected: str = ""
    row: int = 0
    base: str = ""
    replies: list[Reply] = field(default_factory=list)
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def answer(self) -> str:
        """What the endpoint of this chat said."""
        return self.replies[0].answer if self.replies else ""

    def again(self) -> Turn:
        """Return the same question, not yet answered."""
        return Turn(self.question, self.prompt, self.expected, self.row, self.base)

    def to_record(self) -> dict[str, Any]:
        """Return it as it is kept."""
        plain = {name.name: getattr(self, name.name) for name in fields(self)}
        return plain | {
            "prompt": [dict(message) for message in self.prompt],
            "replies": [reply.to_record() for reply in self.replies],
            "asked_at": self.asked_at.isoformat(timespec="seconds"),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Turn:
        """Return what `to_record` gave."""
        replies = [Reply.from_record(reply) for reply in record["replies"]]
        return cls(**{**record, "replies": replies, "asked_at": datetime.fromisoformat(record["asked_at"])})


@dataclass
class Chat:
    """The turns with one endpoint. waiting: a turn that has been asked and not been sent yet."""

    endpoint: str
    id: str = field(default_factory=transcripts.create_id)
    turns: list[Turn] = field(default_factory=list)
    waiting: Turn | None = None

    def ask(self, question: str, system: str = "") -> None:
        """Put a question after what was said before."""
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for turn in self.turns:
            if turn.answer and not turn.row:
                messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        self.waiting = Turn(question, [*messages, {"role": "user", "content": question}])

    def ask_row(self, row: int, prompt: list[Message], expected: str, base: str = "") -> None:
        """Put a test row's question on its own: the talk before it would change the answer."""
        question = next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
        self.waiting = Turn(question, list(prompt), expected, row, base)

    def ask_again(self) -> None:
        """Put the last question once more, in the place of its answer."""
        self.waiting = self.turns.pop().again()

    def save(self) -> None:
        """Keep what was said, so that a reload and another day find it."""
        transcripts.save_transcript(self.id, ui().alias or "", self.endpoint, [turn.to_record() for turn in self.turns])

    def to_json(self) -> str:
        """Return the transcript, without any key."""
        turns = [
            {
                "asked_at": turn.asked_at.isoformat(timespec="seconds"),
                "messages": [dict(message) for message in turn.prompt],
                "answer": turn.answer,
                "expected": turn.expected or None,
                "base": turn.base or None,
                "test_row": turn.row or None,
                "answers": [
                    {
                        "endpoint": reply.endpoint,
                        "answer": reply.answer,
                        "stopped": reply.stopped,
                        "error": reply.error.message if reply.error else None,
                        "tokens": reply.stats.tokens if reply.stats else None,
                        "seconds": round(reply.stats.seconds, 3) if reply.stats else None,
                    }
                    for reply in turn.replies
                ],
            }
            for turn in self.turns
        ]
        return json.dumps({"endpoint": self.endpoint, "turns": turns}, indent=2, ensure_ascii=False)


def chat_with(endpoint: str, wanted: str | None = None) -> Chat:
    """Return the chat with this id, or what this session says to an endpoint; an unknown id gives the latter."""
    key = f"{ui().alias}/{endpoint}"
    known: Chat | None = ui().chats.get(key)
    if wanted and (known is None or known.id != wanted):
        found = transcripts.find_transcript(wanted, ui().alias or "")
        if found is not None and found.endpoint == endpoint:
            known = Chat(endpoint, found.id, [Turn.from_record(turn) for turn in found.turns])
    ui().chats[key] = known or Chat(endpoint)
    answer: Chat = ui().chats[key]
    return answer


def begin_new(endpoint: str) -> None:
    """Begin an empty chat; what was said before stays among the earlier ones."""
    ui().chats[f"{ui().alias}/{endpoint}"] = Chat(endpoint)


def _error_record(error: TunedeckError | None) -> list[str] | None:
    return [error.message, error.hint, error.detail] if error else None
