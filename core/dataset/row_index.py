"""An index of the rows of a file, kept beside it in records of fixed size: a page or a jump reads a few bytes.

<stem>.lines            4 bytes a row: its line in the operator's own file, where that is another than in this one
<stem>.index            32 bytes a row: its offset, a hash of what it says, flags, its line, its characters
<stem>.turns            4 bytes a row: how many messages it has, and which roles speak; missing in older data
<stem>.<layer>.flags    8 bytes a row: what a later check found, as the bits of findings.KINDS; of one model: its mark
<stem>.tokens-<mark>    12 bytes a row: tokens, trained tokens and the first of these, with one tokenizer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from core.dataset.findings import KEPT_LINES, Finding, flag
from core.dataset.forms.message_reading import ROLES
from core.dataset.progress import Meter
from core.errors import BadInput

ROW = numpy.dtype([("offset", "<u8"), ("hash", "<u8"), ("flags", "<u8"), ("line", "<u4"), ("chars", "<u4")])
# first: the first token (from 0) that is trained on; the number of tokens where none is.
TOKENS = numpy.dtype([("tokens", "<u4"), ("trained", "<u4"), ("first", "<u4")])
# turns: messages, 0 where the row cannot be read. roles: which of ROLES speak, the first as the lowest bit.
TURNS = numpy.dtype([("turns", "<u2"), ("roles", "<u2")])
Rows = NDArray[Any]
_LAYER = numpy.dtype("<u8")
_LINE = numpy.dtype("<u4")
_LAYERS = ("text", "near")
_BATCH_BYTES = 8 << 20
_LONGEST = 64 << 20


def path_of(path: Path) -> Path:
    """Return where the index of a file is."""
    return path.with_suffix(".index")


def write_empty(path: Path) -> None:
    """Write the index of a file whose rows are not read."""
    path_of(path).write_bytes(b"")


def read(path: Path) -> Rows:
    """Return the index of a file, `(rows,)` of ROW; mapped, not read. Raises BadInput where it was not checked."""
    if not path_of(path).is_file():
        raise BadInput(f"The file {path.name} has not been checked yet.", "Check it first.")
    return _map(path_of(path), ROW)


def read_lines(path: Path) -> Rows | None:
    """Return on which lines of the operator's own file the rows stood, `(rows,)`; None where it is this very file."""
    kept = _lines_path(path)
    return _map(kept, _LINE) if kept.is_file() else None


def write_lines(path: Path, lines: Rows | Sequence[int]) -> None:
    """Keep on which lines of the operator's own file the rows stood, `(rows,)`, ascending."""
    _write(_lines_path(path), numpy.asarray(lines, _LINE))


def copy_lines(source: Path, target: Path) -> None:
    """Keep for the copy of a file what was kept of its lines."""
    if (lines := read_lines(source)) is not None:
        write_lines(target, lines)


def read_tokens(path: Path, mark: str) -> Rows | None:
    """Return the token counts of each row, `(rows,)` of TOKENS, None where that tokenizer has not counted them."""
    kept = _tokens_path(path, mark)
    return _map(kept, TOKENS) if kept.is_file() else None


def write_tokens(path: Path, mark: str, counts: Rows) -> None:
    """Keep what a tokenizer counted, `(rows,)` of TOKENS."""
    _write(_tokens_path(path, mark), counts)


def turns_path(path: Path) -> Path:
    """Return where the turns of a file's rows are."""
    return path.with_suffix(".turns")


def read_turns(path: Path) -> Rows | None:
    """Return the turns and roles of each row, `(rows,)` of TURNS, None where they were not counted."""
    kept = turns_path(path)
    return _map(kept, TURNS) if kept.is_file() and kept.stat().st_size == count(path) * TURNS.itemsize else None


def pack_turns(roles: Sequence[str]) -> int:
    """Return a record of TURNS, for the roles of a row's messages, as one number."""
    return min(len(roles), 0xFFFF) | sum(1 << 16 + at for at, role in enumerate(ROLES) if role in roles)


def read_layers(path: Path, mark: str = "") -> list[Rows]:
    """Return what the later checks found that have ended: of each the flags, `(rows,)`. mark: of the chosen model."""
    kept = [path.with_suffix(f".{layer}.flags") for layer in (*_LAYERS, *([mark] if mark else []))]
    return [_map(layer, _LAYER) for layer in kept if layer.is_file()]


def write_layer(path: Path, layer: str, flags: Rows) -> None:
    """Keep what a later check found, `(rows,)` of flags."""
    _write(path.with_suffix(f".{layer}.flags"), flags)


def read_flags(path: Path, mark: str = "") -> Rows:
    """Return the flags of each row: those of the structural check and of the later ones that have ended."""
    flags = numpy.array(read(path)["flags"])
    for layer in read_layers(path, mark):
        flags |= layer
    return flags


def add_flag(path: Path, places: Rows, code: str) -> None:
    """Note in the index that the rows at these places (from 0) have a finding; there is one at least."""
    rows = numpy.memmap(path_of(path), ROW, "r+")
    rows["flags"][places] |= numpy.uint64(flag(code))
    rows.flush()


def find_flagged(path: Path, *codes: str, mark: str = "") -> Rows:
    """Return which rows (from 0) have a finding of one of these kinds. mark: of the model it is one with."""
    return numpy.flatnonzero(read_flags(path, mark) & numpy.uint64(flag(*codes)))


def make_finding(path: Path, places: Rows | Sequence[int], code: str, example: str) -> Finding:
    """Return the finding of the rows at these places (from 0). example: the sentence about the first."""
    lines = read(path)["line"][places[:KEPT_LINES]]
    return Finding(code, example, len(places), tuple(lines.tolist()))


def count(path: Path) -> int:
    """Return the number of rows."""
    return path_of(path).stat().st_size // ROW.itemsize


def iterate(
    path: Path, batch: int = 512, meter: Meter | None = None, verb: str = ""
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of a checked file in batches of up to `batch` lines and 8 MiB, with the place of the first.

    meter: hears under the verb how far the reading is.
    Of a line that is too long for any conversation only the beginning is read.
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
            yield first, lines
            first = stop_at
            if meter:
                meter.tell(verb, first, len(offsets), stop, size)


def read_line_at(path: Path, offset: int) -> bytes:
    """Return the line that begins at an offset."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline(_LONGEST)


def _lines_path(path: Path) -> Path:
    return path.with_suffix(".lines")


def _tokens_path(path: Path, mark: str) -> Path:
    return path.with_suffix(f".tokens-{mark}")


def _map(kept: Path, kind: numpy.dtype[Any]) -> Rows:
    rows = kept.stat().st_size // kind.itemsize
    return numpy.memmap(kept, kind, "r", shape=(rows,)) if rows else numpy.zeros(0, kind)


def _write(target: Path, records: Rows) -> None:
    """Write records so that a reader sees all of them or nothing."""
    temporary = target.with_name(f"{target.name}.part")
    records.tofile(temporary)
    temporary.replace(target)
