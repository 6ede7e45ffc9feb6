"""Weights that do not learn, laid out once as oneDNN multiplies by them; torch lays a plain one out at each product.

On two cores a product of 200 rows takes 1.1 times less in bf16 and 1.35 in fp32, one of 4 rows half. The sums
are those of `torch.nn.functional.linear` but for rounding. Where a processor has no such layout weights stay plain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from core.engine.compute_speed import ROOM_FOR_PREPACKED, has_prepacked_layout

_MKLDNN: Any = torch.ops.mkldnn  # what torch.compile freezes weights with; untyped
_NEEDED = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
_LIKELY_ROWS = 256  # what the layout is chosen for; others are multiplied as well


class Weight:
    """A matrix `(O, I)` that does not learn; prepacked, where `prepack` is true and this processor can."""

    def __init__(self, matrix: torch.Tensor, *, prepack: bool = True) -> None:
        self.prepacked = prepack and can_prepack(matrix)
        self._matrix = _prepack(matrix) if self.prepacked else matrix.detach()

    def multiply(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return rows `(..., I)` times the matrix, `(..., O)`; prepacked it takes no part in autograd."""
        if not self.prepacked:
            return functional.linear(rows, self._matrix, bias)
        product: torch.Tensor = _MKLDNN._linear_pointwise(rows.contiguous(), self._matrix, bias, "none", [], "")
        return product

    def unpack(self) -> torch.Tensor:
        """Return the matrix as it was given, to the last bit."""
        return self._matrix.to_dense() if self.prepacked else self._matrix


class WeightBothWays(Weight):
    """A matrix that gradients go back through, too; prepacked it is held twice."""

    def __init__(self, matrix: torch.Tensor, *, prepack: bool = True) -> None:
        super().__init__(matrix, prepack=prepack)
        self._turned = Weight(matrix.T) if self.prepacked else None

    def multiply_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of rows `(..., I)` of that of their product, `(..., O)`."""
        return self._turned.multiply(gradient) if self._turned else gradient @ self._matrix


class PrepackedLinear(nn.Module):
    """A linear layer for inference."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = Weight(layer.weight), layer.bias

    @torch.no_grad()
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return `(..., O)` of `(..., I)`."""
        return self.weight.multiply(rows, self.bias)


def prepack_for_inference(model: nn.Module) -> None:
    """Put prepacked layers in the place of a model's linear ones, where all of them have room.

    Plain weights are given back on the way, where nothing shares them.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    if sum(layer.weight.nbytes for layer in layers) > ROOM_FOR_PREPACKED:
        return
    del layers
    for parent in [each for each in model.modules() if type(each) is not nn.Linear]:
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and can_prepack(layer.weight):
                setattr(parent, name, PrepackedLinear(layer))


def can_prepack(matrix: torch.Tensor) -> bool:
    """Tell whether this processor, and this torch, multiply by a prepacked matrix of such numbers."""
    if matrix.device.type != "cpu" or not has_prepacked_layout():
        return False
    if not all(hasattr(_MKLDNN, name) for name in _NEEDED):
        return False
    if matrix.dtype == torch.bfloat16:
        return bool(_MKLDNN._is_mkldnn_bf16_supported())
    return matrix.dtype == torch.float32


@torch.no_grad()
def _prepack(matrix: torch.Tensor) -> torch.Tensor:
    laid_out: torch.Tensor = _MKLDNN._reorder_linear_weight(matrix.contiguous(), _LIKELY_ROWS)
    return laid_out
