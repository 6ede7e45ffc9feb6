"""Deployment templates as a registry's service answers for them."""

from __future__ import annotations

import json

import pytest

from core.azureml.connection import Connection
from core.catalog.templates import Template, list_templates
from core.errors import TunedeckError
from tests.azure.stand_in import SIZE, StandIn

FAST = "azureml://registries/azureml/deploymenttemplates/fast/versions/2"
WIDE = "azureml://registries/azureml/deploymenttemplates/wide/labels/latest"


def wire(name: str, version: str, *sizes: str) -> dict[str, object]:
    return {"name": name, "version": version, "defaultInstanceType": sizes[0], "allowedInstanceType": list(sizes)}


def test_templates_are_read_with_their_sizes_and_latest_is_the_highest_version(
    azure: StandIn, conn: Connection
) -> None:
    service = r"/genericasset/v2.0/subscriptions/.*/registries/azureml/deploymenttemplates"
    azure.rules.add(rf"{service}/fast/versions/2\?", 200, body=json.dumps(wire("fast", "2", SIZE, "Standard_B")))
    listed = [wire("wide", version, SIZE) for version in ("9", "10", "old")]
    azure.rules.add(rf"{service}\?.*name=wide", 200, body=json.dumps({"value": listed}))
    found = list_templates(conn, (FAST, WIDE, "azureml://elsewhere"))
    assert found == [Template("fast", "2", (SIZE, "Standard_B")), Template("wide", "10", (SIZE,))]
    assert list_templates(conn, (FAST,)) == found[:1], "kept"


def test_a_registry_that_refuses_its_templates_is_said(azure: StandIn, conn: Connection) -> None:
    azure.rules.add("deploymenttemplates/slow", 403, body="{}")
    with pytest.raises(TunedeckError, match="deployment template 'slow'"):
        list_templates(conn, (FAST.replace("fast", "slow"),))
