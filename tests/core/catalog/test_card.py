from __future__ import annotations

from typing import Any

import pytest

from core.catalog.card import Card, read_card

STUDIO = "https://studio"
PAGE = f"{STUDIO}/registries/azureml-meta/models/Llama-3/version/2"
ID = "azureml://registries/azureml-meta/models/Llama-3/versions/2"


def card(name: str = "m", licence: str = "MIT", **wire: Any) -> Card:
    return read_card(name, licence, ID, wire)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Llama-2-7b-chat", 7e9),
        ("SmolLM2-135M-Instruct", 135e6),
        ("Llama-3.2-1.5B", 1.5e9),
        ("azureml-meta/Llama-3.1-405B-Instruct", 405e9),
        ("mistralai-Mixtral-8x7B-v01", None),
        ("Phi-3-small-8k-instruct", None),
        ("Phi-4", None),
        ("gpt2-medium", None),
    ],
)
def test_the_number_of_parameters_is_read_out_of_a_name_only_where_it_is_one(name: str, count: float | None) -> None:
    assert card(name).parameters == count


def test_a_stated_number_counts_before_the_name_and_the_name_before_the_text() -> None:
    found = card("m-7b", tags={"parameters": "8.03B"})
    assert (found.parameters, found.parameters_source) == (8_030_000_000, "stated")
    found = card("Phi-4", tags={"summary": "Phi-4 14B, a highly capable model"})
    assert (found.parameters, found.parameters_source) == (14_000_000_000, "by its text")
    assert card("Phi-3-mini", description="It has 3.8B parameters and a 4K context.").parameters == 3_800_000_000
    assert card("m", description="It was trained on 3.3T tokens.").parameters is None


def test_languages_output_and_weights_are_read_in_each_published_form() -> None:
    found = card(tags={"languages": "AR, EN", "weights_bytes": "269060552", "maxOutputTokens": "4096"})
    assert (found.languages, found.most_output, found.weights_bytes) == (("ar", "en"), 4096, 269060552)
    assert card(systemMetadata={"languages": ["en", "fr"]}).languages == ("en", "fr")
    assert card(tags={"languages": "[en"}).languages == ()


def test_the_default_deployment_template_comes_first() -> None:
    one, two = (f"azureml://registries/r/deploymenttemplates/{name}/versions/1" for name in "ab")
    wire = {
        "defaultDeploymentTemplate": {"assetId": two},
        "allowedDeploymentTemplates": [{"assetId": one}, {"assetId": two}],
    }
    assert card(**wire).templates == (two, one)
    assert card(allowedDeploymentTemplates="all").templates == ()


@pytest.mark.parametrize("licence", ["MIT", "apache-2.0", "Apache 2.0", "bsd-3-clause", "cc-by-4.0", ""])
def test_an_open_licence_asks_for_nothing(licence: str) -> None:
    assert card(licence=licence).terms is None


@pytest.mark.parametrize(
    ("wire", "url"),
    [
        ({}, PAGE),
        ({"tags": {"licenseUrl": "https://llama.com/license"}}, "https://llama.com/license"),
        (
            {"description": "See the [License](https://ai.meta.com/llama/license/)."},
            "https://ai.meta.com/llama/license/",
        ),
        ({"systemMetadata": {"licenseDescription": "LLAMA LICENSE, https://l.com/x."}}, "https://l.com/x"),
        ({"tags": {"licenseUrl": "javascript:alert(1)"}}, PAGE),
    ],
)
def test_a_licence_of_the_publishers_own_is_to_be_accepted_where_the_registry_says(wire: Any, url: str) -> None:
    terms = card(licence="custom", **wire).terms
    assert terms is not None
    assert (terms.words, terms.find_url(STUDIO)) == (
        "Its licence, 'custom', is the publisher's own: whoever uses it has to accept it.",
        url,
    )


def test_an_offer_of_the_marketplace_is_to_be_accepted_there() -> None:
    terms = read_card("Llama-3", "MIT", ID, {"properties": {"marketplaceOffer": "true"}}).terms
    assert terms is not None
    assert (terms.words.split(":")[0], terms.find_url(STUDIO)) == ("It is offered through Azure Marketplace", PAGE)
    assert card(properties={"isMarketplaceModel": "false"}).terms is None
