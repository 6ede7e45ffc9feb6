"""A set-up that ran on this machine and goes on to another workspace: what differs there."""

from __future__ import annotations

from core.azureml.settings import LOCAL
from core.launch import drafts
from core.launch.drafts import Draft
from core.launch.plan import LaunchPlan


def find_rehearsal(draft: Draft) -> Draft | None:
    """Return the set-up with the same data that was started on this machine last; None for a draft of this machine."""
    if draft.connection == LOCAL or not draft.dataset:
        return None
    return drafts.find_launched(LOCAL, draft.dataset)


def compare(rehearsed: Draft, plan: LaunchPlan) -> list[tuple[str, str, str]]:
    """Return what differs as (what, on this machine, there): size, model, price."""
    model = f"{rehearsed.model} v{rehearsed.model_version}" if rehearsed.model_version else rehearsed.model
    cost = plan.estimate.cost_words if plan.estimate else "price unknown"
    return [
        ("Size", rehearsed.compute, f"{plan.compute.name}, {plan.compute.size}"),
        ("Model", model, f"{plan.model.name} v{plan.model.version}"),
        ("Price", "$0.00", f"{cost}, {plan.compute.price.words}"),
    ]
