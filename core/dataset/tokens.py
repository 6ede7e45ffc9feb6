"""How long a conversation is for a model: in its own tokens where its tokenizer is at hand, else estimated."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy

from core.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ESTIMATE_UNIT = "tokens (estimate: characters / 4)"
TOKEN_UNIT = "tokens"
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
Span = tuple[int, int]
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class TemplateRefused(ValueError):
    """The model's chat template does not take a conversation, or does not show an answer as it was given."""


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template. What it renders and what of that is learned is the trainer's own, span by span.

    The trainer has its own code for this, as it travels to Azure; a test holds both equal on random conversations.
    """

    template: Any
    special: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, Any]], *, ask: bool = False) -> str:
        """Return the text that a model is trained on; `ask` ends it where an answer begins. Raises TemplateRefused."""
        from jinja2 import TemplateError

        try:
            return str(
                self.template.render(messages=list(messages), add_generation_prompt=ask, tools=None, **self.special)
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise TemplateRefused(str(error)) from error

    def find_answers(self, messages: Sequence[Mapping[str, Any]], text: str) -> list[Span]:
        """Return where the assistant speaks: from the prompt before an answer to the end of the marker after it.

        Rendering up to each answer costs a twentieth of what its tokens cost, so it is done, as the trainer does it.
        """
        spans: list[Span] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt, answered = self.render(messages[:index], ask=True), self.render(messages[: index + 1])
            if text.startswith(answered) and answered.startswith(prompt):
                spans.append((len(prompt), len(answered.rstrip())))
            else:  # the template writes earlier turns anew when more follow
                spans.append(self._search(str(message["content"]).strip(), text, spans[-1][1] if spans else 0))
        return spans

    def _search(self, answer: str, text: str, since: int) -> Span:
        begin = text.find(answer, since) if answer else -1
        if begin < 0:
            raise TemplateRefused("it does not show an answer as it was given")
        end = begin + len(answer)
        rest = text[end:].lstrip()
        marker = next((mark for mark in self.special.values() if rest.startswith(mark)), "")
        return begin, text.index(marker, end) + len(marker) if marker else end


class LengthCounter:
    """Counts conversations; without a tokenizer folder, a quarter of their characters."""

    def __init__(self, tokenizer_folder: Path | None) -> None:
        self._tokenizer: Tokenizer | None = None
        self._template: ChatTemplate | None = None
        self.mark = "estimate"
        if tokenizer_folder is not None:
            self._load(tokenizer_folder)

    @property
    def unit(self) -> str:
        """Return what is counted, for an axis title."""
        return ESTIMATE_UNIT if self._tokenizer is None else TOKEN_UNIT

    def count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Return the length of a conversation as the model sees it; raises TemplateRefused."""
        if self._tokenizer is None:
            return (sum(len(message["content"]) for message in messages) + 3) // 4
        text = self.render(messages)
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return the text that a model is trained on; raises TemplateRefused."""
        if self._template is None:
            return "\n".join(message.get("content") or "" for message in messages)
        return self._template.render(messages)

    def find_answers(self, messages: Sequence[Mapping[str, Any]], text: str) -> list[Span]:
        """Return where in the rendered text the answers stand, as character ranges; without a template nowhere."""
        return [] if self._template is None else self._template.find_answers(messages, text)

    def encode(self, texts: Sequence[str]) -> list[Any]:
        """Return the encodings of rendered texts, made on all cores where TOKENIZERS_PARALLELISM allows it."""
        if self._tokenizer is None:
            raise BadInput("The model's tokenizer is not on this machine.", "Choose a model whose tokenizer is here.")
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def _load(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BadInput(f"There is no tokenizer in {folder}.", "Choose the model again.")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.mark = mark_of(folder)
        template = load_template(folder)
        self._template = None if template is None else ChatTemplate(template, read_special(folder))


def mark_learned(starts: Sequence[int], spans: Sequence[Span]) -> Any:
    """Return which tokens are learned, `(tokens,)` of bool: those that begin inside an answer.

    starts: the character at which each token begins. Tokens come in the order of the text with every tokenizer that
    keeps it; for one that does not, what the trainer walks through is walked through.
    """
    places = numpy.fromiter(starts, numpy.int64, len(starts))
    if len(places) and bool((places[1:] >= places[:-1]).all()):
        learned, passed = numpy.zeros(len(places), bool), 0
        for begin, end in spans:  # a span counts behind those before it, as in a walk
            first, stop = numpy.searchsorted(places, (max(begin, passed), end))
            learned[first:stop] = True
            passed = max(passed, end)
        return learned
    walked, span = [], 0
    for start in starts:
        while span < len(spans) and start >= spans[span][1]:
            span += 1
        walked.append(span < len(spans) and start >= spans[span][0])
    return numpy.array(walked, bool)


def mark_of(folder: Path | None) -> str:
    """Return the name under which what was counted with a tokenizer is kept; its template is part of it."""
    if folder is None:
        return "estimate"
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes())
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def read_special(folder: Path) -> dict[str, str]:
    """Return the special tokens that a model's chat template may name."""
    config = _read_json(folder / "tokenizer_config.json")
    return {name: _text_of(config[name]) for name in _SPECIAL if config.get(name)}


def load_template(folder: Path) -> Any | None:
    """Return the chat template of a model's folder, compiled; None where it has none."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return _compile(beside.read_text(encoding="utf-8"))
    found = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    return _compile(found) if isinstance(found, str) else None


def _compile(source: str) -> Any:
    """Return the template, sandboxed: it comes with a model, and a model may come from anyone."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Asks once for each type what may be read of it: the answer is the same for all its objects, and dear."""

        safe: ClassVar[dict[tuple[type, str], bool]] = {}

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            key = type(obj), attr
            if key not in self.safe:
                self.safe[key] = super().is_safe_attribute(obj, attr, value)
            return self.safe[key]

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def without_mark(mark: re.Match[str]) -> str:
        return f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}"

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment.from_string(_GENERATION.sub(without_mark, source))


def _read_json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _text_of(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
