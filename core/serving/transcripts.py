"""Transcripts: what was said with an endpoint, kept in the home under an id that a link can carry.

It holds no key.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core import home
from core.database import Database

KEPT = 200
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class Transcript:
    """One talk. connection: alias; turns: as the chat page wrote them; updated_at: UTC, ISO."""

    id: str
    connection: str
    endpoint: str
    turns: Sequence[Mapping[str, Any]]
    updated_at: str


def create_id() -> str:
    """Return an id that no transcript has, as far as chance goes."""
    return "".join(secrets.choice(_LETTERS) for _ in range(6))


def save_transcript(found_id: str, connection: str, endpoint: str, turns: Sequence[Mapping[str, Any]]) -> None:
    """Keep the turns under this id; beyond `KEPT` transcripts the oldest go."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    with _database().write() as written:
        written.execute(
            "insert into transcripts (id, connection, endpoint, turns, updated_at) values (?, ?, ?, ?, ?) "
            "on conflict (id) do update set turns = excluded.turns, updated_at = excluded.updated_at",
            (found_id, connection, endpoint, json.dumps(list(turns), ensure_ascii=False), now),
        )
        written.execute(
            "delete from transcripts where id not in (select id from transcripts order by updated_at desc limit ?)",
            (KEPT,),
        )


def find_transcript(found_id: str, connection: str) -> Transcript | None:
    """Return the transcript with this id, or None; an id of another connection is not found."""
    row = _database().row("select * from transcripts where id = ? and connection = ?", found_id, connection)
    return _parse(row) if row else None


def list_transcripts(connection: str, endpoint: str, limit: int = 20) -> list[Transcript]:
    """Return what was said with an endpoint, the newest first."""
    rows = _database().rows(
        "select * from transcripts where connection = ? and endpoint = ? order by updated_at desc limit ?",
        connection,
        endpoint,
        limit,
    )
    return list(filter(None, map(_parse, rows)))


def _parse(row: Any) -> Transcript | None:
    """Return a transcript, None where the row makes no sense: it costs that talk, not the list."""
    try:
        turns = json.loads(row["turns"])
    except (ValueError, TypeError):
        return None
    return Transcript(row["id"], row["connection"], row["endpoint"], turns, row["updated_at"])


def _database() -> Database:
    return Database.at(home.current().ledger_db)
