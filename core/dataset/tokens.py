"""How long a conversation is for a model: in its own tokens where its tokenizer is at hand, else estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ESTIMATE_UNIT = "tokens (estimate: characters / 4)"
TOKEN_UNIT = "tokens"


class TemplateRefused(ValueError):
    """The model's chat template does not take a conversation."""


class LengthCounter:
    """Counts conversations; without a tokenizer folder, a quarter of their characters."""

    def __init__(self, tokenizer_folder: Path | None) -> None:
        self._tokenizer: Tokenizer | None = None
        self._template: Any = None
        self._special: dict[str, str] = {}
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

    def _load(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BadInput(f"There is no tokenizer in {folder}.", "Choose the model again.")
        self._tokenizer = Tokenizer.from_file(str(path))
        config = _read_json(folder / "tokenizer_config.json")
        self._special = {
            name: _text_of(config[name]) for name in ("bos_token", "eos_token", "unk_token") if config.get(name)
        }
        beside = folder / "chat_template.jinja"
        source = beside.read_text(encoding="utf-8") if beside.is_file() else config.get("chat_template")
        if isinstance(source, str):
            self._template = _compile(source)


def _compile(source: str) -> Any:
    """Return the template, sandboxed: it comes with a model, and a model may come from anyone."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment.from_string(source)


def _read_json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _text_of(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
