"""What training, evaluation and serving agree on: a conversation as token ids, with its loss mask.

Reads a Hugging Face model folder with `tokenizers` and `jinja2` alone, so the steps that need no weights start in a
fraction of a second.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from core.engine.answers import find_answers, mark_learned
from core.engine.chat_template import (
    BadModelFolder,
    ChatTemplate,
    Message,
    OutOfTime,
    Tools,
    load_template,
    read_json,
    read_special,
)

LARGEST_NUMBER = 10**9  # of a configuration
RENDER_CPU_S = 2.0  # of one conversation, which takes a thousandth of that
RENDER_BYTES = 2 << 30


@dataclass(frozen=True)
class Conversation:
    """Token ids of a whole conversation; `learned` is the loss mask: whether token i was written by the assistant."""

    ids: list[int]
    learned: list[bool]


@dataclass(frozen=True)
class ChatTokens:
    """The tokenizer and chat template of one model folder."""

    tokenizer: Tokenizer
    template: ChatTemplate
    pad_id: int
    stop_ids: tuple[int, ...]
    context_length: int

    def encode_prompt(self, messages: Sequence[Message], tools: Tools = None) -> list[int]:
        """Return the ids after which the model answers."""
        return self.tokenizer.encode(self.template.render(messages, tools, ask=True), add_special_tokens=False).ids

    def encode_conversations(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Tools] = ()
    ) -> list[Conversation]:
        """Return ids and mask of whole conversations. The mask holds answers and the token that ends each, no more.

        tools: those of each conversation; () where none has any.
        """
        texts, spans = [], []
        for messages, given in zip(conversations, tools or [None] * len(conversations), strict=True):
            text = self.template.render(messages, given)
            texts.append(text)
            spans.append(find_answers(self.template, messages, text, given))
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            Conversation(encoding.ids, mark_learned(encoding.offsets, answers))
            for encoding, answers in zip(encodings, spans, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def load_chat_tokens(model_dir: Path) -> ChatTokens:
    """Read the tokenizer of a model folder; raises BadConversation where the folder is not a chat model's."""
    config = read_json(model_dir / "config.json")
    generation = read_json(model_dir / "generation_config.json")
    if not (model_dir / "tokenizer.json").is_file():
        raise BadModelFolder(model_dir, "it holds no tokenizer.json")
    tokenizer = read_tokenizer(model_dir / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with _limits():
        template = load_template(model_dir)
    if template is None:
        raise BadModelFolder(model_dir, "it has no chat template, so it is not a chat model")
    special = read_special(model_dir)
    stops = [*_id_list(model_dir, generation), *_id_list(model_dir, config)]
    if (end := tokenizer.token_to_id(special.get("eos_token", ""))) is not None:
        stops.append(end)
    if not stops:
        raise BadModelFolder(model_dir, "it names no token that ends an answer")
    pad = tokenizer.token_to_id(special.get("pad_token", ""))
    return ChatTokens(
        tokenizer=tokenizer,
        template=ChatTemplate(template, special, read_markers(tokenizer), _limits),
        pad_id=stops[0] if pad is None else pad,
        stop_ids=tuple(dict.fromkeys(stops)),
        context_length=_check_number(model_dir, "max_position_embeddings", config.get("max_position_embeddings", 2048)),
    )


def find_tools(row: Mapping[str, Any]) -> Tools:
    """Return the tools that a row of chat data gives its template, None where it has no list of them."""
    tools = row.get("tools")
    return tools if isinstance(tools, list) and tools and all(isinstance(tool, dict) for tool in tools) else None


def has_tools(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of chat data has tools, calls or results."""
    used = (message["role"] == "tool" or message.get("tool_calls") for message in row["messages"])
    return bool(find_tools(row)) or any(used)


def check_messages(messages: object) -> str | None:
    """Return what is wrong with a list of chat messages, as a sentence, or None."""
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list of messages."
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            return f"Message {number} must be an object with 'role' and 'content'."
        calls = message.get("role") == "assistant" and message.get("tool_calls")
        for key in ("role",) if calls and message.get("content") is None else ("role", "content"):
            if not isinstance(message.get(key), str):
                return f"Message {number} needs '{key}' as text."
        if message["role"] not in ("system", "user", "assistant", "tool"):
            return f"Message {number} has the role '{message['role']}'; system, user and assistant are known."
    return None


def read_markers(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the special tokens of a tokenizer, of which one ends an answer."""
    return tuple(token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special)


@contextmanager
def _limits() -> Iterator[None]:
    """Hold a template, which may come from anyone, to a time of the processor and to an amount of memory.

    Time is held in the main thread, where each step and the scorer render. macOS does not hold to the memory.
    """
    memory = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGPROF, _stop) if timed else None
    if sys.platform == "linux":
        with Path("/proc/self/statm").open(encoding="ascii") as file:
            most = int(file.read().split()[0]) * resource.getpagesize() + RENDER_BYTES
        most = most if memory[1] == resource.RLIM_INFINITY else min(most, memory[1])
        resource.setrlimit(resource.RLIMIT_AS, (most, memory[1]))
    try:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, RENDER_CPU_S)
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, memory)


def _stop(*_: object) -> None:
    raise OutOfTime(f"{RENDER_CPU_S:.0f} s")


def read_tokenizer(path: Path) -> Tokenizer:
    """Return what a tokenizer.json says. Raises BadModelFolder."""
    try:
        return Tokenizer.from_file(str(path))
    except BaseException as error:  # the library raises plain exceptions, and its panics are none of Python's
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise BadModelFolder(path.parent, "its tokenizer.json cannot be read") from error
        raise


def _id_list(model_dir: Path, config: dict[str, Any]) -> list[int]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [_check_number(model_dir, "eos_token_id", each, least=0) for each in values]


def _check_number(model_dir: Path, name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
        raise BadModelFolder(model_dir, f"its configuration gives no number as {name}")
    return value
