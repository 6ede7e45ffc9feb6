"""Operations and their steps, as they are kept and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from sqlite3 import Row
from typing import Any

from core.operations.change import KINDS, Change, Unreadable
from core.stored import parse_fields, parse_time, to_json
from core.teardown.receipts import Gone


class OperationState(StrEnum):
    """How far an operation is."""

    RECORDED = "recorded"
    RUNNING = "running"
    WAITING = "waiting"
    """An identity is not at hand; the operation's `note` says so."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will be done."""
        return self in {OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED}


class StepState(StrEnum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def behind(self) -> bool:
        """Whether the next step may begin."""
        return self in {StepState.DONE, StepState.SKIPPED}


@dataclass(frozen=True)
class Step:
    """One step of an operation."""

    name: str
    title: str
    state: StepState = StepState.WAITING
    detail: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun."""
        return ((self.ended or utc_now()) - self.started).total_seconds() if self.started else None


@dataclass(frozen=True)
class Failure:
    """Why an operation failed, as an error is shown."""

    message: str = "It failed."
    hint: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Operation:
    """One change somebody wanted, and how far it is."""

    id: str
    connection: str
    change: Change
    state: OperationState
    steps: tuple[Step, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What its steps have written down."""
    error: Failure | None = None
    note: str = ""
    user: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    cancel_wanted: bool = False
    number: int = 0
    """Its place in the order in which the ledger's operations were recorded, whatever the clock said."""

    @property
    def kind(self) -> str:
        """The name of its kind, as the ledger keeps it."""
        return self.change.kind if isinstance(self.change, Unreadable) else self.change.stored_as

    @property
    def subject(self) -> str:
        """The name of the run, endpoint or compute that it is about."""
        return self.change.subject

    @property
    def title(self) -> str:
        """What it does, in words: "Deploy smollm2-support-3f2"."""
        return self.change.description

    @property
    def finished(self) -> bool:
        """Whether nothing more will be done."""
        return self.state.finished

    @property
    def step(self) -> Step | None:
        """The first step that is not behind it."""
        return next((step for step in self.steps if not step.state.behind), None)

    @property
    def outcome(self) -> str:
        """The Activity page's word: confirmed, failed, not started, cancelled, checking or under way."""
        if self.finished:
            return "confirmed" if self.state is OperationState.DONE else self.state.value
        if self.facts.get("unconfirmed"):
            return "checking"
        return "under way" if self.state is OperationState.RUNNING else "not started"

    @property
    def gone(self) -> tuple[Gone, ...]:
        """What it deleted and saw to be gone."""
        return tuple(parse_fields(Gone, each) for each in self.facts.get("gone", ()))

    def find_step(self, name: str) -> Step | None:
        """Return the step of this name, or None."""
        return next((step for step in self.steps if step.name == name), None)

    def with_step(self, changed: Step) -> Operation:
        """Return the operation with the step of that name changed."""
        return replace(self, steps=tuple(changed if step.name == changed.name else step for step in self.steps))


def to_body(operation: Operation) -> str:
    """Return what the ledger keeps of an operation beside its columns."""
    arguments = {name: value for name, value in vars(operation.change).items() if name != "subject"}
    return to_json(
        steps=operation.steps,
        arguments=arguments,
        facts=operation.facts,
        error=operation.error,
        note=operation.note,
    )


def parse_operation(row: Row) -> Operation:
    """Return an operation from a row of the ledger; a row that makes no sense is a failed operation that says so."""
    try:
        return _parse(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Operation(
            id=str(row["id"]),
            connection=str(row["connection"]),
            change=Unreadable(str(row["subject"]), str(row["kind"])),
            state=OperationState.FAILED,
            error=Failure(
                "This entry of the ledger cannot be read. Nothing more is done for it.",
                "Look in the workspace at what became of it.",
                repr(error),
            ),
            number=int(row["number"]),
        )


def _parse(row: Row) -> Operation:
    body = json.loads(row["body"])
    return Operation(
        id=row["id"],
        connection=row["connection"],
        change=KINDS[row["kind"]].from_stored(row["subject"], body["arguments"]),
        state=OperationState(row["state"]),
        steps=tuple(parse_fields(Step, step) for step in body["steps"]),
        facts=body.get("facts") or {},
        error=parse_fields(Failure, body["error"]) if body.get("error") else None,
        note=body.get("note") or "",
        user=row["user"],
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
        cancel_wanted=bool(row["cancel_wanted"]),
        number=row["number"],
    )


def utc_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)
