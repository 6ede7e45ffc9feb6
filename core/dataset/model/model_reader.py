"""Loads a model's tokenizer and chat template, and answers questions about them: the program behind model_process.

    python -m core.dataset.model.model_reader <bytes of memory>

A question is two lines on standard input: the model and the time limit, then {"rows": […]} to count tokens, or
{"view": …} to see one of these rows token by token. An answer is a line of JSON.
"""

from __future__ import annotations

import gc
import json
import math
import os
import re
import resource
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import orjson
import psutil
from tokenizers import Tokenizer

from core.dataset.model.model_process import BadModel
from core.engine.answers import LeftOut, Span, find_answers, find_left_out, mark_learned
from core.engine.chat_template import BadModelFolder, ChatTemplate, TemplateRefused, load_template, read_special
from core.engine.chat_tokens import find_tools, read_markers

_IDLE_S = 120.0
_NICENESS = 10  # all cores are used


class _Rendered(NamedTuple):
    """The text that a model is trained on, the spans of the answers in it, and what of the row is not in it.

    special: tokens of the model that stand in the row's own texts.
    """

    text: str
    answers: list[Span]
    left_out: set[LeftOut]
    special: list[str]


@dataclass(frozen=True)
class _Model:
    """Tokenizer and chat template of one model folder; a folder may have no template."""

    tokenizer: Tokenizer
    template: ChatTemplate | None

    def render(self, row: dict[str, Any]) -> _Rendered:
        """Return a row as a model is trained on it; raises TemplateRefused."""
        messages, tools = row["messages"], find_tools(row)
        if self.template is None:
            return _Rendered("\n".join(message.get("content") or "" for message in messages), [], set(), [])
        text = self.template.render(messages, tools)
        left_out = find_left_out(self.template, messages, text, tools)
        answers = find_answers(self.template, messages, text, tools)
        return _Rendered(text, answers, left_out, self.find_special(messages))

    def find_special(self, messages: list[dict[str, Any]]) -> list[str]:
        """Return the special tokens that stand in the texts of messages, in their order."""
        found: dict[str, None] = {}
        for text in _list_texts(messages):
            seen = dict.fromkeys(self._special.findall(text)) if self._special else ()
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids if seen else ()
            # A tokenizer may take one for text, as within a word.
            found |= dict.fromkeys(token for token in seen if self.tokenizer.token_to_id(token) in ids)
        return list(found)

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        """What the special tokens look like, the longer of two before the shorter."""
        tokens = sorted(filter(str.strip, self.template.markers if self.template else ()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def _list_texts(said: Any) -> Iterator[str]:
    """Yield the texts of messages, those of their calls too."""
    if isinstance(said, str):
        yield said
    elif isinstance(said, dict | list):
        for part in said.values() if isinstance(said, dict) else said:
            yield from _list_texts(part)


@lru_cache(maxsize=1)
def _load(folder: str, *_changed_at: int) -> _Model:
    """Return the tokenizer and template of a folder, loaded again if it changed. Raises BadModel."""
    path = Path(folder) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:  # the library raises plain exceptions, and panics that derive from BaseException
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise BadModel("its tokenizer.json cannot be read.", str(error)) from error
        raise
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        template = load_template(path.parent)
        if template is None:
            return _Model(tokenizer, None)
        return _Model(tokenizer, ChatTemplate(template, read_special(path.parent), read_markers(tokenizer)))
    except BadModelFolder as error:
        raise BadModel(f"{error.words}.", error.detail) from error


def _answer(model: _Model, question: dict[str, Any]) -> dict[str, Any]:
    if "view" in question:
        return _view(model, question["view"])
    return {"rows": _count(model, question["rows"])}


def _view(model: _Model, row: dict[str, Any]) -> dict[str, Any]:
    """Return a conversation's text and tokens: their ids, where each ends in the text, and which are learned."""
    if model.template is None:
        raise BadModel("it has no chat template.")
    try:
        text, answers, *_ = model.render(row)
    except TemplateRefused as error:
        return {"refused": [error.words, error.detail]}
    encoding = model.tokenizer.encode(text, add_special_tokens=False)
    learned = mark_learned(encoding.offsets, answers)
    return {"text": text, "ids": encoding.ids, "ends": [end for _, end in encoding.offsets], "learned": learned}


def _count(model: _Model, rows: list[dict[str, Any]]) -> list[Any]:
    """Return for each row its counts (token_counts.Counts), or why it is refused."""
    rendered: list[_Rendered | dict[str, Any]] = []
    for row in rows:
        try:
            rendered.append(model.render(row))
        except TemplateRefused as error:
            rendered.append({"refused": [error.words, error.detail]})
    texts = [result.text for result in rendered if isinstance(result, _Rendered)]
    encodings = iter(model.tokenizer.encode_batch(texts, add_special_tokens=False))
    return [_counts(next(encodings), result) if isinstance(result, _Rendered) else result for result in rendered]


def _counts(encoding: Any, rendered: _Rendered) -> list[Any]:
    learned = mark_learned(encoding.offsets, rendered.answers)
    places = numpy.flatnonzero(learned)
    first = int(places[0]) if len(places) else len(encoding)
    return [len(encoding), len(places), first, sorted(rendered.left_out), rendered.special]


def _limit_processor(seconds: float) -> None:
    """Have the system end this process after so many more seconds of processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _limit_memory(most: int) -> None:
    """Limit further memory to `most` bytes; macOS ignores such limits, there model_process watches."""
    if sys.platform == "linux":
        limit = psutil.Process().memory_info().vms + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(memory_bytes: int) -> int:
    """Answer until no question came for a while."""
    _limit_memory(memory_bytes)
    os.nice(_NICENESS)
    asked = sys.stdin.buffer
    while select.select([asked], [], [], _IDLE_S)[0] and (head := asked.readline()):
        question, order = asked.readline(), orjson.loads(head)
        _limit_processor(order["cpu_s"])
        try:
            answer = _answer(_load(*order["model"]), orjson.loads(question))
        except BadModel as error:
            answer = {"bad_model": [error.message, error.detail]}
        except MemoryError as error:
            answer = {"bad_model": ["it takes more memory than it may.", repr(error)]}
        line = json.dumps(answer)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if '"refused"' in line:
            gc.collect()  # the exception that ended a template keeps what it made in reference cycles
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
