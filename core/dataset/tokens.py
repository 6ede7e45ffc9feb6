"""How long conversations are in a model's own tokens, and which of these are learned. The estimate is check's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from core.dataset.model_process import ask, name_of
from core.engine.chat_template import TemplateRefused
from core.errors import BadInput

ESTIMATE_UNIT = "tokens (estimate: characters / 4)"
TOKEN_UNIT = "tokens"
Counts = tuple[int, int, int]  # tokens, those that are learned, and which is the first of these


class LengthCounter:
    """Counts conversations with the tokenizer and the chat template of a model's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mark = mark_of(folder)

    def count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Return the length of a conversation as the model sees it; raises TemplateRefused."""
        [found] = self.count_lines([orjson.dumps({"messages": list(messages)})])
        if isinstance(found, TemplateRefused):
            raise found
        return found[0]

    def count_lines(self, lines: Sequence[bytes]) -> list[Counts | TemplateRefused]:
        """Return the counts of each row, a line of JSON that was checked, or why the template refuses it.

        Raises BadModel where the model's files are at fault, and not the rows.
        """
        if not lines:
            return []
        rows = [line.strip().removeprefix(b"\xef\xbb\xbf") for line in lines]
        answer = ask(self._folder, b'{"rows":[' + b",".join(rows) + b"]}")
        return [TemplateRefused(*one["refused"]) if isinstance(one, dict) else tuple(one) for one in answer["rows"]]


def mark_of(folder: Path | None) -> str:
    """Return the name under which what was counted with a tokenizer is kept; its template is part of it."""
    if folder is None:
        return "estimate"
    digest = hashlib.sha256()
    try:
        for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
            if name == "tokenizer.json" or (folder / name).is_file():
                digest.update((folder / name).read_bytes())
    except OSError as error:
        said = f"The tokenizer of '{name_of(folder)}' cannot be read."
        raise BadInput(said, "Choose another model, or fetch this one again.", str(error)) from error
    return digest.hexdigest()[:16]
