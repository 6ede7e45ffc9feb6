"""A conversation as the chosen model sees it: the rendered template, its tokens, and which of them are learned.

What is rendered and learned is chat_template's, which a test holds equal to the trainer, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.dataset.model_process import ask
from core.errors import BadInput

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
    Milliseconds, but a second or more where the folder is read for the first time or its template is slow: never in a
    page's script.
    """
    if not (folder / "tokenizer.json").is_file():
        raise BadInput("The model's tokenizer is not on this machine.", "Choose a model that trains here.")
    try:
        question = orjson.dumps({"view": list(messages)})
    except TypeError as error:
        raise BadInput("This row holds half of a character.", "Write the whole character.", str(error)) from error
    answer = ask(folder, question)
    if "refused" in answer:
        said, detail = answer["refused"]
        raise BadInput("The model's chat template refuses this row.", _REFUSED_HINT, f"{said}\n{detail}".strip())
    text, learned = answer["text"], answer["learned"]
    tokens, shown = [], 0
    for place, (number, end) in enumerate(zip(answer["ids"], answer["ends"], strict=True)):
        # Tokens that share a character's bytes all have its place: the first shows it.
        piece = text[shown:end]
        shown = max(shown, end)
        tokens.append(Token(number, piece, learned[place], 0 < max_length <= place))
    counted = sum(token.learned and not token.cut for token in tokens)
    return ModelView(text, tuple(tokens), counted, sum(token.cut for token in tokens))
