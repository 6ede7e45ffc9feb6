"""A model's chat template: read, compiled, and rendered.

Trainer, evaluation, scorer and data page all use this one. A template is a program that comes with a model, so it runs
in a sandbox; how long it may run, and in how much memory, is for the process it runs in (`ChatTemplate.guard`). Imports
nothing of core: it travels to Azure with the evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]
Tools = Sequence[Any] | None  # what the tools of a conversation are, as JSON schemas
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # keys of a message
_GENERATION_MARK = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class OutOfTime(BaseException):
    """The time of a template is up; no filter of a template library may catch this."""


# What a template's expressions and filters can end in, whatever is written there.
_ENDS = (
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
    OutOfTime,
)


class BadConversation(ValueError):
    """A conversation that cannot be rendered, or a model that renders none; the text is a sentence about it."""


class BadModelFolder(BadConversation):
    """A file of a model folder cannot be used. words: what is wrong, as "its config.json is not JSON"."""

    def __init__(self, folder: Path, words: str, detail: str = "") -> None:
        super().__init__(f"The model folder {folder.name} cannot be used: {words}.")
        self.words, self.detail = words, detail


class TemplateRefused(BadConversation):
    """The template does not take a conversation. words: why; detail: what Python says of it, else ""."""

    opening = "The model's chat template refuses the conversation"

    def __init__(self, words: str, detail: str = "") -> None:
        super().__init__(f"{self.opening}: {words.rstrip('.')}.")
        self.words, self.detail = words, detail


class BadTemplate(TemplateRefused):
    """The template goes beyond its limits: another conversation would not help."""

    opening = "The model's chat template cannot be used"


class _Raised(jinja2.TemplateError):
    """The template's own refusal, in its own words."""


@dataclass(frozen=True)
class ChatTemplate:
    """A compiled template with the special tokens that it may name.

    markers: special tokens of the tokenizer, of which one ends an answer. guard: entered around each rendering.
    """

    template: jinja2.Template
    special: Mapping[str, str]
    markers: Collection[str] = ()
    guard: Callable[[], AbstractContextManager[None]] = nullcontext

    def render(self, messages: Sequence[Message], tools: Tools = None, *, ask: bool = False) -> str:
        """Return the text the model sees; `ask` ends it where an answer begins. Raises TemplateRefused."""
        told = [_tell(message) for message in messages]
        given = {"messages": told, "add_generation_prompt": ask, "tools": tools or None, **self.special}
        try:
            with self.guard():
                text = str(self.template.render(given))
                text.encode()  # half of a character has no token
        except _ENDS as error:
            raise _explain(error) from error
        return text


def load_template(folder: Path) -> jinja2.Template | None:
    """Return the chat template of a model folder, compiled; None where it has none. Raises BadModelFolder."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return _compile(folder, read_text(beside))
    source = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(source, list):  # several templates by name
        named = [entry for entry in source if isinstance(entry, dict) and entry.get("name") == "default"]
        source = named[0].get("template") if named else None
    return _compile(folder, source) if isinstance(source, str) else None


def read_special(folder: Path) -> dict[str, str]:
    """Return the special tokens that a model's chat template may name. Raises BadModelFolder."""
    settings = read_json(folder / "tokenizer_config.json")
    return {name: _token_text(settings[name]) for name in SPECIAL_TOKENS if settings.get(name)}


def read_text(path: Path) -> str:
    """Return the text of a model's file. Raises BadModelFolder."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        words = f"its file {path.name} cannot be read as UTF-8 text"
        raise BadModelFolder(path.parent, words, str(error)) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return what a model's file says, {} where it is not there. Raises BadModelFolder."""
    text = read_text(path) if path.is_file() else "{}"
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModelFolder(path.parent, f"its file {path.name} is not JSON", str(error)) from error
    if not isinstance(values, dict):
        raise BadModelFolder(path.parent, f"its file {path.name} holds no JSON object")
    return values


class _Sandbox(ImmutableSandboxedEnvironment):
    """Asks once for each type what may be read of it: the answer is the same for all its objects, and dear."""

    safe: ClassVar[dict[tuple[type, str], bool]] = {}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = type(obj), attr
        if key not in self.safe:
            self.safe[key] = super().is_safe_attribute(obj, attr, value)
        return self.safe[key]


def _compile(folder: Path, source: str) -> jinja2.Template:
    """Compile a template the way transformers does; its generation marks are kept as blocks without effect."""

    def refuse(message: object) -> None:
        raise _Raised(str(message))

    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    plain = _GENERATION_MARK.sub(lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", source)
    try:
        return environment.from_string(plain)
    except _ENDS as error:  # Python's compiler has limits of its own
        where = f" at line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise BadModelFolder(folder, f"its chat template cannot be read{where}", repr(error)) from error


def _tell(message: Message) -> Message:
    """Return a message as a template is given it: no key without a value, no weight, a thought under each name."""
    if len(message) == 2 and message.get("role") and message.get("content") is not None:  # as most are
        return message
    told = {key: value for key, value in message.items() if value is not None and key != "weight"}
    thought = next((told[name] for name in THOUGHTS if name in told), None)
    if thought is not None:  # as transformers does
        told = {"thinking": thought, **told, "reasoning_content": thought}
    if told.get("tool_calls"):
        told.setdefault("content", "")
    return told


def _explain(error: BaseException) -> TemplateRefused:
    """Return why a rendering did not come to its end."""
    if isinstance(error, _Raised):
        return TemplateRefused(str(error))
    if isinstance(error, OutOfTime):
        return BadTemplate(f"it does not come to an end: it was stopped after {error}")
    if isinstance(error, MemoryError):
        return BadTemplate("it takes more memory than it may", repr(error))
    if isinstance(error, RecursionError):
        return BadTemplate("it calls itself without an end", repr(error))
    if isinstance(error, UnicodeEncodeError):
        return TemplateRefused("it writes half of a character", repr(error))
    if isinstance(error, jinja2.UndefinedError):
        return TemplateRefused("it asks for something that is not there", repr(error))
    return TemplateRefused("it does what a template may not do", repr(error))


def _token_text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
