"""What Launch would start of a set-up, as its page reads and checks it."""

from __future__ import annotations

from core.azureml.connection import Connection
from core.launch.drafts import Draft
from core.launch.plan import LaunchPlan
from core.launch.preflight import make_plan, read_facts


def plan_launch(conn: Connection, draft: Draft) -> LaunchPlan:
    return make_plan(read_facts(conn, draft.model, draft.model_version, draft.compute, draft.dataset), draft)
