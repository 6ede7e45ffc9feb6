from __future__ import annotations

from typing import Any

import pytest

from core.catalog.allow_list import AllowList, MinimumSize, parse_literal, read_allow_list, read_defaults

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


def test_without_a_list_the_least_that_a_size_must_have_counts_with_its_source() -> None:
    found = read_allow_list("finetune", "m", {}, {"finetune-min-sku-spec": "24|1|220|64"}, {})
    assert (found.sizes, found.minimum, found.source) == (None, MinimumSize(24, 1, 220), "property")
    assert found.words.endswith("A size needs 24 cores, 1 GPU, 220 GiB, read from: property finetune-min-sku-spec")
    metadata = {"SKU": {"finetuneMinSkuSpec": "24|1|220|64"}}
    assert read_allow_list("finetune", "m", {}, {}, metadata).source_name == "SKU.finetuneMinSkuSpec"
    cut = read_allow_list("finetune", "m", {"finetune_compute_allow_list": "[A"}, {}, metadata)
    assert cut.hint == "The least that the model asks of a size is used instead."
    assert read_allow_list("finetune", "m", {}, {"finetune-min-sku-spec": "24|1"}, {}) == AllowList(None)
