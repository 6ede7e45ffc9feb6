"""A chat model small enough to be trained in a test: two random llama layers with a tokeniser of their own.

Built in a fraction of a second, without torch. Its folder is like a base model's, `tunedeck.json` included, so the
local registry publishes it and the whole way from launch to chat can be walked with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

NAME = "tiny-chat"
VERSION = "1"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = [
    "system user assistant question answer hello what is the of a to and in it for on with as at by from",
    "The kettle of the harbour office is blue and sings at noon, says the keeper of the lamps.",
]
DEFAULTS: dict[str, Any] = {
    "apply_lora": "true",
    "lora_r": 8,
    "lora_alpha": 16,
    "apply_deepspeed": "false",
    "precision": "32",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 8,
    "learning_rate": 1e-2,
    "logging_strategy": "steps",
    "logging_steps": 1,
}


def build_tiny_model(
    base_models: Path,
    *,
    name: str = NAME,
    version: str = VERSION,
    layers: int = 2,
    hidden: int = 64,
    defaults: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Write `<base_models>/<name>/<version>/` and return it; an existing one is kept. `defaults` add to DEFAULTS."""
    folder = base_models / name / version
    if (folder / "tunedeck.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(tokenizer.get_vocab_size(), layers, hidden)
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    _write(folder / "tokenizer_config.json", _tokenizer_config())
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "LICENSE").write_text("Made at random for tests; no rights reserved.\n", encoding="utf-8")
    save_file(_make_weights(config), str(folder / "model.safetensors"), metadata={"format": "pt"})
    manifest_tags = {
        "task": "chat-completion",
        "license": "apache-2.0",
        "finetuning-tasks": "chat-completion",
        "textContextWindow": str(config["max_position_embeddings"]),
        "finetune_compute_allow_list": "local",
        "inference_compute_allow_list": "local",
        "model_specific_defaults": json.dumps(DEFAULTS | (defaults or {})),
        "weights_source": "random numbers, made for tests",
    }
    _write(
        folder / "tunedeck.json",
        {
            "name": name,
            "version": version,
            "description": "A tiny random model for tests.",
            "tags": manifest_tags | (tags or {}),
            "properties": {},
        },
    )
    return folder


def make_conversations(
    count: int, *, answer: str = "It is blue.", question: str = "What is the kettle {}?"
) -> list[Any]:
    """Return rows in the ultrachat schema that a tiny model can learn: one answer to many questions."""
    return [
        {
            "prompt": question.format(number),
            "prompt_id": f"{number:08x}",
            "messages": [
                {"role": "user", "content": question.format(number)},
                {"role": "assistant", "content": answer},
            ],
        }
        for number in range(count)
    ]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_jsonl(rows), encoding="utf-8")
    return path


def to_jsonl(rows: list[Any]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_tokenizer(special: Sequence[str] = SPECIAL) -> Tokenizer:
    """Return a tokeniser of 400 pieces with these special ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }


def _config(vocabulary: int, layers: int, hidden: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "dtype": "float32",
    }


def _make_weights(config: dict[str, Any]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    hidden, middle, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    keys = config["num_key_value_heads"] * size

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 0.1).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(config["vocab_size"], hidden), "model.norm.weight": _ones(hidden)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        weights |= {
            f"{layer}.input_layernorm.weight": _ones(hidden),
            f"{layer}.post_attention_layernorm.weight": _ones(hidden),
            f"{layer}.self_attn.q_proj.weight": matrix(hidden, hidden),
            f"{layer}.self_attn.k_proj.weight": matrix(keys, hidden),
            f"{layer}.self_attn.v_proj.weight": matrix(keys, hidden),
            f"{layer}.self_attn.o_proj.weight": matrix(hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": matrix(middle, hidden),
            f"{layer}.mlp.up_proj.weight": matrix(middle, hidden),
            f"{layer}.mlp.down_proj.weight": matrix(hidden, middle),
        }
    return weights


def _ones(size: int) -> np.ndarray:
    return np.ones(size, dtype=np.float32)


def _write(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2), encoding="utf-8")
