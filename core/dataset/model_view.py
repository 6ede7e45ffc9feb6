"""A conversation as the chosen model sees it: the rendered template, its tokens, and which of them are learned.

What is rendered and learned is tokens.ChatTemplate's, which a test holds equal to the trainer, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.dataset.tokens import ChatTemplate, TemplateRefused, load_template, mark_learned, read_special
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
    try:
        text = model.template.render(messages)
        spans = model.template.find_answers(messages, text)
    except TemplateRefused as error:
        raise BadInput("The model's chat template refuses this row.", _REFUSED_HINT, str(error)) from error
    encoding = model.tokenizer.encode(text, add_special_tokens=False)
    learned = mark_learned([start for start, _ in encoding.offsets], spans).tolist()
    tokens, shown = [], 0
    for place, (number, (_, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
        # Tokens that share a character's bytes all have its place: the first shows it.
        piece = text[shown:end]
        shown = max(shown, end)
        tokens.append(Token(number, piece, learned[place], 0 < max_length <= place))
    counted = sum(token.learned and not token.cut for token in tokens)
    return ModelView(text, tuple(tokens), counted, sum(token.cut for token in tokens))


def prepare_model(folder: Path) -> bool:
    """Read the tokenizer of a folder, so that the first view need not; raises BadInput as view_as_model does."""
    return bool(_load(str(folder), _changed_at(folder)))


@dataclass(frozen=True)
class _Model:
    """Tokenizer and chat template of one model folder."""

    tokenizer: Tokenizer
    template: ChatTemplate


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
    return _Model(tokenizer, ChatTemplate(template, read_special(path)))


def _changed_at(folder: Path) -> tuple[int, ...]:
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return tuple((folder / name).stat().st_mtime_ns if (folder / name).is_file() else 0 for name in names)
