"""What a teardown asks before, and what it says of what the service does not delete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.operations import list_receipts, start_create_compute, start_runner, start_teardown
from core.operations.ledger import Ledger
from core.operations.teardown import Teardown
from core.operations.work import Work
from core.serving.endpoints import begin_traffic, get_endpoint
from core.teardown.due import find_timed, write_delete_at
from core.teardown.inventory import Item, list_inventory
from core.teardown.plan import TeardownPlan, find_obstacle, plan_teardown
from core.teardown.receipts import Receipt
from tests.azure.serving import ENDPOINT, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
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


def receipt_of(walk: Walk, asked: TeardownPlan, *accepted: str) -> Receipt:
    ended = walk.finish(start_teardown(asked, asked.confirm, accepted))
    return next(each for each in list_receipts(walk.conn.alias) if each.id == ended.facts["receipt"])


def test_what_changed_since_the_operator_looked_is_asked_about_again(walk: Walk) -> None:
    """Traffic is taken away between the question and the answer; some seconds for an endpoint that answers."""
    serve(walk)
    asked = plan(walk, f"endpoint:{ENDPOINT}")
    begin_traffic(walk.conn, ENDPOINT, {"demo": 0})
    with walk.azure.hurried():
        wait_until(lambda: not get_endpoint(walk.conn, ENDPOINT).traffic.get("demo"))
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


@pytest.mark.slow
def test_a_deployment_goes_alone_and_only_without_traffic(walk: Walk) -> None:
    """After the test above, which leaves the endpoint without traffic; four seconds, lists lag behind."""
    whole, part = f"endpoint:{ENDPOINT}", f"deployment:{ENDPOINT}/demo"
    busy = replace(list_inventory(walk.conn).find(part) or Item("deployment", ""), traffic=100)
    assert find_obstacle(busy).startswith("It gets 100% of the traffic")
    asked = wait_until(lambda: (found := plan(walk, part)).actions and found)  # the list has it with traffic at first
    assert [action.item.key for action in plan(walk, whole, part).actions] == [whole], "it goes with its endpoint"
    receipt = receipt_of(walk, asked)
    assert [(gone.kind, gone.name) for gone in receipt.gone] == [("deployment", f"{ENDPOINT}/demo")]
    assert get_endpoint(walk.conn, ENDPOINT).deployments == ()


def test_data_that_the_service_only_archives_is_tried_and_the_receipt_says_what_stays(walk: Walk) -> None:
    from azure.ai.ml.entities import Data

    walk.conn.blobs().container.upload_blob("old/kettle.jsonl", b"x" * 1200, overwrite=True)
    uri = walk.conn.blobs().uri("old/kettle.jsonl")
    walk.conn.workspace.data.create_or_update(Data(name="kettle-train", version="7", path=uri, type="uri_file"))
    since = len(walk.azure.rules)
    receipt = receipt_of(walk, plan(walk, "data:kettle-train:7"))
    assert [each.status for each in walk.azure.rules.asked("^DELETE .*/data/kettle-train/versions/7", since)] == [400]
    assert [(gone.name, gone.what) for gone in receipt.gone] == [("kettle-train", "archive")]
    said = "The service archived data kettle-train v7 and does not delete it; 1.2 kB stay at old/kettle.jsonl."
    assert said in receipt.notes
    assert list_inventory(walk.conn).find("data:kettle-train:7") is None


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
        wait_until(lambda: (now := find_timed(walk.conn, "compute", "left")) and now.state == "Succeeded")
    start_runner(walk.azure.home)
    refused = walk.finish(begun, "failed")
    assert refused.error is not None
    assert refused.error.message.startswith("Cluster left changed since you looked: ")
