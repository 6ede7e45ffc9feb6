from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from core.home import Home
from core.operations.ledger import LeaseLost, Ledger
from core.operations.records import DONE, FAILED
from core.teardown.plan import Gone, Receipt

STEPS = [("one", "One"), ("two", "Two")]


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home)


def start(ledger: Ledger, key: str = "launch:k3f9:1") -> str:
    return ledger.start("launch", "local", "brave-otter-1", STEPS, {"title": "brave-otter"}, key).id


def test_a_double_click_is_one_operation(ledger: Ledger) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(start(ledger))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert start(ledger, "launch:k3f9:2") not in ids


def test_a_failed_operation_may_be_wanted_again_and_goes_on_where_it_failed(ledger: Ledger) -> None:
    operation = ledger.get(start(ledger))
    fence = ledger.take_lease(1, 1.0, 60, holder_lives=False)
    assert fence
    steps = (replace(operation.steps[0], state="done"), replace(operation.steps[1], state="failed", detail="No."))
    ledger.save(replace(operation, state=FAILED, steps=steps, error={"message": "No."}), fence)
    again = ledger.retry(operation.id)
    assert [step.state for step in again.steps] == ["done", "waiting"]
    assert again.error is None
    assert not again.finished


def test_only_the_newest_lease_may_write(ledger: Ledger) -> None:
    operation = ledger.get(start(ledger))
    first = ledger.take_lease(1, 1.0, 60, holder_lives=False)
    assert first is not None
    assert ledger.take_lease(2, 1.0, 60, holder_lives=True) is None
    second = ledger.take_lease(2, 1.0, 60, holder_lives=False)
    assert second == first + 1
    with pytest.raises(LeaseLost):
        ledger.save(replace(operation, state=DONE), first)
    assert ledger.renew_lease(first, 60) is False
    assert ledger.save(replace(operation, state=DONE), second).finished


def test_an_expired_lease_is_free_even_while_its_holder_lives(ledger: Ledger) -> None:
    first = ledger.take_lease(1, 1.0, -1.0, holder_lives=True)
    assert first is not None
    assert ledger.take_lease(2, 1.0, 60, holder_lives=True) == first + 1


def test_one_operation_has_one_receipt(ledger: Ledger) -> None:
    fence = ledger.take_lease(1, 1.0, 60, holder_lives=False)
    assert fence
    gone = Gone("endpoint", "phi4", "", "delete", "2026-11-22T15:09:12+00:00", ("a", "b"))
    receipt = Receipt("", "local", "2026-11-22T15:09:13+00:00", (gone,), ({"kind": "run", "bytes": 7},), operation="o1")
    numbered = ledger.add_receipt(receipt, fence)
    assert numbered.id == "R-0001"
    assert ledger.add_receipt(receipt, fence) == ledger.list_receipts()[0] == numbered
    assert numbered.kept_bytes == 7
