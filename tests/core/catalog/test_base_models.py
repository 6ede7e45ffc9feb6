from __future__ import annotations

from datetime import date

import pytest

from core.azureml.connection import Connection
from core.catalog.base_models import CHAT_TASK as CHAT
from core.catalog.base_models import get_base_model, to_base_model
from core.errors import NotFound
from tests import tiny_model
from tests.catalogue import find_models

A100, H100 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"


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
    assert (model.task, model.lifecycle.archived, model.finetunable) == ("chat-completion", True, True)
    assert model.finetunable_source == "metadata tasks.fineTuningTasks"
    assert model.lifecycle.finetuning.retired_on == date(2025, 8, 30)
    assert (model.finetune.source, model.inference.sizes) == ("metadata", (H100,))


def test_the_registry_lists_what_trains_here_first(conn: Connection) -> None:
    models = find_models(conn)
    assert models[0].name == tiny_model.NAME
    assert (models[0].runs_on, models[0].finetunable, models[0].finetune.source) == ("", True, "tag")
    assert models[0].defaults["per_device_train_batch_size"] == 4
    assert {model.task for model in models} == {"chat-completion"}
    assert all(model.runs_on == "Azure" for model in models[1:])


def test_the_lessons_model_is_there_with_its_retirement(conn: Connection) -> None:
    model = get_base_model(conn, "Phi-3-mini-4k-instruct")
    assert (model.licence, model.lifecycle.archived) == ("MIT", True)
    assert model.lifecycle.finetuning.retired_on == date(2025, 8, 30)
    assert model.id == f"azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/{model.version}"


def test_a_search_finds_by_parts_of_the_name(conn: Connection) -> None:
    assert [model.name for model in find_models(conn, "MINI 4k")] == ["Phi-3-mini-4k-instruct"]
    assert find_models(conn, "phi5") == []


def test_an_unknown_model_or_version_is_named(conn: Connection) -> None:
    with pytest.raises(NotFound, match="Model 'Phi-9' was not found in registry 'azureml'"):
        get_base_model(conn, "Phi-9")
    with pytest.raises(NotFound, match="Version 99 of model 'Phi-4' was not found in registry 'azureml'"):
        get_base_model(conn, "Phi-4", "99")


@pytest.mark.parametrize("text", ["9" * 5000, "-1", "1e9", "²", "many", "1.5"])
def test_a_context_length_that_is_no_number_is_not_known(text: str) -> None:
    assert to_base_model("m", "1", {"properties": {"tags": {"textContextWindow": text}}}).context_length is None


@pytest.mark.parametrize(
    ("tags", "properties", "finetunable", "source"),
    [
        ({"task": CHAT}, {"finetuning-tasks": CHAT}, True, "property"),
        ({"task": "text-generation"}, {"finetuning-tasks": "text-generation"}, False, "property"),
        ({"task": CHAT, "finetune_compute_allow_list": "['A']"}, {}, True, "tag"),
        ({"task": "text-generation", "finetune_compute_allow_list": "['A']"}, {}, False, "tag"),
        ({"task": CHAT}, {"finetune-min-sku-spec": "24|1|220|64"}, True, "property"),
        ({"task": CHAT, "inference_compute_allow_list": "['A']"}, {}, False, ""),
        ({"task": CHAT}, {}, True, ""),
        ({"task": "fill-mask"}, {}, False, ""),
    ],
)
def test_what_says_that_a_models_chat_can_be_fine_tuned_is_named(
    tags: dict[str, str], properties: dict[str, str], finetunable: bool, source: str
) -> None:
    model = to_base_model("m", "1", {"properties": {"tags": tags, "properties": properties}})
    assert (model.finetunable, model.finetunable_source.split(" ")[0]) == (finetunable, source)
