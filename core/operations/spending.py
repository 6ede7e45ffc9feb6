"""What is about to bill is held against the workspace's cap and the price at the click, right before it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import BadInput
from core.operations.work import Work
from core.teardown.caps import Wanted, check_agreed, read_standing

# Two operations of this home do not both see room for one: each looks once the other's request has been answered.
_one_at_a_time = threading.Lock()


@contextmanager
def spending(work: Work[Any], agreed: str, find: Callable[[], Wanted]) -> Iterator[None]:
    """Let the block send what bills; raises BadInput, before it, where a cap or the price stands against that.

    agreed: what was shown at the click, as of `caps.to_agreed`; "" where nobody was asked. Then nothing starts either
    while it is not certain that a cap is kept.
    """
    if not work.conn.costs_money:
        yield
        return
    with _one_at_a_time:
        check_spending(work, agreed, find())
        yield


def check_spending(work: Work[Any], agreed: str, wanted: Wanted) -> None:
    """Raise BadInput where a cap or the price at the click stands against what is about to start."""
    if dearer := check_agreed(agreed, wanted.price):
        raise BadInput(f"{dearer} Nothing was sent.", "Look at the price, and start it again.")
    standing = read_standing(work.conn)
    answer = standing.check(wanted)
    if answer.blocked:
        raise BadInput(f"{answer.blocked} Nothing was sent.", answer.hint)
    if answer.unsure and standing.limits.hour and not agreed:  # a tag that makes no sense holds nobody back
        raise BadInput(f"{answer.unsure} Nothing was sent.", "Start it from the dashboard, which asks about it.")
