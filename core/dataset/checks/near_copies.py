"""Finds near copies: MinHash over runs of eight bytes; rows that share a band are compared.

One permutation, 64 bins (Li, Owen, Zhang: One Permutation Hashing, 2012): the hashes are sorted once, and the least of
each bin is kept. 0.2 ms a row of 6 kB; datasketch.MinHash over triples of words took six times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

BINS = 64
BANDS = 16
ALIKE = 0.8  # of the bins; about the share of runs that both have
_MULTIPLIER = numpy.uint64(0x9E3779B97F4A7C15)
_EDGES = (numpy.arange(BINS, dtype=numpy.uint64) << numpy.uint64(58)).astype(numpy.uint64)
_WORD = 8
_PART_ROWS = 32_768


def sign(text: str) -> Any:
    """Return the signature of a text, `(BINS,)` of uint32; zeros if the text is too short to compare."""
    raw = " ".join(text.lower().split()).encode("utf-8", "replace")
    if len(raw) < 4 * _WORD:
        return numpy.zeros(BINS, numpy.uint32)
    pieces = numpy.ndarray((len(raw) - _WORD + 1,), "<u8", raw, strides=(1,))
    hashes = pieces * _MULTIPLIER
    hashes ^= hashes >> numpy.uint64(29)
    hashes *= _MULTIPLIER
    hashes.sort()
    places = numpy.searchsorted(hashes, _EDGES)
    least = hashes[numpy.where(places < len(hashes), places, 0)]
    return ((least >> numpy.uint64(24)) & numpy.uint64(0xFFFFFFFF)).astype(numpy.uint32)


@dataclass(frozen=True)
class Pair:
    """Two rows that are nearly the same, numbered from 0 over all files."""

    row: int
    earlier: int


def find_pairs(signatures: Path | Any, count: int) -> list[Pair]:
    """Return each row that is a near copy, with its original. signatures: `(count, BINS)` of uint32, or their file."""
    if not count:
        return []
    on_disk = isinstance(signatures, Path)
    rows = numpy.memmap(signatures, numpy.uint32, "r", shape=(count, BINS)) if on_disk else signatures
    earlier: dict[int, int] = {}
    for band in range(BANDS):
        _compare(rows, _keys(signatures, count, band), earlier)
    return [Pair(row, other) for row, other in sorted(earlier.items())]


def _keys(signatures: Path | Any, count: int, band: int) -> Any:
    """Return a hash of one band of each signature, `(count,)`; a file is read in parts: a map would stay in memory."""
    if not isinstance(signatures, Path):
        return _band_keys(signatures, band)
    keys = numpy.empty(count, numpy.uint64)
    with signatures.open("rb") as file:
        for first in range(0, count, _PART_ROWS):
            part = numpy.fromfile(file, numpy.uint32, min(_PART_ROWS, count - first) * BINS).reshape(-1, BINS)
            keys[first : first + len(part)] = _band_keys(part, band)
    return keys


def _band_keys(rows: Any, band: int) -> Any:
    width = BINS // BANDS
    part = numpy.ascontiguousarray(rows[:, band * width : (band + 1) * width]).astype(numpy.uint64)
    keys = part[:, 0]
    for column in range(1, width):
        keys = (keys ^ part[:, column]) * _MULTIPLIER
        keys ^= keys >> numpy.uint64(31)
    return keys


def _compare(rows: Any, keys: Any, earlier: dict[int, int]) -> None:
    """Compare each row with the first one and the last one before it that have its key."""
    order = numpy.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    starts = numpy.flatnonzero(numpy.concatenate(([True], sorted_keys[1:] != sorted_keys[:-1])))
    sizes = numpy.diff(numpy.concatenate((starts, [len(order)])))
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        members = order[start : start + size]
        if not rows[members[0]].any():
            continue
        _match(rows, members, earlier)


def _match(rows: Any, members: Any, earlier: dict[int, int]) -> None:
    for at in range(1, len(members)):
        row = int(members[at])
        if row in earlier:
            continue
        for other in {int(members[0]), int(members[at - 1])}:
            if (rows[row] == rows[other]).mean() >= ALIKE:
                earlier[row] = earlier.get(other, other)
                break
