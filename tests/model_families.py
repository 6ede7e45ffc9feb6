"""Chat models of every architecture that can be added: random weights of a few kilobytes, each with its own manners.

A folder is as the hub has it: written by transformers itself, without a manifest of Tunedeck's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny_model import SPECIAL, TEMPLATE, make_tokenizer

_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
_GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else "
    "message['role'] %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 8}
# By name: transformers' model type, what differs in the configuration, and the template where it is another.
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "smollm": ("llama", {"tie_word_embeddings": True}, TEMPLATE),
    "llama": ("llama", {"tie_word_embeddings": False, "attention_bias": True}, TEMPLATE),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}, TEMPLATE),
    "qwen3": ("qwen3", {"head_dim": 16}, TEMPLATE),
    "mistral": ("mistral", _WINDOW, _MISTRAL),
    "gemma": ("gemma", {"head_dim": 16}, _GEMMA),
    "gemma2": ("gemma2", {"head_dim": 16, **_WINDOW, "final_logit_softcapping": 2.0}, _GEMMA),
    "gemma3": ("gemma3_text", {"head_dim": 16, **_WINDOW}, _GEMMA),
    "phi3": ("phi3", {**_WINDOW, "tie_word_embeddings": False}, TEMPLATE),
    "phi": ("phi", {}, TEMPLATE),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}, TEMPLATE),
}


def build_family(folder: Path, family: str, *, shards: str = "1GB", **changed: Any) -> Path:
    """Write a model of a family into `folder` and return it. changed: more of its configuration.

    shards: the most that one file of weights holds.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, own, template = FAMILIES[family]
    special = [*SPECIAL, "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"]
    tokenizer = make_tokenizer(special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = {_GEMMA: "<end_of_turn>"}.get(template, "<|im_end|>")
    told = {"bos_token": "<|im_start|>", "eos_token": ends, "pad_token": "<|endoftext|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    torch.manual_seed(7)
    sizes = _SIZES | {"vocab_size": tokenizer.get_vocab_size(), "initializer_range": 0.1} | own | changed
    sizes["eos_token_id"] = tokenizer.token_to_id(ends)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "norm" in name or name.endswith("bias"):  # a norm of ones or a bias of noughts would hide much
                each.add_(torch.randn_like(each) * 0.1)
    model.save_pretrained(folder, max_shard_size=shards)
    return folder
