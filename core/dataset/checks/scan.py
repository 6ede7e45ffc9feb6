"""The structural check: reads every line of a file once, as fast as its JSON can be parsed, and writes the row index.

A correct line costs one orjson.loads, a hash and a look at its roles; whatever is odd goes to line_check.py, which is
slower and says what is wrong. Holds one block of the file and its records.
"""

from __future__ import annotations

import gc
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import eq, itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import orjson
import xxhash

from core.dataset import row_index
from core.dataset.checks.line_check import CONTROL, ORDER_CODES, UNSEEN_SIGNS, Problem, check_line, is_blank
from core.dataset.columns import Filled
from core.dataset.findings import flag
from core.dataset.progress import Meter

BLOCK = 1 << 18  # stays in a core's cache: with 1 MiB reading took half as long again
MAX_LINE = 32 << 20  # a longer line is not read: no conversation is that long, and one line must not fill the memory
_PLAIN = ("role", "content")  # the keys of a message that the fast pass takes
_BLANK = re.compile(rb"[ \t\r\n]*")
_CONTROLS = flag("control_characters")
_LONG_LINE = flag("line_too_long")
_OF_ORDER = flag(*ORDER_CODES)


@dataclass
class Scan:
    """What one pass over a file found. examples: the first problem of each kind. orders: rows by order of roles.

    columns, keys: what rows and messages are filled in with.
    """

    rows: int = 0
    examples: dict[str, Problem] = field(default_factory=dict)
    orders: Counter[tuple[str, ...]] = field(default_factory=Counter)
    columns: Filled = field(default_factory=Filled)
    keys: Filled = field(default_factory=Filled)


@dataclass(frozen=True)
class _Order:
    """What every row with the same order of roles shares: its flags, a seed for the hash, and its packed turns."""

    flags: int
    seed: int
    turns: int


def scan_file(path: Path, meter: Meter | None = None) -> Scan:
    """Check every line of a JSONL file, and write its row index, with the lines of the operator's own file."""
    scan = Scan()
    target, size = row_index.path_of(path), path.stat().st_size
    temporary = target.with_name(f"{target.name}.part")
    turns = row_index.turns_path(path)
    with (
        path.open("rb", buffering=0) as file,
        temporary.open("wb") as records,
        turns.open("wb") as turns_of_rows,
        _without_gc(),
    ):
        reader = _Reader(scan, row_index.read_lines(path))
        for blank, lines, offset, candidates in _blocks(file):
            # A write each of its own: tofile opens the file anew for every block.
            records.write(reader.read(blank, lines, offset, candidates).tobytes())
            turns_of_rows.write(numpy.array(reader.turns, "<u4").tobytes())
            if meter:
                meter.tell("Checked", scan.rows, done=reader.done, total=size)
    temporary.replace(target)
    return scan


def flags_of(row: dict[str, Any], problems: Sequence[Problem]) -> int:
    """Return the flags of a row that line_check looked at."""
    flags = flag(*{problem.code for problem in problems})
    messages = row.get("messages")
    if isinstance(messages, list):
        texts = (message.get("content") for message in messages if isinstance(message, dict))
        if any(isinstance(text, str) and CONTROL.search(text) for text in texts):
            flags |= _CONTROLS
    return flags


class _Reader:
    """Checks the lines of one block after the other, and makes their index records."""

    def __init__(self, scan: Scan, own_lines: row_index.Rows | None) -> None:
        self.scan = scan
        self._own_lines = own_lines
        self.done = 0
        self.turns: list[int] = []  # of the rows of the last block
        self._line = 0
        self._orders: dict[tuple[str, ...], _Order] = {}

    def read(self, blank: int, lines: list[memoryview], offset: int, suspicious: bool) -> row_index.Rows:
        """Return the index records of the lines that begin at an offset; `blank` empty lines before it were skipped.

        suspicious: they may hold a control character.
        """
        offsets: list[int] = []
        hashes, flags, numbers, sizes, turns = [], [], [], [], []
        loads, hash_of, orders, counts = orjson.loads, xxhash.xxh3_64_intdigest, self._orders, self.scan.orders
        names, plain, first = self.scan.columns.orders, 0, itemgetter(0)
        line = self._line + blank
        for view in lines:
            line += 1
            try:
                row = loads(view)
                messages = row["messages"]
                texts = [message["content"] for message in messages]
                roles = tuple([message["role"] for message in messages])
                order = orders[roles]
                joined = "\0".join(texts)
                if (
                    sum(map(len, messages)) != 2 * len(texts)
                    or any(map(eq, texts, texts[1:]))
                    or (
                        (min(texts) < "!" or not joined.isascii())
                        and not UNSEEN_SIGNS.isdisjoint(map(first, texts))
                        and any(map(is_blank, texts))
                    )
                    # Each of MISSING by itself: to look texts up in the set would hash all of them.
                    or "nan" in texts
                    or "NaN" in texts
                    or "NAN" in texts
                    or "NaT" in texts
                    or "<NA>" in texts
                    or "None" in texts
                    or "null" in texts
                    or "NULL" in texts
                    or (suspicious and CONTROL.search("".join(texts)))
                ):
                    raise ValueError
                number, row_flags, size = hash_of(joined.encode(), order.seed), order.flags, len(joined)
                row_turns = order.turns
                counts[roles] += 1
                names[tuple(row)] += 1
                if len(row) > 1 and not all(row.values()):
                    self.scan.columns.note_empty(row)
                plain += len(roles)
            except (ValueError, KeyError, TypeError, IndexError):
                raw = bytes(view)
                if not raw.strip():
                    offset += len(view) + 1
                    continue
                own = line if self._own_lines is None else int(self._own_lines[self.scan.rows + len(offsets)])
                number, row_flags, size, row_turns = self._read_slowly(own, raw)
            offsets.append(offset)
            hashes.append(number)
            flags.append(row_flags)
            numbers.append(line)
            sizes.append(size)
            turns.append(row_turns)
            offset += len(view) + 1
        self._line, self.done, self.turns = line, offset, turns
        self.scan.rows += len(offsets)
        if plain:
            self.scan.keys.orders[_PLAIN] += plain
        records = _records(offsets, hashes, flags, numbers, sizes)
        if self._own_lines is not None:
            records["line"] = self._own_lines[self.scan.rows - len(offsets) : self.scan.rows]
        return records

    def _read_slowly(self, line: int, raw: bytes) -> tuple[int, int, int, int]:
        """Return hash, flags, characters and turns of a line that the fast path refused; note what is wrong with it."""
        if len(raw) >= MAX_LINE:
            said = f" is longer than {MAX_LINE >> 20} MiB and was not read."
            self._note([Problem(line, "line_too_long", said)])
            return 0, _LONG_LINE, 0, 0
        row, problems = check_line(line, raw)
        if row:
            self._count_names(row)
        flags = flags_of(row, problems)
        if flags & _CONTROLS:
            problems.append(_control_problem(line, row))
        self._note(problems)
        if any(problem.breaks for problem in problems):
            return 0, flags, 0, 0
        roles = tuple(message["role"] for message in row["messages"])
        joined = "\0".join(message.get("content") or "" for message in row["messages"])
        order = self._orders.get(roles)
        if order is None:
            seed = zlib.crc32("\0".join(roles).encode())
            order = _Order(flags & _OF_ORDER, seed, row_index.pack_turns(roles))
            if "tool" not in roles:  # whether a result has its call, no order tells
                self._orders[roles] = order
        self.scan.orders[roles] += 1
        seed = order.seed
        if any(message.get("tool_calls") for message in row["messages"]):
            seed = zlib.crc32(orjson.dumps([message.get("tool_calls") for message in row["messages"]]), seed)
        return xxhash.xxh3_64_intdigest(joined.encode(), seed), flags, len(joined), order.turns

    def _count_names(self, row: dict[str, Any]) -> None:
        self.scan.columns.add(row)
        messages = row.get("messages")
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict):
                self.scan.keys.add(message)

    def _note(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self.scan.examples.setdefault(problem.code, problem)


def _control_problem(line: int, row: dict[str, Any]) -> Problem:
    for number, message in enumerate(row["messages"]):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and (control := CONTROL.search(content)):
            said = f": message {number + 1} holds the control character U+{ord(control[0]):04X}."
            return Problem(line, "control_characters", said)
    raise ValueError(f"line {line} holds no control character")


def _records(
    offsets: list[int], hashes: list[int], flags: list[int], lines: list[int], sizes: list[int]
) -> row_index.Rows:
    records = numpy.empty(len(offsets), row_index.ROW)
    for name, values in (("offset", offsets), ("hash", hashes), ("flags", flags), ("line", lines), ("chars", sizes)):
        records[name] = values
    return records


def _blocks(file: BinaryIO) -> Iterator[tuple[int, list[memoryview], int, bool]]:
    """Yield for each block: how many blank lines it begins with, its other whole lines, the offset of the first of
    these, and whether they may hold a control character.

    Leading blank lines are counted and skipped in one go: a packed file of some kB can hold a hundred million of them.

    The lines are views of one buffer, valid until the next block. A line longer than MAX_LINE comes as its first
    MAX_LINE bytes; the rest of it is skipped.
    """
    buffer, offset, held = bytearray(2 * BLOCK), 0, 0
    while got := file.readinto(memoryview(buffer)[held:]):  # type: ignore[attr-defined]
        last = buffer.rfind(b"\n", held, held + got)
        held += got
        if last < 0 and held < len(buffer):
            continue
        if last < 0 and held >= MAX_LINE:
            yield 0, [memoryview(buffer)[:MAX_LINE]], offset, False
            skipped, tail = _skip_line(file)
            offset += held + skipped
            buffer, held = bytearray(max(2 * BLOCK, len(tail) + BLOCK)), len(tail)
            buffer[:held] = tail
            continue
        if last >= 0:
            yield _split(buffer, last, offset)
            offset += last + 1
        rest = bytes(memoryview(buffer)[last + 1 : held])
        if len(rest) > len(buffer) // 2:
            buffer = bytearray(min(2 * len(buffer), MAX_LINE + BLOCK))
        buffer[: len(rest)], held = rest, len(rest)
    if held:
        yield _split(buffer, held, offset)


def _split(buffer: bytearray, stop: int, offset: int) -> tuple[int, list[memoryview], int, bool]:
    """Return what `_blocks` yields for the lines before `stop`, without their ends."""
    white = _BLANK.match(buffer, 0, stop).end()  # type: ignore[union-attr]  # matches the empty string
    first = buffer.rfind(b"\n", 0, white) + 1  # where a line begins that is not blank
    view, find, lines, begin = memoryview(buffer), buffer.find, [], first
    while (end := find(b"\n", begin, stop)) >= 0:
        lines.append(view[begin:end])
        begin = end + 1
    lines.append(view[begin:stop])
    return buffer.count(b"\n", 0, first), lines, offset + first, _may_hold_controls(buffer, stop)


def _skip_line(file: BinaryIO) -> tuple[int, bytes]:
    """Read to the end of a line; return how many bytes that took, the line end included, and what follows."""
    passed = 0
    while block := file.read(BLOCK):
        end = block.find(b"\n")
        if end >= 0:
            return passed + end + 1, block[end + 1 :]
        passed += len(block)
    return passed, b""


def _may_hold_controls(buffer: bytearray, stop: int) -> bool:
    r"""Tell whether JSON may hold a control character: \u00.., \b, \f, DEL, or a C1 character's lead byte.

    With numpy, since a search for b"\\u00" by bytes.find took three times as long: text is full of \n.
    """
    if buffer.find(b"\x7f", 0, stop) >= 0:
        return True
    codes = numpy.frombuffer(buffer, numpy.uint8, stop)
    escapes = numpy.flatnonzero(codes[:-1] == 0x5C) + 1
    after = codes[escapes]
    if ((after == 0x62) | (after == 0x66)).any():
        return True
    unicode_escapes = escapes[after == 0x75]
    if len(unicode_escapes) and (codes[numpy.minimum(unicode_escapes + 2, len(codes) - 1)] == 0x30).any():
        return True
    if buffer.find(b"\xc2", 0, stop) < 0:
        return False
    leads = numpy.flatnonzero(codes[:-1] == 0xC2) + 1
    return bool(len(leads) and (codes[leads] < 0xA0).any())


@contextmanager
def _without_gc() -> Iterator[None]:
    """Pause the garbage collector: parsed rows hold no cycles, and looking for some takes a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
