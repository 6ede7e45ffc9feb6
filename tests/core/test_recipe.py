from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadInput
from core.recipe import (
    BY_NAME,
    PARAMETERS,
    Parameter,
    build_recipe,
    check_value,
    display_name,
    smaller_batch,
    to_job_inputs,
    total_batch_size,
    total_steps,
)

INPUTS: dict[str, dict[str, Any]] = {
    entry["name"]: entry
    for entry in json.loads((Path(__file__).parents[1] / "data" / "chat_completion_pipeline_inputs.json").read_text())
}
# Set by the launch itself, or files.
NOT_TUNED = {
    "number_of_gpu_to_use_finetuning",
    "huggingface_id",
    "task_name",
    "evaluation_config_params",
    "instance_type_model_import",
    "instance_type_preprocess",
    "instance_type_finetune",
    "instance_type_model_evaluation",
    "compute_model_import",
    "compute_preprocess",
    "compute_finetune",
    "compute_model_evaluation",
}


def test_the_table_holds_every_literal_input_of_the_component() -> None:
    literals = {name for name, entry in INPUTS.items() if entry["type"] in ("string", "integer", "number")}
    assert {parameter.name for parameter in PARAMETERS} == literals - NOT_TUNED


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_default_and_the_choices_are_the_components_own(parameter: Any) -> None:
    entry = INPUTS[parameter.name]
    if parameter.kind in ("int", "number"):
        assert float(parameter.default) == float(entry["default"])
    else:
        assert parameter.default == str(entry["default"])
    assert list(parameter.choices) == [str(choice) for choice in entry["enum"] or []]
    assert check_value(parameter, parameter.default) is None


def test_what_comes_later_wins_and_the_origin_is_told() -> None:
    recipe = build_recipe(
        {"learning_rate": "2e-3", "apply_deepspeed": "false"}, {"per_device_train_batch_size": 4}, here=False
    )
    assert (recipe["learning_rate"], recipe.origins["learning_rate"]) == (2e-3, "model")
    assert (recipe["num_train_epochs"], recipe.origins["num_train_epochs"]) == (3, "lesson")
    assert (recipe["per_device_train_batch_size"], recipe.origins["per_device_train_batch_size"]) == (4, "yours")
    assert (recipe["weight_decay"], recipe.origins["weight_decay"]) == (0.0, "component")
    assert recipe.without("per_device_train_batch_size") == 1


def test_defaults_the_component_lacks_are_dropped_and_listed() -> None:
    """Phi-3's own defaults name two inputs that the component does not have; the lesson's script stops on them."""
    recipe = build_recipe({"learning_rate": 5e-6, "learning_rate_min": 5e-7, "learning_rate_max": 5e-5}, {}, here=False)
    assert dict(recipe.dropped) == {"learning_rate_min": 5e-7, "learning_rate_max": 5e-5}
    assert "learning_rate_min" not in to_job_inputs(recipe)


def test_the_newest_component_decides_what_is_known() -> None:
    recipe = build_recipe(
        {"trust_remote_code": "true"}, {}, [name for name in INPUTS if name != "trust_remote_code"], here=False
    )
    assert "trust_remote_code" in recipe.dropped
    assert "trust_remote_code" not in recipe.values


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("num_train_epochs", 0, "Epochs (num_train_epochs) is 0; the least is 1."),
        ("num_train_epochs", 1.5, "Epochs (num_train_epochs) is 1.5; it takes a whole number."),
        ("learning_rate", "fast", "Learning rate (learning_rate) is 'fast'; it takes a number."),
        ("learning_rate", 0, "Learning rate (learning_rate) is 0; it must be more than 0."),
        ("learning_rate", "nan", "Learning rate (learning_rate) is 'nan'; it takes a finite number."),
        ("precision", "4", "Precision (precision) is '4'; it takes 32 or 16."),
        ("apply_lora", "yes", "LoRA (apply_lora) is 'yes'; it takes true or false."),
        ("shoe_size", 42, "'shoe_size' is not a parameter of the fine-tuning component."),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_sent(name: str, value: object, sentence: str) -> None:
    recipe = build_recipe({}, {name: value}, here=False)
    assert recipe.problems[name] == sentence
    with pytest.raises(BadInput, match=sentence.split(" ")[0]):
        to_job_inputs(recipe)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adam_beta1", 1.5),
        ("adam_beta2", 1.5),
        ("seed", 2**40),
        ("evaluation_steps_interval", 5.0),
        ("save_total_limit", 0),
        ("learning_rate", 1e30),
        ("learning_rate", 5),
        ("learning_rate", "inf"),
        ("learning_rate", "1e999"),
        ("max_seq_length", 0),
        ("max_steps", "1_000"),
        ("num_train_epochs", "٣"),
        ("num_train_epochs", 10**30),
        ("adam_epsilon", 1e-300),
        ("shm_size_finetune", ""),
        ("shm_size_finetune", "5g; reboot"),
        ("pad_to_max_length", "true"),
    ],
)
def test_what_no_trainer_takes_is_a_problem_everywhere(name: str, value: object) -> None:
    for here in (True, False):
        assert name in build_recipe({"apply_deepspeed": "false"}, {name: value}, here=here).problems


@pytest.mark.parametrize("parameter", [each for each in PARAMETERS if each.not_here], ids=lambda each: each.name)
def test_what_this_machine_does_not_do_is_a_problem_here_alone(parameter: Parameter) -> None:
    other = 2 if parameter.kind == "int" else next(each for each in parameter.choices if each != parameter.default)
    given = {"apply_deepspeed": "false", parameter.name: other}
    assert parameter.name not in build_recipe({}, given, here=False).problems
    assert parameter.not_here in build_recipe({}, given, here=True).problems[parameter.name]
    skipped = build_recipe(given, here=True)
    assert not skipped.problems, "what a model's tags ask for is left out, and does not stop a run"
    assert skipped.values[parameter.name] == parameter.default
    assert skipped.dropped[parameter.name] == other


def test_the_lessons_settings_run_on_this_machine_without_a_models_own() -> None:
    assert not build_recipe({}, here=True).problems
    assert build_recipe({}, here=True)["apply_deepspeed"] == "false"
    assert build_recipe({}, here=False)["apply_deepspeed"] == "true"


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_table_is_nowhere_looser_than_the_component(parameter: Parameter) -> None:
    least = INPUTS[parameter.name]["min"]
    if least is not None:
        assert parameter.minimum is not None
        assert parameter.minimum >= float(least)
        assert parameter.unlimited is None
    if parameter.kind in ("int", "number"):
        assert (parameter.minimum, parameter.above) != (None, None), "every number has a least value"


def test_settings_that_do_not_go_together_are_found_before_the_start() -> None:
    recipe = build_recipe({}, {"auto_find_batch_size": "true"}, here=False)
    assert "DeepSpeed" in recipe.problems["auto_find_batch_size"]
    stops = build_recipe({}, {"apply_early_stopping": True, "evaluation_strategy": "disable"}, here=False)
    assert "epoch or steps" in stops.problems["apply_early_stopping"]


def test_only_what_differs_from_the_component_is_sent_and_booleans_are_words() -> None:
    sent = to_job_inputs(build_recipe({}, {"apply_lora": False, "seed": 7}, here=False))
    assert sent["apply_lora"] == "false"
    assert sent["seed"] == 7
    assert "weight_decay" not in sent


@pytest.mark.parametrize(("gpus", "batch"), [(0, 8), (1, 8), (4, 32)])
def test_the_total_batch_counts_a_machine_without_a_gpu_as_one_device(gpus: int, batch: int) -> None:
    values = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_nodes_finetune": 1}
    assert total_batch_size(values, gpus) == batch


def test_the_display_name_is_the_lessons() -> None:
    recipe = build_recipe({"save_total_limit": 1}, here=False)
    name = display_name("Phi-3-mini-4k-instruct", "ultrachat", recipe.values, 8)
    assert name == "Phi-3-mini-4k-instruct-ultrachat-bs8-cosine-ds2-lora-save_limit1-seqlen-1"
    plain = build_recipe({}, {"apply_deepspeed": "false", "apply_lora": "false", "max_seq_length": 512}, here=False)
    assert display_name("a/b", "x", plain.values, 0) == "a-b-x-bs1-cosine-nods-nolora-save_limit-1-seqlen512"


def test_steps_are_counted_as_the_trainer_does() -> None:
    values = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    assert total_steps(values, 100, 0) == 39  # 25 batches, 13 updates an epoch
    assert total_steps({**values, "max_steps": 10}, 100, 0) == 10


def test_a_run_out_of_memory_is_offered_the_same_total_batch() -> None:
    values = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert smaller_batch(values) == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert smaller_batch({"per_device_train_batch_size": 1}) == {}


def test_every_parameter_has_words_for_the_form() -> None:
    assert all(parameter.label and parameter.help.endswith(".") for parameter in PARAMETERS)
    assert 5 <= sum(parameter.basic for parameter in BY_NAME.values()) <= 11
