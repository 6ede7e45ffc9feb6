"""Snapshots of a workspace, read in the background."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from core.azureml.connection import Connection
from core.errors import TunedeckError, Unreachable

T = TypeVar("T")

THREADS = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
NOTHING_LASTS_S = 5.0  # "there is nothing yet" is looked at again, however long a value may be kept
KEPT_KEYS = 500  # a dashboard open for weeks looks at many runs


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """What is known of a key."""

    value: T | None
    """The last good value; None before the first."""
    read_at: datetime | None
    """When it was read; None before the first."""
    error: TunedeckError | None
    """Of the last try; None if that succeeded."""
    age_s: float | None
    """Since the value was read; None before the first."""
    loading: bool
    """Whether a read is under way or waits for a thread."""
    failures: int = 0
    """Tries that failed since the last good one; three make the value stale."""
    phase: object = None
    """What the thing was in when the value was read, such as the state of a run."""

    @property
    def has_value(self) -> bool:
        """Tell whether it was ever read."""
        return self.read_at is not None

    @property
    def is_stale(self) -> bool:
        """Tell whether the value is old because the last three tries failed."""
        return self.has_value and self.failures >= 3


@dataclass
class _Entry:
    """What is known of one key. Times are of the monotonic clock; 0.0 = never."""

    value: Any = None
    phase: object = None
    """Of the value."""
    flight_phase: object = None
    """Of the read under way."""
    good_at: float = 0.0
    error: TunedeckError | None = None
    failures: int = 0
    next_try_at: float = 0.0
    flying: bool = False
    wanted: bool = False
    """Dropped while it flew: what it brings is old already."""
    looked_at: float = 0.0
    landed: threading.Event = field(default_factory=threading.Event)


class Reader:
    """Reads keys of one connection in three threads; never makes its caller wait."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[str, Callable[[Connection], Any]]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._in_flight = 0
        self._unreachable = False

    def read(
        self, key: str, fn: Callable[[Connection], T], max_age_s: float = 2.0, phase: object = None
    ) -> Snapshot[T]:
        """Return what is known of `key` at once, and start a read if that is older than `max_age_s`.

        `fn` is called with the connection, in a thread: `reader.read("computes", list_computes)`. One flight per key;
        after errors the pause doubles from 1 s up to 30 s. While the service does not answer at all, one key at a time
        asks again, so a stopped service holds one thread and not all.

        phase: what the thing is in now, such as the state of a run. What was read in another is old whatever its age:
        no measure of a run that waited stands for the run that has ended.
        """
        now = time.monotonic()
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.looked_at = now
            if self._is_due(entry, now, max_age_s, phase):
                self._take_off(key, entry, fn, phase)
            return _to_snapshot(entry, now)

    def wait(self, key: str, fn: Callable[[Connection], T], timeout_s: float = 30.0) -> Snapshot[T]:
        """Read `key` afresh and wait for it: for tests and commands, never for a page."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.looked_at = time.monotonic()
            if not entry.flying:
                self._take_off(key, entry, fn)
            landed = entry.landed
        landed.wait(timeout_s)
        with self._lock:
            return _to_snapshot(entry, time.monotonic())

    def drop(self, prefix: str = "") -> None:
        """Make every key that starts with `prefix` be read again at the next look; values stay until then."""
        with self._lock:
            for key, entry in self._entries.items():
                if key.startswith(prefix):
                    entry.wanted = True
                    entry.next_try_at = 0.0

    def _is_due(self, entry: _Entry, now: float, max_age_s: float, phase: object) -> bool:
        if entry.flying or now < entry.next_try_at:
            return False
        if self._unreachable and self._in_flight:
            return False
        if entry.wanted or entry.failures or not entry.good_at or phase not in (None, entry.phase):
            return True
        return now - entry.good_at > (max_age_s if entry.value is not None else min(max_age_s, NOTHING_LASTS_S))

    def _take_off(self, key: str, entry: _Entry, fn: Callable[[Connection], Any], phase: object = None) -> None:
        """Queue a read. The caller holds the lock."""
        entry.flying, entry.wanted = True, False
        entry.flight_phase = entry.phase if phase is None else phase  # who names none has not seen another
        entry.landed = threading.Event()
        self._in_flight += 1
        if len(self._threads) < min(THREADS, self._in_flight):
            thread = threading.Thread(target=self._work, name=f"reader of {self.connection.alias}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._waiting.put((key, fn))

    def _work(self) -> None:
        while True:
            key, fn = self._waiting.get()
            value, error = self._try(key, fn)
            now = time.monotonic()
            with self._lock:
                self._land(self._entries[key], value, error, now)
                self._forget_old()

    def _try(self, key: str, fn: Callable[[Connection], Any]) -> tuple[Any, TunedeckError | None]:
        try:
            return fn(self.connection), None
        except TunedeckError as error:
            return None, error
        except Exception as error:  # noqa: BLE001  the top of a thread: a page must hear of it, and the thread go on
            what = f"'{key}' could not be read: {type(error).__name__}."
            return None, TunedeckError(what, "This is an error in Tunedeck.", traceback.format_exc())

    def _land(self, entry: _Entry, value: Any, error: TunedeckError | None, now: float) -> None:
        self._in_flight -= 1
        self._unreachable = isinstance(error, Unreachable)
        entry.flying, entry.error = False, error
        if error is None:
            entry.value, entry.phase = value, entry.flight_phase
            entry.good_at, entry.failures, entry.next_try_at = now, 0, 0.0
        else:
            entry.failures += 1
            entry.next_try_at = now + min(FIRST_PAUSE_S * 2 ** (entry.failures - 1), LONGEST_PAUSE_S)
        entry.landed.set()

    def _forget_old(self) -> None:
        if len(self._entries) > KEPT_KEYS:
            resting = [(entry.looked_at, key) for key, entry in self._entries.items() if not entry.flying]
            for _, key in sorted(resting)[: len(self._entries) - KEPT_KEYS]:
                del self._entries[key]


_readers: dict[Connection, Reader] = {}
_readers_lock = threading.Lock()


def reader_for(connection: Connection) -> Reader:
    """Return the one reader of a connection in this process."""
    with _readers_lock:
        if connection not in _readers:
            _readers[connection] = Reader(connection)
        return _readers[connection]


def _to_snapshot(entry: _Entry, now: float) -> Snapshot[Any]:
    age_s = now - entry.good_at if entry.good_at else None
    read_at = datetime.now(UTC) - timedelta(seconds=age_s) if age_s is not None else None
    return Snapshot(entry.value, read_at, entry.error, age_s, entry.flying, entry.failures, entry.phase)
