"""Locks on files, between processes: the kernel lets go of one when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_LOOKED_AT_S = 0.2


@contextmanager
def held(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[int]:
    """Hold the lock for the block; waits for whoever holds it, and calls `on_wait` before. Raises OSError.

    Yields its descriptor: a child that inherits it (`pass_fds`) holds the lock on when the block has ended.
    """
    with path.open("a") as file:
        if not _take(file):
            if on_wait:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


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
