"""The sizes to choose from on Azure: what quota binds, what they cost, and how the drawer makes a cluster of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.azureml.settings import save_settings
from core.catalog.allow_list import AllowList
from core.catalog.compute import list_sizes, with_prices
from core.catalog.matrix import Offer, list_offers
from core.catalog.quota import list_quota
from core.operations import list_operations
from core.operations.create_compute import CreateCompute
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.stand_in import ALLOWED, SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.tiny_model import NAME

FAMILY = "standardNCADSA100v4Family"
LIST = AllowList((SIZE, "Standard_NC48ads_A100_v4", "Standard_ND96isr_H200_v5"))


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator


def usage(name: str, sort: str, used: int, limit: int, where: str = "/subscriptions/1") -> dict[str, Any]:
    kind = f"Microsoft.MachineLearningServices/{sort}/usages"
    value = {"value": name, "localizedValue": name}
    return {"id": f"{where}/usages/{name}", "type": kind, "name": value, "currentValue": used, "limit": limit}


def offers(walk: Walk, *usages: dict[str, Any], low_priority: bool = False) -> list[Offer]:
    """Return the matrix of a model where the region's usages are these."""
    walk.azure.rules.add("/usages", 200, body=json.dumps({"value": usages}))
    sizes = with_prices(walk.conn, list_sizes(walk.conn))
    found = list_offers(sizes, LIST, list_quota(walk.conn), "Phi-4", low_priority=low_priority)
    return [offer for offer in found if LIST.permits(offer.size.name)]


PLENTY = usage("TotalDedicatedCores", "dedicatedCores", 0, 300)


def test_a_family_that_is_short_leaves_the_smaller_size(walk: Walk) -> None:
    found = offers(walk, PLENTY, usage(FAMILY, "vmFamily/dedicatedCores", 24, 48))
    assert [(offer.size.name, offer.price.words, offer.usable) for offer in found] == [
        (SIZE, "$3.67/h", "yes"),
        ("Standard_ND96isr_H200_v5", "price unknown", "quota unknown"),
        ("Standard_NC48ads_A100_v4", "$7.35/h", "no quota"),
    ]
    assert found[2].why_not == f"Quota for {FAMILY}: needs 48 cores, 24 free."


def test_a_workspace_that_is_short_is_named(walk: Walk) -> None:
    own = usage(FAMILY, "workspaces/vmFamily/dedicatedCores", 0, 12, WORKSPACE_PATH)
    found = offers(walk, PLENTY, usage(FAMILY, "vmFamily/dedicatedCores", 0, 48), own)
    (first,) = [offer for offer in found if offer.size.name == SIZE]
    assert first.why_not == f"Quota for {FAMILY} in this workspace: needs 24 cores, 12 free."


def test_the_pool_of_low_priority_binds_where_families_have_no_limit(walk: Walk) -> None:
    family = usage(FAMILY, "vmFamily/lowPriorityCores", 24, -1)
    pool = usage("TotalLowPriorityCores", "lowPriorityCores", 24, 48)
    found = offers(walk, usage(FAMILY, "vmFamily/dedicatedCores", 0, 0), family, pool, low_priority=True)
    assert [(each.size.name, each.price.words, each.usable) for each in found[:2]] == [
        (SIZE, "$0.73/h", "yes"),
        ("Standard_NC48ads_A100_v4", "$1.47/h", "no quota"),
    ]
    assert found[1].why_not == "Quota for all low-priority cores of the region: needs 48 cores, 24 free."


def test_quota_that_nobody_names_is_unknown_and_no_reason_against_a_size(walk: Walk) -> None:
    found = offers(walk, PLENTY)
    assert {(each.usable, each.why_not) for each in found} == {("quota unknown", "")}
    assert found[0].size.name == SIZE, "the cheapest"
    assert found[-1].price.why == "Neither the workspace nor Azure's price list names a price for it in this region."


def opened(walk: Walk) -> AppTest:
    """Open the drawer of a model that has two sizes."""
    save_settings(walk.conn.settings)
    app = open_app("model", at=walk.conn.alias, q=NAME)
    run_until(app, lambda app: "Create compute" in buttons(app) and not buttons(app)["Create compute"].disabled)
    buttons(app)["Create compute"].click()
    app.run()
    return run_until(app, lambda app: "Quota is not capacity" in texts(app))


def test_the_drawer_makes_a_cluster_of_low_priority_that_keeps_a_node(walk: Walk) -> None:
    app = run_until(opened(walk), lambda app: "$3.67/h for each node" in texts(app))
    assert ALLOWED.startswith(f"['{app.dataframe[0].value['Size'][0]}'")
    assert list(app.dataframe[0].value["Usable"])[:2] == ["yes", "yes"]
    assert "https://ml.azure.com/quota" in texts(app)
    app.button_group(key="compute-tier").set_value("Low priority")
    app.run()
    assert "Azure takes such a node away whenever it needs it" in texts(app)
    app.number_input(key="compute-least").set_value(1)
    app.run()
    (tick,) = app.checkbox
    label = "It costs $0.73/h at all times, with work or without, and up to $0.73/h while it works."
    assert tick.label.replace("\\", "") == label
    assert buttons(app)["Create on Azure, $0.73/h"].disabled
    tick.check()
    app.run()
    buttons(app)["Create on Azure, $0.73/h"].click()
    app.run()
    change = list_operations(walk.conn.alias)[0].change
    assert isinstance(change, CreateCompute)
    assert (change.size, change.low_priority, change.min_nodes) == (SIZE, True, 1)
