"""What is torn down stays gone, and what is said about it: in the list, in the question, on the receipt."""

from __future__ import annotations

from typing import Any

import pytest

from core.azureml.connection import Connection
from core.operations import (
    Ledger,
    get_operation,
    list_everything,
    list_receipts,
    retry_operation,
    start_create_compute,
    start_panic,
    start_runner,
    start_teardown,
)
from core.operations.teardown import Deletion, Teardown
from core.operations.work import Work
from core.serving import endpoints
from core.teardown.inventory import Inventory, Item
from core.teardown.plan import plan_teardown
from tests.core.operations.test_faults import conn, deploy, runner, server
from tests.local_server import LocalServer
from tests.waiting import finish, wait_until

__all__ = ["conn", "runner", "server"]  # fixtures


@pytest.fixture
def stopped(runner: Any) -> Any:
    """A home whose dashboard has just ended."""
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    return runner


def test_a_teardown_ends_what_is_only_wanted_yet_and_its_receipt_says_so(
    server: LocalServer, conn: Connection, stopped: Any
) -> None:
    """Some ten seconds: a request may have been on its way, so the absence is looked at for as long as one can be."""
    making = start_create_compute("local", "wanted-cpu", "local.cpu1")
    found = list_everything(conn)
    compute = found.find("compute:wanted-cpu")
    assert compute is not None
    assert (compute.state, compute.under_way) == ("Not made yet", ("Create compute wanted-cpu",))
    plan = plan_teardown(conn, found, ["compute:wanted-cpu"])
    assert plan.actions[0].consequence.startswith("Ended first: Create compute wanted-cpu. ")
    tearing = start_teardown(plan)
    again = start_runner(server.home)
    try:
        ended = finish(tearing)
        receipt = next(each for each in list_receipts("local") if each.id == ended.facts["receipt"])
        if finish(making, "cancelled", "done").state == "cancelled":
            assert "Ended first: Create compute wanted-cpu." in receipt.notes
        not_removed = "Compute 'wanted-cpu' was not there any more; this deletion did not remove it."
        assert (not_removed in receipt.notes) is (receipt.gone == ())  # it was faster, or it was not
        assert list_everything(conn).find("compute:wanted-cpu") is None
    finally:
        again.stopping.set()
        wait_until(lambda: not again.alive)


def test_what_was_deleted_elsewhere_is_said_to_be_and_only_a_person_makes_it_anew(
    server: LocalServer, conn: Connection, stopped: Any
) -> None:
    """As a dashboard leaves a deploy that it was killed in, whose endpoint is then deleted in the portal."""
    started = start_runner(server.home)
    making = deploy(conn, "portal-ep")
    wait_until(lambda: get_operation(making.id).facts.get("sent_endpoint") == "confirmed")
    started.stopping.set()
    wait_until(lambda: not started.alive)
    conn.workspace.online_endpoints.begin_delete("portal-ep").wait(30)
    again = start_runner(server.home)
    try:
        failed = finish(making, "failed")
        assert failed.error is not None
        assert failed.error.message.startswith("Endpoint 'portal-ep' was deleted elsewhere while Tunedeck worked on")
        assert endpoints.find_endpoint(conn, "portal-ep") is None
        anew = retry_operation(making.id)
        assert anew.id != making.id
        finish(anew)
        assert endpoints.get_endpoint(conn, "portal-ep").live
    finally:
        again.stopping.set()
        wait_until(lambda: not again.alive)


def test_two_teardowns_of_one_thing_claim_it_once(server: LocalServer, conn: Connection, runner: Any) -> None:
    finish(start_create_compute("local", "shared-cpu", "local.cpu1"))
    finish(start_create_compute("local", "other-cpu", "local.cpu1"))
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    found = list_everything(conn)
    first = start_teardown(plan_teardown(conn, found, ["compute:shared-cpu"]))
    second = start_teardown(plan_teardown(conn, found, ["compute:shared-cpu", "compute:other-cpu"]))
    ledger = Ledger(server.home)
    fence = ledger.take_lease(1, "none", 60.0, holder_lives=False)
    assert fence
    work = Work[Teardown](ledger, ledger.get(second.id), fence)
    work.change.find_step("remove compute:other-cpu").run(work)
    assert "asked compute:other-cpu" in work.facts
    assert "asked compute:shared-cpu" not in work.facts, "the older one asks for it"
    ledger.drop_lease(fence)
    again = start_runner(server.home)
    try:
        receipts = {finish(each).id: get_operation(each.id).facts["receipt"] for each in (first, second)}
        claimed = {each.id: [gone.name for gone in each.gone] for each in list_receipts("local")}
        assert claimed[receipts[first.id]] == ["shared-cpu"]
        assert claimed[receipts[second.id]] == ["other-cpu"]
    finally:
        again.stopping.set()
        wait_until(lambda: not again.alive)


def test_what_went_between_the_look_and_the_deletion_is_not_claimed(
    server: LocalServer, conn: Connection, runner: Any
) -> None:
    finish(start_create_compute("local", "raced-cpu", "local.cpu1"))
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    begun = start_teardown(plan_teardown(conn, list_everything(conn), ["compute:raced-cpu"]))
    ledger = Ledger(server.home)
    fence = ledger.take_lease(1, "none", 60.0, holder_lives=False)
    assert fence
    work = Work[Teardown](ledger, ledger.get(begun.id), fence)
    deletion = Deletion(work, work.change.items[0])
    state = deletion.find_state()
    assert state is not None
    conn.workspace.compute.begin_delete("raced-cpu").result()
    deletion.ask(state)
    assert not deletion.get("asked")
    assert deletion.find_state() is None
    done = deletion.claim(deletion.note_absence())
    assert (done.detail, "gone" in done.facts) == ("Gone already", False)
    ledger.drop_lease(fence)


def test_a_runs_files_go_and_those_of_its_registered_model_stay(conn: Connection, runner: Any) -> None:
    from azure.ai.ml.entities import Model

    container = conn.blobs().container
    for name in ("model/weights", "log.txt"):
        container.upload_blob(f"azureml/kettle-run/{name}", b"x" * 50, overwrite=True)
    path = "azureml://datastores/workspaceblobstore/paths/azureml/kettle-run/model"
    conn.workspace.models.create_or_update(Model(name="kettle", version="1", path=path, type="custom_model"))
    run = Item("run", "kettle-run", state="Completed", mine=True, bytes=50)
    ended = finish(start_teardown(plan_teardown(conn, Inventory((run,)), [run.key])))
    assert [(gone.kind, gone.bytes_freed) for gone in ended.gone] == [("run", 50)]
    assert [blob.name for blob in container.list_blobs("azureml/kettle-run/")] == ["azureml/kettle-run/model/weights"]


def test_data_that_the_service_only_archives_is_tried_and_the_receipt_says_what_stays(
    conn: Connection, runner: Any
) -> None:
    from azure.ai.ml.entities import Data

    conn.blobs().container.upload_blob("old/kettle.jsonl", b"x" * 1200, overwrite=True)
    uri = conn.blobs().uri("old/kettle.jsonl")
    conn.workspace.data.create_or_update(Data(name="kettle-train", version="7", path=uri, type="uri_file"))
    ended = finish(start_teardown(plan_teardown(conn, list_everything(conn), ["data:kettle-train:7"])))
    (gone,) = ended.gone
    assert (gone.what, gone.left) == ("archive", ({"what": "files at old/kettle.jsonl", "bytes": 1200, "until": ""},))
    receipt = next(each for each in list_receipts("local") if each.operation == ended.id)
    said = "The service archived data kettle-train v7 and does not delete it; 1.2 kB stay at old/kettle.jsonl."
    assert said in receipt.notes
    assert list_everything(conn).find("data:kettle-train:7") is None


def test_a_panic_ends_what_is_being_made_and_deletes_what_there_is(
    server: LocalServer, conn: Connection, runner: Any
) -> None:
    finish(start_create_compute("local", "panic-cpu", "local.cpu1"))
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    wanted = start_create_compute("local", "later-cpu", "local.cpu1")
    operation = start_panic(Ledger(server.home), conn, "local")
    again = start_runner(server.home)
    try:
        assert finish(operation).steps[-1].detail == "Nothing of yours is left that bills"
        assert get_operation(wanted.id).finished
        left = {item.name for item in list_everything(conn).items if item.kind == "compute"}
        assert not left & {"panic-cpu", "later-cpu"}
    finally:
        again.stopping.set()
        wait_until(lambda: not again.alive)
