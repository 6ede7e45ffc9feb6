"""Tokenised conversations on disk: written a few at a time, and read where they lie, so that they take no memory.

A file is a safetensors one with the tensors of TokenRows. Knows nothing of models or batches.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from array import array
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from core.engine.chat_tokens import ChatTokens
from core.engine.conversations import ChatFile

_DTYPES = {"ids": ("I32", np.dtype(np.int32)), "learned": ("U8", np.dtype(bool)), "offsets": ("I64", np.dtype("i8"))}
_LENGTH = 8  # bytes of the header's own length
_HEADER = 504  # bytes kept for the header, which says what is known at the end: the rest of it is spaces
_AT_ONCE = 64  # rows: an encoding holds about 150 bytes a token


@dataclass(frozen=True)
class TokenRows:
    """Rows of one split, end to end. ids: int32 (tokens,); learned: bool (tokens,); offsets: int64 (rows + 1,)."""

    ids: np.ndarray
    learned: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and mask of a row."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.ids[start:end], self.learned[start:end]


@dataclass(frozen=True)
class Written:
    """What became of a file's rows. lines: int64 (rows,), where each row that was kept stands in the chat file.

    cut: rows that lost their end. empty: rows that were left out, for the cut left no answer in them.
    """

    lines: np.ndarray
    tokens: int
    trained_tokens: int
    longest: int
    cut: int
    empty: int

    def facts(self) -> dict[str, int]:
        """Return the counts for a report."""
        return {
            "rows": len(self.lines),
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "longest": self.longest,
            "cut_rows": self.cut,
            "empty_rows": self.empty,
        }


def read_rows(path: Path) -> TokenRows:
    """Map a file into memory: what is read of ids and mask the system may drop again."""
    with path.open("rb") as file:
        begin = _LENGTH + int.from_bytes(file.read(_LENGTH), "little")
        header = json.loads(file.read(begin - _LENGTH))

    def tensor(name: str) -> np.ndarray:
        dtype, (start, end) = _DTYPES[name][1], header[name]["data_offsets"]
        return np.asarray(np.memmap(path, dtype, "r", begin + start, (end - start) // dtype.itemsize))

    return TokenRows(tensor("ids"), tensor("learned"), np.array(tensor("offsets")))


def write_rows(tokens: ChatTokens, chat_file: ChatFile, limit: int, path: Path) -> Written:
    """Tokenise; rows that are cut before the assistant speaks teach nothing and are left out.

    Raises BadConversation where the template refuses one.
    """
    offsets, lines, seen, cut, trained = array("q", [0]), array("q"), 0, 0, 0
    rows = chat_file.read()
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as masks:
        file.write(bytes(_LENGTH + _HEADER))
        while chunk := list(islice(rows, _AT_ONCE)):
            encoded = tokens.encode_conversations([row.messages for row in chunk], [row.tools for row in chunk])
            seen += len(chunk)
            for row, each in zip(chunk, encoded, strict=True):
                ids, learned = each.ids[:limit], each.learned[:limit]
                cut += len(each.ids) > limit
                if any(learned[1:]):  # nothing foretells the first token
                    file.write(array("i", ids))
                    masks.write(bytes(learned))
                    trained += sum(learned)
                    offsets.append(offsets[-1] + len(ids))
                    lines.append(row.line)
        masks.seek(0)
        shutil.copyfileobj(masks, file)
        file.write(offsets)
        file.seek(0)
        file.write(_header(offsets[-1], len(lines)))
    longest = int(np.diff(offsets).max(initial=0))
    return Written(np.array(lines, np.int64), offsets[-1], trained, longest, cut, seen - len(lines))


def _header(tokens: int, rows: int) -> bytes:
    """Return the first bytes of a safetensors file (https://huggingface.co/docs/safetensors/index#format)."""
    header, start = {}, 0
    for (name, (word, dtype)), length in zip(_DTYPES.items(), (tokens, tokens, rows + 1), strict=True):
        end = start + length * dtype.itemsize
        header[name] = {"dtype": word, "shape": [length], "data_offsets": [start, end]}
        start = end
    return _HEADER.to_bytes(_LENGTH, "little") + json.dumps(header).encode().ljust(_HEADER)
