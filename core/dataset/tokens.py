"""How long a conversation is for a model: in its own tokens where its tokenizer is at hand, else estimated."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ESTIMATE_UNIT = "tokens (estimate: characters / 4)"
TOKEN_UNIT = "tokens"
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class TemplateRefused(ValueError):
    """The model's chat template does not take a conversation."""


class LengthCounter:
    """Counts conversations; without a tokenizer folder, a quarter of their characters."""

    def __init__(self, tokenizer_folder: Path | None) -> None:
        self._tokenizer: Tokenizer | None = None
        self._template: Any = None
        self._special: dict[str, str] = {}
        self._end_marks: tuple[str, ...] = ()
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
            return "\n".join(message["content"] for message in messages)
        from jinja2 import TemplateError

        try:
            return str(self._template.render(messages=messages, add_generation_prompt=False, **self._special))
        except (TemplateError, TypeError) as error:
            raise TemplateRefused(str(error)) from error

    def encode(self, texts: Sequence[str]) -> list[Any]:
        """Return the encodings of rendered texts, made on all cores where TOKENIZERS_PARALLELISM allows it."""
        if self._tokenizer is None:
            raise BadInput("The model's tokenizer is not on this machine.", "Choose a model whose tokenizer is here.")
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def find_answers(self, messages: Sequence[Mapping[str, Any]], text: str) -> list[tuple[int, int]]:
        """Return where in the rendered text the answers stand, each with its end marker, as character ranges.

        Found by looking for each answer after the one before: what templates do to it is to trim it.
        """
        spans, start = [], 0
        for message in messages:
            content = str(message.get("content") or "").strip()
            begin = text.find(content, start)
            if begin < 0:
                continue
            end = begin + len(content)
            if message.get("role") == "assistant" and content:
                rest = text[end : end + 80]
                marker = next((one for one in self._end_marks if rest.lstrip().startswith(one)), "")
                end = text.index(marker, end) + len(marker) if marker else end
                spans.append((begin, end))
            start = end
        return spans

    def _load(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BadInput(f"There is no tokenizer in {folder}.", "Choose the model again.")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.mark = mark_of(folder)
        self._special = read_special(folder)
        added = (one.content for one in self._tokenizer.get_added_tokens_decoder().values() if one.special)
        self._end_marks = tuple(dict.fromkeys((*self._special.values(), *added)))
        self._template = load_template(folder)


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

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def without_mark(mark: re.Match[str]) -> str:
        return f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}"

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment.from_string(_GENERATION.sub(without_mark, source))


def _read_json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _text_of(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
