"""Operations and their steps, as they are kept and shown. Knows no database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

RECORDED, RUNNING, WAITING, DONE, FAILED, CANCELLED = "recorded", "running", "waiting", "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)

_TITLES = {
    "launch": "Start {}",
    "deploy": "Deploy {}",
    "create_compute": "Create compute {}",
    "cancel": "Cancel {}",
    "traffic": "Change traffic of {}",
    "delete_at": "Change delete-at of {}",
    "teardown": "Delete {}",
    "expire": "Delete {}, its time is over",
}


@dataclass(frozen=True)
class Step:
    """One step of an operation. state: "waiting", "running", "done", "failed" or "skipped"."""

    name: str
    title: str
    state: str = "waiting"
    detail: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes until now; None before it has begun."""
        return ((self.ended or utc_now()) - self.started).total_seconds() if self.started else None


@dataclass(frozen=True)
class Operation:
    """One change somebody wanted.

    kind: launch, deploy, create_compute, cancel, traffic, delete_at, teardown or expire. subject: the name of what it
    is about (run, endpoint, compute …), chosen before anything was sent. state "waiting" means an identity is not at
    hand; `note` says so. error: {"message", "hint", "detail"} of a failed one. number: its place in the order in which
    the ledger's operations were recorded, whatever the clock said.
    """

    id: str
    kind: str
    connection: str
    subject: str
    state: str
    steps: tuple[Step, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    note: str = ""
    user: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    cancel_wanted: bool = False
    number: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing more will be done."""
        return self.state in FINISHED

    @property
    def title(self) -> str:
        """What it does, in words: "Deploy smollm2-support-3f2"."""
        return _TITLES.get(self.kind, "{}").format(self.arguments.get("title") or self.subject)

    @property
    def step(self) -> Step | None:
        """The first step that is not behind it."""
        return next((step for step in self.steps if step.state not in ("done", "skipped")), None)

    @property
    def outcome(self) -> str:
        """The Activity page's word: confirmed, failed, not started, cancelled, checking or under way."""
        if self.state in (DONE, FAILED, CANCELLED):
            return {DONE: "confirmed", FAILED: "failed", CANCELLED: "cancelled"}[self.state]
        if self.facts.get("unconfirmed"):
            return "checking"
        return "not started" if self.state in (RECORDED, WAITING) else "under way"


def to_body(operation: Operation) -> str:
    """Return what the ledger keeps of an operation beside its columns."""
    return json.dumps(
        {
            "steps": [
                {**asdict(step), "started": _text(step.started), "ended": _text(step.ended)} for step in operation.steps
            ],
            "arguments": dict(operation.arguments),
            "facts": dict(operation.facts),
            "error": dict(operation.error) if operation.error else None,
            "note": operation.note,
        }
    )


def parse_operation(row: Any) -> Operation:
    """Return an operation from a row of the ledger; a row that makes no sense is a failed operation that says so."""
    try:
        return _parse(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Operation(
            id=str(row["id"]),
            kind=str(row["kind"]),
            connection=str(row["connection"]),
            subject=str(row["subject"]),
            state=FAILED,
            error={
                "message": "This entry of the ledger cannot be read. Nothing more is done for it.",
                "hint": "Look in the workspace at what became of it.",
                "detail": repr(error),
            },
            number=int(row["number"]),
        )


def _parse(row: Any) -> Operation:
    body = json.loads(row["body"])
    known = Step.__dataclass_fields__
    steps = tuple(
        Step(
            **{
                **{name: value for name, value in step.items() if name in known},
                "started": _time(step.get("started")),
                "ended": _time(step.get("ended")),
            }
        )
        for step in body["steps"]
    )
    return Operation(
        id=row["id"],
        kind=row["kind"],
        connection=row["connection"],
        subject=row["subject"],
        state=row["state"],
        steps=steps,
        arguments=dict(body["arguments"]),
        facts=dict(body.get("facts") or {}),
        error=body.get("error"),
        note=str(body.get("note") or ""),
        user=row["user"],
        created_at=_time(row["created_at"]),
        updated_at=_time(row["updated_at"]),
        cancel_wanted=bool(row["cancel_wanted"]),
        number=int(row["number"]),
    )


def utc_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
