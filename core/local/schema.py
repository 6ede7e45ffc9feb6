"""The schema of the local workspace's SQLite file, and the way from each older one to it."""

from __future__ import annotations

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
    # Names that Azure compares without case are found by their small letters (store.py).
    (
        "UPDATE OR IGNORE documents SET key = lower(key), parent = lower(parent) "
        "WHERE kind IN ('compute', 'endpoint', 'deployment')",
    ),
)
