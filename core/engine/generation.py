"""Answers of a loaded chat model, token by token, many at once. Knows nothing of HTTP."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from core.engine.compute_speed import Threads, choose_device, choose_number_format
from core.engine.model_check import ARCHITECTURES
from core.engine.prepacked_weights import prepack_for_inference
from core.engine.pretrained import load_pretrained, multiplied_in
from core.engine.row_keys import KeptKeys, Piece, RowKeys, set_row_attention

KEPT_BYTES = 256 << 20
ROWS_AT_ONCE = 8
READ_AT_ONCE, READ_BESIDE = 512, 128
"""The most tokens of prompts in one pass, and beside answers that are being written: a pass of 128 takes three times
one of a single token, and so long an answer stands still for it."""

LOOK_AFTER = 0.25
"""After this part of its layers a pass that only reads prompts looks for others, and begins anew with them: four that
are read together take half the time of one and then three."""

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
    """A finished answer; token counts as in OpenAI's usage. kept_tokens: of the prompt, read in an earlier one."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    kept_tokens: int = 0


class ChatModel:
    """A model in memory with its tokeniser, and a thread in which it reads and writes.

    Up to `at_once` answers are written together, a token each in every pass of the model; what is asked meanwhile is
    read beside them, in parts. A model whose attention cannot be computed row by row answers one after the other.
    """

    def __init__(
        self,
        model: Any,
        tokens: ChatTokens,
        words: str,
        cores: int,
        at_once: int,
        kept_bytes: int = KEPT_BYTES,
        reads_in: str = "",
    ) -> None:
        """Take a model that is loaded; `reads_in` is the number format of many tokens at once, where it is another."""
        self.model, self.tokens, self.words, self._reads_in = model, tokens, words, reads_in
        self._batched = _can_batch(model.config)
        if self._batched:
            set_row_attention(model)
        self.at_once = at_once if self._batched else 1
        self._closed = threading.Event()
        self._waiting: queue.SimpleQueue[_Row | None] = queue.SimpleQueue()
        self._running: list[_Row] = []
        self._may_begin_anew = True
        if self._batched:
            layer = int(LOOK_AFTER * model.config.num_hidden_layers)
            attention = next(each for each in model.modules() if getattr(each, "layer_idx", None) == layer)
            attention.register_forward_pre_hook(self._look)
        self._kept = KeptKeys(kept_bytes)
        self._thread = threading.Thread(target=self._work, args=(cores,), name="generate", daemon=True)
        self._thread.start()

    def start(self, prompt: Sequence[int], sampling: Sampling, emit: Emit, stopped: threading.Event) -> Future[Answer]:
        """Have it answered after `prompt` (token ids), handing out text as it comes; it ends when `stopped` is set."""
        room = min(sampling.max_new_tokens, self.tokens.context_length - len(prompt))
        row = _Row(list(prompt), sampling, _Speaker(self.tokens, sampling.stop, emit), stopped, room)
        self._waiting.put(row)
        return row.answer

    @property
    def waiting(self) -> int:
        """How many wait for their first token to be read."""
        return self._waiting.qsize()

    def close(self) -> None:
        """End the thread; what it was writing stays unanswered."""
        self._closed.set()
        self._waiting.put(None)
        self._thread.join()

    def _work(self, cores: int) -> None:
        threads = Threads(cores, fixed=self.model.device.type != "cpu")
        while not self._closed.is_set():
            threads.adapt()
            try:
                self._admit()
                with suppress(_BeginAnew), torch.inference_mode():
                    self._pass()
                    self._may_begin_anew = True
            except Exception as error:  # noqa: BLE001 as where memory ends: these answers fail, and the next ones are written
                for row in self._running:
                    row.answer.set_exception(error)
                self._running.clear()

    def _admit(self) -> None:
        """Take in what waits, as far as there is room; wait where nothing is to be done."""
        while len(self._running) < self.at_once:
            try:
                row = self._waiting.get(block=not self._running)
            except queue.Empty:
                return
            if row is None:
                return
            if row.answer.set_running_or_notify_cancel():
                row.keys = self._kept.begin(row.prompt)
                row.kept = row.keys.length
                if row.keys.scores is not None:
                    row.spoken.say(row.draw(row.keys.scores))
                self._running.append(row)

    def _pass(self) -> None:
        """Write one token of each answer and read a part of the prompts that are not read yet."""
        self._finish_rows()
        if not self._batched:
            for row in self._running:
                self._answer_alone(row)
        elif self._running:
            reading = [row for row in self._running if self._reads_in and len(row.ids) - row.keys.length > 1]
            writing = [row for row in self._running if row not in reading]
            if reading:
                with multiplied_in(self.model, self._reads_in):
                    self._pass_rows(reading)
            if writing:
                self._pass_rows(writing)
        self._finish_rows()

    def _pass_rows(self, running: Sequence[_Row]) -> None:
        most = READ_BESIDE if any(row.spoken.ids for row in self._running) else READ_AT_ONCE
        room, rows = most, list[_Row]()
        ids, positions, pieces = list[int](), list[int](), list[Piece]()
        for row in running:
            new = row.ids[row.keys.length :]
            if len(new) > 1:  # what fits into a pass is read in one: sums over its parts differ in the last bit
                new = new[:room] if len(new) <= room or room == most else []
                room -= len(new)
            if new:
                pieces.append(Piece(row.keys, len(ids), len(ids) + len(new)))
                positions += range(row.keys.length, row.keys.length + len(new))
                ids += new
                rows.append(row)
        ends = [piece.end - 1 for piece in pieces]
        if len(pieces) == 1:  # one row alone is multiplied by another kernel, whose sums differ in the last bit
            ids, positions, ends = [*ids, ids[-1]], [*positions, positions[-1]], [*ends, ends[-1]]
        scores = self.model(
            input_ids=self._tensor([ids]),
            position_ids=self._tensor([positions]),
            use_cache=False,
            pieces=pieces,
            logits_to_keep=self._tensor(ends),
        ).logits[0]
        for row, piece, own in zip(rows, pieces, scores, strict=False):
            row.keys.length += piece.end - piece.begin
            if row.keys.length == len(row.prompt):
                row.keys.asked, row.keys.scores = len(row.prompt), own.clone()
            if row.keys.length == len(row.ids):
                row.spoken.say(row.draw(own))

    def _look(self, *_call: Any) -> None:
        """Leave a pass that only reads prompts where more came meanwhile that fit into it; once, then it is made."""
        read = sum(len(row.ids) - row.keys.length for row in self._running)
        fit = read < READ_AT_ONCE and len(self._running) < self.at_once
        if self.waiting and self._may_begin_anew and fit and not any(row.spoken.ids for row in self._running):
            self._may_begin_anew = False
            raise _BeginAnew

    def _tensor(self, values: list[Any]) -> torch.Tensor:
        return torch.tensor(values, device=self.model.device)

    def _answer_alone(self, row: _Row) -> None:
        """Write a whole answer with the model's own generate."""
        ids, sampling = self._tensor([row.prompt]), row.sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            stopping_criteria=StoppingCriteriaList([_Says(row)]),
            max_new_tokens=row.room,
            eos_token_id=list(self.tokens.stop_ids),
            pad_token_id=self.tokens.pad_id,
            repetition_penalty=sampling.repetition_penalty,
            do_sample=bool(sampling.temperature),
            **(drawn if sampling.temperature else dict.fromkeys(drawn)),
        )

    def _finish_rows(self) -> None:
        """Hand over the answers that are over, and those that nobody waits for."""
        for row in [row for row in self._running if row.is_over or row.stopped.is_set()]:
            self._running.remove(row)
            self._kept.keep(row.ids, row.keys)
            reason = row.spoken.end(row.stopped.is_set())
            written = len(row.spoken.ids)
            row.answer.set_result(Answer(row.spoken.text, reason, len(row.prompt), written, row.kept))


def load_chat_model(folder: Path, cores: int, at_once: int = ROWS_AT_ONCE) -> ChatModel:
    """Load a Hugging Face folder for generation, in the number format that reads weights faster here."""
    device = choose_device()
    name, why = choose_number_format(rows=1, device=device)
    many, _ = choose_number_format(device=device)
    words, reads_in = f"{name} on {device}: {why}", many if many != name else ""
    if reads_in:
        words += f"; prompts are read in {reads_in}"
    tokens, model = load_chat_tokens(folder), load_pretrained(folder, name, device)
    if not reads_in:
        prepack_for_inference(model)
    chat = ChatModel(model, tokens, words, cores, at_once, reads_in=reads_in)
    hello = tokens.encode_prompt([{"role": "user", "content": "Hello"}])
    chat.start(hello, Sampling(2), lambda _piece: None, threading.Event()).result()
    return chat


def _can_batch(config: Any) -> bool:
    """Tell whether a model is one of those held against generate, and turns each token by its own place alone."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {each.get("rope_type") for each in (rope, *rope.values()) if isinstance(each, dict)}
    return config.model_type in ARCHITECTURES and not kinds & {"dynamic", "longrope"}


class _BeginAnew(Exception):
    """A pass is left, and made with more prompts."""


@dataclass(eq=False)
class _Row:
    """One answer that is waited for. room: how many tokens it may have at most."""

    prompt: list[int]
    sampling: Sampling
    spoken: _Speaker
    stopped: threading.Event
    room: int
    keys: RowKeys = field(default_factory=RowKeys)
    kept: int = 0
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.spoken.ids

    @property
    def is_over(self) -> bool:
        return self.spoken.ended or self.spoken.stopped_at is not None or len(self.spoken.ids) >= self.room

    def draw(self, scores: torch.Tensor) -> int:
        """Return the next token of its scores, `(words,)`."""
        given: Any = torch.tensor([self.ids] if self.sampling.repetition_penalty != 1 else [])
        scores = self._processors(given, scores[None].float().cpu())
        if not self.sampling.temperature:
            return int(scores.argmax())
        chances = scores.softmax(-1)
        return int(torch.multinomial(chances, 1, generator=self._chance))

    @cached_property
    def _processors(self) -> LogitsProcessorList:
        asked, made = self.sampling, LogitsProcessorList()
        if asked.repetition_penalty != 1:
            made.append(RepetitionPenaltyLogitsProcessor(asked.repetition_penalty))
        if asked.temperature:
            made.append(TemperatureLogitsWarper(asked.temperature))
            made.extend([TopKLogitsWarper(asked.top_k)] if asked.top_k else [])
            made.extend([TopPLogitsWarper(asked.top_p)] if asked.top_p < 1 else [])
        return made

    @cached_property
    def _chance(self) -> torch.Generator:
        made = torch.Generator()
        made.seed() if self.sampling.seed is None else made.manual_seed(self.sampling.seed)
        return made


class _Says(StoppingCriteria):
    """Hands on each token that generate writes, and ends it where its answer is over or nobody waits for it."""

    def __init__(self, row: _Row) -> None:
        self.row = row

    def __call__(self, input_ids: torch.Tensor, _scores: torch.Tensor, **_kwargs: Any) -> Any:
        self.row.spoken.say(int(input_ids[0, -1]))
        over = self.row.is_over or self.row.stopped.is_set()
        return torch.full((1,), over, device=input_ids.device, dtype=torch.bool)


class _Speaker:
    """Turns token ids into text pieces: whole characters only, and nothing of a stop word."""

    def __init__(self, tokens: ChatTokens, stop: Sequence[str], emit: Emit) -> None:
        self.tokens, self.stop, self.emit = tokens, stop, emit
        self.ids: list[int] = []
        self.text = ""
        self.sent = 0
        self.stopped_at: int | None = None
        self.ended = False

    def say(self, token: int) -> None:
        """Take the next token."""
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

    def end(self, cancelled: bool) -> FinishReason:
        """Send what was held back and return why nothing more comes."""
        self._send(len(self.text))
        said_all = self.ended or self.stopped_at is not None
        return "stop" if said_all else "cancelled" if cancelled else "length"

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
