"""SQLite for what the dashboard remembers: one connection per thread, write transactions that begin at once.

A deferred transaction that reads and then writes fails at once under WAL and ignores the busy time-out, so every write
begins IMMEDIATE. No transaction spans a network call. What the ledger committed has reached the disk: one that forgot
what it sent would send it again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import TunedeckError
from core.migrations import Steps, bring_up_to_date, check_version
from core.schema import STEPS

BUSY_S = 5.0
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

_open: dict[Path, Database] = {}
_open_lock = threading.Lock()


class Database:
    """One SQLite file. Use `Database.at`, so that a process holds one per file."""

    def __init__(self, path: Path, steps: Steps, what: str, *, sure: bool) -> None:
        self._path, self._steps, self._what, self._sure = path, steps, what, sure
        self._local = threading.local()

    @classmethod
    def at(cls, path: Path, steps: Steps = STEPS, what: str = "ledger", *, sure: bool = True) -> Database:
        """Return the database in this file, made if missing and brought up to date.

        what: its name in a sentence. sure: whether a power cut may take nothing of it, at the price of a write to the
        disk for each change; one that need not be is begun anew where it is damaged.

        Raises Conflict for the file of a newer Tunedeck, TunedeckError for one that is no database.
        """
        with _open_lock:
            database = _open.get(path)
            if database is None or not path.exists():
                database = cls(path, steps, what, sure=sure)
                try:
                    database._bring_up_to_date()
                except TunedeckError:
                    if sure or path.exists():
                        raise
                    database._bring_up_to_date()  # it was damaged, and is gone
                _open[path] = database
        return database

    def _bring_up_to_date(self) -> None:
        with self._told():
            bring_up_to_date(self._connection(), self._steps)

    def rows(self, sql: str, *values: Any, **named: Any) -> list[sqlite3.Row]:
        """Return all rows of a query; its values in order, or by their names."""
        with self._told():
            return self._connection().execute(sql, named or values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query, or None."""
        with self._told():
            found: sqlite3.Row | None = self._connection().execute(sql, values).fetchone()
        return found

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside one write transaction; commits at the end, rolls back on an exception."""
        with self._told():
            connection = self._connection()
            connection.execute("begin immediate")
            try:
                check_version(connection, self._steps)  # a newer Tunedeck may have opened the home since
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
            check_version(connection, self._steps)
            connection.execute(f"pragma synchronous = {'full' if self._sure else 'normal'}")
            self._local.connection = connection
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite raises into a sentence about the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not self._sure and _code_of(error) in _DAMAGED:
                self._local = threading.local()
                for name in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + name).unlink(missing_ok=True)
            raise _explain(self._path, self._what, error) from error


def _code_of(error: sqlite3.DatabaseError) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _explain(path: Path, what: str, error: sqlite3.DatabaseError) -> TunedeckError:
    name, code = f"The {what} '{path.name}' of this home", _code_of(error)
    detail = f"{path}\n{error}"
    if code in _DAMAGED:
        word = "is no database" if code == sqlite3.SQLITE_NOTADB else "is damaged"
        hint = "Move it to another folder to begin a new one. Runs and endpoints are not in it; the workspace has them."
        return TunedeckError(f"{name} {word}. Nothing was changed.", hint, detail)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TunedeckError(f"{name} is in use by another program.", "Try again in a moment.", detail)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return TunedeckError(f"{name} could not be written.", "Free some space on its disk, then try again.", detail)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return TunedeckError(f"{name} cannot be opened for writing.", "Check who may write the home folder.", detail)
    return TunedeckError(f"{name} could not be used.", "Try again; if it comes again, run `make report`.", detail)
