"""Answers of a loaded chat model, token by token. Blocking, one at a time; knows nothing of HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from core.engine.compute_speed import Threads, choose_number_format
from core.engine.pretrained import load_pretrained

FinishReason = Literal["stop", "length", "cancelled"]
Emit = Callable[[str], None]


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; no temperature is greedy."""

    max_new_tokens: int = 256
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """A finished answer; token counts as in OpenAI's usage."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


@dataclass
class ChatModel:
    """A model in memory with its tokeniser."""

    model: Any
    tokens: ChatTokens
    words: str
    threads: Threads
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prompt: Sequence[int], sampling: Sampling, emit: Emit, stopped: threading.Event) -> Answer:
        """Generate after `prompt` (token ids), handing out text as it comes; ends early when `stopped` is set."""
        if stopped.is_set():
            return Answer("", "cancelled", len(prompt), 0)
        with self._lock, torch.inference_mode():
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            room = self.tokens.context_length - len(prompt)
            spoken = _Speaker(self.tokens, sampling.stop, emit, self.threads)
            ids = torch.tensor([list(prompt)], device=self.model.device)
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                streamer=spoken,
                stopping_criteria=StoppingCriteriaList([_Stop(stopped, spoken)]),
                max_new_tokens=min(sampling.max_new_tokens, room),
                eos_token_id=list(self.tokens.stop_ids),
                pad_token_id=self.tokens.pad_id,
                **_drawing(sampling),
            )
            return spoken.finish(len(prompt), stopped.is_set())


def load_chat_model(folder: Path, cores: int) -> ChatModel:
    """Load a Hugging Face folder for generation, in the number format that reads weights faster here."""
    name, why = choose_number_format(rows=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_pretrained(folder, name, device)
    chat = ChatModel(model, load_chat_tokens(folder), f"{name} on {device}: {why}", Threads(cores))
    chat.answer(
        chat.tokens.encode_prompt([{"role": "user", "content": "Hello"}]), Sampling(2), _quiet, threading.Event()
    )
    return chat


def _drawing(sampling: Sampling) -> dict[str, Any]:
    drawing: dict[str, Any] = {"repetition_penalty": sampling.repetition_penalty}
    if not sampling.temperature:
        return drawing | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
    return drawing | {"do_sample": True} | chosen


class _Stop(StoppingCriteria):
    """Ends a generation that nobody waits for, or that said a stop word."""

    def __init__(self, stopped: threading.Event, spoken: _Speaker) -> None:
        self.stopped, self.spoken = stopped, spoken

    def __call__(self, input_ids: torch.Tensor, _scores: torch.Tensor, **_kwargs: Any) -> Any:
        over = self.stopped.is_set() or self.spoken.stopped_at is not None
        return torch.full((input_ids.shape[0],), over, device=input_ids.device, dtype=torch.bool)


class _Speaker(BaseStreamer):
    """Turns token ids into text pieces: whole characters only, and nothing of a stop word."""

    def __init__(self, tokens: ChatTokens, stop: Sequence[str], emit: Emit, threads: Threads) -> None:
        self.tokens, self.stop, self.emit, self.threads = tokens, stop, emit, threads
        self.ids: list[int] = []
        self.text = ""
        self.sent = 0
        self.prompt_seen = False
        self.stopped_at: int | None = None
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        """Take the next token; generate hands over the prompt first."""
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        if self.stopped_at is not None:
            return
        token = int(value.reshape(-1)[-1])
        self.threads.adapt()
        self.ids.append(token)
        self.ended = token in self.tokens.stop_ids
        self.text = self.tokens.decode(self.ids)
        found = [at for each in self.stop if (at := self.text.find(each)) >= 0]
        if found:
            self.stopped_at = min(found)
            self.text = self.text[: self.stopped_at]
            self._send(len(self.text))
        else:
            self._send(len(self.text) - self._held_back())

    def end(self) -> None:
        """Send what was held back."""
        self._send(len(self.text))

    def finish(self, prompt_tokens: int, cancelled: bool) -> Answer:
        """Return the whole answer."""
        said_all = self.ended or self.stopped_at is not None
        reason: FinishReason = "stop" if said_all else "cancelled" if cancelled else "length"
        return Answer(self.text, reason, prompt_tokens, len(self.ids))

    def _held_back(self) -> int:
        """Return how many characters at the end may still change: half a character, or the start of a stop word."""
        if self.text.endswith("\ufffd"):
            return 1
        return max((_overlap(self.text, each) for each in self.stop), default=0)

    def _send(self, up_to: int) -> None:
        if up_to > self.sent:
            self.emit(self.text[self.sent : up_to])
            self.sent = up_to


def _overlap(text: str, word: str) -> int:
    return next((size for size in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:size])), 0)


def _quiet(text: str) -> None:
    """Take a piece of text and say nothing."""
