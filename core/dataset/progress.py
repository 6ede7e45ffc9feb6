"""How far a long task is: rows, bytes, rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Progress:
    """How far a task is. verb: "Checked". Totals are 0 and left_s is None while they are unknown."""

    verb: str = ""
    rows: int = 0
    total_rows: int = 0
    bytes: int = 0
    total_bytes: int = 0
    rows_per_s: float = 0.0
    left_s: float | None = None

    @property
    def fraction(self) -> float | None:
        """Return how much is done, from 0 to 1, None if the total is unknown."""
        if self.total_bytes:
            return min(1.0, self.bytes / self.total_bytes)
        return min(1.0, self.rows / self.total_rows) if self.total_rows else None

    @property
    def words(self) -> str:
        """Return "Checked 120,000 of 207,865 rows · 702 of 1,300 MB · 52,000 rows/s · 14 s left"."""
        parts = [f"{self.verb} {self.rows:,}" + (f" of {self.total_rows:,}" if self.total_rows else "") + " rows"]
        if self.bytes:
            of = f" of {self.total_bytes / 1e6:,.0f}" if self.total_bytes else ""
            parts.append(f"{self.bytes / 1e6:,.0f}{of} MB")
        if self.rows_per_s >= 1:
            parts.append(f"{self.rows_per_s:,.0f} rows/s")
        if self.left_s is not None:
            parts.append(f"{self.left_s:,.0f} s left")
        return " · ".join(parts)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return kept progress; the worker of an earlier version keeps more."""
        return cls(**{name: value for name, value in kept.items() if name in cls.__dataclass_fields__})


class Meter:
    """Tells a listener how far a task is, four times a second at most."""

    def __init__(self, listener: Callable[[Progress], None], period_s: float = 0.25) -> None:
        self._listener, self._period_s = listener, period_s
        self._told_at = 0.0
        self._verb, self._last = "", 0
        self._began = (0.0, 0, 0)

    def tell(self, verb: str, rows: int = 0, total_rows: int = 0, done: int = 0, total: int = 0) -> None:
        """Report rows and bytes (`done` of `total`); a new verb or a new file starts a new rate."""
        now = time.monotonic()
        new_file, self._last = max(rows, done) < self._last, max(rows, done)
        if verb != self._verb or new_file:
            self._verb, self._began = verb, (now, rows, done)
            self._told_at = now if rows or done else 0.0  # small data is done before there is anything to tell
        if now - self._told_at < self._period_s:
            return
        self._told_at = now
        began, first_row, first_byte = self._began
        passed_s = max(now - began, 1e-3)
        rows_per_s, bytes_per_s = (rows - first_row) / passed_s, (done - first_byte) / passed_s
        left, rate = (total - done, bytes_per_s) if total else (total_rows - rows, rows_per_s)
        is_known = (total or total_rows) and rate > 0 and passed_s > 0.5
        left_s = max(0.0, left / rate) if is_known else None
        self._listener(Progress(verb, rows, total_rows, done, total, rows_per_s, left_s))
