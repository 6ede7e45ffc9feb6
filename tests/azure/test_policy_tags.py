"""A company's policy that refuses whatever is made without its tags: named with the next step, then satisfied."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from core.azureml.connection import connect
from core.azureml.settings import change_settings, save_settings
from core.catalog.compute import get_compute
from core.operations import start_create_compute, start_deploy, start_launch
from core.runs.evaluation import evaluation_name
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import COMPUTE, Walk, walking

KINDS = ("computes", "data", "jobs", "models", "onlineEndpoints", "deployments")
REFUSAL = {
    "code": "RequestDisallowedByPolicy",
    "message": "Resource 'gpu' was disallowed by policy. Policy identifiers: "
    '\'[{"policyAssignment":{"name":"Cost centres","id":"/subscriptions/x"}}]\'.',
    "additionalInfo": [
        {
            "type": "PolicyViolation",
            "info": {"evaluationDetails": {"evaluatedExpressions": [{"expression": "tags['costCentre']"}]}},
        }
    ],
}


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    """An operator whose company wants a cost centre on whatever is made in the workspace."""
    refused = json.dumps({"error": REFUSAL})
    with walking(azure) as operator:
        for kind in KINDS:
            own = rf"PUT .*/{kind}/[^/?]+(/versions/[^/?]+)?\?"
            azure.rules.add(own, 403, body=refused, times=100, unless='"costCentre": ?"4711"')
        yield operator


def test_what_a_policy_refuses_without_its_tags_passes_with_them(walk: Walk) -> None:
    refused = walk.finish(start_create_compute(walk.conn.alias, COMPUTE, SIZE), "failed")
    assert refused.error is not None
    assert refused.error.message == (
        "A policy of your company wants tags on what is made here: costCentre. "
        f"It refused to create compute '{COMPUTE}': Cost centres."
    )
    assert "in the field Tags of this workspace's connection" in refused.error.hint
    keep_tags(walk)
    walk.ensure_compute()
    assert get_compute(walk.conn, COMPUTE).tags["owner"] == "ada"


@pytest.mark.slow
def test_whatever_is_made_has_the_policys_tags(walk: Walk) -> None:
    """Takes ten seconds: one of each kind is made."""
    keep_tags(walk)
    walk.ensure_compute()
    assert ", tags={'costCentre': '4711', 'owner': 'ada'})" in walk.plan().script
    run = walk.finish(start_launch(walk.plan())).subject
    walk.finish(start_deploy(walk.conn.alias, run, "kettle", "kettle-tags", SIZE, None))
    for kind in KINDS:
        sent = walk.azure.rules.asked(f"PUT .*/{kind}/")
        assert sent, kind
        assert {each.status for each in sent if not each.ruled} <= {200, 201}, kind
    jobs = walk.conn.workspace.jobs
    assert {jobs.get(name).tags["costCentre"] for name in (run, evaluation_name(run))} == {"4711"}


def keep_tags(walk: Walk) -> None:
    """Write the tags as the form does, and connect as the next page will: that is when they are read."""
    change_settings(walk.conn.alias, policy_tags="costCentre=4711, owner=ada")
    connect(walk.azure.settings())


def test_tags_stay_with_a_workspace_that_is_checked_anew(azure: StandIn) -> None:
    save_settings(azure.settings())
    change_settings(azure.settings().alias, policy_tags="owner=ada")
    assert azure.settings().policy_tags == "owner=ada"
