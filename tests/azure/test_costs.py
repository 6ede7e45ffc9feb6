"""What is written down of what bills, on a workspace with prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import change_settings, save_settings
from core.catalog.compute import list_computes, size_price
from core.catalog.prices import Price
from core.teardown.inventory import Item, list_billing, sighting_of
from core.teardown.rate_looks import look_at_rates
from core.teardown.rates import RateHistory, Sighting
from tests.azure.prices import PER_HOUR
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import put_cluster, walking
from tests.idle_past import make_old, measure
from tests.pages.apps import open_app, run_until, texts
from tests.waiting import wait_until


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

    save_settings(settings)
    change_settings(settings.alias, price_factor=0.83)
    discounted = size_price(connect(azure.settings(), home=azure.home), SIZE)

    assert listed.per_hour == PER_HOUR[SIZE]
    assert discounted.per_hour == pytest.approx(PER_HOUR[SIZE] * 0.83)
    assert discounted.words == "$3.05/h (list × 0.83)"


@pytest.fixture
def keeper(azure: StandIn, conn: Connection) -> Item:
    """A cluster that keeps a node since 30 hours ago."""
    put_cluster(conn, "keeper", 1)
    with azure.hurried():
        wait_until(lambda: (found := list_billing(conn).find("compute:keeper")) and found.nodes)
    make_old(azure.workspace.home)
    found = list_billing(conn).find("compute:keeper")
    assert found
    return found


def _record(conn: Connection, keeper: Item, hours_ago: float, nodes: int) -> None:
    """Look at the cluster some hours ago."""
    seen = replace(sighting_of(keeper), nodes=nodes, since=None)
    RateHistory.of(conn).record([seen], [], conn.now - timedelta(hours=hours_ago))


def test_a_look_counts_what_the_service_measured_while_nobody_looked(
    azure: StandIn, conn: Connection, keeper: Item
) -> None:
    _record(conn, keeper, 6, 0)
    measure(azure.workspace.home, "computes/keeper", hours=4, IdleNodes=1, ActiveNodes=0)

    look_at_rates(conn)

    (item,) = [item for item in list_billing(conn).items if item.key == keeper.key]
    assert item.cost.amounts["USD"] == pytest.approx(4 * PER_HOUR[SIZE], rel=0.05)
    assert item.cost.unknown == 1, "of the two hours before nothing is known"


def test_metrics_that_are_refused_leave_unknown_what_nobody_saw(azure: StandIn, conn: Connection, keeper: Item) -> None:
    _record(conn, keeper, 6, 0)
    azure.rules.add(r"Microsoft\.Insights/metrics", 403, body="{}", times=9)

    look_at_rates(conn)

    (item,) = [item for item in list_billing(conn).items if item.key == keeper.key]
    assert item.cost.unknown == 1
    assert sum(item.cost.amounts.values()) < PER_HOUR[SIZE]


@pytest.mark.slow
def test_the_runner_looks_without_a_page(azure: StandIn, conn: Connection, keeper: Item) -> None:
    """Takes five seconds: the first sweep comes that long after a start."""
    with walking(azure):
        wait_until(lambda: sighting_of(keeper).mark in RateHistory.of(conn).read())


def test_the_page_adds_up_a_month_and_says_what_nobody_saw(azure: StandIn, conn: Connection) -> None:
    save_settings(azure.settings())
    made, history = datetime(2026, 3, 2, tzinfo=UTC), RateHistory.of(conn)
    for hours, nodes in ((0, 2), (0.1, 2), (5, 0)):
        now = made + timedelta(hours=hours)
        history.record([Sighting("compute:once", made, nodes, Price(2.0))], ["compute"], now)
    history.record([], ["compute"], made + timedelta(hours=5.1))

    app = open_app("teardown", at=conn.alias, month="2026-03")
    run_until(app, lambda app: "March 2026: $0.40 + 1 unknown" in texts(app))

    assert app.selectbox(key="month-of").value == "2026-03"
    (table,) = app.dataframe
    assert table.value.to_dict("records") == [
        {"Resource": "once", "Kind": "compute", "Cost": "$0.40", "Node hours": "0.20", "Not known": "4.9 h not seen"}
    ]
