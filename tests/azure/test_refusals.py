"""What an operator on Azure is told when something is refused, and what goes on all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from core.azureml.access import AccessLine, prove_access
from core.azureml.connection import Connection
from core.azureml.roles import ACTIONS
from core.launch.plan import Check, CheckState
from core.operations import get_operation, start_cancel, start_create_compute, start_launch
from core.runs import jobs
from core.teardown.inventory import list_inventory
from core.teardown.plan import plan_teardown
from tests.azure.stand_in import StandIn
from tests.azure.walking import COMPUTE, Walk, walking
from tests.waiting import wait_until

READER = {"value": [{"actions": ["*/read"], "notActions": []}]}


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    """An operator at the stand-in with short programs, who has a compute."""
    with walking(azure) as operator:
        operator.ensure_compute()
        yield operator


def test_a_run_that_fails_is_explained_in_azures_terms(walk: Walk) -> None:
    ended = walk.finish(start_launch(walk.plan(seed=13)))
    run = jobs.get_run(walk.conn, ended.subject)
    assert run.state == "Failed"
    assert run.error is not None
    assert run.error.cause.startswith("The run stopped at step 4: the loss is no longer a number.")
    assert run.error.evidence == "RuntimeError: loss is nan"


@pytest.mark.slow
def test_a_run_goes_on_while_tokens_are_refused_and_requests_held_back(walk: Walk) -> None:
    """Takes ten seconds: whoever carries it out pauses before each new try."""
    expired = json.dumps({"error": {"code": "ExpiredAuthenticationToken", "message": "The access token has expired."}})
    started = start_launch(walk.plan())
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    walk.azure.rules.add(f"/{started.subject}", 401, body=expired)
    walk.azure.rules.add(f"/{started.subject}", 429, headers={"Retry-After": "1"})
    walk.finish(started)
    assert len([each for each in walk.azure.rules.asked(started.subject) if each.ruled]) == 2
    assert jobs.get_run(walk.conn, started.subject).state == "Completed"


def test_a_run_that_was_cancelled_is_cancelled_there(walk: Walk) -> None:
    started = start_launch(walk.plan(max_steps=100_000))
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    walk.finish(start_cancel(walk.conn.alias, started.subject))
    assert jobs.get_run(walk.conn, started.subject).state == "Canceled"
    wait_until(lambda: get_operation(started.id).finished)


def test_quota_that_is_used_up_is_refused_before_the_run_is_sent(walk: Walk) -> None:
    usage = {"value": [{"name": {"value": "standardNCADSA100v4Family"}, "currentValue": 40, "limit": 48}]}
    walk.azure.rules.add("/usages", 200, body=json.dumps(usage))
    plan = walk.plan()
    (quota,) = [check for check in plan.checks if check.title == "Quota"]
    assert (quota.state, quota.detail) == (
        CheckState.FAILED,
        "standardNCADSA100v4Family: needs 24 cores, 8 free.",
    )


def test_a_cluster_that_the_service_refuses_says_what_quota_it_lacks(walk: Walk) -> None:
    ended = walk.finish(start_create_compute(walk.conn.alias, "greedy", "Standard_NC96ads_A100_v4", 1, 1), "failed")
    assert ended.error is not None
    assert ended.error.message == "Quota for standardNCADSA100v4: needs 96 cores, 48 free."


def test_a_role_that_may_only_read_is_told_line_by_line(walk: Walk) -> None:
    walk.azure.rules.add("Microsoft.Authorization/permissions", 200, body=json.dumps(READER))
    lines = {line.title: line for line in prove_access(walk.conn)}
    failed = [title for title, line in lines.items() if line.state == "failed"]
    assert failed == [doing for doing in ACTIONS if doing != "Read"]
    assert lines["Read"].detail == "Allowed to ada@contoso.com."
    assert lines["Deploy"].detail == "Not allowed to ada@contoso.com."
    scientist, operator = "AzureML Data Scientist", "AzureML Compute Operator, or Contributor"
    wanted = dict.fromkeys(failed, scientist) | dict.fromkeys(("Create compute", "Delete compute"), operator)
    wanted["Sweep what is due"] = f"{scientist}; and {operator}"
    assert {title: lines[title].hint for title in failed} == {
        title: f"Ask its owner for the role {role}." for title, role in wanted.items()
    }
    walk.azure.rules.add("Microsoft.Authorization/permissions", 200, body=json.dumps(READER))
    plan = replace(walk, conn=Connection(walk.conn.settings, walk.azure.home)).plan()
    refused, hint = "Starting runs is not allowed to ada@contoso.com.", lines["Start runs"].hint
    assert Check("Role", CheckState.FAILED, refused, hint) in plan.checks


def test_a_provider_that_is_not_registered_and_a_private_network_are_told(walk: Walk) -> None:
    allowed = {"publicNetworkAccess": "Enabled", "ipAllowlist": ["10.1.0.0/16"]}
    private = {"publicNetworkAccess": "Disabled", "managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"}}
    walk.azure.rules.add("/providers/Microsoft.KeyVault", 200, body=json.dumps({"registrationState": "NotRegistered"}))
    lines = prove_network(walk, allowed)
    assert lines["Network"].detail == "Public network access is on for 10.1.0.0/16 alone."
    assert lines["Resource providers"].detail == "Not registered: Microsoft.KeyVault."
    assert "az provider register --namespace Microsoft.KeyVault --subscription 5c1e" in lines["Resource providers"].hint
    walk.azure.rules.add("/providers/Microsoft.Storage", 403)
    lines = prove_network(walk, private)
    assert lines["Network"].detail.startswith("Private: public network access is off. Its computes reach only what")
    assert lines["Resource providers"].state == "skipped"


def prove_network(walk: Walk, properties: dict[str, Any]) -> dict[str, AccessLine]:
    """Prove access to a workspace of such a network."""
    own = "GET .*/workspaces/ml-dev.api-version=2024-10-01-preview$"
    walk.azure.rules.add(own, delay_s=0.001)  # the workspace itself is read first
    walk.azure.rules.add(own, 200, body=json.dumps({"properties": properties}))
    return {line.title: line for line in prove_access(walk.conn)}


def test_what_a_price_list_does_not_say_is_called_unknown(walk: Walk) -> None:
    (walk.azure.home.path / "prices.json").unlink()
    walk.azure.rules.add("prices.azure.com", 503, times=100)
    inventory = list_inventory(walk.conn)
    plan = plan_teardown(walk.conn, inventory, [f"compute:{COMPUTE}"])
    assert plan.confirm == COMPUTE, "deleting asks for the name wherever it may bill"
    estimate = walk.plan().estimate
    assert estimate is not None
    assert estimate.cost_words == "price unknown"
