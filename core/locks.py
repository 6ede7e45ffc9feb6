"""Locks on files, between processes: the kernel lets go of one when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_LOOKED_AT_S = 0.2


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock for the block; waits for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Hold the lock for the block where it is free; False where another holds it. Children do not inherit it.

    Who only looks (`is_held`) has it for an instant: that is waited out.
    """
    with path.open("a") as file:
        until = time.monotonic() + _LOOKED_AT_S
        while not (mine := _take(file)) and time.monotonic() < until:
            time.sleep(0.01)
        yield mine


def is_held(path: Path) -> bool:
    """Tell whether somebody holds the lock. Takes it shared, so that two who look do not see one another."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _take(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
