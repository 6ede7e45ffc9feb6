"""What runs measured, so that the next estimate stands on it."""

from __future__ import annotations

from datetime import UTC, datetime

from core import home
from core.database import Database


def add_speed(connection: str, model: str, compute: str, tokens_per_s: float, run: str) -> None:
    """Keep the training tokens per second of a run."""
    with _database().write() as db:
        db.execute(
            "insert or replace into speeds (run, connection, model, compute, tokens_per_s, at) "
            "values (?, ?, ?, ?, ?, ?)",
            (run, connection, model, compute, tokens_per_s, datetime.now(UTC).isoformat()),
        )


def list_speeds(connection: str, model: str, compute: str, limit: int = 5) -> list[float]:
    """Return the tokens per second of the newest runs of a model on a compute."""
    rows = _database().rows(
        "select tokens_per_s from speeds where connection = ? and model = ? and compute = ? order by at desc limit ?",
        connection,
        model,
        compute,
        limit,
    )
    return [float(row["tokens_per_s"]) for row in rows]


def _database() -> Database:
    return Database.at(home.current().ledger_db)
