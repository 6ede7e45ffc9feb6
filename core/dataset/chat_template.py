"""A model's chat template: compiled, rendered, and where in the text the answers stand. Knows no token.

A template is a program that comes with a model. It is run in the process of model_reader alone, which has limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.dataset.model_process import BadModel, TemplateRefused

Span = tuple[int, int]
# What a template's expressions and filters can end in, whatever is written there.
TEMPLATE_ERRORS = (
    TemplateError,
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
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class _Raised(TemplateError):
    """The template's own refusal, in its own words."""


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template. What it renders and what of that is learned is the trainer's own, span by span.

    The trainer has its own code for this, as it travels to Azure; a test holds both equal on random conversations.
    """

    template: Any
    special: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, Any]], *, ask: bool = False) -> str:
        """Return the text that a model is trained on; `ask` ends it where an answer begins. Raises TemplateRefused."""
        given = {"messages": list(messages), "add_generation_prompt": ask, "tools": None} | dict(self.special)
        try:
            text = str(self.template.render(given))
            text.encode()  # half of a character has no token
        except TEMPLATE_ERRORS as error:
            raise TemplateRefused(*_explain(error)) from error
        return text

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


def load_template(folder: Path) -> Any | None:
    """Return the chat template of a model's folder, compiled; None where it has none. Raises BadModel."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return _compile(_read(beside))
    found = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    return _compile(found) if isinstance(found, str) else None


def read_special(folder: Path) -> dict[str, str]:
    """Return the special tokens that a model's chat template may name."""
    config = _read_json(folder / "tokenizer_config.json")
    return {name: _text_of(config[name]) for name in _SPECIAL if config.get(name)}


def _compile(source: str) -> Any:
    """Return the template, sandboxed: it comes with a model, and a model may come from anyone. Raises BadModel."""

    class Sandbox(ImmutableSandboxedEnvironment):
        """Asks once for each type what may be read of it: the answer is the same for all its objects, and dear."""

        safe: ClassVar[dict[tuple[type, str], bool]] = {}

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            key = type(obj), attr
            if key not in self.safe:
                self.safe[key] = super().is_safe_attribute(obj, attr, value)
            return self.safe[key]

    def refuse(message: object) -> None:
        raise _Raised(str(message))

    def without_mark(mark: re.Match[str]) -> str:
        return f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}"

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    try:
        return environment.from_string(_GENERATION.sub(without_mark, source))
    except TemplateSyntaxError as error:
        raise BadModel(f"its chat template cannot be read at line {error.lineno}.", str(error)) from error
    except TEMPLATE_ERRORS as error:  # Python's compiler has limits of its own
        raise BadModel("its chat template cannot be read.", repr(error)) from error


def _explain(error: BaseException) -> tuple[str, str]:
    """Return why a template did not come to its end, and what Python says of it."""
    if isinstance(error, _Raised):
        return str(error), ""
    if isinstance(error, UnicodeEncodeError):
        return "it writes half of a character", repr(error)
    if isinstance(error, UndefinedError):
        return "it asks for something that is not there", repr(error)
    if isinstance(error, MemoryError):
        return "it takes more memory than it may", repr(error)
    if isinstance(error, RecursionError):
        return "it calls itself without an end", repr(error)
    return "it does what a template may not do", repr(error)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadModel(f"its file {path.name} cannot be read as UTF-8 text.", str(error)) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path)) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise BadModel(f"its file {path.name} is not JSON.", str(error)) from error
    if not isinstance(found, dict):
        raise BadModel(f"its file {path.name} holds no JSON object.")
    return found


def _text_of(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
