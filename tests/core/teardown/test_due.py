"""Whose delete-at it is, before its mark has a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.azureml import tags
from core.azureml.connection import connect
from core.azureml.settings import local_settings
from core.home import Home
from core.teardown.due import Timed, Verdict, first_tags


@pytest.mark.parametrize(("name", "verdict"), [("own", Verdict.DUE), ("copy", Verdict.COPIED)])
def test_a_delete_at_that_is_not_bound_yet_is_good_for_its_own_name_alone(
    home: Home, name: str, verdict: Verdict
) -> None:
    conn, now = connect(local_settings(), home=home), datetime.now(UTC)
    told = {tags.MADE_BY: tags.made_by(), **first_tags(conn, "compute", "own", now - timedelta(hours=1))}
    there = Timed("compute", name, f"{conn.workspace_path}/computes/{name}", now, "", "Succeeded", now, told)
    assert there.verdict is verdict
