"""The schema of the local workspace's SQLite file, and the way from each older one to it. Knows no document.

A file says its version in `user_version`. Files of before versions were counted say 0; their tables are those of 1.
"""

from __future__ import annotations

import sqlite3

from core.errors import Conflict

# What leads from version n to n + 1. A version that was released is never changed: what differs becomes another step.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE IF NOT EXISTS documents (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL, key TEXT NOT NULL, parent TEXT NOT NULL, body TEXT NOT NULL,
            created_at TEXT NOT NULL, modified_at TEXT NOT NULL,
            UNIQUE (kind, key)
        )""",
        "CREATE INDEX IF NOT EXISTS documents_by_parent ON documents (kind, parent, sequence)",
        """CREATE TABLE IF NOT EXISTS metrics (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id TEXT NOT NULL, key TEXT NOT NULL, value REAL, step INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL
        )""",
        "CREATE INDEX IF NOT EXISTS metrics_by_key ON metrics (run_id, key, id)",
        "CREATE TABLE IF NOT EXISTS ingest_offsets (source TEXT PRIMARY KEY, offset INTEGER NOT NULL)",
        """CREATE TABLE IF NOT EXISTS run_fields (
            run_id TEXT NOT NULL, sort TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (run_id, sort, key)
        )""",
    ),
    # A list of all of a kind in order of creation; without it SQLite sorts the whole kind for each page.
    ("CREATE INDEX documents_in_order ON documents (kind, sequence)",),
)
VERSION = len(STEPS)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Take a file from whatever version it has to this one, in one transaction; raises Conflict for a newer one."""
    check_version(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    if _read_version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[_read_version(connection) :]:  # read again: another process may have been first
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_version(connection: sqlite3.Connection) -> None:
    """Raise Conflict where the file was written by a newer Tunedeck; changes nothing."""
    found = _read_version(connection)
    if found > VERSION:
        raise Conflict(
            f"This home was written by a newer Tunedeck (schema {found}; this one knows {VERSION}).",
            "Update Tunedeck, or choose another home with TUNEDECK_HOME. Nothing was changed.",
        )


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
