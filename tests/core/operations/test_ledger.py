from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from core.home import Home
from core.operations.launch import Launch
from core.operations.ledger import LeaseLost, Ledger
from core.operations.records import Failure, OperationState, StepState
from core.teardown.receipts import Gone, Receipt


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home)


def start(ledger: Ledger, revision: int = 1) -> str:
    return ledger.start("local", Launch("brave-otter-1", title="brave-otter", draft="k3f9", revision=revision)).id


def test_a_double_click_is_one_operation(ledger: Ledger) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(start(ledger))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert start(ledger, 2) not in ids


def test_a_failed_operation_may_be_wanted_again_and_goes_on_where_it_failed(ledger: Ledger) -> None:
    operation = ledger.get(start(ledger))
    fence = ledger.take_lease(1, 1.0, 60, holder_lives=False)
    assert fence
    first, second, *others = operation.steps
    failed = replace(second, state=StepState.FAILED, detail="No.")
    steps = (replace(first, state=StepState.DONE), failed, *others)
    ledger.save(replace(operation, state=OperationState.FAILED, steps=steps, error=Failure("No.")), fence)
    again = ledger.retry(operation.id)
    assert [step.state for step in again.steps[:2]] == ["done", "waiting"]
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
        ledger.save(replace(operation, state=OperationState.DONE), first)
    assert ledger.renew_lease(first, 60) is False
    assert ledger.save(replace(operation, state=OperationState.DONE), second).finished


def test_an_expired_lease_is_free_even_while_its_holder_lives(ledger: Ledger) -> None:
    first = ledger.take_lease(1, 1.0, -1.0, holder_lives=True)
    assert first is not None
    assert ledger.take_lease(2, 1.0, 60, holder_lives=True) == first + 1


def test_one_operation_has_one_receipt(ledger: Ledger) -> None:
    fence = ledger.take_lease(1, 1.0, 60, holder_lives=False)
    assert fence
    gone = Gone("endpoint", "phi4", "", "delete", "2026-11-22T15:09:12+00:00", ("a", "b"))
    receipt = Receipt("", "local", "2026-11-22T15:09:13+00:00", (gone,), ({"kind": "run", "bytes": 7},), operation="o1")
    numbered = ledger.put_receipt(receipt, fence)
    assert numbered.id == "R-0001"
    assert ledger.put_receipt(receipt, fence) == ledger.list_receipts()[0] == numbered
