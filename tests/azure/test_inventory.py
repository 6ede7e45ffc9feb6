"""The inventory at the stand-in: side by side, and what it says of what was made there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.azureml import datastore, tags
from core.azureml.abreast import MOST, abreast
from core.azureml.connection import Connection
from core.catalog.prices import Price
from core.errors import NotFound
from core.teardown.due import Verdict
from core.teardown.inventory import Inventory, Item, list_billing, list_inventory
from tests.azure.prices import PER_HOUR
from tests.azure.stand_in import SIZE, StandIn
from tests.waiting import wait_until

DATA = 12
SCALE = {"minNodeCount": 1, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT2M"}


@pytest.fixture
def talks(azure: StandIn, conn: Connection) -> Connection:
    """A workspace with a dozen data assets of a file of 3 bytes each."""
    for number in range(DATA):
        path = f"talks/{number:02}/train.jsonl"
        datastore.send_file(conn, path, b"{}\n")
        uri = f"azureml://datastores/workspaceblobstore/paths/{path}"
        asset, body = f"data/talk-{number:02}/versions/1", {"properties": {"dataType": "uri_file", "dataUri": uri}}
        conn.http("PUT", f"{conn.workspace_path}/{asset}?api-version=2024-10-01", json=body, doing="create", what=asset)
    return conn


def test_a_dozen_things_are_read_side_by_side_and_their_bytes_in_one_listing(azure: StandIn, talks: Connection) -> None:
    azure.rules.add("^GET https://", delay_s=0.15, times=10_000)
    before, azure.rules.peak = len(azure.rules), 0
    found = [item for item in list_inventory(talks).items if item.kind == "data"]
    assert [item.bytes for item in found] == [3] * DATA
    assert {item.owner for item in found} == {"ada@contoso.com"}
    assert not any(item.mine for item in found), "nobody made them through Tunedeck"
    assert 2 < azure.rules.peak <= MOST
    assert len(azure.rules.asked("comp=list", since=before)) == 1


def test_a_folder_of_too_many_files_is_asked_path_by_path(azure: StandIn, conn: Connection) -> None:
    """What has more files than the service lists on a page is not summed, what lies beside it is."""
    datastore.send_file(conn, "many/small/1.bin", b"abc")
    more = "<EnumerationResults><Blobs/><NextMarker>more</NextMarker></EnumerationResults>"
    for folder in ("many%2F", "many%2Flarge%2F"):
        azure.rules.add(f"^GET .*prefix={folder}$", 200, body=more, headers={"Content-Type": "application/xml"})
    problems: list[str] = []
    found = datastore.sum_bytes(conn, ["many/large/", "many/small/"], problems)
    assert (found, problems) == ({"many/large/": None, "many/small/": 3}, [])


def test_what_fails_among_many_is_raised(conn: Connection, azure: StandIn) -> None:
    def fail() -> int:
        raise NotFound("There is no such thing.", "", "")

    with pytest.raises(NotFound):
        abreast(conn, [lambda: 1, fail, lambda: 2])
    assert abreast(conn, [lambda: 1, lambda: 2]) == [1, 2]


@pytest.fixture
def gpu(azure: StandIn, conn: Connection) -> Connection:
    """A workspace with a cluster of one node that stays, and a delete-at that was copied to it from another."""
    inner = {"vmSize": SIZE, "vmPriority": "Dedicated", "scaleSettings": SCALE}
    told = {tags.DELETE_AT: "2020-01-01T00:00:00Z", tags.DELETE_AT_OF: "that of another"}
    put(conn, "computes/gpu", {"computeType": "AmlCompute", "properties": inner}, location="westeurope", tags=told)
    with azure.hurried():
        wait_until(lambda: (item := list_billing(conn).find("compute:gpu")) and item.nodes == 1)
    return conn


def put(conn: Connection, path: str, properties: dict[str, Any], **more: object) -> None:
    url = f"{conn.workspace_path}/{path}?api-version=2024-10-01"
    conn.http("PUT", url, json={"properties": properties, **more}, doing="create", what=path)


def answer_with_a_job(azure: StandIn, **properties: object) -> None:
    """Let the workspace tell of a command of a colleague that has been running for an hour."""
    job = {"jobType": "Command", "status": "Running", "displayName": "sweep-7", "tags": {}, **properties}
    value = [{"name": "sweep_7", "properties": job, "systemData": {"createdBy": "ben@contoso.com"}}]
    azure.rules.add(r"^GET .*/jobs\?", 200, body=json.dumps({"value": value}))
    record = {
        "runId": "sweep_7",
        "status": "Running",
        "startTimeUtc": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
    }
    azure.rules.add("^GET .*/runs/sweep_7", 200, body=json.dumps(record))


def find(found: Inventory, key: str) -> Item:
    item = found.find(key)
    assert item is not None
    return item


def test_what_runs_on_a_cluster_is_told_and_not_added_to_its_nodes(azure: StandIn, gpu: Connection) -> None:
    answer_with_a_job(azure, computeId=f"{gpu.workspace_path}/computes/gpu", resources={"instanceCount": 1})
    found = list_billing(gpu)
    cluster, [job] = find(found, "compute:gpu"), found.list_jobs_on(find(found, "compute:gpu"))
    assert found.billing == (cluster,)
    assert found.amounts == (Price(PER_HOUR[SIZE]),)
    assert (job.owner, job.mine, job.nodes, job.per_hour) == ("ben@contoso.com", False, 1, PER_HOUR[SIZE])
    assert job.cost.amount == pytest.approx(PER_HOUR[SIZE], rel=0.05)


def test_a_serverless_job_bills_by_itself(azure: StandIn, conn: Connection) -> None:
    answer_with_a_job(azure, computeId=None, resources={"instanceCount": 2, "instanceType": SIZE})
    found = list_billing(conn)
    job = find(found, "run:sweep_7")
    assert job in found.billing
    assert (job.per_hour, job.parent) == (2 * PER_HOUR[SIZE], "")


def test_jobs_that_may_not_be_read_hide_nothing_else(azure: StandIn, gpu: Connection) -> None:
    azure.rules.add(r"^GET .*/jobs\?", 403, body='{"error": {"code": "AuthorizationFailed", "message": "No."}}')
    found = list_billing(gpu)
    assert (len(found.problems), found.unread, found.amounts) == (1, (), (Price(PER_HOUR[SIZE]),))


def test_a_delete_at_that_was_copied_is_told_of_and_ends_no_bill(gpu: Connection) -> None:
    cluster = find(list_billing(gpu), "compute:gpu")
    assert (cluster.delete_at, cluster.delete_at_ignored) == (None, str(Verdict.COPIED))


def test_a_cluster_at_rest_is_named_for_its_load_balancer_and_adds_no_price(azure: StandIn, conn: Connection) -> None:
    inner = {"vmSize": SIZE, "vmPriority": "Dedicated", "scaleSettings": {**SCALE, "minNodeCount": 0}}
    put(conn, "computes/rest", {"computeType": "AmlCompute", "properties": inner}, location="westeurope")
    with azure.hurried():
        rest = wait_until(lambda: list_billing(conn).find("compute:rest"))
    assert (rest.standing, rest.bills) == (True, False)
    assert "its load balancer goes on billing" in rest.note
