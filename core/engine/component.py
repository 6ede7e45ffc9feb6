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

NAME = "chat_completion_pipeline"
AZURE_VERSION = "0.0.82"
VERSION = "0.0.82-local"

Local = Literal["honoured", "accepted", "refused"]
Value = str | int | float | bool
TRUE_FALSE = ("true", "false")
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
    ComponentInput(
        "shm_size_finetune",
        "string",
        default="5g",
        local="accepted",
        why="no container is started, so no shared memory is set apart",
    ),
    ComponentInput(
        "num_nodes_finetune",
        "integer",
        default="1",
        minimum=1,
        local="refused",
        why="the local workspace is one machine",
    ),
    ComponentInput("number_of_gpu_to_use_finetuning", "integer", default="1", minimum=0),
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
    ComponentInput(
        "trust_remote_code",
        "string",
        default="false",
        enum=TRUE_FALSE,
        local="refused",
        why="code that comes with a model is never run here",
    ),
    ComponentInput("task_name", "string", default="ChatCompletion", enum=("ChatCompletion",), optional=False),
    ComponentInput(
        "batch_size", "integer", default="1000", minimum=1, local="accepted", why="all rows are tokenised in one pass"
    ),
    ComponentInput("pad_to_max_length", "string", default="false", enum=TRUE_FALSE),
    ComponentInput("max_seq_length", "integer", default="-1"),
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
    ComponentInput("apply_lora", "string", default="false", enum=TRUE_FALSE),
    ComponentInput(
        "merge_lora_weights",
        "string",
        default="true",
        enum=TRUE_FALSE,
        local="refused",
        why="the output is one folder that is served as it is; the adapter stays beside it as a checkpoint",
    ),
    ComponentInput("lora_alpha", "integer", default="128"),
    ComponentInput("lora_r", "integer", default="8"),
    ComponentInput("lora_dropout", "number", default="0.0"),
    ComponentInput("num_train_epochs", "integer", default="1", minimum=1),
    ComponentInput("max_steps", "integer", default="-1"),
    ComponentInput("per_device_train_batch_size", "integer", default="1", minimum=1),
    ComponentInput("per_device_eval_batch_size", "integer", default="1", minimum=1),
    ComponentInput("auto_find_batch_size", "string", default="false", enum=TRUE_FALSE),
    ComponentInput("optim", "string", default="adamw_torch", enum=("adamw_torch", "adafactor")),
    ComponentInput("learning_rate", "number", default="2e-05"),
    ComponentInput("warmup_steps", "integer", default="0"),
    ComponentInput("weight_decay", "number", default="0.0"),
    ComponentInput("adam_beta1", "number", default="0.9"),
    ComponentInput("adam_beta2", "number", default="0.999"),
    ComponentInput("adam_epsilon", "number", default="1e-8"),
    ComponentInput("gradient_accumulation_steps", "integer", default="1"),
    ComponentInput(
        "eval_accumulation_steps",
        "integer",
        default="-1",
        local="accepted",
        why="evaluation adds up a loss and keeps no predictions",
    ),
    ComponentInput(
        "lr_scheduler_type",
        "string",
        default="linear",
        enum=("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    ),
    ComponentInput("precision", "string", default="32", enum=("32", "16")),
    ComponentInput("seed", "integer", default="42"),
    ComponentInput("enable_full_determinism", "string", default="false", enum=TRUE_FALSE),
    ComponentInput(
        "dataloader_num_workers",
        "integer",
        default="0",
        local="accepted",
        why="the rows are tokenised before training and read from memory",
    ),
    ComponentInput(
        "ignore_mismatched_sizes",
        "string",
        default="false",
        enum=TRUE_FALSE,
        local="refused",
        why="weights that do not fit the model would be replaced by random ones",
    ),
    ComponentInput("max_grad_norm", "number", default="1.0"),
    ComponentInput("evaluation_strategy", "string", default="epoch", enum=("epoch", "steps", "disable")),
    ComponentInput("evaluation_steps_interval", "number", default="0.0"),
    ComponentInput("eval_steps", "integer", default="500"),
    ComponentInput("logging_strategy", "string", default="steps", enum=("epoch", "steps")),
    ComponentInput("logging_steps", "integer", default="10"),
    ComponentInput(
        "metric_for_best_model",
        "string",
        default="loss",
        enum=("loss", "f1", "exact"),
        local="refused",
        why="training here measures the loss only",
    ),
    ComponentInput("resume_from_checkpoint", "string", default="false", enum=TRUE_FALSE),
    ComponentInput("save_total_limit", "integer", default="-1"),
    ComponentInput("apply_early_stopping", "string", default="false", enum=TRUE_FALSE),
    ComponentInput("early_stopping_patience", "integer", default="1"),
    ComponentInput("early_stopping_threshold", "number", default="0.0"),
    ComponentInput(
        "apply_deepspeed",
        "string",
        default="false",
        enum=TRUE_FALSE,
        local="refused",
        why="DeepSpeed spreads a model over GPUs; the local trainer is one process",
    ),
    ComponentInput(
        "deepspeed",
        "uri_file",
        mode="rw_mount",
        local="refused",
        why="DeepSpeed spreads a model over GPUs; the local trainer is one process",
    ),
    ComponentInput(
        "deepspeed_stage",
        "string",
        default="2",
        enum=("2", "3"),
        local="accepted",
        why="it has a meaning only with apply_deepspeed",
    ),
    ComponentInput(
        "apply_ort",
        "string",
        default="false",
        enum=TRUE_FALSE,
        local="refused",
        why="ONNX Runtime training is not part of the local trainer",
    ),
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

# Limits the component's own table does not state, which its trainer has all the same: name, at least, below, words.
LIMITS: tuple[tuple[str, float, float, str], ...] = (
    ("number_of_gpu_to_use_finetuning", 0, 2, "must be 0 or 1: the local trainer uses at most one GPU"),
    ("lora_alpha", 1, math.inf, "must be at least 1"),
    ("lora_r", 1, math.inf, "must be at least 1"),
    ("lora_dropout", 0, 1, "must be at least 0 and below 1"),
    ("learning_rate", math.ulp(0.0), math.inf, "must be greater than 0"),
    ("warmup_steps", 0, math.inf, "must be at least 0"),
    ("weight_decay", 0, math.inf, "must be at least 0"),
    ("adam_beta1", 0, 1, "must be at least 0 and below 1"),
    ("adam_beta2", 0, 1, "must be at least 0 and below 1"),
    ("adam_epsilon", math.ulp(0.0), math.inf, "must be greater than 0"),
    ("gradient_accumulation_steps", 1, math.inf, "must be at least 1"),
    ("max_grad_norm", 0, math.inf, "must be at least 0 (0 clips nothing)"),
    ("evaluation_steps_interval", 0, 1, "must be at least 0 and below 1: it is a part of an epoch"),
    ("eval_steps", 1, math.inf, "must be at least 1"),
    ("logging_steps", 1, math.inf, "must be at least 1"),
    ("seed", 0, 2**32, "must be between 0 and 4294967295"),
    ("early_stopping_patience", 1, math.inf, "must be at least 1"),
    ("early_stopping_threshold", 0, math.inf, "must be at least 0"),
)


def check_inputs(values: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the inputs of a job, one sentence each, beginning with the input's name.

    Values are strings, as they travel. Only what was sent is looked at: defaults are right by themselves.
    """
    problems = [problem for name, value in values.items() if (problem := _check_one(name, value))]
    if problems:
        return problems
    return [*_check_limits(values), *_check_together(values)]


def _check_one(name: str, value: str) -> str | None:
    known = BY_NAME.get(name)
    if known is None:
        return f"{name} is not an input of {NAME}."
    try:
        parsed = parse_value(known, value)
    except ValueError:
        article = "a whole number" if known.type == "integer" else "a number"
        return f"{name} must be {article}, not '{value}'."
    if known.enum and value not in known.enum:
        return f"{name} must be one of {', '.join(known.enum)}, not '{value}'."
    if known.minimum is not None and isinstance(parsed, int) and parsed < known.minimum:
        return f"{name} must be at least {known.minimum}, not {value}."
    if known.local == "refused" and not _is_default(known, parsed):
        return f"{name} = {value} is not done on this machine: {known.why}."
    return None


def _is_default(known: ComponentInput, parsed: Value) -> bool:
    if known.default is None:
        return parsed == ""
    return parsed == parse_value(known, known.default)


def _check_limits(values: Mapping[str, str]) -> list[str]:
    problems = []
    for name, at_least, below, words in LIMITS:
        if name in values:
            number = float(parse_value(BY_NAME[name], values[name]))
            if not at_least <= number < below:
                problems.append(f"{name} {words}, not {values[name]}.")
    problems.extend(
        f"{name} must be -1 (no limit) or at least 1, not {values[name]}."
        for name in ("max_steps", "max_seq_length", "save_total_limit")
        if name in values and int(values[name]) != -1 and int(values[name]) < 1
    )
    return problems


def _check_together(values: Mapping[str, str]) -> list[str]:
    stops_early = values.get("apply_early_stopping", "false") == "true"
    if stops_early and values.get("evaluation_strategy", "epoch") == "disable":
        return ["apply_early_stopping needs evaluations: set evaluation_strategy to epoch or steps."]
    return []


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
        filled[known.name] = (text == "true") if known.enum == TRUE_FALSE else parse_value(known, text)
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
