"""Batches of rows of similar length, padded on the right. Knows neither the model nor what is done with a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from core.local.engine.preprocess import TokenRows

MIXED = (
    50  # batches that are sorted among themselves: as large as the Trainer's, so that order stays random between them
)


@dataclass(frozen=True)
class Batch:
    """ids (B, T) int64; learned (B, T) bool, False on padding; tokens without padding."""

    ids: torch.Tensor
    learned: torch.Tensor
    tokens: int

    @property
    def learned_count(self) -> int:
        """Positions the loss is taken at: the first token of a row has nothing before it to be foretold from."""
        return int(self.learned[:, 1:].sum())


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, longest_at: int = 1) -> list[np.ndarray]:
    """Return row indices of an epoch's batches: random, but rows of a batch are of similar length.

    The batch with the longest row comes second, so that too little memory shows at once, yet after the first loss: that
    batch takes three times as long as another, and an operator waits for it. longest_at: another place for it.
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


def plan_in_order(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return batches for evaluation: longest first, every row once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def make_batch(rows: TokenRows, indices: np.ndarray, pad_id: int, pad_to: int, device: torch.device) -> Batch:
    """Pad rows to the longest of them, or to `pad_to` where that is more.

    No attention mask goes with it: padding follows the row, and a causal model does not look ahead.
    """
    chosen = [rows.row(int(index)) for index in indices]
    width = max(pad_to, *(len(ids) for ids, _ in chosen))
    ids = np.full((len(chosen), width), pad_id, dtype=np.int64)
    learned = np.zeros((len(chosen), width), dtype=bool)
    for number, (row_ids, row_learned) in enumerate(chosen):
        ids[number, : len(row_ids)] = row_ids
        learned[number, : len(row_learned)] = row_learned
    tokens = sum(len(row_ids) for row_ids, _ in chosen)
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(learned).to(device), tokens)
