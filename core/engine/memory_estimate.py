"""How much memory training takes at its peak: an estimate for this machine, before anything is loaded.

Reads a model's folder with the standard library alone, so that a check costs milliseconds. The terms are those of
mixed-precision training (weights, what learns, its gradients and optimiser, activations), as in "Reducing Activation
Recomputation in Large Transformer Models" (Korthikanti et al., 2022, section 4); the factors are fitted to peaks of
the local trainer on SmolLM2-135M (`python -m benchmarks.memory` measures them again).
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.engine.memory import how_much_to_touch
from core.recipe import Value, whole

# Beyond this length attention's square of scores no longer fits; below it the plain form is 1.3 times as fast on a CPU.
EAGER_UP_TO = 1024
# Tokens of a batch above which activations are computed twice instead of kept. Measured on a full training of a 135M
# model, which may take 6 GiB: 684 tokens 3.2 GiB, 2,984 tokens 8.0 GiB, 3,104 tokens computed twice 3.9 GiB.
RECOMPUTE_ABOVE = 1536

_PROGRAM = 480e6  # the interpreter with torch and transformers
_LOGITS = 3_000  # bytes for a word: of the positions that the head sees at once, and their gradient
_OF_A_TOKEN = 5.0, 1.8  # numbers that a layer keeps of a token, in hidden and in inner widths
_OF_A_PAIR = 9.5, 13.0  # bytes that a head keeps of a pair of tokens, in bf16 and in fp32
_OF_A_PAIR_AGAIN = 35.0  # bytes while one layer's activations are computed again
_GAPS = 900e6  # at most, of what is given back and does not fit what is taken next
_HEADER = 8  # bytes before a safetensors file's header, which say how long that is
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides about memory."""

    parameters: int
    embedded: int
    """Numbers of the word embeddings and the head, which full training leaves as they are."""
    file_bytes: int
    hidden: int
    inner: int
    layers: int
    heads: int
    adapted: int
    """Numbers that LoRA adds for each unit of rank: a row and a column to each linear layer."""
    words: int = 50_000
    """How many the vocabulary holds."""
    tabled: bool = False
    """Whether attention is a table of all pairs at any length: one that is capped is computed in no other way."""


def read_shape(folder: Path) -> ModelShape | None:
    """Return the shape of a model's folder; None where its files do not tell."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shapes = [tensor["shape"] for path in folder.glob("*.safetensors") for tensor in read_tensors(path).values()]
        if not shapes:
            return None
        hidden, heads, words = (int(config[key]) for key in ("hidden_size", "num_attention_heads", "vocab_size"))
        tables = [shape for shape in shapes if shape == [words, hidden]]
        return ModelShape(
            parameters=sum(map(math.prod, shapes)),
            embedded=len(tables) * words * hidden,
            file_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            adapted=sum(sum(shape) for shape in shapes if len(shape) == 2 and shape not in tables),
            words=words,
            tabled=bool(config.get("attn_logit_softcapping")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None


def read_tensors(path: Path) -> dict[str, dict[str, Any]]:
    """Return the "dtype" and "shape" of each tensor in a safetensors file, by name; raises OSError and ValueError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_HEADER), "little")
        header: dict[str, dict[str, Any]] = json.loads(file.read(min(size, _LARGEST_HEADER)))
    header.pop("__metadata__", None)
    return header


def estimate_peak(shape: ModelShape, values: Mapping[str, Value], longest: int, size: int, free: int) -> int:
    """Return the bytes of the trainer's largest moment on the processor.

    values: a recipe's. longest: tokens of the longest row. size: bytes of a number, `number_size` of the precision.
    free: bytes that are free before it begins: of these the trainer touches some ahead. Right within 25% of what was
    measured over eight settings of SmolLM2-135M. For other models it is an extrapolation.
    """
    rows = whole(values, "per_device_train_batch_size")
    tokens, pairs = rows * longest, rows * shape.heads * longest**2
    if longest > EAGER_UP_TO and not shape.tabled:
        pairs = 0
    layer = _keep_of_layer(shape, tokens, size)
    activations = shape.layers * (layer + pairs * _OF_A_PAIR[size == 4])
    if tokens > RECOMPUTE_ABOVE:
        again = pairs * _OF_A_PAIR_AGAIN
        activations = shape.layers * tokens * shape.hidden * size + layer + again + min(again, _GAPS)
    touched = how_much_to_touch(shape.file_bytes, free)
    return int(
        _PROGRAM + _LOGITS * shape.words + max(touched, shape.file_bytes + _add_up(shape, values, size, activations))
    )


def estimate_card(shape: ModelShape, values: Mapping[str, Value], longest: int) -> int:
    """Return the bytes of a GPU that training takes: no attention is kept there as a table, nothing computed twice.

    The arithmetic of `estimate_peak` without the process around it; not held against a measured run.
    """
    size = 2 if str(values.get("precision")) == "16" else 4
    tokens = whole(values, "per_device_train_batch_size") * longest
    return int(_LOGITS * shape.words + _add_up(shape, values, size, shape.layers * _keep_of_layer(shape, tokens, size)))


def estimate_gpu(parameters: int, values: Mapping[str, Value], longest: int, cards: int) -> int:
    """Return the bytes on each of `cards` GPUs that training a model takes of which only the size is known.

    Its shape is that of a usual decoder: 12 numbers for each layer and square of the width, a layer for each 128 of
    width. ZeRO's stages 2 and 3 (DeepSpeed) share out optimiser and weights; what is offloaded is not taken off.
    """
    width = (parameters * 128 / 12) ** (1 / 3)
    hidden, layers = int(width), max(1, int(width / 128))
    adapted = layers * (8 * hidden + 3 * (hidden + 7 * hidden // 2))
    shape = ModelShape(parameters, 0, 0, hidden, 7 * hidden // 2, layers, layers, adapted)
    size = 2 if str(values.get("precision")) == "16" else 4
    is_lora, stage = values.get("apply_lora") == "true", 0
    if values.get("apply_deepspeed") == "true":
        stage = int(values.get("deepspeed_stage") or 2)
    learning = whole(values, "lora_r") * shape.adapted if is_lora else parameters
    optimiser = 0 if values.get("optim") == "adafactor" else 8
    states = learning * (size + (4 if size == 2 else 0) + optimiser) / (cards if stage >= 2 else 1)
    weights = size * (parameters + learning * is_lora) / (cards if stage >= 3 else 1)
    tokens = whole(values, "per_device_train_batch_size") * longest
    return int(_LOGITS * shape.words + weights + states + layers * _keep_of_layer(shape, tokens, size))


def _keep_of_layer(shape: ModelShape, tokens: int, size: int) -> float:
    return tokens * (_OF_A_TOKEN[0] * shape.hidden + _OF_A_TOKEN[1] * shape.inner) * size


def _add_up(shape: ModelShape, values: Mapping[str, Value], size: int, activations: float) -> float:
    """Return the bytes of weights, masters and optimiser, and of activations or the update, whichever is more."""
    is_lora = values.get("apply_lora") == "true"
    learning = whole(values, "lora_r") * shape.adapted if is_lora else shape.parameters - shape.embedded
    masters = 0 if size == 4 else 4 * learning
    optimiser = 0 if values.get("optim") == "adafactor" else 8 * learning
    on_the_way = activations + size * learning / 2
    at_the_update = 4 * learning + (0 if size == 4 else size * learning)
    return size * (shape.parameters + learning * is_lora) + masters + optimiser + max(on_the_way, at_the_update)


def number_size(precision: Value) -> int:
    """Return the bytes of a number: 2 where bf16 is allowed and this processor has instructions for it.

    The trainer measures which is faster; this goes by what Linux says of the processor. macOS says nothing.
    """
    return 2 if str(precision) == "16" and _has_bf16() else 4


def _has_bf16() -> bool:
    if platform.system() != "Linux":
        return False
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").partition("\n\n")[0]
    except OSError:
        return False
    flags = set(said.replace(":", " ").split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})
