"""Moves a share of the rows of a checked file, chosen by a seed, into a test file; copies stay together."""

from __future__ import annotations

from pathlib import Path

import numpy

from core.dataset import row_index
from core.recipe import MINIMUM_ROWS

DEFAULT_PERCENT = 10.0
SERVICE_RULE = "The pipeline itself splits 80/10/10."
# The pipeline component's own rule when it gets no validation file.
VALIDATION_NOTE = "The pipeline takes 20% of the training rows for validation."
_MULTIPLIER = numpy.uint64(0x9E3779B97F4A7C15)


def split(train: Path, test: Path, percent: float = DEFAULT_PERCENT, seed: int = 0) -> str:
    """Move `percent` of the rows into a test file; returns what was done, in words. Too few rows are not split.

    A hash of its content and the seed decides on each row: the order of the file does not matter, copies stay together,
    and a row stays on its side when others are added.
    """
    rows = row_index.count(train)
    wanted = max(1, round(rows * percent / 100))
    if percent <= 0:
        return f"No test rows are kept: there is no evaluation. {SERVICE_RULE}"
    if rows - wanted < MINIMUM_ROWS:
        return f"No test file was given, and {rows} rows are too few to split: there is no evaluation. {SERVICE_RULE}"
    taken = choose(row_index.read(train)["hash"], wanted, seed)
    if not taken.any():
        return f"Too many rows say the same to take test rows apart: there is no evaluation. {SERVICE_RULE}"
    _move(train, test, taken)
    by_seed = f" and the seed {seed}" if seed else ""
    return (
        f"No test file was given: {int(taken.sum()):,} of {rows:,} rows, chosen by a hash of their content{by_seed}, "
        f"are kept for the evaluation; copies stay together. {VALIDATION_NOTE}"
    )


def choose(hashes: row_index.Rows, wanted: int, seed: int) -> row_index.Rows:
    """Return which rows go to the test file, `(rows,)` of bool: `wanted`, or fewer to keep copies together."""
    ranks = numpy.array(hashes) ^ numpy.uint64((seed * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF)
    ranks *= _MULTIPLIER
    ranks ^= ranks >> numpy.uint64(31)
    ranks *= _MULTIPLIER
    groups, group_of, sizes = numpy.unique(ranks, return_inverse=True, return_counts=True)
    taken, left = numpy.zeros(len(groups), bool), wanted
    for place, size in enumerate(sizes.tolist()):
        if size <= left:
            taken[place], left = True, left - size
        if not left:
            break
    return taken[group_of]


def _move(train: Path, test: Path, taken: row_index.Rows) -> None:
    rest, own_lines = train.with_suffix(".rest"), numpy.array(row_index.read(train)["line"])
    with rest.open("wb") as kept, test.open("wb") as chosen:
        for first, lines in row_index.iterate(train):
            for at, raw in enumerate(lines, first):
                (chosen if taken[at] else kept).write(raw.strip() + b"\n")
    rest.replace(train)
    row_index.write_lines(train, own_lines[~taken])
    row_index.write_lines(test, own_lines[taken])
