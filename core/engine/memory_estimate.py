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

from core.engine.compute_speed import ROOM_FOR_PREPACKED, has_prepacked_layout
from core.engine.memory import how_much_to_touch
from core.recipe import Value, whole

# Rows up to this length may be packed, which takes a table of all pairs; that is up to a tenth faster on a CPU, too.
# Longer ones take attention without: of 1,000 tokens the tables of a 135M model hold 2.6 GB, all else 0.3 GB.
EAGER_UP_TO = 512
# What the activations of one pass may take: 2,600 tokens of a 135M model in bf16, whose LoRA then took 3.8 GB, and its
# full training 4.7. Larger batches are computed in parts; to compute activations twice takes 1.4 times as long and is
# left for single rows that do not fit.
ROOM = 7 << 28
_PROGRAM = 480e6  # the interpreter with torch and transformers
_LOGITS = 3_000  # bytes for a word: of the positions that the head sees at once, and their gradient
_OF_A_TOKEN = 10, 4  # numbers that a layer keeps of a token, in hidden and in inner widths
_DROPPED = 9, 1.5  # and under LoRA's dropout, which makes a copy for each linear layer
_OF_A_PAIR = 6.5, 5.0  # bytes that a head keeps of a pair of tokens, in bf16 and in fp32
_OF_A_PAIR_AGAIN = 35.0  # bytes while one layer's activations are computed again
_SHARE_OF_GAPS = 0.4  # of activations: what is given back and does not fit what is taken next
_MOST_GAPS = 900e6
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
    heads = shape.heads if longest <= EAGER_UP_TO or shape.tabled else 0
    row = keep_of_row(shape.layers, shape.hidden, shape.inner, heads, longest, size, drops=_drops(values))
    sped_up = values.get("apply_lora") == "true" and not _drops(values)
    prepacked = prepacked_bytes((shape.parameters - shape.embedded) * sped_up, shape.words * shape.hidden, size)
    tabled = keep_of_row(shape.layers, shape.hidden, shape.inner, shape.heads, EAGER_UP_TO, size, drops=_drops(values))
    rows_at_once = max(1, int(leave_room(ROOM, prepacked, row, tabled) / row))
    activations = min(whole(values, "per_device_train_batch_size"), rows_at_once) * row
    if row > ROOM:
        layer = keep_of_row(1, shape.hidden, shape.inner, 0, longest, size, drops=_drops(values))
        activations = shape.layers * longest * shape.hidden * size + layer + heads * longest**2 * _OF_A_PAIR_AGAIN
    activations += min(_SHARE_OF_GAPS * activations, _MOST_GAPS)
    held = shape.file_bytes + prepacked + _add_up(shape, values, size, activations)
    return int(_PROGRAM + _LOGITS * shape.words + max(how_much_to_touch(shape.file_bytes, free), held))


def prepacked_bytes(linear: int, head: int, size: int) -> int:
    """Return what prepacked weights take beside the plain ones; 0 where that is too much, so that they stay plain.

    linear: numbers of the adapted layers, whose plain weights are given back. head: of the last layer, whose are not,
    for it shares them with the word embeddings. size: bytes of a number.
    """
    needed = size * (linear + 2 * head)
    return needed if has_prepacked_layout() and needed <= ROOM_FOR_PREPACKED else 0


def leave_room(room: float, prepacked: float, *rows: float) -> float:
    """Return the bytes for activations beside prepacked weights: of these rows, what fitted without them still does."""
    return max(room - prepacked, *(row for row in rows if row <= room), 0.0)


def keep_of_row(
    layers: int, hidden: int, inner: int, heads: int, length: int, size: int, *, drops: bool = False
) -> float:
    """Return the bytes of a row's activations that are kept for its gradients.

    hidden, inner: widths. heads: those that keep a table of all pairs of tokens. size: bytes of a number. drops: LoRA's
    inputs are switched off at random.
    """
    of_hidden, of_inner = (kept + drops * more for kept, more in zip(_OF_A_TOKEN, _DROPPED, strict=True))
    token = (of_hidden * hidden + of_inner * inner) * size
    return layers * (length * token + heads * length**2 * _OF_A_PAIR[size == 4])


def _drops(values: Mapping[str, Value]) -> bool:
    return values.get("apply_lora") == "true" and float(values.get("lora_dropout") or 0) > 0


def estimate_card(shape: ModelShape, values: Mapping[str, Value], longest: int) -> int:
    """Return the bytes of a GPU that training takes: no attention is kept there as a table, nothing computed twice.

    The arithmetic of `estimate_peak` without the process around it; not held against a measured run.
    """
    size = 2 if str(values.get("precision")) == "16" else 4
    tokens = whole(values, "per_device_train_batch_size") * longest
    kept = keep_of_row(shape.layers, shape.hidden, shape.inner, 0, tokens, size, drops=_drops(values))
    return int(_LOGITS * shape.words + _add_up(shape, values, size, kept))


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
    kept = keep_of_row(shape.layers, shape.hidden, shape.inner, 0, tokens, size, drops=_drops(values))
    return int(_LOGITS * shape.words + weights + states + kept)


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
