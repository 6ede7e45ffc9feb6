"""A conversation as the chosen model sees it: the rendered template, its tokens, and which of them are learned.

The trainer has its own code for this; a test holds both equal, token by token, on templates of every kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.dataset.tokens import load_template, read_special
from core.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REFUSED_HINT = "Change the roles or their order in this row, or choose another model."


@dataclass(frozen=True)
class Token:
    """One token. text: what it adds to the text; "" where it is one of several bytes of a character.

    learned: written by the assistant. cut: beyond what is trained on.
    """

    id: int
    text: str
    learned: bool
    cut: bool


@dataclass(frozen=True)
class ModelView:
    """A conversation for a model. learned: tokens that are trained on, those cut off left out. cut: tokens cut off."""

    text: str
    tokens: tuple[Token, ...]
    learned: int
    cut: int


def view_as_model(messages: Sequence[Mapping[str, Any]], folder: Path, max_length: int = -1) -> ModelView:
    """Return the conversation as the model in `folder` is trained on it, cut at `max_length` tokens (-1: nowhere).

    Raises BadInput where its chat template refuses the conversation, or the folder holds no chat model's tokenizer.
    The first use of a folder takes about 0.2 s for a vocabulary of 50,000.
    """
    model = _load(str(folder), _changed_at(folder))
    text = model.render(messages)
    spans = model.find_answers(messages, text)
    encoding = model.tokenizer.encode(text, add_special_tokens=False)
    tokens, shown, span = [], 0, 0
    for place, (number, (start, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
        while span < len(spans) and start >= spans[span][1]:
            span += 1
        learned = span < len(spans) and start >= spans[span][0]
        # Tokens that share a character's bytes all have its place: the first shows it.
        piece = text[shown:end]
        shown = max(shown, end)
        tokens.append(Token(number, piece, learned, 0 < max_length <= place))
    counted = sum(token.learned and not token.cut for token in tokens)
    return ModelView(text, tuple(tokens), counted, sum(token.cut for token in tokens))


def prepare_model(folder: Path) -> bool:
    """Read the tokenizer of a folder, so that the first view need not; raises BadInput as view_as_model does."""
    return bool(_load(str(folder), _changed_at(folder)))


@dataclass(frozen=True)
class _Model:
    """Tokenizer and chat template of one model folder."""

    tokenizer: Tokenizer
    template: Any
    special: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, Any]], *, ask: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.template.render(messages=list(messages), add_generation_prompt=ask, tools=None, **self.special)
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise BadInput("The model's chat template refuses this row.", _REFUSED_HINT, str(error)) from error

    def find_answers(self, messages: Sequence[Mapping[str, Any]], text: str) -> list[tuple[int, int]]:
        """Return where the assistant speaks: from the prompt before an answer to the end of the marker after it."""
        spans: list[tuple[int, int]] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt, answered = self.render(messages[:index], ask=True), self.render(messages[: index + 1])
            if text.startswith(answered) and answered.startswith(prompt):
                spans.append((len(prompt), len(answered.rstrip())))
            else:  # the template writes earlier turns anew when more follow
                spans.append(self._search(str(message["content"]).strip(), text, spans[-1][1] if spans else 0))
        return spans

    def _search(self, answer: str, text: str, since: int) -> tuple[int, int]:
        begin = text.find(answer, since) if answer else -1
        if begin < 0:
            raise BadInput("The model's chat template does not show an answer as it was given.", _REFUSED_HINT)
        end = begin + len(answer)
        rest = text[end:].lstrip()
        marker = next((mark for mark in self.special.values() if rest.startswith(mark)), "")
        return begin, text.index(marker, end) + len(marker) if marker else end


@lru_cache(maxsize=2)
def _load(folder: str, changed_at: tuple[int, ...]) -> _Model:
    """Return the tokenizer and template of a folder; changed_at has a changed folder be read again."""
    from tokenizers import Tokenizer

    path = Path(folder)
    if not (path / "tokenizer.json").is_file():
        raise BadInput("The model's tokenizer is not on this machine.", "Choose a model that trains here.")
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    template = load_template(path)
    if template is None:
        raise BadInput("The model has no chat template.", "Choose a chat model.")
    return _Model(tokenizer, template, read_special(path))


def _changed_at(folder: Path) -> tuple[int, ...]:
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return tuple((folder / name).stat().st_mtime_ns if (folder / name).is_file() else 0 for name in names)
