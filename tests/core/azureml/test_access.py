from __future__ import annotations

from typing import Any

import pytest

from core.azureml.access import AccessLine, can_be_used, role_line
from core.azureml.roles import ACTIONS, is_allowed, list_lacking, role_for

ML = "Microsoft.MachineLearningServices/workspaces/"
COMPUTE_OPERATOR = "AzureML Compute Operator, or Contributor"
JOBS = f"{ML}jobs/write"
# AzureML Data Scientist, as far as it matters: "computes/*/write" means "computes/write" too.
SCIENTIST = {
    "actions": [f"{ML}*/{verb}" for verb in ("read", "action", "delete", "write")],
    "notActions": [f"{ML}delete", f"{ML}write", f"{ML}computes/*/write", f"{ML}computes/*/delete"],
}


@pytest.mark.parametrize(
    ("action", "roles", "allowed"),
    [
        (JOBS, [], False),
        (JOBS, [{"actions": ["*"], "notActions": []}], True),
        (JOBS, [{"actions": ["*/read"], "notActions": []}], False),
        (JOBS.lower(), [SCIENTIST], True),
        (f"{ML}computes/write", [SCIENTIST], False),
        (f"{ML}computes/write", [SCIENTIST, {"actions": ["*"]}], True),
    ],
)
def test_a_role_allows_what_its_actions_hold_and_its_exceptions_do_not(
    action: str, roles: list[dict[str, Any]], allowed: bool
) -> None:
    assert is_allowed(action, roles) is allowed


def test_the_role_that_is_advised_allows_what_was_refused() -> None:
    """AzureML Data Scientist may not make or delete a compute, so it is no help to whoever lacks just that."""
    lacking = {doing: found for doing in ACTIONS if (found := list_lacking(doing, [SCIENTIST]))}
    assert list(lacking) == ["Create compute", "Delete compute", "Sweep what is due"]
    assert {role_for(action) for found in lacking.values() for action in found} == {COMPUTE_OPERATOR}


def test_a_workspace_can_be_used_also_where_a_role_does_not_allow_everything() -> None:
    lines = [AccessLine("Sign-in", "ok"), AccessLine("Workspace", "ok")]
    assert can_be_used([*lines, role_line("Create compute", [f"{ML}computes/write"], "ada")])
    assert not can_be_used([lines[0], AccessLine("Workspace", "failed"), AccessLine("Registry", "skipped")])
    assert not can_be_used([AccessLine("Local workspace", "failed")])
