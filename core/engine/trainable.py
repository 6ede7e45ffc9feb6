"""The model under training: which weights learn (LoRA adapters or the whole decoder), and their copies in fp32.

The model computes in bf16 where that is faster; the optimiser works on fp32 copies ("masters"), for steps at a small
learning rate are lost in bf16's eight bits.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.engine.disk import link, place_tree
from core.engine.lora_linear import list_sped_up, prepack, speed_up, unpack
from core.engine.prepacked_weights import WeightBothWays, can_prepack
from core.engine.pretrained import load_pretrained
from core.engine.training_settings import TrainingSettings
from core.errors import BadInput

ADAPTER_FILE = "adapter_model.safetensors"
FULL_FILE = "trainable.safetensors"
BESIDE_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "LICENSE",
    "generation_config.json",
)


@dataclass
class Trainable:
    """model: the causal model itself (adapters are inside it). parameters: what learns. masters: their fp32 copies."""

    model: nn.Module
    adapter: Any | None
    names: list[str]
    parameters: list[nn.Parameter]
    masters: list[nn.Parameter]
    prepacked_head: WeightBothWays | None = None

    def count_frozen(self) -> tuple[int, int]:
        """Return how many numbers `prepack` would lay out anew: those of the adapted layers, and of the head."""
        causal: Any = self.model
        head = causal.get_output_embeddings().weight
        if self.prepacked_head or not can_prepack(head):
            return 0, 0
        return sum(layer.base_layer.weight.numel() for layer in list_sped_up(self.model)), head.numel()

    def prepack(self) -> None:
        """Lay out anew what does not learn, so that it is multiplied by faster."""
        causal: Any = self.model
        prepack(self.model)
        self.prepacked_head = WeightBothWays(causal.get_output_embeddings().weight)

    @property
    def size(self) -> int:
        """Numbers that learn."""
        return sum(each.numel() for each in self.parameters)

    def take_gradients(self) -> None:
        """Hand the gradients of the model's weights over to the masters."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is not master:
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for each in (*self.parameters, *self.masters):
            each.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Write the masters into the model's weights."""
        pairs = [(own, master) for own, master in zip(self.parameters, self.masters, strict=True) if own is not master]
        if pairs:
            torch._foreach_copy_([own for own, _ in pairs], [master for _, master in pairs])

    def state(self) -> dict[str, torch.Tensor]:
        """Return the masters by name, as peft names adapters in a file."""
        return {name: master.detach() for name, master in zip(self.names, self.masters, strict=True)}

    def write(self, folder: Path) -> None:
        """Write what was learned: for LoRA a folder that peft loads."""
        save_file({name: each.contiguous() for name, each in self.state().items()}, str(folder / self.file_name))
        if self.adapter is not None:
            self.adapter.peft_config["default"].save_pretrained(str(folder))

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Take back what `write` wrote."""
        stored = load_file(str(folder / self.file_name), device=str(self.masters[0].device))
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(stored[name])
        self.publish()

    @property
    def file_name(self) -> str:
        """The file that holds what was learned."""
        return FULL_FILE if self.adapter is None else ADAPTER_FILE

    def save_model(self, source: Path, target: Path) -> None:
        """Write the whole model in bf16, adapters merged, with the tokeniser of `source`; this object is spent."""
        model: Any = self.model
        if self.adapter is not None:
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                parameter.data = master.data  # so that the product of the two adapter matrices is taken in fp32
            self.prepacked_head = None
            unpack(self.model)
            model = self.adapter.merge_and_unload()
        model.to(torch.bfloat16)
        model.config.use_cache = True
        temporary = target.with_name(f".{target.name}.writing")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        for name in BESIDE_WEIGHTS:
            if (source / name).is_file():
                (temporary / name).unlink(missing_ok=True)
                link((source / name).resolve(), temporary / name)
        place_tree(temporary, target)


def load_model(folder: Path, number_format: str, device: torch.device) -> nn.Module:
    """Load the base model to be trained, all its weights frozen; raises BadInput where its files make no model."""
    attention = {} if device.type == "cuda" else {"attn_implementation": "eager"}  # else the best that it supports
    try:
        model: nn.Module = load_pretrained(folder, number_format, device, **attention)
    except BaseException as error:  # what a configuration of any content ends in, the library's own errors among it
        if not isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, OSError, RuntimeError)):
            said = f"The config.json of the model folder {folder.name} describes no model that can be loaded."
            raise BadInput(said, "Pick another model, or fetch this one again.", repr(error)) from error
        raise
    return model.requires_grad_(False)


def make_trainable(model: nn.Module, settings: TrainingSettings) -> Trainable:
    """Choose what learns. Full training leaves the word embeddings and the head as they are, LoRA everything."""
    causal: Any = model
    adapter = _add_adapters(causal, settings) if settings.apply_lora else None
    if adapter is None:
        words = (causal.get_input_embeddings(), causal.get_output_embeddings())
        frozen = {id(each) for module in words for each in module.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) not in frozen)
    named = adapter.named_parameters() if adapter is not None else model.named_parameters()
    chosen = [(name.replace(".default.", "."), each) for name, each in named if each.requires_grad]
    own = [each for _, each in chosen]
    masters = [each if each.dtype == torch.float32 else nn.Parameter(each.detach().float()) for each in own]
    return Trainable(model, adapter, [name for name, _ in chosen], own, masters)


def _add_adapters(model: Any, settings: TrainingSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        adapter = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise BadInput(
            "LoRA adapters cannot be added to this model.", "Set apply_lora to false.", str(error)
        ) from error
    if not settings.lora_dropout:
        speed_up(adapter)
    return adapter
