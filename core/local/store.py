"""What the local workspace remembers, as documents and metrics in one SQLite file.

Every write is one BEGIN IMMEDIATE transaction: under WAL a read that is followed by a write in a deferred transaction
fails at once when another writer was first, and the busy time-out does not help it. One thread writes at a time, and
what was written has reached the disk before it is acknowledged.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from core.local import schema
from core.local.wire.errors import WireError
from core.migrations import bring_up_to_date

Document = dict[str, Any]
BUSY_TIMEOUT_S = 5.0
METRICS_NAME = "metrics.jsonl"  # the file of a run from which metrics are read
ANY_CASE = ("compute", "endpoint", "deployment")  # kinds whose names Azure compares without case
BATCH = 128  # documents read at once for a list; a page has 100
LAST_PLACE = 2**63 - 1

# One step down the index for each metric of a run: MAX(id) GROUP BY key would read every point that it ever logged.
_LATEST = """
WITH RECURSIVE keys (key) AS (
    SELECT MIN(key) FROM metrics WHERE run_id = :run
    UNION ALL
    SELECT (SELECT MIN(key) FROM metrics WHERE run_id = :run AND key > keys.key) FROM keys WHERE keys.key IS NOT NULL
)
SELECT id, key, value, step, timestamp_ms FROM metrics WHERE id IN (
    SELECT (SELECT MAX(id) FROM metrics WHERE run_id = :run AND key = keys.key) FROM keys WHERE keys.key IS NOT NULL
) ORDER BY key
"""


@dataclass(frozen=True)
class MetricPoint:
    """One measured value; `id` grows with every point of the workspace, so a reader can ask for what is new."""

    id: int
    key: str
    value: float
    step: int
    timestamp_ms: int


Documents = list[Document]  # named here because the store has a method `list`
Points = list[MetricPoint]
Names = list[str]


def now_utc() -> str:
    """Return the time as ISO 8601 in UTC with microseconds, the form every document carries."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Store:
    """Documents by kind and key, and metrics and parameters by run. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._of_thread = threading.local()
        self._writer = threading.Lock()
        bring_up_to_date(self._connection(), schema.STEPS)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            connection.execute("PRAGMA synchronous=FULL")  # NORMAL would lose the last commits in a power cut
            self._of_thread.connection = connection
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for the block; roll back when it raises. Not nested, never across a network call."""
        connection = self._connection()
        with self._writer:  # SQLite's own queue is a sleep and another try, in which a thread may wait in vain
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise

    # Documents. What is read back carries `created_at` and `modified_at`; what is written need not.

    def put(self, kind: str, key: str, body: Document, *, parent: str = "") -> Document:
        """Create or replace a document; its time of creation and its place in lists stay."""
        with self.transaction() as connection:
            return _write(connection, kind, key, body, parent)

    def insert(self, kind: str, key: str, body: Document, *, parent: str = "") -> Document | None:
        """Create a document, or return None and change nothing when the key is taken."""
        with self.transaction() as connection:
            if _read(connection, kind, key) is not None:
                return None
            return _write(connection, kind, key, body, parent)

    def get(self, kind: str, key: str) -> Document | None:
        """Return a document, or None."""
        return _read(self._connection(), kind, key)

    def require(self, kind: str, key: str) -> Document:
        """Return a document; raises WireError 404 ResourceNotFound."""
        found = self.get(kind, key)
        if found is None:
            raise not_found(kind, key)
        return found

    def list(
        self,
        kind: str,
        *,
        parent: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = True,
    ) -> Documents:
        """Return the documents of a kind, all or those of one parent, in order of creation."""
        of_parent = "" if parent is None else "AND parent = ?"
        order = "DESC" if newest_first else "ASC"
        rows = self._connection().execute(
            "SELECT body, created_at, modified_at FROM documents "
            f"WHERE kind = ? {of_parent} ORDER BY sequence {order} LIMIT ? OFFSET ?",
            (kind, *([] if parent is None else [_key(kind, parent)]), -1 if limit is None else limit, offset),
        )
        return [_document(*row) for row in rows]

    def each(
        self, kind: str, *, parent: str | None = None, before: int | None = None
    ) -> Iterator[tuple[int, Document]]:
        """Yield the documents of a kind with their places, the newest first, from below the place `before` on.

        They are read as they are asked for: whoever shows a page of 100 reads no 10,000.
        """
        of_parent, parents = ("", []) if parent is None else ("AND parent = ?", [_key(kind, parent)])
        place = LAST_PLACE if before is None else before
        while True:
            rows = self._connection().execute(
                "SELECT sequence, body, created_at, modified_at FROM documents "
                f"WHERE kind = ? {of_parent} AND sequence < ? ORDER BY sequence DESC LIMIT ?",
                (kind, *parents, place, BATCH),
            )
            batch = rows.fetchall()
            for place, *row in batch:
                yield place, _document(*row)
            if len(batch) < BATCH:
                return

    def list_parents(self, kind: str) -> Names:
        """Return the parents that documents of a kind have, the one with the newest document first."""
        rows = self._connection().execute(
            "SELECT parent FROM documents WHERE kind = ? GROUP BY parent ORDER BY MAX(sequence) DESC", (kind,)
        )
        return [row[0] for row in rows]

    def list_keys(self, kind: str, parent: str) -> Names:
        """Return the keys of the documents of one parent, without reading them."""
        rows = self._connection().execute("SELECT key FROM documents WHERE kind = ? AND parent = ?", (kind, parent))
        return [row[0] for row in rows]

    def delete(self, kind: str, key: str) -> bool:
        """Remove a document; tell whether it was there."""
        with self.transaction() as connection:
            return (
                connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, _key(kind, key))).rowcount
                > 0
            )

    def update(self, kind: str, key: str, change: Callable[[Document], Document | None]) -> Document:
        """Read, change and write a document in one transaction; raises WireError 404 where there is none.

        `change` gets a copy and returns the new body, or None to leave it. What it raises is raised here, with nothing
        written. It must be quick and touch no other document: it runs under the write lock.
        """
        with self.transaction() as connection:
            current = _read(connection, kind, key)
            if current is None:
                raise not_found(kind, key)
            parent = connection.execute(
                "SELECT parent FROM documents WHERE kind = ? AND key = ?", (kind, _key(kind, key))
            ).fetchone()[0]
            changed = change(dict(current))
            return current if changed is None else _write(connection, kind, key, changed, parent)

    # Metrics and parameters of runs

    def append_metrics(
        self,
        run_id: str,
        rows: Iterable[tuple[str, float, int, int]],
        *,
        source: str = "",
        offset: int | None = None,
        also_run_id: str = "",
    ) -> None:
        """Store (key, value, step, timestamp_ms) rows, and how far `source` has been read, in one transaction.

        `also_run_id` gets the same rows: a root run shows what its training step measured.
        """
        points = [(key, None if math.isnan(value) else value, step, timestamp) for key, value, step, timestamp in rows]
        with self.transaction() as connection:
            for run in filter(None, (run_id, also_run_id)):
                connection.executemany(
                    "INSERT INTO metrics (run_id, key, value, step, timestamp_ms) VALUES (?, ?, ?, ?, ?)",
                    [(run, *point) for point in points],
                )
            if source and offset is not None:
                connection.execute("INSERT OR REPLACE INTO ingest_offsets VALUES (?, ?)", (source, offset))

    def ingest_offset(self, source: str) -> int:
        """Return how many bytes of `source` are stored; 0 for one never read."""
        row = self._connection().execute("SELECT offset FROM ingest_offsets WHERE source = ?", (source,)).fetchone()
        return int(row[0]) if row else 0

    def read_metrics(self, run_id: str, key: str, *, since_rowid: int = 0, limit: int | None = None) -> Points:
        """Return the points of one metric after `since_rowid` in the order they were stored."""
        rows = self._connection().execute(
            "SELECT id, key, value, step, timestamp_ms FROM metrics "
            "WHERE run_id = ? AND key = ? AND id > ? ORDER BY id LIMIT ?",
            (run_id, key, since_rowid, -1 if limit is None else limit),
        )
        return [_point(row) for row in rows]

    def latest_metrics(self, run_id: str) -> Points:
        """Return the last stored point of every metric of a run."""
        rows = self._connection().execute(_LATEST, {"run": run_id})
        return [_point(row) for row in rows]

    def forget_measured(self, run_ids: Iterable[str]) -> None:
        """Remove the metrics and parameters of runs, and how far their files have been read."""
        with self.transaction() as connection:
            for run_id in run_ids:
                connection.execute("DELETE FROM metrics WHERE run_id = ?", (run_id,))
                connection.execute("DELETE FROM run_fields WHERE run_id = ?", (run_id,))
                connection.execute("DELETE FROM ingest_offsets WHERE source = ?", (f"{run_id}/{METRICS_NAME}",))

    def set_param(self, run_id: str, key: str, value: str) -> bool:
        """Record a parameter; False where another value is there already, since MLflow's parameters never change."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO run_fields VALUES (?, 'param', ?, ?)", (run_id, key, value))
            kept = connection.execute(
                "SELECT value FROM run_fields WHERE run_id = ? AND sort = 'param' AND key = ?", (run_id, key)
            ).fetchone()[0]
            return bool(kept == value)

    def get_params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run."""
        rows = self._connection().execute(
            "SELECT key, value FROM run_fields WHERE run_id = ? AND sort = 'param' ORDER BY key", (run_id,)
        )
        return dict(rows.fetchall())


def not_found(kind: str, key: str) -> WireError:
    """Return Azure's answer for a document that is not there."""
    return WireError(404, "ResourceNotFound", f"The {kind.replace('_', ' ')} '{key}' was not found.")


def _key(kind: str, name: str) -> str:
    """Return what a name is found by; the document has it as it was written first."""
    return name.lower() if kind in ANY_CASE else name


def _write(connection: sqlite3.Connection, kind: str, key: str, body: Document, parent: str) -> Document:
    kept = {name: value for name, value in body.items() if name not in ("created_at", "modified_at")}
    now = now_utc()
    connection.execute(
        "INSERT INTO documents (kind, key, parent, body, created_at, modified_at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body, parent = excluded.parent, "
        "modified_at = excluded.modified_at",
        (kind, _key(kind, key), _key(kind, parent), orjson.dumps(kept).decode(), now, now),
    )
    written = _read(connection, kind, key)
    assert written is not None
    return written


def _read(connection: sqlite3.Connection, kind: str, key: str) -> Document | None:
    row = connection.execute(
        "SELECT body, created_at, modified_at FROM documents WHERE kind = ? AND key = ?", (kind, _key(kind, key))
    ).fetchone()
    return _document(*row) if row else None


def _document(body: str, created_at: str, modified_at: str) -> Document:
    document: Document = orjson.loads(body)
    document.update(created_at=created_at, modified_at=modified_at)
    return document


def _point(row: tuple[int, str, float | None, int, int]) -> MetricPoint:
    number, key, value, step, timestamp_ms = row
    return MetricPoint(number, key, math.nan if value is None else value, step, timestamp_ms)
