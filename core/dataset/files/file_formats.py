"""Reads the file formats of chat data: JSONL, JSON, CSV, TSV and Parquet, also packed with gzip or zstandard.

Reads a part at a time, and checks no conversation. An error says in a sentence what cannot be read, and where.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise, repeat
from pathlib import Path
from typing import Any, BinaryIO

from core.dataset import row_index
from core.dataset.checks.line_check import BOM, to_line
from core.dataset.files import encodings
from core.dataset.files.csv_reader import read_table
from core.dataset.files.json_files import (
    CHUNK,
    MAX_MEMBER,
    DamagedListError,
    is_list,
    is_one_object,
    read_list,
    read_one,
)
from core.dataset.files.other_files import refuse_other
from core.dataset.findings import Unit
from core.dataset.progress import Meter
from core.errors import BadInput

SUFFIXES = ("jsonl", "json", "csv", "tsv", "parquet", "gz", "zst", "txt")
_BATCH_ROWS = 100
_MOST_LINES = 5_000  # of a preview
_FREE_BYTES = 1 << 30  # left on the disk
_MOST_TIMES_LARGER = 300  # text compresses to a twentieth; a file that grows this much was made to fill the disk

# pyarrow is imported where it is needed: 35 MB and 0.15 s for the few files that are Parquet or zstandard.


@dataclass(frozen=True)
class Reading:
    """How a file came to be JSON lines. unit: what its rows are named by. mended: sentences on what was mended.

    other: why it was not read: it is in another encoding. damaged: why not, if it is a JSON list that cannot be read to
    its end.
    """

    unit: Unit = "line"
    mended: tuple[str, ...] = ()
    other: encodings.Other | None = None
    damaged: BadInput | None = None


def unpack(path: Path, meter: Meter | None = None) -> None:
    """Replace a gzip or zstandard file by its content; other files stay as they are. Raises BadInput."""
    kind = _packing(path)
    if kind is None:
        return
    target = path.with_suffix(".unpacked")
    try:
        with path.open("rb") as source, target.open("wb") as file:
            _copy_within_limits(_open_packed(source, kind), file, path.stat().st_size, meter)
    except (OSError, EOFError, zlib.error) as error:
        target.unlink(missing_ok=True)
        said = f"The {kind} file ends too early or is damaged after {_size(target)} bytes."
        raise BadInput(said, "Pack it again, or choose it unpacked.", str(error)) from error
    except BadInput:
        target.unlink(missing_ok=True)
        raise
    target.replace(path)
    if _packing(path):
        raise BadInput("The file is packed twice.", "Unpack it once, and choose it again.")


def convert(path: Path, name: str = "", meter: Meter | None = None, encoding: str = "") -> Reading:
    """Replace a table or a JSON list by JSONL, and keep on which line of the file each row begins. Raises BadInput.

    name: what the file was called; its suffix tells a table from lines of text. encoding: what a text is in that is not
    UTF-8; UTF-16 and UTF-32 are known by their mark.
    """
    refuse_other(path)
    mended = _decode(path, encoding, meter)
    reader = _reader(path, name)
    if reader is None:
        return Reading(mended=mended, other=encodings.find_wide(path))
    if reader.unit == "line" and (other := encodings.look(path, not reader.takes_odd_bytes)):
        return Reading(other=other)
    total = reader.count() if meter else 0
    converted = path.with_suffix(".converted")
    lines = array("I")
    try:
        with converted.open("wb") as file:
            for number, (line, row) in enumerate(reader.rows):
                file.write(_as_line(row) + b"\n")
                lines.append(line)
                if meter and number % 1000 == 0:
                    meter.tell("Converted", line, total)
    except DamagedListError as error:
        converted.unlink(missing_ok=True)
        damaged = BadInput(error.message, error.hint, error.detail)
        if path.stat().st_size > MAX_MEMBER and not _begins_with_a_line(path):
            raise damaged from error
        return Reading(mended=mended, damaged=damaged)
    except (BadInput, OSError):
        converted.unlink(missing_ok=True)
        raise
    converted.replace(path)
    return Reading(keep_lines(path, lines) if reader.unit == "line" else "row", (*mended, *reader.mended))


def _begins_with_a_line(path: Path) -> bool:
    """Tell whether a file has lines: a list of many megabytes on one is not read by them."""
    with path.open("rb") as file:
        return b"\n" in file.read(CHUNK)


def _decode(path: Path, encoding: str, meter: Meter | None) -> tuple[str, ...]:
    """Make a text UTF-8 that says or of which is said that it is not; return in a sentence what was done."""
    codec = encodings.find_mark(path) or (encoding if encoding and encodings.look(path) else "")
    if not codec:
        return ()
    encodings.decode(path, codec, meter)
    return (f"The file was {encodings.name_of(codec)}; it is read as that.",)


def keep_lines(path: Path, lines: array[int]) -> Unit:
    """Keep on which lines the rows of a file began if these tell most apart; return what to call a row by.

    Of rows that share a line the first is found by it.
    """
    if 2 * sum(line == before for before, line in pairwise(lines)) > len(lines):
        return "row"
    row_index.write_lines(path, lines)
    return "line"


def read_first(path: Path, name: str, rows: int, encoding: str = "") -> list[bytes]:
    """Return the first rows of a file of any format as lines of JSONL, with the blank lines between them.

    Reads no more than that. Raises BadInput.
    """
    kind = _packing(path)
    if kind is not None:
        return _first_of_packed(path, kind, name, rows, encoding)
    if codec := encodings.find_mark(path) or encoding:
        return _first_of_decoded(path, codec, name, rows)
    reader = _reader(path, name)
    if reader is not None:
        return _take(_on_lines(reader.rows), rows)
    with path.open("rb") as file:
        return _take(iter(lambda: file.readline(MAX_MEMBER), b""), rows)


def _on_lines(rows: Iterator[tuple[int, Any]]) -> Iterator[bytes]:
    """Yield rows as lines of JSONL, each on the line where it begins, as far as lines tell them apart."""
    at = 0
    for line, row in rows:
        yield from repeat(b"", line - at - 1)
        yield _as_line(row)
        at = max(line, at + 1)


def _take(lines: Iterator[bytes], rows: int) -> list[bytes]:
    """Return the lines up to the one that holds the last wanted row."""
    taken, filled = [], 0
    for line in islice(lines, _MOST_LINES):
        taken.append(line)
        filled += bool(line.strip())
        if filled == rows:
            break
    return taken


def _first_of_decoded(path: Path, codec: str, name: str, rows: int) -> list[bytes]:
    """Make the first 4 MiB UTF-8 beside the file, and read these."""
    part = path.with_suffix(".utf-8")
    try:
        with path.open("rb") as source:
            part.write_text(source.read(4 << 20).decode(codec, "replace"), encoding="utf-8", newline="")
        return read_first(part, name, rows)
    finally:
        part.unlink(missing_ok=True)


def _first_of_packed(path: Path, kind: str, name: str, rows: int, encoding: str) -> list[bytes]:
    """Unpack the first 4 MiB beside the file, and read these."""
    part = path.with_suffix(".first")
    try:
        with path.open("rb") as source:
            part.write_bytes(_open_packed(source, kind).read(4 << 20))
        if _packing(part) is None and part.read_bytes()[:4] != b"PAR1":
            return read_first(part, name, rows, encoding)
        return []
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"The {kind} file is damaged.", "Pack it again, or choose it unpacked.", str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _packing(path: Path) -> str | None:
    with path.open("rb") as file:
        mark = file.read(4)
    if mark.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstandard" if mark == b"\x28\xb5\x2f\xfd" else None


def _open_packed(source: BinaryIO, kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=source)
    import pyarrow

    return pyarrow.CompressedInputStream(source, "zstd")


def _copy_within_limits(packed: Any, file: BinaryIO, packed_bytes: int, meter: Meter | None) -> None:
    done = 0
    while block := packed.read(1 << 20):
        done += len(block)
        if done > max(100 << 20, packed_bytes * _MOST_TIMES_LARGER):
            times = f"more than {_MOST_TIMES_LARGER} times"
            raise BadInput(f"The file grows to {times} its size when it is unpacked.", "Unpack it, and choose that.")
        if done % (64 << 20) < len(block) and _free(file) < _FREE_BYTES:
            raise BadInput(f"The disk is full after {done >> 20} MiB were unpacked.", "Free some space.")
        file.write(block)
        if meter:
            meter.tell("Unpacking", done=done)


def _free(file: BinaryIO) -> int:
    disk = os.fstatvfs(file.fileno())
    return disk.f_bavail * disk.f_frsize


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,}" if path.exists() else "0"


@dataclass(frozen=True)
class _Reader:
    """The rows of a file, each with the line on which it begins, or its number where the unit is "row".

    count: how many lines or rows there are, 0 if that cannot be known without reading them all. takes_odd_bytes:
    it reads past bytes that are not UTF-8. mended: sentences, once all rows are read.
    """

    rows: Iterator[tuple[int, Any]]
    count: Callable[[], int] = int
    unit: Unit = "line"
    takes_odd_bytes: bool = False
    mended: list[str] = field(default_factory=list)


def _reader(path: Path, name: str) -> _Reader | None:
    """Return a reader of the rows of a file that is not JSONL, None if it is."""
    with path.open("rb") as file:
        start = file.read(CHUNK)
    if start.startswith(b"PAR1"):
        return _Reader(enumerate(_read_parquet(path), start=1), lambda: _count_parquet(path), "row")
    if is_list(start, len(start) < CHUNK):
        mended: list[str] = []
        return _Reader(read_list(path, mended), mended=mended)
    suffixes = name.lower().split(".")
    if "json" in suffixes and is_one_object(path, start):
        return _Reader(read_one(path))
    text = start.removeprefix(BOM).lstrip()
    if {"csv", "tsv"} & set(suffixes) and not text.startswith((b"{", b"[")):
        rows = read_table(path, "\t" if "tsv" in suffixes else "")
        return _Reader(rows, lambda: _count_lines(path), takes_odd_bytes=True)
    return None


def _as_line(row: Any) -> bytes:
    try:
        return to_line(row)
    except (TypeError, ValueError):  # dates, decimals and bytes of a table
        return json.dumps(row, default=_say).encode()


def _say(value: Any) -> str:
    """Return what JSON has no words for; of a picture or a sound, only how long it is."""
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)


def _read_parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    done = 0
    try:
        with ParquetFile(path) as file:
            _check_row_groups(file.metadata)
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield without_nulls(row)
                    done += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        said = (
            f"The Parquet file cannot be read after its row {done:,}." if done else "The Parquet file cannot be read."
        )
        raise BadInput(said, "Save it again, or as JSONL.", str(error)) from error


def _count_parquet(path: Path) -> int:
    import pyarrow
    from pyarrow.parquet import read_metadata

    try:
        return int(read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError):  # reading it says so in words
        return 0


def _count_lines(path: Path) -> int:
    """Return how many lines a text has, whichever of the three line ends it uses, as `read_table` splits them."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            lines += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
            lines -= last == b"\r" and block[:1] == b"\n"
            last = block[-1:]
    return lines + (last not in (b"\n", b"\r"))


def _check_row_groups(metadata: Any) -> None:
    """Refuse a file whose row groups do not fit in memory: a column chunk is decoded a page at a time at least."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.total_byte_size > 4 << 30:
            size = f"{group.total_byte_size >> 30} GiB"
            raise BadInput(f"Row group {number + 1} of the Parquet file unpacks to {size}.", "Save smaller row groups.")


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Remove the null keys of messages: in a table every message has every key."""
    messages = row.get("messages")
    if isinstance(messages, list):
        row["messages"] = [
            {key: value for key, value in message.items() if value is not None or key == "content"}
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    return row
