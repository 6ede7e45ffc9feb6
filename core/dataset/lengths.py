"""Counts the tokens of every row with a model's own tokenizer and template, into a table beside the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import orjson

from core.dataset import table
from core.dataset.findings import CODES, ERROR_FLAGS, flag
from core.dataset.progress import Meter
from core.dataset.rows import Problem
from core.dataset.tokens import LengthCounter, TemplateRefused, mark_learned

_BATCH = 128  # an encoding holds about 150 bytes a token: 128 rows of ultrachat take 25 MB
Told = Callable[[int], None]


def count_lengths(
    path: Path, counter: LengthCounter, progress: Told | None = None, meter: Meter | None = None
) -> tuple[table.Rows, list[Problem]]:
    """Write and return tokens and trained tokens of each row, and what the template refuses.

    A row with errors has none of both, nor has one message alone, which is not trained on. The tokens are those of the
    whole row, whatever a training cuts.
    """
    rows = table.read(path)
    records = numpy.zeros(len(rows), table.TOKENS)
    usable = (rows["flags"] & numpy.uint64(ERROR_FLAGS | flag("lone_message"))) == 0
    refused: list[Problem] = []
    done = done_bytes = 0
    size = path.stat().st_size
    for lines in table.iterate(path, _BATCH):
        places = [done + at for at in range(len(lines)) if usable[done + at]]
        texts, spans, kept = [], [], []
        for place in places:
            messages = orjson.loads(lines[place - done].removeprefix(b"\xef\xbb\xbf"))["messages"]
            try:
                text = counter.render(messages)
                found = counter.find_answers(messages, text)
            except TemplateRefused as error:
                refused.append(_refusal(int(rows["line"][place]), error))
                continue
            texts.append(text)
            spans.append(found)
            kept.append(place)
        if kept:
            records["tokens"][kept], records["trained"][kept], records["first"][kept] = _count(counter, texts, spans)
        done += len(lines)
        done_bytes += sum(map(len, lines))
        if progress:
            progress(done)
        if meter:
            meter.tell("Counted tokens in", done, len(rows), done_bytes, size)
    table.write(table.tokens_path(path, counter.mark), records)
    flags = numpy.zeros(len(rows), numpy.uint64)
    flags[numpy.isin(rows["line"], [found.line for found in refused])] = flag("template_refused")
    table.write(table.layer_path(path, "template"), flags)
    return records, refused


def _count(
    counter: LengthCounter, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]
) -> tuple[list[int], list[int], list[int]]:
    encodings = counter.encode(texts)
    trained = [_trained(one, found) for one, found in zip(encodings, spans, strict=True)]
    return [len(one) for one in encodings], [total for total, _ in trained], [first for _, first in trained]


def _trained(encoding: Any, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return how many tokens are learned, and which is the first."""
    learned = mark_learned([start for start, _ in encoding.offsets], spans)
    places = numpy.flatnonzero(learned)
    return len(places), int(places[0]) if len(places) else len(encoding)


def _refusal(line: int, error: TemplateRefused) -> Problem:
    said = f"Line {line} is refused by the model's chat template: {error}"
    return Problem(line, "messages", said, CODES["template_refused"].fix, code="template_refused")
