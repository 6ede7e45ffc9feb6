"""Keys and values of the answers that are written at once, and attention over rows of different lengths in one pass.

A pass reads the new tokens of all rows one behind the other, `(1, tokens)`. Attention alone looks beyond a token, and
it is computed here row by row, as for one that is alone: no padding, and an answer does not hang on its neighbours.
Knows nothing of how words are drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "rows"
_GROW_BY = 256


class RowKeys:
    """Keys and values of one row for its first `length` tokens, by layer: two tensors `(1, heads, room, size)`."""

    def __init__(self, length: int = 0, layers: dict[int, list[torch.Tensor]] | None = None) -> None:
        self.length = length
        self.asked = 0
        """How many of its tokens were its prompt."""
        self.scores: torch.Tensor | None = None
        """What the model said of the token behind the prompt, `(words,)`."""
        self._layers, self._owned = dict(layers or {}), set[int]()

    def begin_another(self, length: int) -> RowKeys:
        """Return a row that begins with the first `length` tokens of this one; nothing is copied until it grows."""
        return RowKeys(length, self._layers)

    def add(self, layer: int, *new: torch.Tensor) -> list[torch.Tensor]:
        """Write `(1, heads, n, size)` each behind the first `length` tokens; return all, `length` + n of them."""
        end, held = self.length + new[0].shape[2], self._layers.get(layer, [])
        if layer not in self._owned or held[0].shape[2] < end:
            room = -(-end // _GROW_BY) * _GROW_BY
            grown = [each.new_empty((1, each.shape[1], room, each.shape[3])) for each in new]
            for own, before in zip(grown, held, strict=False):
                own[:, :, : self.length] = before[:, :, : self.length]
            self._layers[layer] = held = grown
            self._owned.add(layer)
        for own, each in zip(held, new, strict=True):
            own[:, :, self.length : end] = each
        return [own[:, :, :end] for own in held]

    @property
    def size_bytes(self) -> int:
        """Return what its tensors take."""
        scores = 0 if self.scores is None else self.scores.nbytes
        return scores + sum(each.nbytes for held in self._layers.values() for each in held)


class KeptKeys:
    """Keys of the conversations that were answered last, up to a number of bytes: a next turn begins with them."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: list[tuple[np.ndarray, RowKeys]] = []

    def begin(self, ids: Sequence[int]) -> RowKeys:
        """Return the keys of as much of the beginning of a prompt as is kept.

        Of one that was asked before they are whole, with its scores: it is answered as it was, to the last bit.
        Of another the last token at least is left to be read.
        """
        wanted = np.asarray(ids)
        shared = [(_count_shared(wanted, known), keys.asked == len(ids)) for known, keys in self._kept]
        (size, again), best = max(zip(shared, range(len(shared)), strict=True), default=((0, False), 0))
        if not size:
            return RowKeys()
        self._kept.append(self._kept.pop(best))
        keys = self._kept[-1][1]
        if size < len(ids) or not again:
            return keys.begin_another(min(size, len(ids) - 1))
        begun = keys.begin_another(size)
        begun.asked, begun.scores = keys.asked, keys.scores
        return begun

    def keep(self, ids: Sequence[int], keys: RowKeys) -> None:
        """Keep the keys of a row that is ended, in the place of those that it goes on from."""
        given = np.asarray(ids[: keys.length])
        self._kept = [each for each in self._kept if _count_shared(given, each[0]) < len(each[0])]
        self._kept += [(given, keys)] if keys.length else []
        while sum(each.size_bytes for _, each in self._kept) > self._most_bytes:
            del self._kept[0]


@dataclass
class Piece:
    """The tokens of one row in a pass: `begin` to `end` of the pass. What is in no piece is computed for nothing."""

    keys: RowKeys
    begin: int
    end: int
    _masks: dict[int, torch.Tensor] = field(default_factory=dict)

    def mask(self, like: torch.Tensor, window: int) -> torch.Tensor:
        """Return what each token of the piece may look at, `(1, 1, n, length + n)`: 0 or the lowest number."""
        if window not in self._masks:
            total = self.keys.length + self.end - self.begin
            there = torch.arange(total, device=like.device)
            here = there[self.keys.length :, None]
            seen = (there <= here) & (there > here - window)
            lowest = torch.finfo(like.dtype).min
            self._masks[window] = torch.where(seen, 0.0, lowest).to(like.dtype)[None, None]
        return self._masks[window]


def set_row_attention(model: Any) -> None:
    """Have a model's attention computed row by row; its passes then need `pieces`, and `use_cache` false."""
    inner = model.config._attn_implementation

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: None,
        *,
        pieces: Sequence[Piece],
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        eager = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(inner, eager)
        layer: Any = module.layer_idx
        seen = []
        for piece in pieces:
            new = slice(piece.begin, piece.end)
            keys, values = piece.keys.add(layer, key[:, :, new], value[:, :, new])
            total, count = keys.shape[2], piece.end - piece.begin
            window = min(options.get("sliding_window") or total, total)
            if count == 1:
                keys, values = keys[:, :, -window:], values[:, :, -window:]
            asked = query[:, :, new]
            if count == 1 and inner == "sdpa":  # heads that share keys as rows: the same sums in half the time
                packed = asked.reshape(1, keys.shape[1], -1, asked.shape[3])
                said = functional.scaled_dot_product_attention(packed, keys, values, scale=options["scaling"])
                seen.append(said.reshape(1, 1, *asked.shape[1::2]))
                continue
            whole = count == 1 or (attention is not eager and window == count == total)
            mask = None if whole else piece.mask(query, window)
            seen.append(attention(module, asked, keys, values, mask, **options)[0])
        beyond = query.shape[2] - pieces[-1].end
        return functional.pad(torch.cat(seen, dim=1), (0, 0, 0, 0, 0, beyond)), None

    AttentionInterface.register(_NAME, attend)
    model.set_attn_implementation(_NAME)


def _count_shared(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many tokens two rows begin with alike."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size
