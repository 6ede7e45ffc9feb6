"""The receipt of a teardown: what is gone, since when, and what stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from core.teardown.inventory import Item


@dataclass(frozen=True)
class Gone:
    """Something that was deleted or archived, and seen to be gone."""

    kind: str
    name: str
    version: str
    what: str
    """What was done: "delete" or "archive"."""
    at: str
    checks: tuple[str, ...] = ()
    """When its absence was seen, ISO times."""
    bytes_freed: int | None = None


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

    def to_json(self) -> str:
        """Return the receipt as JSON, for a download."""
        return json.dumps(asdict(self), indent=2)


def summarise(item: Item) -> dict[str, object]:
    """Return an item as a receipt lists it."""
    return {name: getattr(item, name) for name in ("kind", "name", "version", "bytes", "per_hour", "note")}
