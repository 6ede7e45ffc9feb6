"""One sweep from a command: what cron, a GitHub Action or an Azure job runs, and a line for each resource."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.settings import save_settings
from core.errors import TunedeckError
from core.operations.due_deletion import IN_USE_FACT
from core.operations.ledger import Ledger, get_operation
from core.operations.records import Operation, OperationState
from core.operations.runner import start_runner
from core.operations.sweep import sweep
from core.teardown.due import Timed

_LOOK_S = 0.3


@dataclass(frozen=True)
class Line:
    """What became of one resource with a delete-at."""

    workspace: str
    timed: Timed
    outcome: str
    failed: bool = False

    @property
    def words(self) -> str:
        """One line: "ml-dev  endpoint kettle-1  2026-11-28T15:00:00Z  by ada@contoso.com  deleted, receipt R-0007"."""
        of = self.timed
        by = f"by {of.created_by}" if of.created_by else "by nobody known"
        return "  ".join((self.workspace, f"{of.kind} {of.name}", of.tags.get(tags.DELETE_AT, ""), by, self.outcome))


def list_due(conn: Connection, problems: list[TunedeckError]) -> Iterator[Line]:
    """Yield a line for each resource that may end by itself; nothing is changed. problems: as of `sweep`."""
    for swept in sweep(Ledger(conn.home), conn, problems, dry=True):
        yield Line(conn.settings.workspace_name, swept.timed, swept.outcome, swept.failed)


def sweep_once(
    ledger: Ledger, conn: Connection, problems: list[TunedeckError], *, strict: bool = False
) -> Iterator[Line]:
    """End what is due, or idle and chosen to end, and see it gone; yield a line for each resource with such tags.

    What has to wait for others, as a cluster with jobs on it, is told of and not waited for: it is due the next time,
    too. Where a dashboard of this home runs, that carries it out.
    """
    save_settings(conn.settings)  # an operation is carried out by the workspace's name
    for swept in sweep(ledger, conn, problems, strict=strict):
        outcome, failed = swept.outcome, swept.failed
        if swept.operation:
            start_runner(ledger.home)
            outcome, failed = _await(swept.operation)
        yield Line(conn.settings.workspace_name, swept.timed, outcome, failed)


def _await(operation: Operation) -> tuple[str, bool]:
    """Return how a deletion ended, or what it waits for, and whether it failed."""
    while not operation.finished:
        step = operation.step
        if operation.facts.get(IN_USE_FACT) or operation.state is OperationState.WAITING:
            return operation.note or (step.detail if step else ""), operation.state is OperationState.WAITING
        time.sleep(_LOOK_S)
        operation = get_operation(operation.id)
    if operation.error:
        return f"{operation.error.message} {operation.error.hint}", True
    if receipt := operation.facts.get("receipt"):
        return f"deleted, receipt {receipt}", False
    return next((step.detail for step in reversed(operation.steps) if step.detail), str(operation.state)), False
