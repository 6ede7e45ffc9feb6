"""The pipeline component that fine-tunes chat models: its 69 inputs, its steps, and what is done with each here.

One table for the registry that publishes the component, the job routes that check a request, and the engine that reads
the values. Inputs, defaults and choices are those of `chat_completion_pipeline` 0.0.82 in Azure's registry
(azureml-assets, components/pipeline_components/chat_completion/spec.yaml).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.recipe import BOOLEAN, check_together, find_fault, from_job_inputs
from core.recipe import BY_NAME as PARAMETERS_BY_NAME

NAME = "chat_completion_pipeline"
AZURE_VERSION = "0.0.82"
VERSION = "0.0.82-local"

Local = Literal["honoured", "accepted", "refused"]
Value = str | int | float | bool
GPUS = "number_of_gpu_to_use_finetuning"
_WIRE_TYPES = {"int": "integer", "number": "number"}
LITERAL_TYPES = ("string", "integer", "number")


@dataclass(frozen=True)
class ComponentInput:
    """One input of the pipeline.

    default: as it travels, a string; None is no default. local: "honoured" (used), "accepted" (without meaning on one
    machine, and without harm) or "refused" (anything but the default is an error; `why` says the reason).
    """

    name: str
    type: str
    default: str | None = None
    enum: tuple[str, ...] | None = None
    minimum: int | None = None
    mode: str | None = None
    optional: bool = True
    local: Local = "honoured"
    why: str = ""


@dataclass(frozen=True)
class Step:
    """A child step of the pipeline: its true name, the words for it, and the engine program that is it."""

    name: str
    title: str
    program: str


STEPS = (
    Step("ft_nlp_common_validation", "Validation", "validate"),
    Step("chat_completion_model_import", "Model import", "import_model"),
    Step("chat_completion_datapreprocess", "Preprocess", "preprocess"),
    Step("chat_completion_finetune", "Fine-tune", "finetune"),
    Step("ft_nlp_model_converter", "Converter", "convert"),
)

OUTPUTS = {"pytorch_model_folder": "uri_folder", "mlflow_model_folder": "mlflow_model"}


def _setting(name: str, minimum: int | None = None) -> ComponentInput:
    """Return the input that is a training parameter: core.recipe says what it takes. minimum: the published one."""
    parameter = PARAMETERS_BY_NAME[name]
    local: Local = "refused" if parameter.not_here else "accepted" if parameter.idle_here else "honoured"
    return ComponentInput(
        name,
        _WIRE_TYPES.get(parameter.kind, "string"),
        default=str(parameter.default),
        enum=parameter.choices or None,
        minimum=minimum,
        local=local,
        why=parameter.not_here or parameter.idle_here,
    )


# The one difference from Azure's table: number_of_gpu_to_use_finetuning may be 0, for a machine without a GPU.
INPUTS: tuple[ComponentInput, ...] = (
    ComponentInput(
        "instance_type_model_import",
        "string",
        default="Standard_d12_v2",
        local="accepted",
        why="every step runs on the compute that was chosen",
    ),
    ComponentInput(
        "instance_type_preprocess",
        "string",
        default="Standard_d12_v2",
        local="accepted",
        why="every step runs on the compute that was chosen",
    ),
    ComponentInput(
        "instance_type_finetune",
        "string",
        default="Standard_nc24rs_v3",
        local="accepted",
        why="every step runs on the compute that was chosen",
    ),
    ComponentInput(
        "instance_type_model_evaluation",
        "string",
        default="Standard_nc24rs_v3",
        local="accepted",
        why="every step runs on the compute that was chosen",
    ),
    _setting("shm_size_finetune"),
    _setting("num_nodes_finetune", minimum=1),
    ComponentInput(GPUS, "integer", default="1", minimum=0),
    ComponentInput(
        "huggingface_id", "string", local="refused", why="a model is chosen from the registry, with mlflow_model_path"
    ),
    ComponentInput(
        "pytorch_model_path",
        "custom_model",
        mode="rw_mount",
        local="refused",
        why="a model is chosen from the registry, with mlflow_model_path",
    ),
    ComponentInput("mlflow_model_path", "mlflow_model", mode="rw_mount"),
    ComponentInput(
        "finetune_config_path",
        "uri_file",
        mode="ro_mount",
        local="refused",
        why="the fine-tuning options are this pipeline's own inputs",
    ),
    _setting("trust_remote_code"),
    ComponentInput("task_name", "string", default="ChatCompletion", enum=("ChatCompletion",), optional=False),
    _setting("batch_size", minimum=1),
    _setting("pad_to_max_length"),
    _setting("max_seq_length"),
    ComponentInput("train_file_path", "uri_file", mode="rw_mount"),
    ComponentInput("validation_file_path", "uri_file", mode="rw_mount"),
    ComponentInput("test_file_path", "uri_file", mode="rw_mount"),
    ComponentInput(
        "train_mltable_path",
        "mltable",
        local="refused",
        why="conversations are read from a .jsonl file, with train_file_path",
    ),
    ComponentInput(
        "validation_mltable_path",
        "mltable",
        local="refused",
        why="conversations are read from a .jsonl file, with validation_file_path",
    ),
    ComponentInput(
        "test_mltable_path",
        "mltable",
        local="refused",
        why="conversations are read from a .jsonl file, with test_file_path",
    ),
    _setting("apply_lora"),
    _setting("merge_lora_weights"),
    _setting("lora_alpha"),
    _setting("lora_r"),
    _setting("lora_dropout"),
    _setting("num_train_epochs", minimum=1),
    _setting("max_steps"),
    _setting("per_device_train_batch_size", minimum=1),
    _setting("per_device_eval_batch_size", minimum=1),
    _setting("auto_find_batch_size"),
    _setting("optim"),
    _setting("learning_rate"),
    _setting("warmup_steps"),
    _setting("weight_decay"),
    _setting("adam_beta1"),
    _setting("adam_beta2"),
    _setting("adam_epsilon"),
    _setting("gradient_accumulation_steps"),
    _setting("eval_accumulation_steps"),
    _setting("lr_scheduler_type"),
    _setting("precision"),
    _setting("seed"),
    _setting("enable_full_determinism"),
    _setting("dataloader_num_workers"),
    _setting("ignore_mismatched_sizes"),
    _setting("max_grad_norm"),
    _setting("evaluation_strategy"),
    _setting("evaluation_steps_interval"),
    _setting("eval_steps"),
    _setting("logging_strategy"),
    _setting("logging_steps"),
    _setting("metric_for_best_model"),
    _setting("resume_from_checkpoint"),
    _setting("save_total_limit"),
    _setting("apply_early_stopping"),
    _setting("early_stopping_patience"),
    _setting("early_stopping_threshold"),
    _setting("apply_deepspeed"),
    ComponentInput(
        "deepspeed",
        "uri_file",
        mode="rw_mount",
        local="refused",
        why="DeepSpeed spreads a model over GPUs; the local trainer is one process",
    ),
    _setting("deepspeed_stage"),
    _setting("apply_ort"),
    ComponentInput(
        "evaluation_config", "uri_file", local="accepted", why="the pipeline has no evaluation step any more"
    ),
    ComponentInput(
        "evaluation_config_params", "string", local="accepted", why="the pipeline has no evaluation step any more"
    ),
    ComponentInput("compute_model_import", "string", default="serverless"),
    ComponentInput("compute_preprocess", "string", default="serverless"),
    ComponentInput("compute_finetune", "string", default="serverless"),
    ComponentInput(
        "compute_model_evaluation",
        "string",
        default="serverless",
        local="accepted",
        why="the pipeline has no evaluation step any more",
    ),
)

BY_NAME: dict[str, ComponentInput] = {each.name: each for each in INPUTS}


def check_inputs(values: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the inputs of a job, one sentence each, beginning with the input's name.

    Values are strings, as they travel. Only what was sent is looked at: defaults are right by themselves.
    """
    problems = [problem for name, value in values.items() if (problem := _check_one(name, value))]
    together = {} if problems else check_together(from_job_inputs(values))
    return [*problems, *(f"{name} {words}" for name, words in together.items())]


def _check_one(name: str, value: str) -> str | None:
    known = BY_NAME.get(name)
    if known is None:
        return f"{name} is not an input of {NAME}."
    try:
        parsed = parse_value(known, value)
    except ValueError:
        article = "a whole number" if known.type == "integer" else "a number"
        return f"{name} is '{value}'; it takes {article}."
    if name in PARAMETERS_BY_NAME:
        fault = find_fault(PARAMETERS_BY_NAME[name], value, here=True)
        return fault and f"{name} {fault}"
    if name == GPUS and parsed not in (0, 1):
        return f"{name} is {value}; it takes 0 or 1: the trainer here uses at most one GPU."
    if known.enum and value not in known.enum:
        return f"{name} is '{value}'; it takes {' or '.join(known.enum)}."
    if known.local == "refused" and not _is_default(known, parsed):
        return f"{name} is {value}; it is not done on this machine: {known.why}."
    return None


def _is_default(known: ComponentInput, parsed: Value) -> bool:
    if known.default is None:
        return parsed == ""
    return parsed == parse_value(known, known.default)


def parse_value(known: ComponentInput, value: str) -> Value:
    """Return a literal as its own type; raises ValueError. "true" and "false" stay strings, as the component's are."""
    if known.type == "integer":
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):  # int() would read "1_000", too, and more than a float holds
            raise ValueError(value)
        return int(value)
    if known.type == "number":
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number
    return value


def fill_defaults(values: Mapping[str, str]) -> dict[str, Value]:
    """Return all literal inputs with their types, defaults where nothing was sent; "true"/"false" become booleans."""
    filled: dict[str, Value] = {}
    for known in INPUTS:
        text = values.get(known.name, known.default)
        if text is None or known.type not in LITERAL_TYPES:
            continue
        filled[known.name] = (text == "true") if known.enum == BOOLEAN else parse_value(known, text)
    return filled


def component_spec() -> dict[str, Any]:
    """Return the `componentSpec` a registry answers with."""
    return {
        "name": NAME,
        "version": VERSION,
        "type": "pipeline",
        "display_name": "Chat Completion Pipeline",
        "description": f"Fine-tunes a chat model on this machine. The inputs are those of {AZURE_VERSION} on Azure.",
        "is_deterministic": True,
        "inputs": {each.name: _input_spec(each) for each in INPUTS},
        "outputs": {name: {"type": kind} for name, kind in OUTPUTS.items()},
    }


def _input_spec(each: ComponentInput) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": each.type, "optional": each.optional}
    if each.default is not None:
        spec["default"] = each.default
    if each.enum:
        spec["enum"] = list(each.enum)
    if each.minimum is not None:
        spec["min"] = str(each.minimum)
    if each.mode:
        spec["mode"] = each.mode
    return spec
