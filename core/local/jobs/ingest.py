"""Carries what a step measures from its metrics.jsonl into the store.

How far it got is stored with the rows, in one transaction: a server that is killed in between reads none twice and
loses none. The lines are brought to the disk before their offset is, or a power cut could leave a file that is
shorter than what was read of it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from core.local.store import METRICS_NAME, Store

_LIMIT_BYTES = 4 * 1024 * 1024

# The Trainer of Azure's component logs no tokens.
_NOT_ON_AZURE = ("tokens_per_second",)

Row = tuple[str, float, int, int]


class Ingest:
    """Reads the new lines of metric files; remembers offsets so that an idle look costs one stat.

    as_azure: whether a run measures what Azure's component does, and on the run of the step alone.
    """

    def __init__(self, store: Store, *, as_azure: bool = False) -> None:
        self._store = store
        self._as_azure = as_azure
        self._offsets: dict[str, int] = {}

    def read(self, folder: Path, run_id: str, root_id: str) -> int:
        """Store what was measured since the last call on the run and its root; return the number of rows."""
        path = folder / METRICS_NAME
        source = f"{run_id}/{METRICS_NAME}"
        if source not in self._offsets:
            self._offsets[source] = self._store.ingest_offset(source)
        total = 0
        while chunk := _read_lines(path, self._offsets[source]):
            rows = [row for line in chunk.splitlines() if (row := _parse(line))]
            if self._as_azure:
                rows = [row for row in rows if row[0] not in _NOT_ON_AZURE]
            offset = self._offsets[source] + len(chunk)
            also = "" if self._as_azure or root_id == run_id else root_id
            self._store.append_metrics(run_id, rows, source=source, offset=offset, also_run_id=also)
            self._offsets[source] = offset
            total += len(rows)
        return total

    def forget(self, run_id: str) -> None:
        """Drop the offset kept in memory for a run that is over."""
        self._offsets.pop(f"{run_id}/{METRICS_NAME}", None)


def _read_lines(path: Path, offset: int) -> bytes:
    """Return whole lines only: the last one may be half written."""
    try:
        if path.stat().st_size <= offset:
            return b""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            file.seek(offset)
            chunk = file.read(_LIMIT_BYTES)
    except FileNotFoundError:
        return b""
    return chunk[: chunk.rfind(b"\n") + 1]


def _parse(line: bytes) -> Row | None:
    """Return one row; None for a line that is none, since a command may write what it likes."""
    try:
        row = json.loads(line)
        return str(row["key"]), float(row["value"]), int(row.get("step") or 0), int(row["timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
