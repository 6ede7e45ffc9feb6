"""What training, evaluation and serving agree on: how a conversation becomes tokens, and which of them are learned.

Reads a Hugging Face model folder with `tokenizers` and `jinja2` alone, so the steps that need no weights start in a
fraction of a second. Imports nothing of core: the evaluation program travels to Azure with this file beside it.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Encoding, Tokenizer

Message = dict[str, Any]
Span = tuple[int, int]
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
GENERATION_MARK = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


LARGEST_NUMBER = 10**9  # of a configuration
RENDER_CPU_S = 2.0  # of one conversation, which takes a thousandth of that
RENDER_BYTES = 2 << 30
# What a template's expressions and filters can end in, whatever is written there.
TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
)


class BadConversation(ValueError):
    """A conversation that cannot be rendered, or a model that renders none; the text is a sentence about it."""


class BadTemplate(BadConversation):
    """The model's chat template goes beyond its limits: another conversation would not help."""


class _Raised(jinja2.TemplateError):
    """The template's own refusal, in its own words."""


class _Overtime(BaseException):
    """The time of a template is up; no filter of a template library may catch this."""


@dataclass(frozen=True)
class Conversation:
    """Token ids of a whole conversation; `learned[i]` says whether token i was written by the assistant."""

    ids: list[int]
    learned: list[bool]


@dataclass(frozen=True)
class ChatTokens:
    """The tokeniser and chat template of one model folder."""

    tokenizer: Tokenizer
    template: jinja2.Template
    special: dict[str, str]
    pad_id: int
    stop_ids: tuple[int, ...]
    context_length: int

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """Return the text the model sees; `ask` ends it where an answer begins. Raises BadConversation."""
        given = {"messages": list(messages), "add_generation_prompt": ask, "tools": None} | self.special
        try:
            with _limits():
                text = str(self.template.render(given))
                text.encode()  # half of a character has no token
        except (*TEMPLATE_ERRORS, _Overtime) as error:
            raise _explain(error) from error
        return text

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids after which the model answers."""
        return self.tokenizer.encode(self.render(messages, ask=True), add_special_tokens=False).ids

    def encode_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[Conversation]:
        """Return ids and mask of whole conversations. The mask holds answers and the token that ends each, no more."""
        texts, spans = [], []
        for messages in conversations:
            text = self.render(messages)
            texts.append(text)
            spans.append(self.find_answers(messages, text))
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [_mask(encoding, found) for encoding, found in zip(encodings, spans, strict=True)]

    def find_answers(self, messages: Sequence[Message], text: str) -> list[Span]:
        """Return where in the rendered text the assistant speaks, as character ranges.

        A template is rendered up to each answer and through it; what the second adds is the answer with its end
        marker. White space after the marker belongs to the next turn and is left out.
        """
        spans: list[Span] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:index], ask=True)
            through = self.render(messages[: index + 1])
            if through.startswith(before) and text.startswith(through):
                spans.append((len(before), len(through.rstrip())))
            else:
                spans.append(self._find_content(str(message["content"]).strip(), text, spans[-1][1] if spans else 0))
        return spans

    def _find_content(self, content: str, text: str, start: int) -> Span:
        """Return the range of an answer in a template that rewrites earlier turns, its end marker included."""
        found = text.find(content, start)
        if not content or found < 0:
            raise BadConversation("The model's chat template does not show the assistant's answer as it was given.")
        end = found + len(content)
        marker = next((each for each in self.special.values() if text[end:].lstrip().startswith(each)), "")
        return (found, text.index(marker, end) + len(marker)) if marker else (found, end)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def load_chat_tokens(model_dir: Path) -> ChatTokens:
    """Read the tokeniser of a model folder; raises BadConversation where the folder is not a chat model's."""
    settings = read_json(model_dir / "tokenizer_config.json")
    config = read_json(model_dir / "config.json")
    generation = read_json(model_dir / "generation_config.json")
    if not (model_dir / "tokenizer.json").is_file():
        raise BadConversation(f"The model folder {model_dir.name} holds no tokenizer.json.")
    tokenizer = _read_tokenizer(model_dir / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = {name: _token_text(settings[name]) for name in SPECIAL_TOKENS if settings.get(name)}
    stops = [*_id_list(model_dir, generation), *_id_list(model_dir, config)]
    if (end := tokenizer.token_to_id(special.get("eos_token", ""))) is not None:
        stops.append(end)
    if not stops:
        raise BadConversation(f"The model folder {model_dir.name} names no token that ends an answer.")
    pad = tokenizer.token_to_id(special.get("pad_token", ""))
    return ChatTokens(
        tokenizer=tokenizer,
        template=_compile(model_dir.name, _read_template(model_dir, settings)),
        special=special,
        pad_id=stops[0] if pad is None else pad,
        stop_ids=tuple(dict.fromkeys(stops)),
        context_length=_check_number(model_dir, "max_position_embeddings", config.get("max_position_embeddings", 2048)),
    )


def check_messages(messages: object) -> str | None:
    """Return what is wrong with a list of chat messages, as a sentence, or None."""
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list of messages."
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            return f"Message {number} must be an object with 'role' and 'content'."
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                return f"Message {number} needs '{key}' as text."
        if message["role"] not in ("system", "user", "assistant", "tool"):
            return f"Message {number} has the role '{message['role']}'; system, user and assistant are known."
    return None


def choose_number_format(rows: int = 256) -> tuple[str, str]:
    """Return "bfloat16" or "float32", whichever multiplies faster here, and the reason in words.

    rows: how many tokens go through a layer at once: some hundreds when training, 1 when generating. Processors
    without bf16 instructions are faster in fp32, so it is measured: a tenth of a second.
    """
    import torch

    if torch.cuda.is_available():
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16", "the GPU computes in bf16") if good else ("float32", "the GPU has no bf16")
    seconds = _time_products(rows)
    faster = min(seconds, key=lambda name: seconds[name])
    ratio = max(seconds.values()) / min(seconds.values())
    return faster, f"measured {ratio:.1f} times as fast as the other on this processor ({rows} rows at a time)"


class Threads:
    """Sets how many threads torch computes with, by what is measured every few seconds.

    All cores are fastest on an idle machine. Where a browser and a dashboard want them too, threads that wait for each
    other a thousand times a second can be ten times slower than half as many (measured on two busy cores: 13 s instead
    of 0.8 s for a training step). A try costs a tenth of a second for each of the two counts.
    """

    TRY_EVERY_S = 6.0
    TRY_FOR_S = 0.06
    WORTH = 1.15

    def __init__(self, cores: int, *, fixed: bool = False) -> None:
        self.counts = (cores, cores if fixed else max(1, cores // 2))
        self.tried_at = float("-inf")
        self.adapt()

    def adapt(self) -> None:
        """Choose anew if it is time to; call it between pieces of work, in the thread that does the work."""
        import torch

        many, few = self.counts
        if many == few:
            torch.set_num_threads(many)
        elif time.perf_counter() - self.tried_at >= self.TRY_EVERY_S:
            worth = self._measure(many) > self.WORTH * self._measure(few)
            torch.set_num_threads(many if worth else few)
            self.tried_at = time.perf_counter()

    def _measure(self, count: int) -> float:
        """Return small matrix products per second."""
        import torch

        torch.set_num_threads(count)
        left, right = torch.ones(128, 576), torch.ones(576, 576)
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < self.TRY_FOR_S:
            torch.nn.functional.linear(left, right)
            done += 1
        return done / (time.perf_counter() - started)


def _time_products(rows: int) -> dict[str, float]:
    """Return the best of twelve tries in each format, on one thread and in turns: a busy machine misleads less.

    A format that is left far behind after three is not tried again: without bf16 instructions a try takes a tenth of a
    second, and a run waits for it.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = ("bfloat16", "float32")
    wide = 1024 if rows > 1 else 32 * 1024  # one row at a time reads all weights from memory: no cache may hold them
    pairs = {name: [torch.ones(size, 1024, dtype=getattr(torch, name)) for size in (rows, wide)] for name in names}
    best = dict.fromkeys(names, float("inf"))
    for number in range(12):
        for name, (left, right) in pairs.items():
            if number >= 3 and best[name] > 2 * min(best.values()):
                continue
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[name] = min(best[name], time.perf_counter() - started)
    torch.set_num_threads(threads)
    return best


def _mask(encoding: Encoding, spans: list[Span]) -> Conversation:
    learned, position = [], 0
    for start, _ in encoding.offsets:
        while position < len(spans) and start >= spans[position][1]:
            position += 1
        learned.append(position < len(spans) and start >= spans[position][0])
    return Conversation(encoding.ids, learned)


def _read_template(model_dir: Path, settings: dict[str, Any]) -> str:
    beside = model_dir / "chat_template.jinja"
    if beside.is_file():
        return _read_text(beside)
    template = settings.get("chat_template")
    if isinstance(template, list):  # several templates by name
        named = [each for each in template if isinstance(each, dict) and each.get("name") == "default"]
        template = named[0].get("template") if named else None
    if not isinstance(template, str):
        raise BadConversation(f"The model folder {model_dir.name} has no chat template: it is not a chat model.")
    return template


def _compile(name: str, source: str) -> jinja2.Template:
    """Compile a template the way transformers does; its generation marks are kept as blocks without effect."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    plain = GENERATION_MARK.sub(lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", source)
    try:
        with _limits():
            return environment.from_string(plain)
    except (*TEMPLATE_ERRORS, _Overtime) as error:
        where = f" at line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise BadConversation(f"The chat template of the model folder {name} cannot be read{where}.") from error


@contextmanager
def _limits() -> Iterator[None]:
    """Hold a template, which may come from anyone, to a time of the processor and to an amount of memory.

    Time is held in the main thread, where each step and the scorer render. macOS does not hold to the memory.
    """
    memory = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGPROF, _stop) if timed else None
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
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
    raise _Overtime


def _explain(error: BaseException) -> BadConversation:
    """Return the sentence for what a template ended in."""
    template = "The model's chat template"
    if isinstance(error, _Overtime):
        return BadTemplate(f"{template} does not come to an end: it was stopped after {RENDER_CPU_S:.0f} s.")
    if isinstance(error, MemoryError):
        return BadTemplate(f"{template} takes more than {RENDER_BYTES >> 30} GiB of memory.")
    if isinstance(error, RecursionError):
        return BadTemplate(f"{template} calls itself without an end.")
    if isinstance(error, _Raised):
        return BadConversation(f"{template} refuses the conversation: {str(error).rstrip('.')}.")
    if isinstance(error, UnicodeEncodeError):
        return BadConversation(f"{template} refuses the conversation: it writes half of a character.")
    if isinstance(error, jinja2.UndefinedError):
        return BadConversation(f"{template} refuses the conversation: it asks for something that is not there.")
    return BadConversation(f"{template} refuses the conversation: it does what a template may not do.")


def _raise_exception(message: object) -> None:
    raise _Raised(str(message))


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except BaseException as error:  # the library raises plain exceptions, and its panics are none of Python's
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise BadConversation(
                f"The tokenizer.json of the model folder {path.parent.name} cannot be read."
            ) from error
        raise


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadConversation(f"The {path.name} of the model folder {path.parent.name} cannot be read.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return what a model's file says, {} where it is not there; raises BadConversation."""
    try:
        found = json.loads(_read_text(path)) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadConversation):
            raise
        raise BadConversation(f"The {path.name} of the model folder {path.parent.name} is not JSON.") from error
    if not isinstance(found, dict):
        raise BadConversation(f"The {path.name} of the model folder {path.parent.name} holds no JSON object.")
    return found


def _token_text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _id_list(model_dir: Path, config: dict[str, Any]) -> list[int]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [_check_number(model_dir, "eos_token_id", each, least=0) for each in values]


def _check_number(model_dir: Path, name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
        raise BadConversation(f"The configuration of the model folder {model_dir.name} gives no number as {name}.")
    return value
