from __future__ import annotations

from typing import Any

import pytest

from core.azureml.access import _ACTIONS, AccessLine, _role_line, can_be_used, is_allowed

JOBS = "Microsoft.MachineLearningServices/workspaces/jobs/write"
SCIENTIST = {
    "actions": [
        "Microsoft.MachineLearningServices/workspaces/*/read",
        "Microsoft.MachineLearningServices/workspaces/*/write",
    ],
    "notActions": ["Microsoft.MachineLearningServices/workspaces/computes/write"],
}


@pytest.mark.parametrize(
    ("action", "roles", "allowed"),
    [
        (JOBS, [], False),
        (JOBS, [{"actions": ["*"], "notActions": []}], True),
        (JOBS, [{"actions": ["*/read"], "notActions": []}], False),
        (JOBS.lower(), [SCIENTIST], True),
        ("Microsoft.MachineLearningServices/workspaces/computes/write", [SCIENTIST], False),
        ("Microsoft.MachineLearningServices/workspaces/computes/write", [SCIENTIST, {"actions": ["*"]}], True),
    ],
)
def test_a_role_allows_what_its_actions_hold_and_its_exceptions_do_not(
    action: str, roles: list[dict[str, Any]], allowed: bool
) -> None:
    assert is_allowed(action, roles) is allowed


def test_the_role_that_is_advised_allows_what_was_refused() -> None:
    """AzureML Data Scientist may not make a compute, so it is no help to whoever lacks just that."""
    for title, action in _ACTIONS.items():
        line = _role_line(title, allowed=False)
        assert ("AzureML Data Scientist" in line.hint) is is_allowed(action, [SCIENTIST]), title


def test_a_workspace_can_be_used_also_where_a_role_does_not_allow_everything() -> None:
    lines = [AccessLine("Sign-in", "ok"), AccessLine("Workspace", "ok")]
    assert can_be_used([*lines, _role_line("Create compute", allowed=False)])
    assert not can_be_used([lines[0], AccessLine("Workspace", "failed"), AccessLine("Registry", "skipped")])
    assert not can_be_used([AccessLine("Local workspace", "failed")])
