"""Batches of rows of similar length.

Rows of a chat data set share a prefix: the template's own system prompt, or the data's. Where it is worth it, the
shared prefix of a batch is computed once: prefix and rows are packed into one sequence, and a mask lets each row attend
to the prefix and itself. Loss and gradients are those of padded rows (tests/core/engine/test_batches.py); no position
is spent on padding either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from core.engine.token_rows import TokenRows

Row = tuple[np.ndarray, np.ndarray]  # ids and what is learned

# Batches that are sorted among themselves: as large as the Trainer's, so that order stays random between them.
MIXED = 50
# How many tokens a token must look at for attention to cost as much as the rest of its way through the model: measured
# on SmolLM2-135M with eager attention on two cores, in fp32 1,040 and in bf16 580.
ATTENTION_AT_PAR = 1000
# A table of all pairs is kept for each layer: at this length no more than 9 x 512 x 512 numbers of a 135M model.
LONGEST_PACKED = 512


@dataclass(frozen=True)
class Batch:
    """Rows padded to one length, or packed into one sequence behind their shared prefix, where B is 1."""

    ids: torch.Tensor
    """(B, T) int64."""
    learned: torch.Tensor
    """(B, T) bool: where the loss is taken; False on padding."""
    tokens: int
    """Of the rows, without padding."""
    positions: torch.Tensor | None = None
    """(1, T) int64: each token's position in its own row; None where rows are padded."""
    visible: torch.Tensor | None = None
    """(T, T) bool: whether a token (first axis) may attend to another (second); None where rows are padded."""

    @property
    def learned_count(self) -> int:
        """Positions the loss is taken at: the first token of a row has nothing before it to be foretold from."""
        return int(self.learned[:, 1:].sum())


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, longest_at: int = 1) -> list[np.ndarray]:
    """Return row indices of an epoch's batches: random, but rows of a batch are of similar length.

    The batch with the longest row comes second, so that too little memory shows at once, yet after the first loss: that
    batch takes three times as long as another, and an operator waits for it. (Where rows are packed another can be
    larger, within LONGEST_PACKED.) longest_at: another place for it.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), batch_size * MIXED):
        mixed = order[start : start + batch_size * MIXED]
        by_length = mixed[np.argsort(-lengths[mixed], kind="stable")]
        batches += [by_length[at : at + batch_size] for at in range(0, len(by_length), batch_size)]
    random.shuffle(batches)
    longest = max(range(len(batches)), key=lambda index: lengths[batches[index]].max())
    batches.insert(longest_at, batches.pop(longest))
    return batches


def split_batch(lengths: np.ndarray, most: Callable[[int], float]) -> list[slice]:
    """Split a batch's rows, longest first, into even parts of as many as `most` allows at their length, or of one."""
    parts, start = [], 0
    while start < len(lengths):
        left = len(lengths) - start
        passes = math.ceil(left / max(1, int(most(int(lengths[start])))))
        parts.append(slice(start, start + math.ceil(left / passes)))
        start = parts[-1].stop
    return parts


def make_batch(
    rows: TokenRows, indices: np.ndarray, pad_id: int, pad_to: int, device: torch.device, *, share: bool = False
) -> Batch:
    """Pad rows to the longest of them, or to `pad_to` where that is more.

    No attention mask goes with it: padding follows the row, and a causal model does not look ahead. share: pack them
    into one sequence behind their shared prefix instead, where that is less to compute; the model must take a mask of
    its own and hold a table of all pairs anyway.
    """
    chosen = [rows.row(int(index)) for index in indices]
    width = max(pad_to, *(len(ids) for ids, _ in chosen))
    if share and not pad_to and (prefix := _count_shared_prefix(chosen)):
        length = _count_tokens(chosen) - prefix * (len(chosen) - 1)
        if length <= LONGEST_PACKED and _cost(length, length) < _cost(width * len(chosen), width):
            return _pack(chosen, prefix, device)
    ids = np.full((len(chosen), width), pad_id, dtype=np.int64)
    learned = np.zeros((len(chosen), width), dtype=bool)
    for number, (row_ids, row_learned) in enumerate(chosen):
        ids[number, : len(row_ids)] = row_ids
        learned[number, : len(row_learned)] = row_learned
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(learned).to(device), _count_tokens(chosen))


def _cost(tokens: int, seen: int) -> int:
    """Compare what is computed for tokens that look at `seen` tokens each."""
    return tokens * (ATTENTION_AT_PAR + seen)


def _count_shared_prefix(chosen: list[Row]) -> int:
    """Return how many tokens all rows begin with; the token before a row's first learned one stays the row's own.

    Else one position would have to foretell the different answers of rows that ask the same.
    """
    limit = min(len(ids) if not learned.any() else int(learned.argmax()) - 1 for ids, learned in chosen)
    first = chosen[0][0][: max(0, limit)]
    same = np.ones(len(first), dtype=bool)
    for ids, _ in chosen[1:]:
        same &= ids[: len(first)] == first
    return len(first) if same.all() else int(same.argmin())


def _pack(chosen: list[Row], prefix: int, device: torch.device) -> Batch:
    starts = [0] + [prefix] * len(chosen)
    parts = [(chosen[0][0][:prefix], chosen[0][1][:prefix])]
    parts += [(ids[prefix:], learned[prefix:]) for ids, learned in chosen]
    owner = np.concatenate([np.full(len(ids), number) for number, (ids, _) in enumerate(parts)])
    positions = np.concatenate([start + np.arange(len(ids)) for start, (ids, _) in zip(starts, parts, strict=True)])
    visible = (owner[:, None] == owner) | (owner == 0)
    visible &= np.tri(len(owner), dtype=bool)
    arrays = [
        np.concatenate([ids for ids, _ in parts]).astype(np.int64)[None],
        np.concatenate([learned for _, learned in parts])[None],
        positions[None],
        visible,
    ]
    ids, learned, own, seen = (torch.from_numpy(each).to(device) for each in arrays)
    return Batch(ids, learned, _count_tokens(chosen), own, seen)


def _count_tokens(chosen: list[Row]) -> int:
    return sum(len(ids) for ids, _ in chosen)
