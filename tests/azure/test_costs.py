"""What is written down of what bills, on a workspace with prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import save_settings
from core.catalog.compute import list_computes, size_price
from tests.azure.prices import PER_HOUR
from tests.azure.stand_in import SIZE, StandIn


@pytest.mark.parametrize("ahead", [timedelta(days=2), timedelta(days=-2)])
def test_the_time_is_the_workspaces_whatever_this_machine_says(
    azure: StandIn, conn: Connection, ahead: timedelta
) -> None:
    theirs = datetime.now(UTC) + ahead
    headers = {"Date": format_datetime(theirs, usegmt=True), "Content-Type": "application/json"}
    azure.rules.add(r"/computes\?", 200, body='{"value": []}', headers=headers)

    list_computes(conn)

    assert timedelta(seconds=-1) <= conn.now - theirs < timedelta(minutes=1)


def test_a_companys_share_of_the_list_is_in_every_price_from_the_moment_it_is_kept(azure: StandIn) -> None:
    settings = azure.settings()
    listed = size_price(connect(settings, home=azure.home), SIZE)

    save_settings(replace(settings, price_factor=0.83))
    discounted = size_price(connect(azure.settings(), home=azure.home), SIZE)

    assert listed.per_hour == PER_HOUR[SIZE]
    assert discounted.per_hour == pytest.approx(PER_HOUR[SIZE] * 0.83)
    assert discounted.words == "$3.05/h (list × 0.83)"
