"""What is said of a stage that goes on: why it waits for a node, and when it takes longer than it usually does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.catalog.compute import Compute
from core.runs.stage_notes import explain_length, explain_wait, find_usual
from core.runs.states import FINE_TUNE, QUEUED, JobState, Stage
from core.runs.throughput import Pace

IMPORT = "chat_completion_model_import"


def cluster(**fields: Any) -> Compute:
    known = {"nodes": 0, "allocation": "Steady", "state": "Succeeded", "max_nodes": 2} | fields
    return Compute(
        "gpu",
        "cluster",
        "Standard_NC24ads_A100_v4",
        cores=24,
        gpus=1,
        min_nodes=0,
        idle_s=120,
        tags={},
        created_at=None,
        **known,
    )


def lasting(minutes: float, name: str = IMPORT) -> Stage:
    return Stage(name, "Import", JobState.RUNNING, started=datetime.now(UTC) - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"allocation": "Resizing"}, "gpu is starting a node: 0 of at most 2 there."),
        ({"node_states": {"preparing": 1}}, "gpu is starting a node: 0 of at most 2 there."),
        ({"nodes": 2, "node_states": {"running": 2}}, "All of gpu is taken: 2 nodes of at most 2."),
        ({"nodes": 1, "node_states": {"idle": 1}}, "gpu has 1 node; the step is being put on one."),
        ({}, "gpu has not begun to start a node."),
        ({"low_priority": True}, "gpu has not begun to start a node. Low-priority nodes come when there is room."),
        (
            {"low_priority": True, "node_states": {"preempted": 1}},
            "Azure took a low-priority node back. It comes again when there is room; a dedicated one stays.",
        ),
        ({"node_states": {"unusable": 1}}, "1 node of gpu cannot be used. Azure replaces it; else delete gpu."),
        ({"state": "Deleting"}, "The compute 'gpu' is deleting."),
        (
            {"errors": ("The family vCPU quota of 0 cannot accommodate 1 node.",)},
            "gpu gets no node, for the quota is used up: The family vCPU quota of 0 cannot accommodate 1 node. "
            "Ask for quota, or cancel the run.",
        ),
        (
            {"errors": ("AllocationFailed: no nodes",)},
            "gpu gets no node, for Azure has none of Standard_NC24ads_A100_v4 free now: AllocationFailed: no nodes. "
            "Wait, or cancel the run and pick another size.",
        ),
        ({"errors": ("The subnet is full",)}, "gpu gets no node: The subnet is full."),
    ],
)
def test_a_cluster_says_why_nothing_runs_on_it_yet(says: dict[str, Any], why: str) -> None:
    assert explain_wait(cluster(**says), "gpu") == why


def test_a_run_whose_cluster_is_gone_waits_in_vain() -> None:
    assert explain_wait(None, "gpu") == "The compute 'gpu' is gone: cancel the run, and start it on another."


def test_a_stage_is_long_against_this_homes_runs_else_against_what_is_stated() -> None:
    paces = [Pace(100.0, stages={IMPORT: seconds}) for seconds in (120.0, 240.0)]
    usual = find_usual(IMPORT, paces, None, on_azure=True)
    assert explain_length(lasting(5), usual) == ""
    long = "Longer than usual: 2 min to 4 min in each of the last 2 runs of this model here."
    assert explain_length(lasting(7), usual) == long
    stated = find_usual(IMPORT, [], None, on_azure=True)
    assert explain_length(lasting(20), stated) == ""
    assert explain_length(lasting(31), stated).endswith(" is assumed: this home has no such run yet.")
    assert find_usual(IMPORT, [], None, on_azure=False) is None
    assert find_usual(QUEUED, [Pace(100.0)], None, on_azure=False) is None


def test_training_is_long_against_the_estimate_and_not_against_other_data() -> None:
    paces = [Pace(100.0, stages={FINE_TUNE: 60.0})]
    assert find_usual(FINE_TUNE, paces, None, on_azure=True) is None
    usual = find_usual(FINE_TUNE, paces, (600.0, 1200.0), on_azure=True)
    assert explain_length(lasting(25, FINE_TUNE), usual) == ""
    assert (
        explain_length(lasting(31, FINE_TUNE), usual)
        == "Longer than usual: 10 min to 20 min was said of the whole run."
    )
