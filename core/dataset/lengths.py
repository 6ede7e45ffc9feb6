"""Counts the tokens of every row with a model's own tokenizer and template, into a table beside the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy

from core.dataset import table
from core.dataset.findings import CODES, ERROR_FLAGS, flag
from core.dataset.progress import Meter
from core.dataset.rows import Problem
from core.dataset.tokens import LengthCounter
from core.engine.chat_template import TemplateRefused

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
        counts = counter.count_lines([lines[place - done] for place in places])
        for place, found in zip(places, counts, strict=True):
            if isinstance(found, TemplateRefused):
                refused.append(_refusal(int(rows["line"][place]), found))
            else:
                records[place] = found
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


def _refusal(line: int, error: TemplateRefused) -> Problem:
    said = f"Line {line} is refused by the model's chat template: {error.words}"
    return Problem(line, "messages", said, CODES["template_refused"].fix, code="template_refused")
