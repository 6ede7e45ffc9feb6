"""What runs measured, so that the next estimate stands on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from core import home
from core.database import Database
from core.stored import parse_fields, to_json


@dataclass(frozen=True)
class Pace:
    """How fast a run was, and how long its estimate had said that it takes."""

    tokens_per_s: float
    """Of training alone, the middle of what was logged."""
    row: float = 100.0
    """Tokens of the middle row, each token counted alike."""
    lora: bool = True
    around_s: float | None = None
    """Seconds of the run before and after training."""
    evaluation_s: float | None = None
    told_low_s: float | None = None
    told_high_s: float | None = None
    took_s: float | None = None
    """Seconds from the first step to the end of the evaluation."""
    peak: float | None = None
    """Tokens per second at the whole speed of the GPUs, where that is known."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds in each stage that was completed, by its name."""

    @property
    def miss(self) -> float | None:
        """By what share of what it took the estimate was too short (above 0) or too long; 0 where it held."""
        if not self.took_s or self.told_low_s is None or self.told_high_s is None:
            return None
        if self.took_s > self.told_high_s:
            return 1 - self.told_high_s / self.took_s
        return min(0.0, 1 - self.told_low_s / self.took_s)


def add_pace(connection: str, model: str, compute: str, run: str, pace: Pace) -> None:
    """Keep what a run measured, in place of what was kept of it before."""
    with _database().write() as db:
        db.execute(
            "insert or replace into paces (run, connection, model, compute, body, at) values (?, ?, ?, ?, ?, ?)",
            (run, connection, model, compute, to_json(**vars(pace)), datetime.now(UTC).isoformat()),
        )


def find_pace(run: str) -> Pace | None:
    """Return what a run measured, None where it did not."""
    row = _database().row("select body from paces where run = ?", run)
    return _parse(row["body"]) if row else None


def list_paces(connection: str, model: str = "", compute: str = "", limit: int = 20) -> list[Pace]:
    """Return what the newest runs measured, the newest first: of a model on a compute, of any where not named."""
    rows = _database().rows(
        "select body from paces where connection = ?1 and (?2 = '' or model = ?2) and (?3 = '' or compute = ?3) "
        "order by at desc limit ?4",
        connection,
        model,
        compute,
        limit,
    )
    return [pace for row in rows if (pace := _parse(row["body"]))]


def _parse(body: str) -> Pace | None:
    """Return a pace, None where the row makes no sense: it costs that run's word in an estimate, not the estimate."""
    try:
        pace = parse_fields(Pace, json.loads(body))
        return pace if 0 < pace.tokens_per_s < math.inf and 0 < pace.row < math.inf else None
    except (ValueError, TypeError, AttributeError):
        return None


def _database() -> Database:
    return Database.at(home.current().ledger_db)
