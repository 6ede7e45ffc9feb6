"""What is found out about a base model before it is fetched, and its default settings. Reads no file."""

from __future__ import annotations

from dataclasses import dataclass

from core.recipe import Value


@dataclass(frozen=True)
class Line:
    """One question about a model and its answer. state: "ok", "warning" or "failed"; hint: what to do."""

    name: str
    state: str
    said: str
    hint: str = ""


@dataclass(frozen=True)
class Look:
    """What is known of a model before it is fetched. name, version: as it will be in the registry.

    revision: the commit that was looked at, "" for a folder.
    """

    title: str
    revision: str
    name: str
    version: str
    size_bytes: int
    lines: tuple[Line, ...]
    tags: dict[str, str]

    @property
    def refused(self) -> bool:
        """Whether it cannot be taken."""
        return any(line.state == "failed" for line in self.lines)


def make_defaults(learning_rate: float, batch: int) -> dict[str, Value]:
    """Return the settings of a LoRA training on this machine, of the component's own kind: booleans are strings.

    Two epochs taught the bundled model 9, 9 and 10 of 12 paraphrased questions with three seeds; one epoch of a larger
    sample 5, 8 and 8. lora_alpha is twice the rank; the component's 128 would scale the adapters eight times as much.
    """
    return {
        "apply_lora": "true",
        "lora_r": 8,
        "lora_alpha": 16,
        "apply_deepspeed": "false",
        "precision": "16",
        "num_train_epochs": 2,
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": batch,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 5,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_total_limit": 1,
    }
