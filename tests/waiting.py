"""Waiting in tests: until what is meant has come, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from core.operations.ledger import Operation, get_operation

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None],
    what: str | Callable[[], object] = "",
    *,
    timeout_s: float = 60.0,
    every_s: float = 0.03,
) -> T:
    """Return what `condition` gives as soon as it is true of something.

    `what` is said when that does not happen in time: words, or what to look at then, as a log. A condition that can no
    longer be met fails sooner by an assertion of its own.
    """
    deadline = time.monotonic() + timeout_s
    while not (seen := condition()):
        if time.monotonic() > deadline:
            wanted = (what if isinstance(what, str) else what()) or "what was to come"
            raise AssertionError(f"{timeout_s:g} s, and not yet: {wanted}; seen last: {seen!r}")
        time.sleep(every_s)
    return seen


def finish(operation: Operation, *states: str, timeout_s: float = 180.0) -> Operation:
    """Wait for the end of an operation, which has to be one of these, done by default; return it as it ended."""
    wait_until(lambda: get_operation(operation.id).finished, lambda: get_operation(operation.id), timeout_s=timeout_s)
    ended = get_operation(operation.id)
    assert ended.state in (states or ("done",)), (ended.title, ended.error, ended.note, ended.steps)
    return ended
