"""A conversation as the chosen model sees it: the rendered template, its tokens, and which of them are learned.

Rendering and the choice of learned tokens are the engine's; a test compares them with the trainer, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.dataset.model.model_process import ask
from core.engine.chat_tokens import has_tools
from core.errors import BadInput

_HINT = "Change what it names in this row, or choose another model."
_TOOLS_HINT = "Write the tools into the texts, or choose a model whose template takes them."


@dataclass(frozen=True)
class Token:
    """One token. text: what it adds to the text; "" for the later tokens of a character of several.

    learned: trained on, as the assistant wrote it. cut: beyond the maximum length.
    """

    id: int
    text: str
    learned: bool
    cut: bool


@dataclass(frozen=True)
class ModelView:
    """A conversation for a model. learned: how many tokens are trained on. cut: how many are cut off."""

    text: str
    tokens: tuple[Token, ...]
    learned: int
    cut: int


def view_as_model(
    messages: Sequence[Mapping[str, Any]], folder: Path, max_length: int = -1, tools: Any = None
) -> ModelView:
    """Return a row's conversation as the model in `folder` is trained on it, cut at `max_length` tokens (-1: nowhere).

    Raises BadInput if its chat template refuses the conversation, or the folder holds no chat model's tokenizer. Takes
    milliseconds, but a second or more if the model is not loaded yet or its template is slow: never call it in a page's
    script.
    """
    if not (folder / "tokenizer.json").is_file():
        raise BadInput("The model's tokenizer is not on this machine.", "Choose a model that trains here.")
    try:
        question = orjson.dumps({"view": {"messages": list(messages), "tools": tools}})
    except TypeError as error:
        raise BadInput("This row holds half of a character.", "Write the whole character.", str(error)) from error
    answer = ask(folder, question)
    if "refused" in answer:
        said, detail = answer["refused"]
        hint = _TOOLS_HINT if has_tools({"messages": messages, "tools": tools}) else _HINT
        raise BadInput(f"The model's chat template refuses this row: {said.rstrip('.')}.", hint, detail)
    text, learned = answer["text"], answer["learned"]
    tokens, shown = [], 0
    for place, (number, end) in enumerate(zip(answer["ids"], answer["ends"], strict=True)):
        # Tokens that share a character's bytes all have its place: the first shows it.
        piece = text[shown:end]
        shown = max(shown, end)
        tokens.append(Token(number, piece, learned[place], 0 < max_length <= place))
    counted = sum(token.learned and not token.cut for token in tokens)
    return ModelView(text, tuple(tokens), counted, sum(token.cut for token in tokens))
