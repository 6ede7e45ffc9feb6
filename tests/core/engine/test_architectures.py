"""Every architecture that can be added, beside plain transformers in fp32: the same loss and the same gradients.

Rows are padded or packed behind their shared prefix, with each way of attention that the trainer may choose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from core.engine.answer_loss import answer_loss, can_pack
from core.engine.batches import Batch, make_batch
from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from core.engine.model_check import ARCHITECTURES
from core.engine.token_rows import TokenRows
from core.engine.trainable import load_model, make_trainable
from core.engine.training_settings import read_settings
from tests.model_families import FAMILIES, build_family
from tests.tiny_model import DEFAULTS

CPU = torch.device("cpu")
WIDE = {"sliding_window": 512}  # no shorter than a packed sequence can be
ANSWERS = ("It is blue.", "The keeper of the lamps sings at noon.", "x")


def test_what_may_be_added_is_what_is_held_against_transformers_here() -> None:
    assert set(ARCHITECTURES) == {kind for kind, _, _ in FAMILIES.values()}


@pytest.mark.parametrize(
    ("family", "changed"),
    [*((family, {}) for family in FAMILIES), *((family, WIDE) for family in ("mistral", "gemma2", "gemma3", "phi3"))],
    ids=str,
)
def test_loss_and_gradients_are_those_of_plain_transformers(
    tmp_path: Path, family: str, changed: dict[str, Any]
) -> None:
    folder = build_family(tmp_path / family, family, **changed)
    tokens = load_chat_tokens(folder)
    rows = encode(tokens)
    loss, gradients = measure_plainly(folder, rows)
    packed = [measure_here(folder, rows, tokens, loss, gradients, attention) for attention in ("eager", "sdpa")]
    windowed = FAMILIES[family][1].get("sliding_window") and not changed
    assert packed == [not windowed] * 2


def encode(tokens: ChatTokens) -> TokenRows:
    question = {
        "role": "user",
        "content": "What is the kettle of the harbour office, and what does it do at noon? " * 2,
    }
    made = tokens.encode_conversations([[question, {"role": "assistant", "content": answer}] for answer in ANSWERS])
    return TokenRows(
        np.array([token for each in made for token in each.ids], dtype=np.int32),
        np.array([mark for each in made for mark in each.learned]),
        np.cumsum([0, *(len(each.ids) for each in made)]),
    )


def measure_plainly(folder: Path, rows: TokenRows) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss and the gradients by name as transformers has them, a row at a time."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    total = torch.zeros(())
    for ids, learned in map(rows.row, range(len(rows))):
        given = torch.from_numpy(ids.astype(np.int64))[None]
        wanted = torch.from_numpy(np.where(learned, ids, -100).astype(np.int64))[1:]
        total = total + functional.cross_entropy(model(input_ids=given).logits[0, :-1], wanted, reduction="sum")
    torch.autograd.backward(total)
    return total.item(), {name: each.grad for name, each in model.named_parameters()}


def measure_here(
    folder: Path,
    rows: TokenRows,
    tokens: ChatTokens,
    loss: float,
    gradients: dict[str, torch.Tensor],
    attention: str,
) -> bool:
    """Hold the trainer's loss and gradients against these; tell whether the rows were packed."""
    settings = read_settings({key: str(value) for key, value in (DEFAULTS | {"apply_lora": "false"}).items()})
    model: Any = load_model(folder, "float32", CPU)
    packs = can_pack(model)
    if attention == "sdpa" and model._supports_sdpa:  # which takes packed rows on a card
        model.set_attn_implementation("sdpa")
    for share in {False, packs}:
        trainable = make_trainable(model, settings)
        batch = make_batch(rows, np.arange(len(rows)), tokens.pad_id, 0, CPU, share=share)
        assert (batch.visible is not None) is share
        ours = answer_loss(model, batch)
        torch.autograd.backward(ours)
        assert ours.item() == pytest.approx(loss, rel=1e-5)
        for name, each in zip(trainable.names, trainable.parameters, strict=True):
            assert each.grad is not None, name
            torch.testing.assert_close(each.grad, gradients[name], rtol=1e-3, atol=2e-5, msg=name)
        trainable.clear_gradients()
    return packs


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_every_linear_layer_learn_and_are_merged_into_what_is_saved(tmp_path: Path, family: str) -> None:
    folder = build_family(tmp_path / family, family)
    trainable = make_trainable(
        load_model(folder, "float32", CPU), read_settings({key: str(value) for key, value in DEFAULTS.items()})
    )
    linear = [name for name, each in trainable.model.named_modules() if name.endswith("base_layer")]
    assert len(trainable.names) == 2 * len(linear) >= 2 * 2 * 4
    with torch.no_grad():
        for each in trainable.masters:
            each.add_(0.05)
    ids = torch.arange(5, 25)[None]
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), ids.numel())

    def learn() -> torch.Tensor:
        trainable.clear_gradients()
        torch.autograd.backward(answer_loss(trainable.model, batch, trainable.prepacked_head))
        return torch.cat([each.grad.flatten() for each in trainable.parameters if each.grad is not None])

    wanted, plainly = trainable.model.eval()(input_ids=ids).logits, learn()
    trainable.prepack()
    torch.testing.assert_close(learn(), plainly, rtol=1e-3, atol=2e-5)
    trainable.save_model(folder, tmp_path / "saved")
    saved: Any = load_model(tmp_path / "saved", "float32", CPU)
    base: Any = load_model(folder, "float32", CPU)
    off = [((each(input_ids=ids).logits - wanted).norm() / wanted.norm()).item() for each in (saved, base)]
    assert off[0] < 0.05 < 0.15 < off[1], off  # saved in bf16
    assert load_chat_tokens(tmp_path / "saved").stop_ids == load_chat_tokens(folder).stop_ids
