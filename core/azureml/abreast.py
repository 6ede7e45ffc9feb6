"""Requests side by side: at most MOST at once for a connection, however many lists are being read.

A task sends requests and waits for no other task: so they cannot wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from core.azureml.connection import Connection

T = TypeVar("T")
MOST = 8


def abreast(conn: Connection, tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Return what the tasks give, in their order; raises what the first of them raised that failed."""
    pool = conn.remember("requests abreast", lambda: ThreadPoolExecutor(MOST, "abreast"), math.inf)
    return list(pool.map(lambda task: task(), tasks))
