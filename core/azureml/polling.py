"""Long-running writes of the SDK: begin one, and ask later how it went.

The SDK's poller polls in a thread of its own and is the only one that hears why a write failed; the resource itself
only says "Failed". Its `result(timeout)` returns early without a word, so it is asked `done()` and never waited for.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from core.azureml.connection import Connection
from core.errors import ServiceFailed, Throttled, TunedeckError, Unreachable


class _Pollers:
    """The writes of one connection that go on, by what they change."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def put(self, what: str, doing: str, poller: Any) -> None:
        with self._lock:
            self._running[what] = (doing, poller)

    def goes_on(self, what: str) -> bool:
        with self._lock:
            return what in self._running and not self._running[what][1].done()

    def pop_done(self, what: str) -> tuple[str, Any] | None:
        with self._lock:
            if what not in self._running or not self._running[what][1].done():
                return None
            return self._running.pop(what)


def start_write(conn: Connection, doing: str, what: str, begin: Callable[..., Any], *args: Any) -> None:
    """Send a write and return when the service has taken it; `check_write` tells how it goes on."""
    _drop_polling_dots()
    _pollers(conn).put(what, doing, conn.call(doing, what, begin, *args))


def check_write(conn: Connection, what: str) -> TunedeckError | None:
    """Return why a write of this process failed; None while it goes on, when it went well, or when it is not ours.

    A poll that got no answer says nothing of the write: then the resource's own state has to tell.
    """
    done = _pollers(conn).pop_done(what)
    if done is None:
        return None
    doing, poller = done
    try:
        conn.call(doing, what, poller.result)
    except (Unreachable, Throttled, ServiceFailed):
        return None
    except TunedeckError as error:
        return error
    return None


def is_writing(conn: Connection, what: str) -> bool:
    """Tell whether a write of this process goes on; until it ends, what the resource says may be from before it."""
    return _pollers(conn).goes_on(what)


def _pollers(conn: Connection) -> _Pollers:
    return conn.remember("writes", _Pollers, math.inf)


class _WithoutDots:
    """Standard output without what the SDK's polling threads print; one dot a poll, with no way to turn it off."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("LROPoller("):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _drop_polling_dots() -> None:
    if not isinstance(sys.stdout, _WithoutDots):
        sys.stdout = _WithoutDots(sys.stdout)
