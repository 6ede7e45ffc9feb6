"""Cross-entropy on the assistant's tokens alone, with the vocabulary head applied to those positions alone.

The head's weights are never trained here, so its gradient with respect to the hidden states is taken together with the
loss, a few hundred positions at a time: the logits of a batch (positions x 49,152) never exist as a whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from core.engine.batches import LONGEST_PACKED, Batch
from core.engine.prepacked_weights import WeightBothWays

CHUNK = 256

# Models whose logits are the head's output on the last hidden state, capped where they say so (others scale it).
PLAIN_HEADS = {
    "gemma",
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "olmo2",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
}


class _HeadLoss(torch.autograd.Function):
    """Sum of cross-entropies. hidden (N, H), weight (V, H), bias (V,), targets (N,) -> scalar in fp32.

    cap: logits x become cap * tanh(x / cap); 0 for none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: WeightBothWays,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        cap: float,
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(targets), CHUNK):
            piece = slice(start, start + CHUNK)
            logits = weight.multiply(hidden[piece], bias).float()
            if cap:
                logits = torch.tanh(logits / cap) * cap
            slope = 1 - (logits / cap) ** 2 if cap and wanted else None
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            wanted_at = targets[piece].unsqueeze(1)
            total += (log_sum - logits.gather(1, wanted_at)).sum()
            if gradient is not None:
                logits.sub_(log_sum).exp_()  # the softmax
                logits.scatter_add_(1, wanted_at, torch.full_like(log_sum, -1.0))
                if slope is not None:
                    logits *= slope
                gradient[piece] = weight.multiply_back(logits.to(hidden.dtype))
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * above[0].to(gradient.dtype), None, None, None, None


def can_pack(model: nn.Module) -> bool:
    """Tell whether the model takes packed rows, which need a mask of their own.

    Attention must be a plain table of all pairs, or on a card take a mask, and nothing of the model's own be switched
    off at random.
    """
    config: Any = model.config
    attention = ("eager", "sdpa") if next(model.parameters()).device.type == "cuda" else ("eager",)
    window = getattr(config, "sliding_window", None)
    plain = config.model_type in PLAIN_HEADS and config._attn_implementation in attention
    drops = any(getattr(config, name, 0.0) for name in ("attention_dropout", "resid_pdrop", "embd_pdrop"))
    return plain and not drops and (window is None or window >= LONGEST_PACKED)


def answer_loss(model: nn.Module, batch: Batch, prepacked_head: WeightBothWays | None = None) -> torch.Tensor:
    """Return the summed loss of a batch's learned positions (fp32 scalar); divide by `batch.learned_count`.

    prepacked_head: the head's own weight, where it was prepacked.
    """
    learned, targets = batch.learned[:, 1:], batch.ids[:, 1:]
    config: Any = model.config
    causal: Any = model
    head = causal.get_output_embeddings()
    given: dict[str, Any] = {"input_ids": batch.ids, "use_cache": False}
    if batch.visible is not None:
        hidden_from = torch.zeros(batch.visible.shape, dtype=causal.dtype, device=batch.ids.device)
        hidden_from.masked_fill_(~batch.visible, torch.finfo(causal.dtype).min)
        given |= {"position_ids": batch.positions, "attention_mask": hidden_from[None, None]}
    if config.model_type in PLAIN_HEADS:
        hidden = causal.model(**given).last_hidden_state[:, :-1]
        apply: Any = _HeadLoss.apply  # untyped in torch
        cap = getattr(config, "final_logit_softcapping", None) or 0.0
        weight = prepacked_head or WeightBothWays(head.weight, prepack=False)
        loss: torch.Tensor = apply(hidden[learned], weight, head.bias, targets[learned], cap)
        return loss
    logits = causal(**given).logits[:, :-1]
    return functional.cross_entropy(logits[learned].float(), targets[learned], reduction="sum")
