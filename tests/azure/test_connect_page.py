"""Connect's page at the stand-in: a sign-in by code beside an identity that works, and one that a policy refuses."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from core.azureml.connection import Connection
from core.azureml.settings import list_settings
from core.azureml.tags import parse_policy_tags
from core.catalog.registries import list_named
from tests.azure.login import CODE
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


def lines(app: AppTest) -> str:
    return " ".join(expander.label for expander in app.expander).replace("\\", "")


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


def test_the_tags_of_a_companys_policy_and_more_registries_are_kept_with_the_workspace(azure: StandIn) -> None:
    app = checked(azure)
    app.text_input(key="policy-tags").set_value("4711")
    buttons(app)["Keep these"].click()
    run_until(app.run(), lambda app: "'4711' is not a tag." in texts(app))
    app.text_input(key="policy-tags").set_value("costCentre=4711, owner=ada")
    app.text_input(key="more-registries").set_value("shared/models")
    buttons(app)["Keep these"].click()
    run_until(app.run(), lambda app: "'shared/models' cannot be the name of a registry." in texts(app))
    app.text_input(key="more-registries").set_value("shared-models, fabrikam")
    buttons(app)["Keep these"].click()
    app.run()
    (known,) = [each for each in list_settings() if each.kind == "azure"]
    assert parse_policy_tags(known.policy_tags) == {"costCentre": "4711", "owner": "ada"}
    assert known.registries == ("shared-models", "fabrikam")
    assert {"azureml", "fabrikam"} < set(list_named(Connection(azure.settings(), azure.home)))
