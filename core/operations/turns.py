"""Whose turn it is: operations about the same thing go one after the other, in the order in which they were recorded.

An operation only ever waits for an older one, so none wait for each other.
"""

from __future__ import annotations

from core.operations.change import Thing
from core.operations.ledger import Ledger
from core.operations.records import Operation, Step


def find_older(ledger: Ledger, operation: Operation, step: Step) -> Operation | None:
    """Return the newest of the older operations under way that `step` has to wait for, or None."""
    return next((each for each in _list_older(ledger, operation) if _goes_before(each, operation, step)), None)


def list_older_writers(ledger: Ledger, operation: Operation, target: Thing) -> list[Operation]:
    """Return the older operations under way that make or change this endpoint or compute."""
    return [each for each in _list_older(ledger, operation) if each.change.writes == target]


def _list_older(ledger: Ledger, operation: Operation) -> list[Operation]:
    active = ledger.list_operations(operation.connection, active=True, limit=10_000)
    return [each for each in active if each.number < operation.number]


def _goes_before(older: Operation, operation: Operation, step: Step) -> bool:
    """A step that one operation does alone waits for the others; what writes a thing, for those that delete it.

    What deletes a thing does not wait for those that write it: it ends them.
    """
    if alone := operation.change.find_step(step.name).alone:
        left = (each.name for each in older.steps if not each.state.behind)
        return alone in {older.change.find_step(name).alone for name in left}
    return operation.change.writes in older.change.deletes
