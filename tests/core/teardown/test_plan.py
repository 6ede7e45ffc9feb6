"""What things bill, and their sums: an operator decides by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.catalog.compute import Compute, _count_nodes
from core.catalog.prices import Price
from core.errors import AccessDenied, BadInput, Unreachable
from core.home import Home
from core.operations import list_operations, start_teardown
from core.runs.jobs import ActiveJob
from core.serving.endpoints import DeploymentView, EndpointView
from core.teardown import inventory
from core.teardown.costs import Cost
from core.teardown.inventory import (
    Inventory,
    Item,
    item_of_compute,
    items_of_endpoint,
    list_billing,
    list_inventory,
    sighting_of,
    with_costs,
)
from core.teardown.plan import Surroundings, compare, make_plan, plan_teardown
from core.teardown.rates import Rate


def _hours_ago(hours: float) -> datetime:
    """Count back from now, not from this file's import: minutes lie between in a whole test run, and they cost."""
    return datetime.now(UTC) - timedelta(hours=hours)


CLUSTER = Compute(
    "gpu-1", "cluster", "S", "Succeeded", "Steady", 24, 1, 0, 4, 0, 120, {}, _hours_ago(10), price=Price(2.0)
)
INSTANCE = replace(CLUSTER, name="ci", kind="instance", allocation="Running", min_nodes=1, max_nodes=1, nodes=1)
EURO = Item("endpoint", "in-euro", price=Price(3.0, "EUR"), per_hour=3.0, cost=Cost({"EUR": 30.0}))
DOLLAR = Item("endpoint", "in-dollar", price=Price(2.0), per_hour=2.0, cost=Cost({"USD": 20.0}))
UNKNOWN = Item("endpoint", "dear", price=Price(None), per_hour=None, cost=Cost(unknown=1))


@pytest.mark.usefixtures("home")
def test_a_stopped_instance_bills_nothing_and_one_that_starts_does() -> None:
    stopped = item_of_compute(replace(INSTANCE, allocation="Stopped", nodes=0))
    assert (stopped.per_hour, stopped.bills) == (0.0, False)
    assert item_of_compute(INSTANCE).per_hour == 2.0
    assert [_count_nodes({"state": state}, True) for state in ("Stopped", "Starting", "Running")] == [0, 1, 1]


@pytest.mark.usefixtures("home")
def test_what_a_compute_cost_is_said_only_of_nodes_that_were_seen_or_that_the_service_tells_of() -> None:
    def cost(nodes: int, steady_since: datetime | None, *rates: Rate) -> str:
        made = _hours_ago(10)
        item = item_of_compute(replace(CLUSTER, nodes=nodes, created_at=made, steady_since=steady_since))
        return with_costs([item], {sighting_of(item).mark: rates}, datetime.now(UTC))[0].cost.words

    assert cost(1, None) == "unknown"
    assert cost(1, _hours_ago(10)) == "$20.00"
    assert cost(3, _hours_ago(1)) == "$6.00 + 1 unknown"
    assert cost(3, _hours_ago(1), Rate(_hours_ago(10), _hours_ago(1), 0, Price(2.0))) == "$6.00"
    assert cost(0, _hours_ago(10)) == "$0.00"


@pytest.mark.usefixtures("home")
def test_each_deployment_costs_from_its_own_beginning() -> None:
    made, then = _hours_ago(10), _hours_ago(1)
    old = DeploymentView("demo", "phi4", "Succeeded", size="S", created_at=made, changed_at=made)
    new = replace(old, name="next", instances=2, created_at=then, changed_at=then)
    endpoint = EndpointView("phi4", "Succeeded", deployments=(old, new), created_at=_hours_ago(10))
    now = datetime.now(UTC)
    item, *parts = with_costs(items_of_endpoint(endpoint, [Price(2.0), Price(3.0)]), {}, now)
    assert item.per_hour == 8.0
    assert item.cost.amount == pytest.approx(20.0 + 6.0, abs=0.1)
    assert [(part.name, part.parent, part.per_hour) for part in parts] == [
        ("phi4/demo", "endpoint:phi4", 2.0),
        ("phi4/next", "endpoint:phi4", 6.0),
    ]
    assert Inventory((item, *parts)).words == "$8.00/h", "an endpoint's sum is for display: it is not added again"
    unknown = items_of_endpoint(endpoint, [Price(2.0), Price(None)])
    assert (unknown[0].hourly_words, Inventory(tuple(unknown)).words) == ("price unknown", "$2.00/h + 1 unknown")
    mixed = items_of_endpoint(endpoint, [Price(2.0), Price(3.0, "EUR")])
    assert (mixed[0].per_hour, Inventory(tuple(mixed)).words) == (None, "EUR 6.00/h + $2.00/h")


def test_amounts_of_two_currencies_are_not_added() -> None:
    both = Inventory((DOLLAR, EURO))
    assert (both.amounts, both.unknown) == ((Price(3.0, "EUR"), Price(2.0)), 0)
    assert both.cost.amounts == {"EUR": 30.0, "USD": 20.0}
    assert Inventory((EURO,)).words == "EUR 3.00/h"
    assert both.words == "EUR 3.00/h + $2.00/h"


def test_the_plan_names_what_it_ends_in_its_own_currency(home: Home) -> None:
    conn = connect(local_settings(), home=home)
    said = {
        items: plan_teardown(conn, Inventory(items), [item.key for item in items]).sentences[0]
        for items in ((EURO,), (UNKNOWN,), (DOLLAR, UNKNOWN))
    }
    assert list(said.values()) == [
        "This ends billing of EUR 3.00/h. It cannot be undone.",
        "This ends billing at an unknown price. It cannot be undone.",
        "This ends billing of $2.00/h and a price that is unknown. It cannot be undone.",
    ]


def test_a_workspace_that_does_not_answer_is_no_empty_bill(home: Home) -> None:
    conn = connect(local_settings())
    for reading in (list_billing, list_inventory):
        with pytest.raises(Unreachable):
            reading(conn)


def test_what_may_not_be_read_is_named_and_what_it_bills_is_not_known(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_conn: Connection) -> list[Item]:
        raise AccessDenied("You may not read computes in 'ml-dev'.")

    monkeypatch.setattr(inventory, "_BILLING", {"endpoints": lambda _conn: [DOLLAR], "computes": refuse})
    found = list_billing(connect(local_settings()))
    assert (found.words, found.unread) == ("$2.00/h + 1 unknown", ("computes",))
    assert found.problems == ("You may not read computes in 'ml-dev'.",)


def test_a_plan_says_what_it_frees_in_its_own_currency_and_an_unknown_price_is_not_nothing(home: Home) -> None:
    conn = connect(local_settings())
    for items, words in (
        ([EURO], "EUR 3.00/h"),
        ([UNKNOWN], "price unknown"),
        ([DOLLAR, UNKNOWN], "$2.00/h + 1 unknown"),
    ):
        plan = plan_teardown(conn, Inventory(tuple(items)), [item.key for item in items])
        assert plan.frees == words


def test_what_is_anothers_is_ticked_by_its_name_before_it_goes(home: Home) -> None:
    conn = connect(local_settings(), home=home)
    own = Item("compute", "own", compute="cluster", mine=True, owner="ada@contoso.com")
    bens = Item("endpoint", "bens", owner="ben@contoso.com")
    part = Item("deployment", "bens/demo", parent=bens.key)
    around = Surroundings(
        frozenset({"ada@contoso.com"}), (ActiveJob("j1", "brave-otter", frozenset({"own"}), "ben@contoso.com"),)
    )
    items = Inventory((own, bens, part))
    plan = make_plan(conn, items, [own.key, bens.key, part.key], (), around)
    assert plan.others == (
        "endpoint bens, which is ben@contoso.com's",
        "deployment bens/demo, whose owner is unknown",
        "run brave-otter on own, which is ben@contoso.com's",
    )
    assert [action.item.name for action in plan.actions] == ["bens", "own"], "a deployment goes with its endpoint"
    with pytest.raises(BadInput, match=r"Not ticked: endpoint bens, which is ben@contoso\.com's"):
        start_teardown(plan, plan.confirm, plan.others[1:])
    assert list_operations() == []


def test_a_change_is_named_and_its_time_only_where_nothing_else_is_known() -> None:
    before = ("changed 10:00:00", "state Succeeded", "traffic demo 100")
    assert compare(before, before) == []
    assert compare(before, ("changed 10:05:00", "state Succeeded", "traffic blue 100")) == [
        "traffic demo 100 → blue 100"
    ]
    assert compare(before, ("changed 10:05:00", *before[1:])) == ["changed 10:00:00 → 10:05:00"]
