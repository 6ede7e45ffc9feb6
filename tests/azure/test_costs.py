"""What is written down of what bills, on a workspace with prices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from core.azureml.connection import Connection
from core.catalog.compute import list_computes
from tests.azure.stand_in import StandIn


@pytest.mark.parametrize("ahead", [timedelta(days=2), timedelta(days=-2)])
def test_the_time_is_the_workspaces_whatever_this_machine_says(
    azure: StandIn, conn: Connection, ahead: timedelta
) -> None:
    theirs = datetime.now(UTC) + ahead
    headers = {"Date": format_datetime(theirs, usegmt=True), "Content-Type": "application/json"}
    azure.rules.add(r"/computes\?", 200, body='{"value": []}', headers=headers)

    list_computes(conn)

    assert timedelta(seconds=-1) <= conn.now - theirs < timedelta(minutes=1)
