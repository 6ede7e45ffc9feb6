"""Looks into a checked file: a page of rows, a filter, a search, a jump; each reads what it shows and no more."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import orjson

from core.dataset import table
from core.dataset.findings import CODES, flag
from core.dataset.rows import check_row, read_line

LAYERS = ("text", "near", "template")
_BLOCK = 4 << 20
SEARCH_BUDGET_S = 0.2


@dataclass(frozen=True)
class Row:
    """One line as it stands in the file; `messages` is empty where it cannot be read as chat.

    codes: what was found in it. tokens, trained: as counted with the model's tokenizer, 0 where they were not.
    """

    line: int
    messages: tuple[dict[str, str], ...]
    text: str
    codes: tuple[str, ...] = ()
    tokens: int = 0
    trained: int = 0
    tools: str = ""


@dataclass(frozen=True)
class Page:
    """A page of rows. total: how many rows match in all, None where a search has not read to the end.

    next: the offset of the page after it, None at the end. searched: how many rows of the file were looked through.
    """

    rows: tuple[Row, ...]
    total: int | None
    next: int | None
    searched: int = 0


def read_rows(path: Path, offset: int = 0, limit: int = 10) -> list[Row]:
    """Return rows `offset` to `offset + limit`, without reading the rest of the file."""
    count = table.count(path)
    return read_places(path, list(range(max(0, offset), min(count, offset + max(0, limit)))))


def find_row(path: Path, line: int) -> Row | None:
    """Return the row on a line of the file, None where that is blank."""
    place = find_place(path, line)
    return None if place is None else read_places(path, [place])[0]


def find_place(path: Path, line: int) -> int | None:
    """Return which row (from 0) stands on a line."""
    lines = table.read(path)["line"]
    place = int(numpy.searchsorted(lines, line))
    return place if place < len(lines) and lines[place] == line else None


def find_rows(path: Path, text: str, limit: int = 50) -> list[Row]:
    """Return the first rows that hold `text` in a message, case ignored, however long that takes."""
    places, _ = _search(path, text, 0, limit, None)
    return read_places(path, places)


def read_page(
    path: Path, offset: int = 0, limit: int = 10, code: str = "", text: str = "", mark: str = "", max_length: int = -1
) -> Page:
    """Return a page of rows with a finding, or that hold a text, or both, or all. Within 300 ms on files of any size.

    offset: 0, or the `next` of the page before. A search gives what it finds in 0.2 s, and goes on from `next`.
    mark: of the tokenizer whose counts are shown; max_length decides which rows are too long.
    """
    places = find_places(path, code, mark, max_length) if code else None
    if text:
        hits, after = _search(path, text, offset, limit, SEARCH_BUDGET_S, places)
        count = table.count(path)
        whole = offset == 0 and after is None
        return Page(tuple(read_places(path, hits, mark)), len(hits) if whole else None, after, after or count)
    total = table.count(path) if places is None else len(places)
    chosen = range(offset, min(total, offset + limit))
    shown = list(chosen) if places is None else [int(places[at]) for at in chosen]
    after = offset + limit if offset + limit < total else None
    return Page(tuple(read_places(path, shown, mark)), total, after, total)


def find_places(path: Path, code: str, mark: str = "", max_length: int = -1) -> table.Rows:
    """Return which rows (from 0) have a finding."""
    if code in ("too_long", "no_trained_tokens"):
        tokens = table.read_tokens(path, mark) if mark else None
        if max_length <= 0:
            return numpy.zeros(0, numpy.int64)
        if tokens is None:
            long = table.read(path)["chars"] > 4 * max_length
            return numpy.flatnonzero(long if code == "too_long" else numpy.zeros(len(long), bool))
        lost = tokens["first"] >= max_length
        return numpy.flatnonzero(tokens["tokens"] > max_length if code == "too_long" else lost & (tokens["tokens"] > 0))
    if CODES[code].bit < 0:
        return numpy.zeros(0, numpy.int64)
    return numpy.flatnonzero(table.read_flags(path, LAYERS) & numpy.uint64(flag(code)))


def read_places(path: Path, places: list[int], mark: str = "") -> list[Row]:
    """Return these rows (from 0)."""
    if not places:
        return []
    rows, tokens = table.read(path), table.read_tokens(path, mark) if mark else None
    layers = [found for layer in LAYERS if (found := table.read_layer(path, layer)) is not None]
    made = []
    for place in places:
        flags = int(rows["flags"][place])
        for layer in layers:
            flags |= int(layer[place])
        counted = (int(tokens["tokens"][place]), int(tokens["trained"][place])) if tokens is not None else (0, 0)
        raw = table.read_line_at(path, int(rows["offset"][place]))
        made.append(_read_row(int(rows["line"][place]), raw, codes_of(flags), counted))
    return made


def codes_of(flags: int) -> tuple[str, ...]:
    """Return the names of the codes in a row's flags."""
    return tuple(code.name for code in CODES.values() if code.bit >= 0 and flags >> code.bit & 1)


def read_row(line: int, raw: bytes) -> Row:
    """Return a line as a row."""
    return _read_row(line, raw, (), (0, 0))


def _read_row(line: int, raw: bytes, codes: tuple[str, ...], counted: tuple[int, int]) -> Row:
    text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip()
    row, problem = read_line(line, raw.removeprefix(b"\xef\xbb\xbf"))
    if problem or any(found.severity == "error" for found in check_row(line, row or {})):
        return Row(line, (), text, codes, *counted)
    messages = tuple(_shown(one) for one in (row or {})["messages"])
    tools = (row or {}).get("tools")
    return Row(line, messages, text, codes, *counted, "" if not tools else json.dumps(tools, ensure_ascii=False))


def _shown(message: dict[str, Any]) -> dict[str, str]:
    content = message.get("content")
    if content is None:
        content = json.dumps(message.get("tool_calls"), ensure_ascii=False)
    return {"role": message["role"], "content": content}


def _search(
    path: Path, text: str, first: int, limit: int, budget_s: float | None, among: table.Rows | None = None
) -> tuple[list[int], int | None]:
    """Return the rows from `first` that hold a text, and where to go on, None at the end of the file.

    Looks for the text in the raw bytes, then at the rows in which it may be.
    """
    offsets = table.read(path)["offset"]
    needles, found, begun = _needles(text), [], time.monotonic()
    size = path.stat().st_size
    with path.open("rb") as file:
        at = first
        while at < len(offsets):
            start = int(offsets[at])
            stop_at = max(at + 1, int(numpy.searchsorted(offsets, start + _BLOCK)))
            stop = int(offsets[stop_at]) if stop_at < len(offsets) else size
            file.seek(start)
            block = file.read(stop - start)
            for place in _hits(block, offsets, at, stop_at, needles):
                if among is not None and not _holds(among, place):
                    continue
                begin = int(offsets[place]) - start
                end = int(offsets[place + 1]) - start if place + 1 < stop_at else len(block)
                if _says(block[begin:end], text):
                    found.append(place)
                    if len(found) == limit:
                        return found, place + 1 if place + 1 < len(offsets) else None
            at = stop_at
            if budget_s is not None and time.monotonic() - begun > budget_s and at < len(offsets):
                return found, at
    return found, None


def _needles(text: str) -> list[bytes]:
    """Return how a text may stand in JSON, lower case: as it is, and with its characters escaped."""
    plain = {orjson.dumps(one)[1:-1].lower() for one in (text.lower(), text.upper(), text)}
    escaped = {json.dumps(one)[1:-1].encode().lower() for one in (text.lower(), text.upper(), text)}
    return sorted(plain | escaped)


def _hits(block: bytes, offsets: table.Rows, first: int, stop: int, needles: list[bytes]) -> list[int]:
    """Return the rows of a block in which a needle stands."""
    lower, hits, start = block.lower(), set(), int(offsets[first])
    places = offsets[first:stop]
    for needle in needles:
        at = lower.find(needle)
        while at >= 0:
            row = int(numpy.searchsorted(places, start + at, "right")) - 1
            hits.add(first + row)
            if row + 1 >= len(places):
                break
            at = lower.find(needle, int(places[row + 1]) - start)
    return sorted(hits)


def _holds(places: table.Rows, place: int) -> bool:
    at = int(numpy.searchsorted(places, place))
    return at < len(places) and int(places[at]) == place


def _says(raw: bytes, text: str) -> bool:
    """Tell whether a message of the row holds the text; of a row that is no chat, its line."""
    row = read_row(0, raw)
    said = " ".join(one["content"] for one in row.messages) or row.text
    return text.casefold() in said.casefold()
