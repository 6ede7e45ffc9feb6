"""Brings an SQLite file from whatever version it has to the newest.

A file says its version in `user_version`; one of before versions were counted says 0. Shared by both sides of the wire.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from core.errors import Conflict

Steps = Sequence[Sequence[str]]  # what leads from version n to n + 1


def bring_up_to_date(connection: sqlite3.Connection, steps: Steps) -> None:
    """Take the steps that a file has not taken yet, in one transaction; raises Conflict for a newer file."""
    check_version(connection, steps)
    connection.execute("PRAGMA journal_mode = WAL")
    if _read_version(connection) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[_read_version(connection) :]:  # read again: another process may have been first
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_version(connection: sqlite3.Connection, steps: Steps) -> None:
    """Raise Conflict where the file was written by a newer Tunedeck; changes nothing."""
    found = _read_version(connection)
    if found > len(steps):
        raise Conflict(
            f"This home was written by a newer Tunedeck (schema {found}; this one knows {len(steps)}).",
            "Update Tunedeck, or choose another home with TUNEDECK_HOME. Nothing was changed.",
        )


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
