"""SQLite for what the dashboard remembers: one connection per thread, write transactions that begin at once.

Knows no table. A deferred transaction that reads and then writes fails at once under WAL and ignores the busy time-out,
so every write begins IMMEDIATE. No transaction spans a network call.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUSY_S = 5.0

_open: dict[Path, Database] = {}
_open_lock = threading.Lock()


class Database:
    """One SQLite file. Use `Database.at`, so that a process holds one per file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._schemas: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def at(cls, path: Path, schema: str) -> Database:
        """Return the database in this file, made if missing, with the tables of `schema` in it."""
        with _open_lock:
            database = _open.get(path)
            if database is None or not path.exists():
                database = _open[path] = cls(path)
        database._prepare(schema)
        return database

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._connection().execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query, or None."""
        return self._connection().execute(sql, values).fetchone()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside one write transaction; commits at the end, rolls back on an exception."""
        connection = self._connection()
        connection.execute("begin immediate")
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("rollback")
            raise

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
        return connection

    def _prepare(self, schema: str) -> None:
        with self._lock:
            if schema in self._schemas:
                return
            with self.write() as connection:
                for statement in schema.split(";"):
                    if statement.strip():
                        connection.execute(statement)
            self._schemas.add(schema)
