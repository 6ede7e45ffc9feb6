"""What came to each endpoint: a line a request with its time, deployment, answer and duration.

The file lies beside the endpoint's deployments and goes with them. It keeps the newest 40,000 requests or more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.home import write_atomically

FILE_NAME = "requests.log"
MOST_BYTES = 4 * 1024 * 1024  # a line has about 40: half of it is kept when it is full
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """One request that an endpoint answered."""

    at: float
    """When its answer had ended, seconds since 1970."""
    deployment: str
    status: int
    milliseconds: float


class RequestLog:
    """The requests of all endpoints of a home. root: the folder that holds a folder for each endpoint."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def add(self, endpoint: str, deployment: str, status: int, milliseconds: float) -> None:
        """Record a request; failing to is logged, since the request itself was answered."""
        path = self._root / endpoint / FILE_NAME
        with self._lock:
            try:
                append_line(path, f"{time.time():.3f} {deployment} {status} {milliseconds:.1f}")
            except FileNotFoundError:
                return  # the endpoint was deleted while it answered
            except OSError as error:
                _log.warning("a request to %s was not counted: %s", endpoint, error)

    def read(self, endpoint: str, since: float, until: float) -> Iterator[Answered]:
        """Yield the requests that were answered from `since` to before `until`, seconds since 1970."""
        try:
            text = (self._root / endpoint / FILE_NAME).read_text(encoding="ascii")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4 and since <= float(words[0]) < until:  # a kill may have cut a line
                yield Answered(float(words[0]), words[1], int(words[2]), float(words[3]))


def append_line(path: Path, line: str) -> None:
    """Write a line to the end of a log, whose older half goes when it is full; raises OSError."""
    with path.open("a", encoding="ascii") as file:
        file.write(f"{line}\n")
        is_full = file.tell() > MOST_BYTES
    if is_full:
        lines = path.read_bytes()[-MOST_BYTES // 2 :].partition(b"\n")[2]
        write_atomically(path, lines.decode("ascii"))
