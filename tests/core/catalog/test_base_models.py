from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from core.azureml.connection import Connection
from core.catalog.base_models import (
    AllowList,
    get_base_model,
    list_base_models,
    parse_literal,
    read_allow_list,
    read_defaults,
    to_base_model,
)
from core.errors import NotFound
from tests import tiny_model

A100, H100 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f'["{A100}", "{H100}"]', [A100, H100]),
        (f"['{A100}', '{H100}']", [A100, H100]),
        (f"('{A100}', '{H100}')", (A100, H100)),
        (f"[{A100}, {H100}]", [A100, H100]),
        (f"{A100}, {H100}", [A100, H100]),
        (f"{A100},{H100},", [A100, H100]),
        (A100, [A100]),
        ('{"apply_lora": "true", "precision": 16}', {"apply_lora": "true", "precision": 16}),
        ("{'apply_lora': 'true', 'learning_rate': '5e-6'}", {"apply_lora": "true", "learning_rate": "5e-6"}),
    ],
)
def test_a_tag_is_read_as_json_as_a_python_literal_or_as_a_comma_list(text: str, value: Any) -> None:
    assert parse_literal(text) == value


@pytest.mark.parametrize("text", ["[Standard_NC24", "['a', 'b'", '{"a": 1', "{'a'", "['a' 'b'", "__import__('os')"])
def test_a_tag_that_is_cut_off_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError):
        parse_literal(text)


def test_the_first_place_that_has_a_list_is_used_and_named() -> None:
    tags = {"finetune_compute_allow_list": f"['{A100}']"}
    properties = {"finetune-recommended-sku": f"{H100}, {A100}"}
    metadata = {"supportedComputes": {"finetuneComputes": [H100]}}
    found = read_allow_list("finetune", "m", tags, properties, metadata)
    assert (found.sizes, found.source, found.source_name) == ((A100,), "tag", "finetune_compute_allow_list")
    found = read_allow_list("finetune", "m", {}, properties, metadata)
    assert (found.sizes, found.source) == ((H100, A100), "property")
    found = read_allow_list("finetune", "m", {}, {}, metadata)
    assert (found.sizes, found.source_name) == ((H100,), "supportedComputes.finetuneComputes")
    assert read_allow_list("finetune", "m", {}, {}, {}) == AllowList(None)


def test_a_malformed_list_is_told_and_the_next_place_or_the_deny_list_is_used() -> None:
    tags = {"finetune_compute_allow_list": "[Standard_NC24"}
    found = read_allow_list("finetune", "Phi-4", tags, {}, {})
    assert found.sizes is None
    assert found.problem == "The allow-list of 'Phi-4' could not be read: \"[Standard_NC24\" is cut off."
    assert found.hint == "The deny-list is used instead. Check the GPU memory yourself."
    found = read_allow_list("finetune", "Phi-4", tags, {"finetune-recommended-sku": A100}, {})
    assert (found.sizes, found.source) == ((A100,), "property")
    assert found.problem
    assert found.hint == "Another list of the model is used instead."


def test_case_does_not_matter_and_no_list_permits_nothing_for_certain() -> None:
    assert AllowList((A100,)).permits(A100.upper()) is True
    assert AllowList((A100,)).permits(H100) is False
    assert AllowList(None).permits(A100) is None


@pytest.mark.parametrize("text", ["[1, 2]", "{'a': ", "true"])
def test_defaults_that_cannot_be_read_are_left_out_with_a_sentence(text: str) -> None:
    values, problem = read_defaults("m", text)
    assert values == {}
    assert problem is not None
    assert problem.startswith("The defaults of 'm' could not be read")


def test_defaults_keep_their_types_and_a_model_may_have_none() -> None:
    assert read_defaults("m", '{"deepspeed_stage": 2, "apply_lora": "true", "lr": 5e-06, "deep": {"a": 1}}') == (
        {"deepspeed_stage": 2, "apply_lora": "true", "lr": 5e-06},
        None,
    )
    assert read_defaults("m", None) == ({}, None)


def test_a_model_that_says_all_in_its_metadata_is_read_from_there() -> None:
    wire = {
        "isArchived": True,
        "systemMetadata": {
            "displayName": "Phi 5",
            "license": "MIT",
            "publisher": "Microsoft",
            "textContextWindow": 16384,
            "tasks": {"inferenceTasks": ["chat-completion"], "fineTuningTasks": ["chat-completion"]},
            "supportedComputes": {"finetuneComputes": [A100], "inferenceComputes": [H100]},
            "deprecation": {"fineTuneRetirementDate": "2025-08-30T00:00:00Z"},
        },
    }
    model = to_base_model("Phi-5", "1", {"properties": wire})
    assert (model.title, model.licence, model.publisher, model.context_length) == ("Phi 5", "MIT", "Microsoft", 16384)
    assert (model.task, model.archived, model.finetunable) == ("chat-completion", True, True)
    assert (model.retired_on, model.retired) == (date(2025, 8, 30), True)
    assert (model.finetune.source, model.inference.sizes) == ("metadata", (H100,))


def test_the_registry_lists_what_trains_here_first(conn: Connection) -> None:
    models = list_base_models(conn)
    assert models[0].name == tiny_model.NAME
    assert (models[0].runs_on, models[0].finetunable, models[0].finetune.source) == ("", True, "tag")
    assert models[0].defaults["per_device_train_batch_size"] == 4
    assert {model.task for model in models} == {"chat-completion"}
    assert all(model.runs_on == "Azure" for model in models[1:])


def test_the_lessons_model_is_there_with_its_retirement(conn: Connection) -> None:
    model = get_base_model(conn, "Phi-3-mini-4k-instruct")
    assert (model.licence, model.archived, model.retired) == ("MIT", True, True)
    assert model.retired_on == date(2025, 8, 30)
    assert model.id == f"azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/{model.version}"


def test_a_search_finds_by_parts_of_the_name(conn: Connection) -> None:
    assert [model.name for model in list_base_models(conn, "MINI 4k")] == ["Phi-3-mini-4k-instruct"]
    assert list_base_models(conn, "phi5") == []


def test_an_unknown_model_or_version_is_named(conn: Connection) -> None:
    with pytest.raises(NotFound, match="Model 'Phi-9' was not found in registry 'azureml'"):
        get_base_model(conn, "Phi-9")
    with pytest.raises(NotFound, match="Version 99 of model 'Phi-4' was not found in registry 'azureml'"):
        get_base_model(conn, "Phi-4", "99")


@pytest.mark.parametrize("text", ["9" * 5000, "-1", "1e9", "²", "many", "1.5"])
def test_a_context_length_that_is_no_number_is_not_known(text: str) -> None:
    assert to_base_model("m", "1", {"properties": {"tags": {"textContextWindow": text}}}).context_length is None
