"""The receipt of a teardown: what is gone, since when, what it cost, and what stays. Times are the workspace's, as ISO.

It is stored when everything was absent for the first time, and complete once that was so for long enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.azureml.tags import format_time, parse_time
from core.stored import parse_fields
from core.teardown.inventory import Item

SCHEMA = "tunedeck.receipt/1"


@dataclass(frozen=True)
class Ran:
    """What was known of something before its end was asked for. until: when this was known."""

    started: str = ""
    per_hour: float | None = None
    """What it billed; None where that is not known, as `cost`."""
    cost: float | None = None
    currency: str = ""
    until: str = ""

    def cost_at(self, at: str) -> float | None:
        """Return what it came to, at list price, until it was gone; None where that is not known."""
        begun, ended = parse_time(self.until), parse_time(at)
        if self.cost is None or self.per_hour is None or not begun or not ended:
            return None
        return self.cost + self.per_hour * max(0.0, (ended - begun).total_seconds()) / 3600


@dataclass(frozen=True)
class Gone:
    """Something that was deleted, archived or ended, and seen to be gone."""

    kind: str
    name: str
    version: str
    what: str
    """What was done: "delete", "archive" or "cancel"."""
    at: str
    """When its absence was first seen."""
    checks: tuple[str, ...] = ()
    """When it was seen: the first and the last time."""
    bytes_freed: int | None = None
    started: str = ""
    """When it was made, "" where nobody says."""
    cost: float | None = None
    """What it came to until it was gone, at list price; None where that is not known."""
    currency: str = ""
    left: tuple[Mapping[str, Any], ...] = ()
    """What stays of it: {"what", "bytes", "until"}; bytes None where unknown, until "" for what stays for good."""
    requests: tuple[Mapping[str, Any], ...] = ()
    """What asked for its end and what looked whether it was gone, as `Heard`."""

    @property
    def title(self) -> str:
        """Return "endpoint phi4-support", "model phi4 v3" or "the files of run kettle-7"."""
        noun = "the files of run" if self.kind == "run" and self.what == "delete" else self.kind
        return f"{noun} {self.name}{f' v{self.version}' if self.version else ''}"

    @property
    def seconds(self) -> float | None:
        """For how long it was there; None where nobody says."""
        begun, ended = parse_time(self.started), parse_time(self.at)
        return (ended - begun).total_seconds() if begun and ended else None


@dataclass(frozen=True)
class Receipt:
    """What a teardown deleted and what stays."""

    id: str
    """ "R-0007"."""
    connection: str
    at: str
    gone: tuple[Gone, ...]
    kept: tuple[Mapping[str, object], ...] = ()
    """Items as {"kind", "name", "bytes", …}."""
    per_hour_before: float = 0.0
    per_hour_after: float | None = None
    notes: tuple[str, ...] = ()
    operation: str = ""
    currency: str = "USD"
    workspace: str = ""
    """Its id: "/subscriptions/…"; "" on a receipt from before that was written."""
    resource_manager: str = ""
    second_look_at: str = ""
    """When everything is looked at for the last time; "" once it is complete."""

    def to_json(self) -> str:
        """Return the receipt as JSON, for a download."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2)


def parse_receipt(text: str) -> Receipt:
    """Return a receipt from JSON; raises what `parse_fields` does where it makes no sense."""
    stored = json.loads(text)
    return parse_fields(Receipt, {"gone": stored.get("removed"), **stored})  # as it was called once


def describe_ran(item: Item | None, now: datetime) -> Ran:
    """Return what something came to until now; None for what was not found."""
    if item is None:
        return Ran()
    begun, currency = item.created_at or item.since, next(iter(item.cost.amounts), item.currency)
    return Ran(format_time(begun) if begun else "", item.per_hour, item.cost.amount, currency, format_time(now))


def summarise(item: Item) -> dict[str, object]:
    """Return an item as a receipt lists it."""
    return {name: getattr(item, name) for name in ("kind", "name", "version", "bytes", "per_hour", "note")}
