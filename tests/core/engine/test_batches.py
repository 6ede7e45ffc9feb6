"""Rows that share a prefix are packed into one sequence: the loss and gradients of padded rows, and less to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.engine.answer_loss import answer_loss, can_pack
from core.engine.batches import LONGEST_PACKED, Batch, make_batch
from core.engine.token_rows import TokenRows
from core.engine.trainable import load_model

CPU = torch.device("cpu")
PAD = 2
PREFIX = [1, 5, 9, 4, 7, 7, 3, 8, 11, 6, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]


def rows_of(*parts: tuple[list[int], list[int]], prefix: list[int] = PREFIX) -> TokenRows:
    """Make rows of the prefix, a question that is not learned and an answer that is."""
    ids = [prefix + asked + answer for asked, answer in parts]
    learned = [[False] * len(prefix + asked) + [True] * len(answer) for asked, answer in parts]
    offsets = np.cumsum([0, *map(len, ids)])
    return TokenRows(np.concatenate(ids).astype(np.int32), np.concatenate(learned), offsets)


UNEQUAL = (([30, 31], [40, 41, 2]), ([32], [42, 2]), ([30, 33, 34, 35], [43, 44, 45, 46, 47, 2]), ([36, 37], [48, 2]))
ASKED_ALIKE = (([30, 31, 32], [40, 41, 2]), ([30, 31, 32], [50, 51, 2]), ([30, 31, 32], [40, 2]))


def batch_of(rows: TokenRows, *, share: bool = True, pad_to: int = 0) -> Batch:
    return make_batch(rows, np.arange(len(rows)), PAD, pad_to, CPU, share=share)


def learn(model: Any, batch: Batch) -> tuple[float, torch.Tensor]:
    """Return the loss and all gradients, end to end."""
    model.zero_grad()
    loss = answer_loss(model, batch)
    loss.backward()
    return loss.item(), torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


@pytest.mark.parametrize("parts", [UNEQUAL, ASKED_ALIKE], ids=["unequal rows", "the same question, other answers"])
def test_packed_rows_teach_what_padded_rows_teach(
    tiny_model: Path, parts: tuple[tuple[list[int], list[int]], ...]
) -> None:
    model = load_model(tiny_model, "float32", CPU).requires_grad_(True)
    packed, padded = batch_of(rows_of(*parts)), batch_of(rows_of(*parts), share=False)
    assert (len(packed.ids), len(padded.ids)) == (1, len(parts))
    assert packed.ids.numel() < padded.ids.numel()
    assert (packed.tokens, packed.learned_count) == (padded.tokens, padded.learned_count)
    (loss, gradients), (expected, wanted) = learn(model, packed), learn(model, padded)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (gradients - wanted).norm() < 1e-4 * wanted.norm()


def test_a_packed_row_sees_nothing_of_another(tiny_model: Path) -> None:
    model = load_model(tiny_model, "float32", CPU)
    alone = [answer_loss(model, batch_of(rows_of(part))).item() for part in UNEQUAL]
    packed = batch_of(rows_of(*UNEQUAL))
    assert answer_loss(model, packed).item() == pytest.approx(sum(alone), rel=1e-5)
    assert packed.visible is not None
    leaky = Batch(packed.ids, packed.learned, packed.tokens, packed.positions, torch.ones_like(packed.visible).tril())
    assert answer_loss(model, leaky).item() != pytest.approx(sum(alone), rel=1e-5)


def test_rows_are_packed_where_fewer_tokens_outweigh_that_each_looks_at_more() -> None:
    rows = rows_of(*[([31 + row, *[30] * 57], [40, 2]) for row in range(4)])
    assert batch_of(rows).ids.shape == (1, len(PREFIX) + 4 * 60)


@pytest.mark.parametrize(
    ("rows", "pad_to"),
    [
        (rows_of(*UNEQUAL, prefix=[]), 0),
        (rows_of(*UNEQUAL), 64),
        (rows_of(*[([30] * LONGEST_PACKED, [40, 2])] * 2), 0),
        (rows_of(*[([31 + row, *[30] * 90], [40, 2]) for row in range(4)], prefix=PREFIX[:3]), 0),
        (rows_of(UNEQUAL[0]), 0),
        (rows_of(([], [40, 2]), ([], [41, 2]), prefix=[1]), 0),
    ],
    ids=[
        "nothing shared",
        "a fixed length",
        "too long",
        "more to look at than is saved",
        "one row",
        "learned from the second token",
    ],
)
def test_rows_are_padded_where_packing_gains_nothing(rows: TokenRows, pad_to: int) -> None:
    batch = batch_of(rows, pad_to=pad_to)
    assert len(batch.ids) == len(rows)
    assert batch.visible is None


def test_only_a_table_of_all_pairs_takes_a_mask_of_its_own(tiny_model: Path) -> None:
    model: Any = load_model(tiny_model, "float32", CPU)
    assert can_pack(model)
    model.config.sliding_window = LONGEST_PACKED - 1
    assert not can_pack(model)
    model.config.sliding_window = None
    model.config.attention_dropout = 0.1
    assert not can_pack(model)
    model.config.attention_dropout = 0.0
    model.set_attn_implementation("sdpa")
    assert not can_pack(model)
