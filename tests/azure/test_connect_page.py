"""Connect's page at the stand-in: a sign-in by code beside an identity that works, and one that a policy refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from streamlit.testing.v1 import AppTest

from core.azureml.connection import Connection
from core.azureml.settings import find_settings, list_settings, save_settings
from core.azureml.tags import parse_policy_tags
from core.catalog.registries import list_named
from tests.azure.behind import SUBSCRIPTION
from tests.azure.login import CODE, TENANT
from tests.azure.sites import SITES
from tests.azure.stand_in import StandIn
from tests.pages.apps import buttons, open_app, run_until, texts

BLOCKED = "AADSTS53003: Access has been blocked by Conditional Access policies."


def checked(azure: StandIn) -> AppTest:
    """Open Connect and check access as the operator does."""
    app, settings = open_app("connect", at="local", where="Azure"), azure.settings()
    app.text_input(key="azure-subscription").set_value(settings.subscription_id)
    app.text_input(key="azure-group").set_value(settings.resource_group)
    app.text_input(key="azure-workspace").set_value(settings.workspace_name)
    app.text_input(key="azure-tenant").set_value(settings.tenant_id or "")
    buttons(app)["Check access"].click()
    app.run()
    return run_until(app, lambda app: "Use this workspace" in buttons(app))


def follow(app: AppTest, label: str) -> AppTest:
    """Follow a link to the page that is open, which is drawn anew for its address."""
    (link,) = (each.proto for each in app.get("page_link") if label in each.proto.label.replace("\\", ""))
    app.query_params.clear()
    for name, value in parse_qsl(link.query_string):
        app.query_params[name] = value
    return app.run()


def lines(app: AppTest) -> str:
    return " ".join(expander.label for expander in app.expander).replace("\\", "")


def found(app: AppTest) -> Any:
    """Return the list of workspaces."""
    return app.selectbox(key="azure-listed")


def test_a_workspace_is_chosen_from_a_list_and_checked_as_who_listed_it(azure: StandIn) -> None:
    app = open_app("connect", at="local", where="Azure")
    azure.login.user = "grace@contoso.com"
    buttons(app)["Sign in with the browser"].click()
    app.run()
    run_until(app, lambda app: "Your workspaces (3)" in [each.label for each in app.selectbox])
    assert "grace@contoso.com by the browser" in texts(app)
    assert found(app).options == [
        "ai-project · Project of a hub · rg-ml · eastus · ML development",
        "ml-dev · rg-ml · eastus · ML development",
        "ml-prod · rg-ml · eastus · Production",
    ]
    assert "3 resources cannot run this pipeline, and why" in lines(app)
    found(app).select(found(app).options[1]).run()
    run_until(app, lambda app: "Use this workspace" in buttons(app))
    assert "grace@contoso.com by the browser" in lines(app) + texts(app)
    saved = find_settings("ml-dev")
    assert saved is not None
    assert (saved.subscription_id, saved.tenant_id) == (SUBSCRIPTION, TENANT)


def test_a_workspace_used_before_takes_the_place_of_the_one_that_was_checked(azure: StandIn) -> None:
    save_settings(replace(azure.settings(), alias="other", workspace_name="ml-prod"))
    app = checked(azure)
    for _ in range(2):
        assert "Access to ml-dev" in texts(app)
        follow(app, "ml-prod in rg-ml")
        assert app.text_input(key="azure-workspace").value == "ml-prod"
        assert "Use this workspace" not in buttons(app), "it would use the one that was checked before"
        app.text_input(key="azure-workspace").set_value("ml-dev")
        buttons(app)["Check access"].click()
        run_until(app.run(), lambda app: "Use this workspace" in buttons(app))


def test_a_link_to_a_workspace_opens_it_also_from_the_local_one(azure: StandIn) -> None:
    save_settings(azure.settings())
    app = open_app("connect", at="local")
    for _ in range(2):
        assert "This machine" in texts(app)
        follow(app, "ml-dev in rg-ml")
        assert app.text_input(key="azure-workspace").value == "ml-dev"
        app.segmented_control[0].set_value("Local workspace").run()


def test_an_account_of_another_cloud_is_not_taken_for_the_workspace_that_was_checked(azure: StandIn) -> None:
    app = checked(azure)
    app.selectbox(key="azure-cloud").select("AzureUSGovernment").run()
    buttons(app)["Find my workspaces"].click()
    app.run()
    run_until(app, lambda app: "Your workspaces (3)" in [each.label for each in app.selectbox])
    assert all("usgovvirginia" in each for each in found(app).options)
    assert "Use this workspace" in buttons(app)
    assert "of another cloud" not in texts(app)


def test_a_cloud_of_ones_own_is_read_before_anybody_signs_in_there(azure: StandIn) -> None:
    app = open_app("connect", at="local", where="Azure")
    app.selectbox(key="azure-cloud").select("another").run()
    assert buttons(app)["Sign in with the browser"].disabled
    app.text_input(key="azure-metadata").set_value(f"https://{SITES[-1].management}").run()
    buttons(app)["Read its addresses"].click()
    app.run()
    run_until(app, lambda app: "Signs in at login.contoso.example, works at management.contoso.example." in texts(app))
    before = len(azure.rules)
    buttons(app)["Find my workspaces"].click()
    app.run()
    run_until(app, lambda app: "Your workspaces (3)" in [each.label for each in app.selectbox])
    found(app).select(found(app).options[1]).run()
    run_until(app, lambda app: "Use this workspace" in buttons(app))
    asked = {urlsplit(each.url).netloc.partition(".")[2] for each in azure.rules.asked(since=before)}
    assert {host.removeprefix("api.ml.azure.").removeprefix("blob.core.") for host in asked} == {"contoso.example"}


def test_a_code_is_shown_with_its_link_and_signs_in_while_az_works_too(azure: StandIn) -> None:
    app = checked(azure)
    assert "by Azure CLI" in texts(app) + lines(app)
    azure.login.user = "grace@contoso.com"
    buttons(app)["Sign in with a code"].click()
    app.run()
    run_until(app, lambda app: CODE in [each.value for each in app.code])
    links = [each.proto.url for each in app.get("link_button")]
    assert links == ["https://microsoft.com/devicelogin"]
    azure.login.code_was_entered = True
    run_until(app, lambda app: "grace@contoso.com by a device code" in texts(app) + lines(app))
    assert CODE not in [each.value for each in app.code]


def test_a_code_that_a_policy_refused_is_no_longer_offered_and_says_why(azure: StandIn) -> None:
    app = checked(azure)
    azure.login.refusal = BLOCKED
    buttons(app)["Sign in with a code"].click()
    app.run()
    run_until(app, lambda app: "Your company's policy refuses device codes" in texts(app))
    assert buttons(app)["Sign in with a code"].disabled
    assert not buttons(app)["Sign in with the browser"].disabled
    azure.login.refusal = ""
    buttons(app)["Check access"].click()
    app.run()
    run_until(app, lambda app: "Use this workspace" in buttons(app))
    assert buttons(app)["Sign in with a code"].disabled, "the policy is the same for the next check"


def test_a_companys_tags_and_prices_and_more_registries_are_kept_with_the_workspace(azure: StandIn) -> None:
    app = checked(azure)
    field(app, "Tags").set_value("4711")
    buttons(app)["Keep these"].click()
    run_until(app.run(), lambda app: "'4711' is not a tag." in texts(app))
    field(app, "Tags").set_value("costCentre=4711, owner=ada")
    field(app, "More registries").set_value("shared/models")
    buttons(app)["Keep these"].click()
    run_until(app.run(), lambda app: "'shared/models' cannot be the name of a registry." in texts(app))
    field(app, "More registries").set_value("shared-models, fabrikam")
    field(app, "Share of list prices").set_value(2.5)
    buttons(app)["Keep these"].click()
    run_until(app.run(), lambda app: "2.5 cannot be a share of list prices." in texts(app))
    field(app, "Share of list prices").set_value(0.83)
    buttons(app)["Keep these"].click()
    app.run()
    (known,) = [each for each in list_settings() if each.kind == "azure"]
    assert parse_policy_tags(known.policy_tags) == {"costCentre": "4711", "owner": "ada"}
    assert known.registries == ("shared-models", "fabrikam")
    assert (known.price_factor, azure.settings().price_factor) == (0.83, 0.83)
    assert {"azureml", "fabrikam"} < set(list_named(Connection(azure.settings(), azure.home)))


def field(app: AppTest, label: str) -> Any:
    return next(each for each in (*app.text_input, *app.number_input) if each.label == label)


def test_what_another_tab_kept_with_the_workspace_meanwhile_stays(azure: StandIn) -> None:
    first, second = checked(azure), checked(azure)
    field(first, "Tags").set_value("owner=ada")
    buttons(first)["Keep these"].click().run()
    field(second, "Share of list prices").set_value(0.9)
    buttons(second)["Keep these"].click().run()
    (known,) = [each for each in list_settings() if each.kind == "azure"]
    assert (known.policy_tags, known.price_factor) == ("owner=ada", 0.9)
    assert field(second, "Tags").value == "owner=ada"
