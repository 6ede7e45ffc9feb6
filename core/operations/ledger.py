"""The ledger: intent and outcome of every change, who carries them out, what is due and what was deleted."""

from __future__ import annotations

import getpass
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from core import home
from core.alerts.book import write_alert
from core.database import Database
from core.errors import NotFound
from core.operations.change import Change, Unreadable
from core.operations.news import find_alert
from core.operations.records import (
    Operation,
    OperationState,
    Step,
    StepState,
    parse_operation,
    to_body,
    utc_now,
)
from core.stored import to_json
from core.teardown.receipts import Receipt, parse_receipt

WAITED = "waited "  # and a step's name: the fact that holds for how many seconds the step has waited

_log = logging.getLogger(__name__)
_SELECT = "select * from operations"
_INSERT = (
    "insert into operations (id, connection, kind, subject, key, state, body, user, created_at, updated_at, due_at) "
    "values (?, ?, ?, ?, ?, 'recorded', ?, ?, ?, ?, 0)"
)
_FINISHED = f"({', '.join(repr(state.value) for state in OperationState if state.finished)})"


class LeaseLost(Exception):
    """Another process carries operations out now; what was to be written is not written."""


class Ledger:
    """The operations of one home."""

    def __init__(self, of: home.Home | None = None) -> None:
        self.home = of or home.current()
        self._database = Database.at(self.home.ledger_db)

    # What a page writes ------------------------------------------------------------------------------------------

    def start(self, connection: str, change: Change) -> Operation:
        """Record an operation. While one of the same key is under way, that one is given again; so is one that is done
        until `again_after_s` after its start, and one that failed until `retry_after_s` after its end.
        """
        return self.start_all(connection, (change,))[0]

    def start_all(self, connection: str, changes: Sequence[Change]) -> list[Operation]:
        """Record several operations, each as `start` does: all of them, or none where the process ends before."""
        with self._database.write() as db:
            return [self._start(db, connection, change) for change in changes]

    def _start(self, db: Any, connection: str, change: Change) -> Operation:
        now, user = utc_now(), _user()
        operation = Operation(
            id=secrets.token_hex(4),
            connection=connection,
            change=change,
            state=OperationState.RECORDED,
            steps=tuple(Step(step.name, step.title) for step in change.steps),
            user=user,
            created_at=now,
            updated_at=now,
        )
        latest = db.execute(
            f"{_SELECT} where connection = ? and key = ? order by number desc limit 1", (connection, change.key)
        ).fetchone()
        if latest and _stands_for(known := parse_operation(latest), change, now):
            return known
        names = (operation.id, connection, change.stored_as, change.subject, change.key)
        db.execute(_INSERT, (*names, to_body(operation), user, now.isoformat(), now.isoformat()))
        return operation

    def want_cancel(self, operation_id: str) -> None:
        """Note that an operation should stop before its next step."""
        with self._database.write() as db:
            db.execute("update operations set cancel_wanted = 1, due_at = 0 where id = ?", (operation_id,))

    def retry(self, operation_id: str) -> Operation:
        """Take up a failed operation at the step that failed; done steps stay done.

        Where what it had made was deleted since, a new operation makes it anew: nobody else's retry does that.
        """
        operation = self.get(operation_id)
        if operation.state is not OperationState.FAILED or isinstance(operation.change, Unreadable):
            return operation
        if operation.facts.get("vanished"):
            return self.start(operation.connection, operation.change.renew())
        steps = tuple(
            Step(step.name, step.title) if step.state is StepState.FAILED else step for step in operation.steps
        )
        facts = {name: value for name, value in operation.facts.items() if not name.startswith(WAITED)}
        renewed = replace(operation, steps=steps, facts=facts, error=None, note="")
        with self._database.write() as db:
            db.execute(
                "update operations set state = 'recorded', body = ?, due_at = 0, updated_at = ? "
                "where id = ? and state = 'failed'",
                (to_body(renewed), utc_now().isoformat(), operation_id),
            )
        return self.get(operation_id)

    # What everyone reads -----------------------------------------------------------------------------------------

    def find(self, operation_id: str) -> Operation | None:
        """Return one operation, or None."""
        row = self._database.row(f"{_SELECT} where id = ?", operation_id)
        return parse_operation(row) if row else None

    def get(self, operation_id: str) -> Operation:
        """Return one operation; raises NotFound."""
        operation = self.find(operation_id)
        if operation is None:
            raise NotFound(f"There is no operation '{operation_id}'.", "Choose one of those that were recorded.")
        return operation

    def list_operations(
        self,
        connection: str | None = None,
        active: bool | None = None,
        limit: int = 100,
        subject: str = "",
        kind: str = "",
    ) -> list[Operation]:
        """Return operations, newest first."""
        where, values = ["1 = 1"], list[Any]()
        for column, value in (("connection", connection), ("subject", subject), ("kind", kind)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if active is not None:
            where.append(f"state {'not in' if active else 'in'} {_FINISHED}")
        sql = f"{_SELECT} where {' and '.join(where)} order by number desc limit ?"
        operations = [parse_operation(row) for row in self._database.rows(sql, *values, limit)]
        return [
            each for each in operations if active is None or each.finished is not active
        ]  # a broken row is finished

    def find_latest(self, connection: str, subject: str, kind: str = "") -> Operation | None:
        """Return the newest operation about this run, endpoint or compute, or None."""
        return next(iter(self.list_operations(connection, subject=subject, kind=kind, limit=1)), None)

    # What the runner writes --------------------------------------------------------------------------------------

    def list_unfinished(self) -> list[tuple[Operation, bool]]:
        """Return the unfinished operations, oldest first, each with whether something new was wanted of it."""
        rows = self._database.rows(f"{_SELECT} where state not in {_FINISHED} order by number")
        operations = [(parse_operation(row), row["due_at"] == 0) for row in rows]
        return [(operation, is_due) for operation, is_due in operations if not operation.finished]

    def save(self, operation: Operation, fence: int, waits: bool = False) -> Operation:
        """Write an operation as the holder of the lease; raises LeaseLost when another has it by now.

        waits: the holder looks at it later, unless something new is wanted of it.
        """
        now = utc_now()
        saved = replace(operation, updated_at=now)
        with self._database.write() as db:
            self._check_fence(db, fence)
            db.execute(
                "update operations set state = ?, body = ?, updated_at = ?, due_at = ? where id = ?",
                (saved.state, to_body(saved), now.isoformat(), int(waits), saved.id),
            )
            row = db.execute("select cancel_wanted from operations where id = ?", (saved.id,)).fetchone()
            if saved.finished and (alert := find_alert(saved)):
                write_alert(db, alert)
        return replace(saved, cancel_wanted=bool(row and row["cancel_wanted"]))

    def take_lease(self, pid: int, start_time: str, seconds: float, holder_lives: bool) -> int | None:
        """Return a new fence, or None while another living process holds the lease.

        holder_lives: whether the process in the row was found alive just before; a dead one's lease is taken at once.
        Its end is told in seconds since the machine's start, which all of a machine's processes count alike and no
        clock moves; one further away than a lease lasts is of an earlier start.
        """
        now = time.monotonic()
        with self._database.write() as db:
            row = db.execute("select * from lease where name = 'runner'").fetchone()
            if row and holder_lives and now < row["expires_at"] <= now + seconds:
                return None
            fence = (row["fence"] if row else 0) + 1
            db.execute(
                "insert into lease (name, pid, start_time, expires_at, fence) values ('runner', ?, ?, ?, ?) "
                "on conflict (name) do update set pid = excluded.pid, start_time = excluded.start_time, "
                "expires_at = excluded.expires_at, fence = excluded.fence",
                (pid, start_time, now + seconds, fence),
            )
        return int(fence)

    def read_lease(self) -> tuple[int, str, float] | None:
        """Return pid and start time of the lease's holder, and its end in seconds since the machine's start."""
        row = self._database.row("select * from lease where name = 'runner'")
        return (row["pid"], row["start_time"], row["expires_at"]) if row else None

    def renew_lease(self, fence: int, seconds: float) -> bool:
        """Hold the lease for longer; False when another has it."""
        with self._database.write() as db:
            changed = db.execute(
                "update lease set expires_at = ? where name = 'runner' and fence = ?",
                (time.monotonic() + seconds, fence),
            )
            return changed.rowcount == 1

    def drop_lease(self, fence: int) -> None:
        """Give the lease back, so that another need not wait for its end."""
        with self._database.write() as db:
            db.execute("update lease set expires_at = 0 where name = 'runner' and fence = ?", (fence,))

    def _check_fence(self, db: Any, fence: int) -> None:
        row = db.execute("select fence from lease where name = 'runner'").fetchone()
        if row is None or row["fence"] != fence:
            raise LeaseLost

    # Receipts, what was looked at ----------------------------------------------------------------

    def put_receipt(self, receipt: Receipt, fence: int) -> Receipt:
        """Number and keep a receipt; one operation has one, and what is known of it later takes its place."""
        with self._database.write() as db:
            self._check_fence(db, fence)
            row = db.execute("select number from receipts where operation = ?", (receipt.operation,)).fetchone()
            insert = "insert into receipts (operation) values (?)"
            number = row["number"] if row else db.execute(insert, (receipt.operation,)).lastrowid
            numbered = replace(receipt, id=f"R-{number:04d}")
            db.execute("update receipts set body = ? where number = ?", (to_json(**vars(numbered)), number))
        return numbered

    def find_receipt(self, operation: str) -> Receipt | None:
        """Return the receipt of an operation, or None."""
        row = self._database.row("select body from receipts where operation = ?", operation)
        return _parse_receipt(row["body"]) if row else None

    def list_receipts(self, connection: str | None = None, limit: int = 50) -> list[Receipt]:
        """Return receipts, newest first."""
        rows = self._database.rows("select body from receipts order by number desc limit ?", limit)
        receipts = filter(None, (_parse_receipt(row["body"]) for row in rows))
        return [receipt for receipt in receipts if connection in (None, receipt.connection)]

    def mark_seen(self, run: str) -> None:
        """Remember that the operator has looked at a run."""
        with self._database.write() as db:
            db.execute("insert or ignore into seen (run) values (?)", (run,))

    def list_seen(self) -> list[str]:
        """Return the runs the operator has looked at."""
        return [row["run"] for row in self._database.rows("select run from seen")]


def find_operation(operation_id: str) -> Operation | None:
    """Return one operation, or None."""
    return Ledger().find(operation_id)


def get_operation(operation_id: str) -> Operation:
    """Return one operation; raises NotFound."""
    return Ledger().get(operation_id)


def retry_operation(operation_id: str) -> Operation:
    """Take up a failed operation: see `Ledger.retry`."""
    return Ledger().retry(operation_id)


def find_operation_for(connection: str, subject: str, kind: str = "") -> Operation | None:
    """Return the newest operation about this run, endpoint or compute, or None."""
    return Ledger().find_latest(connection, subject, kind)


def list_operations(connection: str | None = None, active: bool | None = None, limit: int = 100) -> list[Operation]:
    """Return operations, newest first. active: only the unfinished (True), only the finished (False), or all."""
    return Ledger().list_operations(connection, active, limit)


def list_receipts(connection: str | None = None, limit: int = 50) -> list[Receipt]:
    """Return receipts, newest first."""
    return Ledger().list_receipts(connection, limit)


def _stands_for(known: Operation, change: Change, now: datetime) -> bool:
    """Tell whether a known operation of the same key is this very change."""
    since, holds_s = {
        OperationState.DONE: (known.created_at, change.again_after_s),
        OperationState.FAILED: (known.updated_at, change.retry_after_s),
    }.get(known.state, (now, 0.0))
    return not known.finished or abs((now - (since or now)).total_seconds()) < holds_s


def _parse_receipt(body: str) -> Receipt | None:
    """Return a receipt, None where the row makes no sense: it costs that receipt, not the list."""
    try:
        return parse_receipt(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        _log.warning("a receipt of the ledger cannot be read")
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
