"""Finds a key that an object of JSON has twice: of two, every parser silently takes one.

The keys of the parsed row are counted against those in the bytes; only a row where the counts differ is parsed again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy

_QUOTE, _COLON, _SPACE, _BACKSLASH = b'": \\'


def count_written(lines: Sequence[bytes]) -> list[int]:
    """Return of each line how many quotes stand as those at a key's end do: that many keys it has, seldom fewer."""
    codes = numpy.frombuffer(b"\n".join(lines) + b"\n\n", numpy.uint8)
    ends = numpy.cumsum([len(line) + 1 for line in lines])
    quotes = numpy.flatnonzero(codes == _QUOTE)
    after = codes[quotes + 1]
    after = numpy.where(after == _SPACE, codes[quotes + 2], after)
    keys = quotes[(after == _COLON) & (codes[quotes - 1] != _BACKSLASH)]
    return numpy.diff(numpy.searchsorted(keys, ends), prepend=0).tolist()  # type: ignore[no-any-return]


def count_parsed(row: dict[str, Any]) -> int:
    """Return how many keys a row's objects have."""
    count, waiting = 0, [row]
    while waiting:
        for value in (one := waiting.pop()).values():
            if type(value) is list:
                waiting += [part for part in value if type(part) is dict]
            elif type(value) is dict:
                waiting.append(value)
        count += len(one)
    return count


def find_duplicate(line: bytes) -> str:
    """Return the first key that an object has twice, "" if none. line: valid JSON."""
    found: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in pairs:
            if key in built:
                found.append(key)
            built[key] = value
        return built

    json.loads(line, object_pairs_hook=build)
    return found[0] if found else ""
