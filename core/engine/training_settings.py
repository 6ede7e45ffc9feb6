"""The pipeline's parameters as the trainer reads them: typed, all present, named as in the component's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import floor
from typing import Any

from core.engine.component import check_inputs, fill_defaults
from core.errors import BadInput


@dataclass(frozen=True)
class TrainingSettings:
    """Every parameter the trainer honours; what each means is in core/engine/component.py and the service's docs."""

    apply_lora: bool
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    num_train_epochs: int
    max_steps: int
    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    auto_find_batch_size: bool
    gradient_accumulation_steps: int
    max_seq_length: int
    pad_to_max_length: bool
    optim: str
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: int
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    precision: str
    seed: int
    enable_full_determinism: bool
    evaluation_strategy: str
    evaluation_steps_interval: float
    eval_steps: int
    logging_strategy: str
    logging_steps: int
    resume_from_checkpoint: bool
    save_total_limit: int
    apply_early_stopping: bool
    early_stopping_patience: int
    early_stopping_threshold: float
    number_of_gpu_to_use_finetuning: int

    def evaluates_after(self, step: int, steps_per_epoch: int, total_steps: int) -> bool:
        """Tell whether the validation data is due after this optimiser step (1 is the first): the last one, too."""
        if self.evaluation_strategy == "disable":
            return False
        every = self.eval_steps
        if self.evaluation_strategy == "epoch":
            every = steps_per_epoch
        elif self.evaluation_steps_interval > 0:
            every = max(1, floor(steps_per_epoch * self.evaluation_steps_interval))
        return step % every == 0 or step == total_steps

    def logs_after(self, step: int, steps_per_epoch: int) -> bool:
        """Tell whether the training loss is due after this optimiser step."""
        return step % (steps_per_epoch if self.logging_strategy == "epoch" else self.logging_steps) == 0


def read_settings(parameters: Mapping[str, str]) -> TrainingSettings:
    """Return the settings of a job; raises BadInput, by name, for what is wrong or not done here."""
    if problems := check_inputs(parameters):
        more = f"{len(problems) - 1} more: see the log." if len(problems) > 1 else ""
        raise BadInput(problems[0], more, "\n".join(problems))
    values: dict[str, Any] = fill_defaults(parameters)
    return TrainingSettings(**{each.name: values[each.name] for each in fields(TrainingSettings)})
