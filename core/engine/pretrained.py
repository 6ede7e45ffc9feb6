"""Loads a model's folder with transformers: from safetensors alone, without the network, and without its chatter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load_pretrained(folder: Path, number_format: str, device: str | torch.device, **options: str) -> Any:
    """Return the causal language model of a Hugging Face folder, ready for inference."""
    from transformers import AutoModelForCausalLM  # late: it reads HF_HUB_OFFLINE of the environment as it is imported

    quiet_transformers()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, number_format), local_files_only=True, use_safetensors=True, **options
    )
    return model.eval().to(device)


def quiet_transformers() -> None:
    """Have transformers write errors alone into a log that an operator reads."""
    from transformers.utils import logging

    untyped: Any = logging
    untyped.set_verbosity_error()
    untyped.disable_progress_bar()
