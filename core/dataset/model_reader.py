"""Loads a model's tokenizer and chat template, and answers questions about them: the program behind model_process.

    python -m core.dataset.model_reader <bytes of memory>

A question is two lines on standard input: the model and the time limit, then {"rows": […]} to count tokens, or
{"view": […]} to see one conversation token by token. An answer is a line of JSON.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import select
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
import orjson
import psutil
from tokenizers import Tokenizer

from core.dataset.model_process import BadModel
from core.engine.answers import find_answers, mark_learned
from core.engine.chat_template import BadModelFolder, ChatTemplate, TemplateRefused, load_template, read_special
from core.engine.chat_tokens import read_markers

_IDLE_S = 120.0


@dataclass(frozen=True)
class _Model:
    """Tokenizer and chat template of one model folder; a folder may have no template."""

    tokenizer: Tokenizer
    template: ChatTemplate | None

    def render(self, messages: list[dict[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
        """Return the text that a model is trained on, and the spans of the answers in it; raises TemplateRefused."""
        if self.template is None:
            return "\n".join(message.get("content") or "" for message in messages), []
        text = self.template.render(messages)
        return text, find_answers(self.template, messages, text)


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
    return {"rows": _count(model, [row["messages"] for row in question["rows"]])}


def _view(model: _Model, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a conversation's text and tokens: their ids, where each ends in the text, and which are learned."""
    if model.template is None:
        raise BadModel("it has no chat template.")
    try:
        text, spans = model.render(messages)
    except TemplateRefused as error:
        return {"refused": [error.words, error.detail]}
    encoding = model.tokenizer.encode(text, add_special_tokens=False)
    learned = mark_learned(encoding.offsets, spans)
    return {"text": text, "ids": encoding.ids, "ends": [end for _, end in encoding.offsets], "learned": learned}


def _count(model: _Model, conversations: list[list[dict[str, Any]]]) -> list[Any]:
    """Return for each conversation its counts (token_counts.Counts), or why it is refused."""
    rendered: list[Any] = []
    for messages in conversations:
        try:
            rendered.append(model.render(messages))
        except TemplateRefused as error:
            rendered.append({"refused": [error.words, error.detail]})
    texts = [result[0] for result in rendered if isinstance(result, tuple)]
    encodings = iter(model.tokenizer.encode_batch(texts, add_special_tokens=False))
    return [_counts(next(encodings), result[1]) if isinstance(result, tuple) else result for result in rendered]


def _counts(encoding: Any, spans: list[tuple[int, int]]) -> list[int]:
    learned = mark_learned(encoding.offsets, spans)
    places = numpy.flatnonzero(learned)
    return [len(encoding), len(places), int(places[0]) if len(places) else len(encoding)]


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
