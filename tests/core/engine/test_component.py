from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from core.engine import component
from core.engine.component import INPUTS, check_inputs
from core.engine.training_settings import TrainingSettings, read_settings

FACTS = json.loads((Path(__file__).parents[2] / "data" / "chat_completion_pipeline_inputs.json").read_text())


def test_the_table_is_azures_but_for_the_number_of_gpus() -> None:
    assert [each.name for each in INPUTS] == [fact["name"] for fact in FACTS]
    for each, fact in zip(INPUTS, FACTS, strict=True):
        minimum = 0 if each.name == "number_of_gpu_to_use_finetuning" else fact["min"]
        assert (each.type, each.optional, each.mode) == (fact["type"], fact["optional"], fact["mode"]), each.name
        assert (each.minimum, list(each.enum or []) or None) == (minimum, fact["enum"]), each.name
        if fact["default"] is None or each.type == "string":
            assert each.default == fact["default"], each.name
        else:
            assert float(each.default or "nan") == float(fact["default"]), each.name


def test_every_default_is_accepted_by_the_local_workspace() -> None:
    assert check_inputs({each.name: each.default for each in INPUTS if each.default is not None}) == []


def test_whatever_is_refused_or_without_effect_says_why() -> None:
    for each in INPUTS:
        assert (each.local == "honoured") == (each.why == ""), each.name


def test_the_trainer_reads_only_inputs_it_is_said_to_honour() -> None:
    read = {each.name for each in fields(TrainingSettings)}
    assert {name for name in read if component.BY_NAME[name].local != "honoured"} == set()


@pytest.mark.parametrize("refused", [each for each in INPUTS if each.local == "refused"], ids=lambda each: each.name)
def test_a_refused_input_is_named_with_its_reason(refused: component.ComponentInput) -> None:
    others = [value for value in refused.enum or ("2", "something") if value != refused.default]
    value = next(other for other in others if refused.type != "integer" or other.isdigit())
    problem = check_inputs({refused.name: value})[0]
    assert problem.startswith(f"{refused.name} is {value}; ")
    assert "this machine" in problem
    assert refused.why in problem


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_train_epochs", "two", "num_train_epochs is 'two'; it takes a whole number."),
        ("learning_rate", "nan", "learning_rate is 'nan'; it takes a number."),
        ("learning_rate", "0", "learning_rate is 0; it must be more than 0."),
        ("num_train_epochs", "0", "num_train_epochs is 0; the least is 1."),
        ("lr_scheduler_type", "bogus", "lr_scheduler_type is 'bogus'; it takes linear, cosine,"),
        ("apply_lora", "True", "apply_lora is 'True'; it takes true or false."),
        ("epochs", "3", "epochs is not an input of chat_completion_pipeline."),
        ("number_of_gpu_to_use_finetuning", "4", "number_of_gpu_to_use_finetuning is 4; it takes 0 or 1"),
        ("max_steps", "0", "max_steps is 0; the least is 1, or -1 for no limit."),
        ("lora_dropout", "1", "lora_dropout is 1; it must be less than 1."),
    ],
)
def test_a_wrong_value_is_a_sentence_that_begins_with_its_name(name: str, value: str, words: str) -> None:
    assert check_inputs({name: value})[0].startswith(words)


def test_early_stopping_without_evaluation_is_refused() -> None:
    problems = check_inputs({"apply_early_stopping": "true", "evaluation_strategy": "disable"})
    assert problems == ["apply_early_stopping needs evaluations: set evaluation_strategy to epoch or steps."]


def test_settings_take_the_components_defaults_where_nothing_was_sent() -> None:
    settings = read_settings({"learning_rate": "2e-3", "apply_lora": "true"})
    assert (settings.learning_rate, settings.apply_lora, settings.lora_alpha) == (2e-3, True, 128)
    assert (settings.adam_epsilon, settings.logging_steps, settings.precision) == (1e-8, 10, "32")


def test_evaluation_is_due_by_epoch_by_steps_or_by_part_of_an_epoch_and_at_the_end() -> None:
    def due(**values: str) -> list[int]:
        settings = read_settings(values)
        return [step for step in range(1, 20) if settings.evaluates_after(step, 10, total_steps=19)]

    assert due() == [10, 19]
    assert due(evaluation_strategy="disable") == []
    assert due(evaluation_strategy="steps", eval_steps="6") == [6, 12, 18, 19]
    assert due(evaluation_strategy="steps", evaluation_steps_interval="0.25") == [*range(2, 19, 2), 19]


def test_the_published_component_has_strings_for_defaults_and_no_jobs() -> None:
    spec = component.component_spec()
    assert spec["inputs"]["num_train_epochs"] == {"type": "integer", "optional": True, "default": "1", "min": "1"}
    assert spec["outputs"]["mlflow_model_folder"] == {"type": "mlflow_model"}
    assert "jobs" not in spec
