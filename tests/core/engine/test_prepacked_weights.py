"""Prepacked weights: the products of plain ones, the same numbers given back, no second copy where none is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.engine import prepacked_weights
from core.engine.compute_speed import ROOM_FOR_PREPACKED, has_prepacked_layout
from core.engine.memory_estimate import leave_room, prepacked_bytes
from core.engine.prepacked_weights import PrepackedLinear, WeightBothWays, can_prepack, prepack_for_inference
from core.engine.pretrained import load_pretrained

FORMATS = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("prepack", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_products_and_gradients_are_those_of_the_plain_weight(
    number_format: torch.dtype, prepack: bool, rows: int
) -> None:
    matrix, bias = torch.randn(48, 20).to(number_format), torch.randn(48).to(number_format)
    weight = WeightBothWays(matrix, prepack=prepack)
    assert weight.prepacked == (prepack and can_prepack(matrix))
    given = torch.randn(2, rows, 20).to(number_format).requires_grad_()
    plain = torch.nn.functional.linear(given, matrix, bias)
    above = torch.randn(48, 2 * rows).to(number_format).T.view_as(plain)  # a gradient may lie in memory in any order
    plain.backward(above)
    assert given.grad is not None
    torch.testing.assert_close(weight.multiply(given.detach(), bias), plain.detach())
    torch.testing.assert_close(weight.multiply_back(above), given.grad)
    assert torch.equal(weight.unpack(), matrix)


def test_a_prepacked_model_says_the_same_and_keeps_plain_weights_only_where_they_are_shared(tiny_model: Path) -> None:
    plain: Any = load_pretrained(tiny_model, "float32", "cpu")
    prepacked: Any = load_pretrained(tiny_model, "float32", "cpu")
    prepack_for_inference(prepacked)
    ids = torch.tensor([[1, 5, 9, 4]])
    with torch.inference_mode():
        torch.testing.assert_close(prepacked(ids).logits, plain(ids).logits)
    head = prepacked.get_output_embeddings()
    assert isinstance(head, PrepackedLinear) == can_prepack(plain.get_output_embeddings().weight)
    if can_prepack(plain.get_output_embeddings().weight):
        kept = {name for name, each in prepacked.named_parameters() if each.dim() > 1}
        assert kept == {"model.embed_tokens.weight"}


def test_a_model_that_prepacking_would_take_too_much_memory_for_stays_plain(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = has_prepacked_layout()
    assert prepacked_bytes(linear=106_000_000, head=28_000_000, size=4) == 648_000_000 * here
    assert prepacked_bytes(linear=ROOM_FOR_PREPACKED // 2, head=0, size=2) == ROOM_FOR_PREPACKED * here
    assert prepacked_bytes(linear=ROOM_FOR_PREPACKED // 2, head=1, size=2) == 0
    model: Any = load_pretrained(tiny_model, "float32", "cpu")
    monkeypatch.setattr(prepacked_weights, "ROOM_FOR_PREPACKED", model.get_output_embeddings().weight.nbytes)
    prepack_for_inference(model)
    assert not any(isinstance(each, PrepackedLinear) for each in model.modules())


def test_rows_whose_activations_fitted_still_do_beside_prepacked_weights() -> None:
    assert leave_room(100, 30, 20, 60) == 70
    assert leave_room(100, 30, 95, 60) == 95
    assert leave_room(100, 30, 120, 60) == 70, "what never fitted is computed twice, and gets no room of others"
