"""Requests behind the pages: at most eight in flight in this process, those of the screen first, one that failed later.

It knows nothing of what is asked: a flight sends one request, and says when it wants to go again.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from typing import Protocol

from core.errors import TunedeckError

MOST = 8  # also of those that somebody waits for: whoever asks a registry holds `slots`
SCREEN, LIST, AHEAD = range(3)  # ranks: what is on screen flies first, what may come on screen last
slots = threading.BoundedSemaphore(MOST)


class Flight(Protocol):
    """Requests one after another; `go` and `fail` return in how many seconds it goes again, None where it is done."""

    def go(self) -> float | None:
        """Send one request; raises TunedeckError."""

    def fail(self, error: TunedeckError) -> float | None:
        """Hear why that did not work."""

    def end(self) -> None:
        """Let go of what it holds: it goes no more."""


class Flights:
    """Eight threads, begun as they are needed, and what waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._later: list[tuple[float, int, int, Flight]] = []
        self._ready: list[tuple[int, int, Flight]] = []
        self._numbers = itertools.count()
        self._threads = self._idle = 0

    def put(self, rank: int, flight: Flight, after_s: float = 0.0) -> None:
        """Have a flight go after so many seconds, those of a lower rank first."""
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + after_s, next(self._numbers), rank, flight))
            if not self._idle and self._threads < MOST:
                self._threads += 1
                threading.Thread(target=self._work, name="registry reader", daemon=True).start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            rank, flight = self._next()
            again_s = _go(flight)
            if again_s is None:
                flight.end()
            else:
                self.put(rank, flight, again_s)

    def _next(self) -> tuple[int, Flight]:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    _, number, rank, flight = heapq.heappop(self._later)
                    heapq.heappush(self._ready, (rank, number, flight))
                if self._ready:
                    rank, _, flight = heapq.heappop(self._ready)
                    return rank, flight
                self._idle += 1
                self._changed.wait(self._later[0][0] - now if self._later else None)
                self._idle -= 1


def _go(flight: Flight) -> float | None:
    try:
        return flight.go()
    except TunedeckError as error:
        return _fail(flight, error)
    except Exception as error:  # noqa: BLE001  the top of a thread: a page must hear of it, and the thread go on
        what = f"A registry could not be read: {type(error).__name__}."
        return _fail(flight, TunedeckError(what, "This is an error in Tunedeck.", traceback.format_exc()))


def _fail(flight: Flight, error: TunedeckError) -> float | None:
    try:
        return flight.fail(error)
    except TunedeckError:  # nor could that be kept: whoever looks at the page hears so from the disk itself
        return None


flights = Flights()
