"""What an account sees of Azure before a workspace is chosen."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from core.azureml import access, places
from core.azureml.addresses import AZURE
from core.azureml.identities import AzureCredential
from core.azureml.places import IN_FLIGHT, Listing
from core.errors import AccessDenied, SignInFailed
from tests.azure.behind import PROVIDER, SUBSCRIPTION, WORKSPACE_PATH
from tests.azure.directory import ACCOUNTS, PRODUCTION
from tests.azure.login import OTHER_TENANT, TENANT
from tests.azure.stand_in import StandIn


def list_all(credential: AzureCredential | None = None) -> Listing:
    listing, credential = Listing(), credential or AzureCredential(AZURE, None)
    places.sign_in(AZURE, credential, listing)
    places.list_resources(AZURE, credential, listing)
    return listing


def test_what_is_in_each_subscription_is_listed_with_what_it_is(azure: StandIn) -> None:
    listing = list_all()
    assert (listing.account, listing.tenant, listing.source) == ("ada@contoso.com", TENANT, "Azure CLI")
    assert {(each.name, each.kind.words, each.subscription.name) for each in listing.resources} == {
        ("ml-dev", "Workspace", "ML development"),
        ("ai-hub", "Hub", "ML development"),
        ("ai-project", "Project of a hub", "ML development"),
        ("features", "Feature store", "ML development"),
        ("foundry", "Foundry resource", "ML development"),
        ("ml-prod", "Workspace", "Production"),
    }
    usable = {each.name for each in listing.resources if not each.kind.advice}
    assert usable == {"ml-dev", "ai-project", "ml-prod"}
    assert {(each.resource_group, each.region) for each in listing.resources} == {("rg-ml", "eastus")}
    assert (listing.lists_read, listing.lists, listing.problems) == (4, 4, [])
    assert listing.other_tenants == [f"Fabrikam ({OTHER_TENANT})"]


def test_what_could_not_be_listed_is_said_and_hides_nothing_else(azure: StandIn) -> None:
    azure.rules.add(rf"{PRODUCTION}/{PROVIDER}", 403, body='{"error": {"code": "AuthorizationFailed"}}')
    azure.rules.add(rf"{SUBSCRIPTION}/{ACCOUNTS}", 200, body='{"value": [{"kind": "AIServices"}]}')
    listing = list_all()
    assert {each.name for each in listing.resources} == {"ml-dev", "ai-hub", "ai-project", "features"}
    assert sorted(problem.message for problem in listing.problems) == [
        "What Azure said of the Foundry resources in 'ML development' could not be read.",
        "You may not read the workspaces in 'Production'.",
    ]


def test_many_subscriptions_are_listed_with_at_most_eight_requests_in_flight(azure: StandIn) -> None:
    keys = [f"5c1e7d90-3f42-4a6b-8e15-{number:012}" for number in range(40)]
    azure.azure.directory.names = {key: f"Team {key[-2:]}" for key in keys}
    azure.azure.directory.resources = {key: [(PROVIDER, "Default", f"ml-{key[-2:]}")] for key in keys}
    azure.rules.add("/providers/Microsoft.Mach.*ces\\?", 429, headers={"Retry-After": "0"}, times=2)
    azure.rules.add("/providers/", delay_s=0.1, times=80)
    azure.rules.peak, starts = 0, azure.az_starts()
    listing = list_all()
    assert len({each.name for each in listing.resources}) == 40
    assert not listing.problems, "a refusal that says when to come back costs nothing but time"
    assert 1 < azure.rules.peak <= IN_FLIGHT
    assert azure.az_starts() == starts + 1


def test_subscriptions_that_may_not_be_listed_are_an_error(azure: StandIn) -> None:
    azure.rules.add("management.azure.com/subscriptions", 403, body='{"error": {"code": "AuthorizationFailed"}}')
    with pytest.raises(AccessDenied, match="You may not read your subscriptions"):
        list_all()


@pytest.mark.parametrize(("kind", "words"), [("Hub", "a hub"), ("FeatureStore", "a feature store")])
def test_what_trains_nothing_is_refused_by_the_check_of_access(azure: StandIn, kind: str, words: str) -> None:
    body = {"id": WORKSPACE_PATH, "name": "ml-dev", "location": "eastus", "kind": kind, "properties": {}}
    azure.rules.add(rf"GET .*{WORKSPACE_PATH}\?", 200, body=json.dumps(body), times=9)
    lines = {line.title: line for line in access.check_access(azure.settings())}
    assert lines["Workspace"].detail == f"'ml-dev' is {words}."
    assert not access.can_be_used(lines.values())


def test_a_browser_signs_in_by_its_redirect(azure: StandIn) -> None:
    azure.login.user = "grace@contoso.com"
    listing, before = list_all(azure.by_click("browser")), len(azure.rules)
    assert (listing.account, listing.tenant, listing.source) == ("grace@contoso.com", TENANT, "the browser")
    assert len(listing.resources) == 6
    assert len(azure.rules) == before


@pytest.mark.parametrize(
    ("done", "timeout_s", "read"),
    [
        ("closed", 1, "The sign-in was not finished in the browser."),
        ("declined", 60, "Your company has not agreed that this application acts for you."),
    ],
)
def test_a_sign_in_that_is_not_finished_in_the_browser_is_named(
    azure: StandIn, done: Literal["closed", "declined"], timeout_s: int, read: str
) -> None:
    """About 1 s: so long the browser is waited for."""
    azure.login.in_browser = done
    with pytest.raises(SignInFailed) as caught:
        list_all(azure.by_click("browser", timeout_s=timeout_s))
    assert caught.value.message == read
