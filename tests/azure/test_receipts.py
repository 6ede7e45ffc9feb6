"""What a receipt claims: an absence that was seen at both ends of a minute of the workspace's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from core.azureml import tags
from core.azureml.connection import Connection
from core.operations import Operation, get_operation, list_receipts, start_create_compute, start_runner, start_teardown
from core.operations.__main__ import main
from core.operations.runner import Runner
from core.operations.targets import Target, list_recoverable
from core.teardown.due import find_timed
from core.teardown.inventory import list_inventory
from core.teardown.plan import plan_teardown
from core.teardown.receipts import Receipt
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.waiting import finish, wait_until

NAME = "brief"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator
        stop(start_runner(azure.home))


def stop(runner: Runner) -> None:
    runner.stopping.set()
    wait_until(lambda: not runner.alive)


def delete(walk: Walk) -> Operation:
    """Create a cluster, and begin to delete it."""
    walk.finish(start_create_compute(walk.conn.alias, NAME, SIZE))
    plan = plan_teardown(walk.conn, list_inventory(walk.conn), [f"compute:{NAME}"])
    return start_teardown(plan, plan.confirm)


def await_absence(walk: Walk, operation: Operation) -> Receipt:
    """Return the receipt as it is stored when what it is about was absent for the first time."""
    wait_until(lambda: (step := get_operation(operation.id).step) and step.detail.startswith("Deleting"))
    walk.azure.advance(600)
    return wait_until(lambda: next((each for each in list_receipts() if each.operation == operation.id), None))


def test_a_receipt_is_shown_at_the_first_absence_and_completes_itself_whoever_was_killed_between(walk: Walk) -> None:
    operation = delete(walk)
    first = await_absence(walk, operation)
    before = len(walk.azure.rules)
    wait_until(lambda: len(walk.azure.rules.asked(rf"^GET .*/computes/{NAME}\?", before)) == 2)
    (gone,) = list_receipts()[0].gone
    assert len(gone.checks) == 1, "a look in between is none a minute apart"
    seen, second = tags.parse_time(gone.at), tags.parse_time(first.second_look_at)
    assert seen is not None
    assert second == seen + timedelta(minutes=1)
    stop(start_runner(walk.azure.home))

    walk.azure.rules.absent_ahead_s += 60
    start_runner(walk.azure.home)
    finish(operation)

    (complete,) = list_receipts()
    (gone,) = complete.gone
    assert (complete.id, complete.second_look_at, gone.at) == (first.id, "", first.gone[0].at)
    begun, ended = (tags.parse_time(check) for check in gone.checks)
    assert begun is not None
    assert ended >= begun + timedelta(minutes=1)
    assert [(each["method"], each["status"]) for each in gone.requests] == [("DELETE", 202), ("GET", 404), ("GET", 404)]
    assert all(each["request_id"] and each["correlation_id"] for each in gone.requests)
    assert gone.seconds
    assert gone.cost == 0.0, "it never had a node"


def test_what_is_there_again_at_the_second_look_is_deleted_again(walk: Walk) -> None:
    before = len(walk.azure.rules)
    operation = delete(walk)
    path = f"{walk.conn.workspace_path}/computes/{NAME}?api-version=2024-10-01"
    body = walk.conn.http("GET", path).json()
    first = await_absence(walk, operation)
    walk.conn.http("PUT", path, json={name: body[name] for name in ("location", "properties", "tags")})
    with walk.azure.hurried():
        finish(operation)
    assert find_timed(walk.conn, "compute", NAME) is None
    assert len(walk.azure.rules.asked(rf"^DELETE .*/computes/{NAME}\?", before)) == 2
    (complete,) = list_receipts()
    assert complete.id == first.id
    assert complete.gone[0].at > first.gone[0].at


def test_verify_says_of_each_thing_whether_it_is_still_gone_or_made_anew_by_whom(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk.finish(delete(walk))
    kept = tmp_path / "receipt.json"
    kept.write_text(list_receipts()[0].to_json(), encoding="utf-8")
    assert main(["verify", str(kept)]) == 0
    assert capsys.readouterr().out == f"compute {NAME}  still gone\n"
    walk.azure.rules.add(rf"GET .*/computes/{NAME}\?", 403, body="{}", times=1)
    assert main(["verify", str(kept)]) == 1
    assert capsys.readouterr().out.startswith(f"compute {NAME}  unknown: ")
    walk.finish(start_create_compute(walk.conn.alias, NAME, SIZE))
    assert main(["verify", str(kept)]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"compute {NAME}  there again: made anew on ")
    assert said.endswith(" UTC by ada@contoso.com\n")
    kept.write_text(kept.read_text(encoding="utf-8").replace(WORKSPACE_PATH, ""), encoding="utf-8")
    assert main(["verify", str(kept)]) == 1, "an old receipt names its connection only"
    kept.write_text('{"schema": "tunedeck.receipt/1", "gone": 7}', encoding="utf-8")
    assert main(["verify", str(kept), "--at", walk.conn.alias]) == 1
    assert "is not a receipt" in capsys.readouterr().err


def test_deleted_files_that_the_account_keeps_are_told_of_with_their_bytes_and_until_when(
    azure: StandIn, conn: Connection
) -> None:
    blob = (
        "<Blob><Name>azureml/brave-1/{name}</Name><Deleted>{gone}</Deleted><Properties><Content-Length>{size}"
        "</Content-Length><BlobType>BlockBlob</BlobType><RemainingRetentionDays>{days}</RemainingRetentionDays></Properties></Blob>"
    )
    kept = [("a", "true", 300, 3), ("b", "true", 40, 7), ("c", "false", 9000, 0)]
    blobs = "".join(blob.format(name=name, gone=gone, size=size, days=days) for name, gone, size, days in kept)
    body = f'<EnumerationResults ContainerName="x"><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>'
    azure.rules.add("comp=list.*include=deleted", 200, body=body, headers={"Content-Type": "application/xml"})
    (left,) = list_recoverable(conn, Target("run", "brave-1"), "")
    assert left["bytes"] == 340
    until = tags.parse_time(left["until"])
    assert until is not None
    assert timedelta(days=6, hours=23) < until - conn.now < timedelta(days=7, seconds=1)
    assert list_recoverable(conn, Target("run", "brave-1"), "") == [], "the account keeps none"
    azure.rules.add("comp=list.*include=deleted", 403, body="<Error/>", headers={"Content-Type": "application/xml"})
    (unknown,) = list_recoverable(conn, Target("run", "brave-1"), "")
    assert (unknown["bytes"], unknown["until"]) == (None, ""), "unknown is no 0"
