"""The sizes to choose from on Azure: what quota binds, what they cost, and how the drawer makes a cluster of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.azureml import tags
from core.azureml.reader import reader_for
from core.azureml.settings import save_settings
from core.catalog.allow_list import AllowList
from core.catalog.compute import get_compute, list_sizes, with_prices
from core.catalog.matrix import Offer, list_offers
from core.catalog.quota import list_quota
from core.catalog.serving_sizes import read_serving_list
from core.operations import list_operations, start_create_compute, start_launch
from core.operations.create_compute import CreateCompute
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.serving import ENDPOINT, MODEL, register, serve, serve_model
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.pages.apps import buttons, open_app, run_until, texts

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
    """Open the drawer of the model that is preselected: Phi-4."""
    save_settings(walk.conn.settings)
    app = open_app("model", at=walk.conn.alias)
    run_until(app, lambda app: "Create compute" in buttons(app) and not buttons(app)["Create compute"].disabled)
    run_until(app, lambda app: f"Serving: from $3.67/h ({SIZE})" in folded(app))
    buttons(app)["Create compute"].click()
    app.run()
    return run_until(app, lambda app: "$3.67/h for each node" in texts(app))


def folded(app: AppTest) -> list[str]:
    return [expander.label.replace("\\", "") for expander in app.expander]


def test_the_drawer_makes_a_cluster_of_low_priority_that_keeps_a_node(walk: Walk) -> None:
    app = opened(walk)
    matrix = next(each.value for each in app.dataframe if "Usable" in each.value)
    assert [matrix[column][0] for column in ("Size", "Per hour", "Usable")] == [SIZE, 3.673, "yes"]
    assert "Quota is not capacity: none of this size has started here yet." in texts(app)
    assert "https://ml.azure.com/quota" in texts(app)
    app.button_group(key="compute-tier").set_value("Low priority")
    app.run()
    assert "Azure takes such a node away whenever it needs it" in texts(app)
    app.number_input(key="compute-least").set_value(1)
    app.run()
    (tick,) = app.checkbox
    label = "It costs $0.73/h at all times, with work or without."
    assert tick.label.replace("\\", "") == label
    assert buttons(app)["Create on Azure, $0.73/h"].disabled
    tick.check()
    app.run()
    app.number_input(key="compute-least").set_value(0)
    app.run()
    assert not app.checkbox[0].value, "what was ticked was another price"
    app.checkbox[0].check()
    app.run()
    app.number_input(key="compute-least").set_value(1)
    buttons(app)["Create on Azure, $0.73/h"].click()
    app.run()
    assert "Fewest nodes became 1 as you clicked: they bill without work too." in texts(app)
    assert not list_operations(walk.conn.alias)
    app.checkbox[0].check()
    app.run()
    buttons(app)["Create on Azure, $0.73/h"].click()
    app.run()
    change = list_operations(walk.conn.alias)[0].change
    assert isinstance(change, CreateCompute)
    assert (change.size, change.low_priority, change.min_nodes) == (SIZE, True, 1)


def serving(walk: Walk, name: str, **version: Any) -> AllowList:
    """Return what may serve a model of which its registry says this."""
    body = {"id": f"azureml://registries/azureml/models/{name}/versions/1", "properties": version}
    walk.azure.rules.add(rf"/models/{name}/versions/1\?", 200, body=json.dumps(body))
    return read_serving_list(walk.conn, name, "1")


TEMPLATE = "azureml://registries/azureml/deploymenttemplates/phi-vllm/versions/3"
TAGS = {"inference_compute_allow_list": f"['{SIZE}']"}


def test_a_deployment_template_says_first_what_may_serve_a_model(walk: Walk) -> None:
    template = {"name": "phi-vllm", "version": "3", "allowedInstanceType": ["Standard_NC40ads_H100_v5"]}
    walk.azure.rules.add(
        "/genericasset/v2.0/.*/deploymenttemplates/phi-vllm/versions/3", 200, body=json.dumps(template)
    )
    found = serving(walk, "Templated", tags=TAGS, defaultDeploymentTemplate={"assetId": TEMPLATE})
    assert (found.sizes, found.problem) == (("Standard_NC40ads_H100_v5",), None)
    assert found.words == "Allow-list read from: template phi-vllm (1 size)"


def test_a_template_that_cannot_be_read_leaves_the_models_own_list_and_says_so(walk: Walk) -> None:
    walk.azure.rules.add("/deploymenttemplates/", 403, body='{"error": {"code": "Forbidden", "message": "No."}}')
    closed = {"assetId": TEMPLATE.replace("phi-vllm", "closed")}
    found = serving(walk, "Refused", tags=TAGS, allowedDeploymentTemplates=[closed])
    assert (found.sizes, found.source) == ((SIZE,), "tag")
    assert str(found.problem).startswith("The deployment templates of 'Refused' could not be read: ")


def test_recommended_sizes_then_the_least_then_the_published_list_say_what_may_serve(walk: Walk) -> None:
    recommended = serving(walk, "Recommended", properties={"inference-recommended-sku": f"{SIZE}, Standard_X"})
    assert recommended.words == "Allow-list read from: property inference-recommended-sku (2 sizes)"
    least = serving(walk, "Least", properties={"inference-min-sku-spec": "24|1|220|64"})
    assert (least.sizes, least.minimum is None) == (None, False)
    published = serving(walk, "Silent")
    assert published.words.startswith("Allow-list read from: published list of managed endpoints (")
    assert published.permits("standard_nc24ads_a100_v4")
    assert published.permits("Standard_NC24rs_v3") is False


def find_deploy(app: AppTest, price: str, *, again: bool = False) -> Any:
    named = {label.replace("\\", ""): button for label, button in buttons(app).items()}
    return named.get(f"Deploy {'again ' if again else ''}on Azure, {price}")


def test_a_cluster_that_failed_by_quota_can_be_deleted_beside_its_error(walk: Walk) -> None:
    save_settings(walk.conn.settings)
    walk.finish(start_create_compute(walk.conn.alias, "greedy", "Standard_NC96ads_A100_v4", 1, 1), "failed")
    body = walk.conn.http("GET", f"{walk.conn.workspace_path}/computes/greedy?api-version=2024-10-01").json()
    text = json.dumps(body).replace("greedy", "hollow").replace('"Failed"', '"Succeeded"')
    walk.azure.rules.add(r"/computes\?", 200, body=f'{{"value": [{json.dumps(body)}, {text}]}}', times=50)
    reader_for(walk.conn).drop()
    app = run_until(open_app("model", at=walk.conn.alias), lambda app: "Delete greedy…" in buttons(app))
    assert "Compute 'hollow' is there, but got no node: The location" in texts(app), (
        "as of a size that Azure refuses late"
    )
    assert "Delete hollow…" in buttons(app)
    assert "Compute 'greedy' could not be provisioned: The location" in texts(app)
    assert "https://ml.azure.com/quota" in texts(app)


def test_nodes_of_low_priority_are_drawn_from_their_own_pool(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The H100s have no dedicated quota there, and the pool holds a hundred cores for all."""
    monkeypatch.delenv("TUNEDECK_LOOK_S")  # the answer to the request itself comes first at Azure's pace
    size = "Standard_NC40ads_H100_v5"
    walk.finish(start_create_compute(walk.conn.alias, "low-1", size, 1, 1, low_priority=True))
    made = get_compute(walk.conn, "low-1")
    assert (made.low_priority, made.state, made.price.words) == (True, "Succeeded", "$1.40/h")
    ended = walk.finish(start_create_compute(walk.conn.alias, "low-3", size, 3, 3, low_priority=True), "failed")
    assert ended.error is not None
    assert ended.error.message.startswith("Quota for all low-priority cores of the region: needs 120 cores, ")


@pytest.mark.slow
def test_deploying_anew_has_its_price_on_the_button_and_asks_for_the_quota_of_more_instances_alone(walk: Walk) -> None:
    """Takes ten seconds: an endpoint has to answer first."""

    serve(walk)
    save_settings(walk.conn.settings)
    reader_for(walk.conn).drop()
    limits = {"value": [PLENTY, usage(FAMILY, "vmFamily/dedicatedCores", 24, 40)]}
    walk.azure.rules.add("/usages", 200, body=json.dumps(limits), times=20)
    app = open_app("deploy", at=walk.conn.alias, endpoint=ENDPOINT)
    run_until(app, lambda app: find_deploy(app, "$3.67/h", again=True))
    assert "Quota for" not in texts(app), "its machine stands already"
    next(each for each in app.number_input if each.label == "Instances").set_value(2)
    run_until(app, lambda app: f"Quota for {FAMILY}: needs 24 cores, 16 free." in texts(app))
    assert find_deploy(app, "$7.35/h", again=True).disabled


@pytest.mark.slow
def test_deploy_offers_sizes_with_price_quota_and_when_one_last_came_and_refuses_what_has_no_quota(walk: Walk) -> None:
    """Takes twenty seconds: a run has to complete first."""
    walk.ensure_compute()
    walk.finish(start_launch(walk.plan()))
    limits = {"value": [PLENTY, usage(FAMILY, "vmFamily/dedicatedCores", 16, 40)]}
    walk.azure.rules.add("/usages", 200, body=json.dumps(limits), times=20)
    reader_for(walk.conn).drop()
    app = run_until(open_app("deploy", at=walk.conn.alias), lambda app: find_deploy(app, "$3.67/h"))
    (offer,) = app.radio(key="deploy-size").proto.captions
    told = offer.replace("\\", "")
    assert told.startswith("24 cores · 220 GiB · 1 × A100 80 GiB · $3.67/h · quota free · last started here ")
    assert f"Quota for {FAMILY}: needs 24 cores, 24 free." in texts(app)
    assert any("cannot be used, why" in each for each in folded(app))
    next(each for each in app.number_input if each.label == "Instances").set_value(2)
    app.run()
    assert find_deploy(app, "$7.35/h").disabled
    assert f"Quota for {FAMILY}: needs 48 cores, 24 free." in texts(app)


@pytest.mark.slow
def test_what_was_set_for_another_endpoint_of_a_run_stays_when_the_first_goes_live(walk: Walk) -> None:
    """Takes twenty seconds: a run has to complete, and an endpoint to answer."""
    walk.ensure_compute()
    run = walk.finish(start_launch(walk.plan())).subject
    app = run_until(open_app("deploy", at=walk.conn.alias, run=run), lambda app: find_deploy(app, "$3.67/h"))
    numbers = {each.label: each for each in app.number_input}
    numbers["The most it may cost in all, USD; 0 for none"].set_value(20.0)
    numbers["Instances"].set_value(2)
    numbers["Request time-out (s)"].set_value(45)
    next(each for each in app.toggle if each.label == "Delete it then").set_value(True)
    app.run()
    register(walk)
    told = {tags.RUN: run, tags.OPERATION: "a deploy", tags.REGISTERED_MODEL: f"{MODEL}:1"}
    running = {"request_settings__request_timeout_ms": 30, "readiness_probe__success_threshold": 3}
    serve_model(walk, f"azureml:{MODEL}:1", told, **running)
    run_until(app, lambda app: f"runs now on {ENDPOINT}" in texts(app))
    numbers = {each.label: each.value for each in app.number_input}
    assert numbers["Successes in a row"] == 3, "nobody changed it"
    assert numbers["Request time-out (s)"] == 45
    find_deploy(app, "$7.35/h").click().run()
    assert "Its cap is $20.00: it is deleted when that is reached." in texts(app)
