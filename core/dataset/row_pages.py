"""Pages of rows of a checked file: all, filtered, sorted or searched; each reads the rows it shows and no others."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import orjson

from core.dataset import row_index
from core.dataset.checks.line_check import check_line
from core.dataset.checks.tool_check import calls_of, read_call
from core.dataset.findings import KINDS
from core.dataset.forms.message_reading import ROLES
from core.engine.chat_template import THOUGHTS

_BLOCK = 4 << 20
_SEARCH_BUDGET_S = 0.2
Order = Literal["place", "longest", "shortest", "most turns", "fewest turns"]


@dataclass(frozen=True)
class Row:
    """One line of the file; `messages` is empty if it cannot be read as chat.

    messages: each with "role" and "content", and where it has some with its "thought", its "calls" of tools, and for
    a result the "tool" that gave it.
    codes: what was found in it. tokens, trained: as counted with the model's tokenizer, else 0.
    """

    line: int
    messages: tuple[dict[str, str], ...]
    text: str
    codes: tuple[str, ...] = ()
    tokens: int = 0
    trained: int = 0
    tools: str = ""

    @property
    def said(self) -> str:
        """Return what each message says, with its role; the text of a line that cannot be read."""
        return "\n".join(f"{message['role']}: {words_of(message)}" for message in self.messages) or self.text

    def read(self) -> dict[str, Any]:
        """Return the row as it stands in its file; only for a row that has messages."""
        row: dict[str, Any] = json.loads(self.text)
        return row


@dataclass(frozen=True)
class Page:
    """A page of rows. total: how many rows match in all, None if a search has not read to the end.

    next: the offset of the page after it, None at the end. searched: how many rows of the file were looked through.
    """

    rows: tuple[Row, ...]
    total: int | None
    next: int | None
    searched: int = 0


@dataclass(frozen=True)
class Kept:
    """Which rows are kept of a file, and in which order. Ranges hold both their ends; 0 leaves an end open.

    lengths: in tokens where the model's were counted, else in characters. turns: messages. role: one that speaks. Rows
    that cannot be read have no length, no turns and no roles; sorted, they stand last.
    """

    lengths: tuple[int, int] = (0, 0)
    turns: tuple[int, int] = (0, 0)
    role: str = ""
    order: Order = "place"


EVERY_ROW = Kept()
_SORTED_BY = {"longest": "length", "shortest": "length", "most turns": "turns", "fewest turns": "turns"}


def read_rows(path: Path, offset: int = 0, limit: int = 10) -> list[Row]:
    """Return rows `offset` to `offset + limit`, without reading the rest of the file."""
    count = row_index.count(path)
    return read_places(path, list(range(max(0, offset), min(count, offset + max(0, limit)))))


def find_row(path: Path, line: int, mark: str = "") -> Row | None:
    """Return the row on a line of the file, None if that is blank. mark: of the tokenizer whose counts are shown."""
    place = _find(row_index.read(path)["line"], line)
    return None if place is None else read_places(path, [place], mark)[0]


def read_page(
    path: Path,
    offset: int = 0,
    limit: int = 10,
    code: str = "",
    text: str = "",
    mark: str = "",
    max_length: int = -1,
    kept: Kept = EVERY_ROW,
) -> Page:
    """Return a page of all rows, or of those with a finding, a text, and what `kept` says. Within 300 ms on any file.

    offset: 0, or the `next` of the page before. A search returns what it finds in 0.2 s, and continues from `next`.
    mark: of the tokenizer whose counts are shown; max_length decides which rows are too long.
    """
    places = _choose(path, code, mark, max_length, kept)
    if text:
        if places is None or kept.order == "place":
            hits, after = _search(path, text, offset, limit, places)
            count = row_index.count(path)
        else:
            hits, after = _search_in_order(path, text, offset, limit, places)
            count = len(places)
        whole = offset == 0 and after is None
        return Page(tuple(read_places(path, hits, mark)), len(hits) if whole else None, after, after or count)
    total = row_index.count(path) if places is None else len(places)
    chosen = range(offset, min(total, offset + limit))
    shown = list(chosen) if places is None else [int(places[at]) for at in chosen]
    after = offset + limit if offset + limit < total else None
    return Page(tuple(read_places(path, shown, mark)), total, after, total)


def has_turns(path: Path) -> bool:
    """Tell whether the turns and roles of each row are known; an earlier version did not count them."""
    return row_index.read_turns(path) is not None


def _choose(path: Path, code: str, mark: str, max_length: int, kept: Kept) -> row_index.Rows | None:
    """Return the rows (from 0) of a finding that are kept, in their order; None for all in the order of the file."""
    if not code and kept == EVERY_ROW:
        return None
    places = find_places(path, code, mark, max_length) if code else numpy.arange(row_index.count(path))
    for name, (least, most) in (("length", kept.lengths), ("turns", kept.turns)):
        if least or most:
            values = _measure(path, name, mark)[places]
            places = places[(values >= max(1, least)) & (values <= (most or values.max(initial=0)))]
    if kept.role:
        places = places[(_measure(path, "roles", mark)[places] >> ROLES.index(kept.role) & 1).astype(bool)]
    if kept.order == "place":
        return places
    values = _measure(path, _SORTED_BY[kept.order], mark)[places].astype(numpy.int64)
    if kept.order in ("longest", "most turns"):
        return places[numpy.argsort(-values, kind="stable")]
    return places[numpy.argsort(numpy.where(values, values, values.max(initial=0) + 1), kind="stable")]


def _measure(path: Path, name: str, mark: str) -> row_index.Rows:
    """Return the length, the turns or the roles of each row, 0 where it cannot be read or that was not counted."""
    if name == "length":
        tokens = row_index.read_tokens(path, mark) if mark else None
        return row_index.read(path)["chars"] if tokens is None else tokens["tokens"]
    turns = row_index.read_turns(path)
    return numpy.zeros(row_index.count(path), numpy.uint16) if turns is None else turns[name]


def find_places(path: Path, code: str, mark: str = "", max_length: int = -1) -> row_index.Rows:
    """Return which rows (from 0) have a finding."""
    if code in ("too_long", "no_trained_tokens"):
        tokens = row_index.read_tokens(path, mark) if mark else None
        if max_length <= 0:
            return numpy.zeros(0, numpy.int64)
        if tokens is None:
            long = row_index.read(path)["chars"] > 4 * max_length
            return numpy.flatnonzero(long if code == "too_long" else numpy.zeros(len(long), bool))
        lost = tokens["first"] >= max_length
        return numpy.flatnonzero(tokens["tokens"] > max_length if code == "too_long" else lost & (tokens["tokens"] > 0))
    return row_index.find_flagged(path, code, mark=mark) if KINDS[code].bit >= 0 else numpy.zeros(0, numpy.int64)


def count_rows(path: Path, codes: Iterable[str], mark: str = "", max_length: int = -1) -> int:
    """Return how many rows have a finding of one of these kinds; each counts once."""
    places = [find_places(path, code, mark, max_length) for code in codes]
    return len(numpy.unique(numpy.concatenate(places))) if places else 0


def read_places(path: Path, places: list[int], mark: str = "") -> list[Row]:
    """Return these rows (from 0)."""
    if not places:
        return []
    rows, tokens = row_index.read(path), row_index.read_tokens(path, mark) if mark else None
    layers, read = row_index.read_layers(path, mark), []
    for place in places:
        flags = int(rows["flags"][place])
        for layer in layers:
            flags |= int(layer[place])
        counted = (int(tokens["tokens"][place]), int(tokens["trained"][place])) if tokens is not None else (0, 0)
        raw = row_index.read_line_at(path, int(rows["offset"][place]))
        codes = tuple(kind.code for kind in KINDS.values() if kind.bit >= 0 and flags >> kind.bit & 1)
        read.append(read_row(int(rows["line"][place]), raw, codes, *counted))
    return read


def read_row(line: int, raw: bytes, codes: tuple[str, ...] = (), tokens: int = 0, trained: int = 0) -> Row:
    """Return a line as a row."""
    text = raw.decode("utf-8", "replace").strip()
    row, problems = check_line(line, raw)
    if any(problem.breaks for problem in problems):
        return Row(line, (), text, codes, tokens, trained)
    called = {str(call.get("id")): str(read_call(call)[0]) for each in row["messages"] for call in calls_of(each)}
    messages = tuple(_to_shown(message, called) for message in row["messages"])
    tools = json.dumps(row["tools"], ensure_ascii=False) if row.get("tools") else ""
    return Row(line, messages, text, codes, tokens, trained, tools)


def words_of(message: Mapping[str, str]) -> str:
    """Return all that a message of a row says: its thought, its content, its calls."""
    return "\n".join(message[name] for name in ("thought", "content", "calls") if message.get(name))


def _to_shown(message: dict[str, Any], called: Mapping[str, str]) -> dict[str, str]:
    """Return what is shown of a message. called: the tools by the ids of the calls before it."""
    thought = next((message[name] for name in THOUGHTS if isinstance(message.get(name), str)), "")
    tool = str(message.get("name") or called.get(str(message.get("tool_call_id")), ""))
    beside = {
        "thought": thought,
        "calls": "\n".join(map(_describe_call, calls_of(message))),
        "tool": tool if message["role"] == "tool" else "",
    }
    said = {"role": message["role"], "content": message.get("content") or ""}
    return said | {name: text for name, text in beside.items() if text}


def _describe_call(call: Mapping[str, Any]) -> str:
    """Return a call as it is written in a program: look_up(place="here", days=3)."""
    name, given = read_call(call)
    with suppress(ValueError):
        given = json.loads(given) if isinstance(given, str) else given
    if not isinstance(given, dict):
        return f"{name}({'' if given is None else given})"
    return f"{name}({', '.join(f'{key}={json.dumps(value, ensure_ascii=False)}' for key, value in given.items())})"


def _search(
    path: Path, text: str, first: int, limit: int, among: row_index.Rows | None
) -> tuple[list[int], int | None]:
    """Return the rows from `first` that hold a text, and where to continue, None at the end of the file.

    Searches the raw bytes, then parses the rows in which the text may be.
    """
    offsets = row_index.read(path)["offset"]
    needles, hits, begun = _needles(text), [], time.monotonic()
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
                if among is not None and _find(among, place) is None:
                    continue
                begin = int(offsets[place]) - start
                end = int(offsets[place + 1]) - start if place + 1 < stop_at else len(block)
                if _says(block[begin:end], text):
                    hits.append(place)
                    if len(hits) == limit:
                        return hits, place + 1 if place + 1 < len(offsets) else None
            at = stop_at
            if time.monotonic() - begun > _SEARCH_BUDGET_S and at < len(offsets):
                return hits, at
    return hits, None


def _search_in_order(
    path: Path, text: str, first: int, limit: int, places: row_index.Rows
) -> tuple[list[int], int | None]:
    """Return those of the rows at `places`, from place number `first`, that hold a text, and where to continue."""
    if not len(places):
        return [], None
    offsets, size = row_index.read(path)["offset"], path.stat().st_size
    needles, hits, begun = _needles(text), [], time.monotonic()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for at in range(first, len(places)):
            place = int(places[at])
            raw = content[int(offsets[place]) : int(offsets[place + 1]) if place + 1 < len(offsets) else size]
            lower = raw.lower()
            if any(needle in lower for needle in needles) and _says(raw, text):
                hits.append(place)
            full = len(hits) == limit or time.monotonic() - begun > _SEARCH_BUDGET_S
            if full and at + 1 < len(places):
                return hits, at + 1
    return hits, None


def _needles(text: str) -> list[bytes]:
    """Return how a text may be written in JSON, in lower case: as it is, and with its characters escaped."""
    plain = {orjson.dumps(form)[1:-1].lower() for form in (text.lower(), text.upper(), text)}
    escaped = {json.dumps(form)[1:-1].encode().lower() for form in (text.lower(), text.upper(), text)}
    return sorted(plain | escaped)


def _hits(block: bytes, offsets: row_index.Rows, first: int, stop: int, needles: list[bytes]) -> list[int]:
    """Return the rows of a block that hold a needle."""
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


def _find(ascending: row_index.Rows, wanted: int) -> int | None:
    """Return the place of a number, None if it is missing."""
    at = int(numpy.searchsorted(ascending, wanted))
    return at if at < len(ascending) and ascending[at] == wanted else None


def _says(raw: bytes, text: str) -> bool:
    """Tell whether the messages of a row hold the text, or its line if it is no chat."""
    row = read_row(0, raw)
    said = " ".join(map(words_of, row.messages)) or row.text
    return text.casefold() in said.casefold()
