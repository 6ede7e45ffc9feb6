"""What a teardown asks before, and what it says of what the service does not delete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.operations import (
    get_operation,
    list_receipts,
    start_cancel,
    start_create_compute,
    start_launch,
    start_runner,
    start_teardown,
)
from core.operations.ledger import Ledger
from core.operations.teardown import Teardown
from core.operations.work import Work
from core.runs.jobs import list_active_jobs
from core.serving.endpoints import begin_traffic, get_endpoint
from core.teardown.due import find_timed, write_delete_at
from core.teardown.inventory import Item, list_inventory
from core.teardown.plan import TeardownPlan, find_obstacle, plan_teardown
from core.teardown.receipts import Receipt
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.serving import ENDPOINT, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import COMPUTE, Walk, walking
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.waiting import wait_until


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator


def plan(walk: Walk, *keys: str) -> TeardownPlan:
    """Return the plan for what lists show by now: they are some seconds behind."""
    with walk.azure.hurried():
        found = wait_until(lambda: (all_ := list_inventory(walk.conn)) and all(map(all_.find, keys)) and all_)
    return plan_teardown(walk.conn, found, keys)


def receipt_of(walk: Walk, asked: TeardownPlan) -> Receipt:
    """Return the receipt as it is when everything was absent once; it is complete a minute later."""
    begun = start_teardown(asked, asked.confirm)
    with walk.azure.hurried():
        return wait_until(
            lambda: next((each for each in list_receipts(walk.conn.alias) if each.operation == begun.id), None),
            lambda: get_operation(begun.id),
        )


def send_traffic(walk: Walk, share: int) -> None:
    begin_traffic(walk.conn, ENDPOINT, {"demo": share})
    with walk.azure.hurried():
        wait_until(lambda: get_endpoint(walk.conn, ENDPOINT).live is bool(share))


def test_what_changed_since_the_operator_looked_is_asked_about_again(walk: Walk) -> None:
    """Traffic is taken away between the question and the answer; some seconds for an endpoint that answers."""
    serve(walk)
    asked = plan(walk, f"endpoint:{ENDPOINT}")
    send_traffic(walk, 0)
    since = len(walk.azure.rules)
    refused = walk.finish(start_teardown(asked, asked.confirm), "failed")
    assert refused.error is not None
    said = f"Endpoint {ENDPOINT} changed since you looked: traffic demo 100 → none."
    assert (refused.error.message, refused.error.hint) == (said, "Look again.")
    assert not walk.azure.rules.asked("^DELETE", since)
    app = run_until(open_app("teardown", at=walk.conn.alias, operation=refused.id), lambda app: said in texts(app))
    buttons(app)["Look again"].click().run()
    run_until(app, lambda app: "Delete 1 resource" in buttons(app))
    assert f"endpoint {ENDPOINT}: Deployment demo goes with it; callers get 404." in texts(app)
    send_traffic(walk, 100)


@pytest.mark.slow
def test_a_deployment_goes_alone_and_only_without_traffic(walk: Walk) -> None:
    """Some seconds for an endpoint that answers."""
    serve(walk)
    send_traffic(walk, 0)
    whole, part = f"endpoint:{ENDPOINT}", f"deployment:{ENDPOINT}/demo"
    busy = replace(list_inventory(walk.conn).find(part) or Item("deployment", ""), traffic=100)
    assert find_obstacle(busy).startswith("It gets 100% of the traffic")
    asked = wait_until(lambda: (found := plan(walk, part)).actions and found)  # the list has it with traffic at first
    assert [action.item.key for action in plan(walk, whole, part).actions] == [whole], "it goes with its endpoint"
    receipt = receipt_of(walk, asked)
    assert [(gone.kind, gone.name) for gone in receipt.gone] == [("deployment", f"{ENDPOINT}/demo")]
    assert get_endpoint(walk.conn, ENDPOINT).deployments == ()


@pytest.mark.slow
def test_anothers_job_on_a_cluster_of_ones_own_is_named_and_ticked(walk: Walk) -> None:
    """Five seconds for a cluster and a run on it."""
    walk.ensure_compute()
    started = start_launch(walk.plan(max_steps=100_000))
    with walk.azure.hurried():
        wait_until(lambda: [job for job in list_active_jobs(walk.conn) if job.name == started.subject])
    own = plan(walk, f"compute:{COMPUTE}").actions[0]
    assert own.consequence.startswith("1 run on it ends: ")
    assert own.others == ()
    walk.azure.azure.makers.known[f"{WORKSPACE_PATH}/jobs/{started.subject}".lower()] = "ben@contoso.com"
    (others,) = plan(walk, f"compute:{COMPUTE}", f"run:{started.subject}").others
    assert others.endswith(f" on {COMPUTE}, which is ben@contoso.com's")
    walk.finish(start_cancel(walk.conn.alias, started.subject))


@pytest.mark.slow
def test_a_change_is_seen_by_the_process_that_takes_a_teardown_over(walk: Walk) -> None:
    """As a dashboard leaves it that ends between its look and the request; four seconds for a cluster."""
    walk.finish(start_create_compute(walk.conn.alias, "left", SIZE, 0, 1))
    asked = plan(walk, "compute:left")
    runner = start_runner(walk.azure.home)
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    begun = start_teardown(asked, asked.confirm)
    ledger = Ledger(walk.azure.home)
    fence = ledger.take_lease(1, "none", 60.0, holder_lives=False)
    assert fence
    work = Work[Teardown](ledger, ledger.get(begun.id), fence)
    work.change.find_step("look").run(work)
    ledger.drop_lease(fence)
    timed = find_timed(walk.conn, "compute", "left")
    assert timed is not None
    assert not write_delete_at(walk.conn, timed, datetime.now(UTC) + timedelta(hours=2))
    with walk.azure.hurried():
        wait_until(
            lambda: (now := find_timed(walk.conn, "compute", "left")) and now.delete_at and now.state == "Succeeded"
        )
    start_runner(walk.azure.home)
    refused = walk.finish(begun, "failed")
    assert refused.error is not None
    assert refused.error.message.startswith("Cluster left changed since you looked: delete at none → ")
