"""What is known of each row of a file, beside it, in records of one size: a page or a jump reads a few bytes.

<stem>.index            32 bytes a row: where it begins, a hash of what it says, flags, its line, its characters
<stem>.<layer>.flags    8 bytes a row: what a later check found, as the bits of findings.CODES
<stem>.tokens-<mark>    12 bytes a row: tokens, trained tokens and the first of these, with one tokenizer
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from core.errors import BadInput

ROW = numpy.dtype([("offset", "<u8"), ("hash", "<u8"), ("flags", "<u8"), ("line", "<u4"), ("chars", "<u4")])
# first: which token (from 0) is the first that is trained on; as many as there are where none is.
TOKENS = numpy.dtype([("tokens", "<u4"), ("trained", "<u4"), ("first", "<u4")])
Rows = NDArray[Any]
_BATCH_BYTES = 8 << 20
_LONGEST = 64 << 20


def path_of(path: Path) -> Path:
    """Return where the table of a file is."""
    return path.with_suffix(".index")


def layer_path(path: Path, layer: str) -> Path:
    """Return where the flags of a later check are."""
    return path.with_suffix(f".{layer}.flags")


def tokens_path(path: Path, mark: str) -> Path:
    """Return where the token counts made with a tokenizer are."""
    return path.with_suffix(f".tokens-{mark}")


def write(target: Path, records: Rows) -> None:
    """Write records so that a reader sees all of them or nothing."""
    temporary = target.with_name(f"{target.name}.part")
    records.tofile(temporary)
    temporary.replace(target)


def read(path: Path) -> Rows:
    """Return the table of a file, mapped, not read. Raises BadInput where the file was not checked."""
    return _map(path_of(path), ROW, path)


def read_tokens(path: Path, mark: str) -> Rows | None:
    """Return tokens and trained tokens of each row, None where they were not counted with that tokenizer."""
    where = tokens_path(path, mark)
    return _map(where, TOKENS, path) if where.is_file() else None


def read_layer(path: Path, layer: str) -> Rows | None:
    """Return the flags of a later check, None where it has not ended."""
    where = layer_path(path, layer)
    return _map(where, numpy.dtype("<u8"), path) if where.is_file() else None


def read_flags(path: Path, layers: Iterable[str] = ()) -> Rows:
    """Return the flags of each row: of the structural check and of the layers that are there."""
    flags = numpy.array(read(path)["flags"])
    for layer in layers:
        more = read_layer(path, layer)
        if more is not None and len(more) == len(flags):
            flags |= more
    return flags


def count(path: Path) -> int:
    """Return the number of rows."""
    return path_of(path).stat().st_size // ROW.itemsize


def iterate(path: Path, batch: int = 512) -> Iterator[list[bytes]]:
    """Yield the lines of a checked file in batches of up to `batch` lines and 8 MiB, in the order of its table.

    Of a line that is too long for any conversation comes the beginning.
    """
    offsets, size = read(path)["offset"], path.stat().st_size
    first = 0
    with path.open("rb") as file:
        while first < len(offsets):
            start = int(offsets[first])
            stop_at = min(first + batch, int(numpy.searchsorted(offsets, start + _BATCH_BYTES)))
            stop_at = max(first + 1, stop_at)
            stop = int(offsets[stop_at]) if stop_at < len(offsets) else size
            file.seek(start)
            block = file.read(stop - start if stop_at > first + 1 else min(stop - start, _LONGEST))
            ends = [*(int(place) - start for place in offsets[first + 1 : stop_at]), len(block)]
            begin, lines = 0, []
            for end in ends:
                lines.append(block[begin:end])
                begin = end
            yield lines
            first = stop_at


def read_line_at(path: Path, offset: int, limit: int = _LONGEST) -> bytes:
    """Return the line that begins at an offset."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline(limit)


def _map(where: Path, kind: Any, path: Path) -> Rows:
    if not where.is_file():
        raise BadInput(f"The file {path.name} has not been checked yet.", "Check it first.")
    if where.stat().st_size < kind.itemsize:
        return numpy.zeros(0, kind)
    return numpy.memmap(where, kind, "r", shape=(where.stat().st_size // kind.itemsize,))
