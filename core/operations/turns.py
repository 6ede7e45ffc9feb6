"""Whose turn it is: operations about the same thing go one after the other, in the order in which they were recorded.

An operation only ever waits for an older one, so none wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.operations.ledger import Ledger
from core.operations.records import Operation, Step

REMOVE = "remove "  # the steps of a teardown are named after its items
REMOVING = ("teardown", "expire")
_DATA_STEPS = ("upload", "register")


def find_older(ledger: Ledger, operation: Operation, step: Step) -> Operation | None:
    """Return the newest of the older operations under way that `step` has to wait for, or None."""
    if operation.kind == "launch" and step.name not in _DATA_STEPS:
        return None
    older = _list_older(ledger, operation)
    return next((each for each in older if _goes_before(each, operation, step)), None)


def list_older_writers(ledger: Ledger, operation: Operation, kind: str, name: str) -> list[Operation]:
    """Return the older operations under way that make or change this endpoint or compute."""
    return [each for each in _list_older(ledger, operation) if written_by(each) == (kind, name.lower())]


def written_by(operation: Operation) -> tuple[str, str] | None:
    """Return kind and name (in small letters, as Azure compares them) of what an operation makes or changes."""
    kinds = {"deploy": "endpoint", "traffic": "endpoint", "create_compute": "compute"}
    kind = str(operation.arguments["kind"]) if operation.kind == "delete_at" else kinds.get(operation.kind)
    return (kind, operation.subject.lower()) if kind else None


def _list_older(ledger: Ledger, operation: Operation) -> list[Operation]:
    active = ledger.list_operations(operation.connection, active=True, limit=10_000)
    return [each for each in active if each.number < operation.number]


def _goes_before(older: Operation, operation: Operation, step: Step) -> bool:
    if operation.kind == "launch":  # the same new data is sent once
        return (
            older.kind == "launch"
            and older.arguments["dataset_key"] == operation.arguments["dataset_key"]
            and older.step is not None
            and older.step.name in _DATA_STEPS
        )
    if older.kind not in REMOVING:
        return False  # what an older operation makes, a teardown ends: it does not wait to be let
    if operation.kind in REMOVING:
        return step.name.startswith(REMOVE) and step.name in {each.name for each in _left(older)}
    return written_by(operation) in {_thing(item) for item in older.arguments["items"]}


def _left(operation: Operation) -> Iterable[Step]:
    return (step for step in operation.steps if step.state not in ("done", "skipped"))


def _thing(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["kind"], str(item["name"]).lower()
