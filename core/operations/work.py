"""One operation in the hands of the runner: what its steps read, write down and send."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from core.azureml import connection as connections
from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.settings import find_settings
from core.errors import NotFound, ServiceFailed, ServiceRefused, Throttled, TunedeckError, Unreachable
from core.operations.change import Change, Outcome, Stop, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation

REPORT_EVERY_S = 0.5
LOOK_S = 1.0  # between two looks at whether something has arrived, or is gone
# In place of it: the local workspace is on this machine, counts no requests and takes seconds. Each look of the runner,
# which takes one four times a second, is one then.
LOCAL_LOOK_S = 0.2
SETTLE_LOOKS = 8  # how often: a request whose answer was lost may be on its way to the workspace for so many seconds
GONE_LOOKS = 2  # something is gone when it was absent so often in a row
CONFIRMED = "confirmed"

C = TypeVar("C", bound=Change)
T = TypeVar("T")


class Work(Generic[C]):
    """One operation of the kind C in the hands of the runner."""

    def __init__(self, ledger: Ledger, operation: Operation, fence: int) -> None:
        self.ledger = ledger
        self.operation = operation
        self.fence = fence
        self._reported_at = 0.0

    @property
    def change(self) -> C:
        """What was asked for."""
        return cast(C, self.operation.change)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known by now."""
        return self.operation.facts

    @property
    def conn(self) -> Connection:
        """The connection this operation belongs to; no request is sent by asking for it."""
        settings = find_settings(self.operation.connection, self.ledger.home)
        if settings is None:
            raise NotFound(
                f"The workspace '{self.operation.connection}' is no longer known here.", "Connect it again, then retry."
            )
        return connections.connect(settings, home=self.ledger.home)

    @property
    def tags(self) -> dict[str, str]:
        """What everything is tagged with that this operation makes."""
        return {**self.conn.policy_tags, tags.OPERATION: self.operation.id, tags.MADE_BY: tags.made_by()}

    def made(self, of: Mapping[str, str]) -> bool:
        """Tell by the tags of a thing whether this operation made it, and not another under its name."""
        return of.get(tags.OPERATION) == self.operation.id

    def record(self, **facts: Any) -> None:
        """Write facts before something is sent; raises LeaseLost when another process took over."""
        self.operation = replace(self.operation, facts={**self.operation.facts, **facts})
        self.operation = self.ledger.save(self.operation, self.fence)

    def report(self, detail: str) -> None:
        """Show how far a long step is, at most twice a second."""
        step = self.operation.step
        if step is None or time.monotonic() - self._reported_at < REPORT_EVERY_S:
            return
        self._reported_at = time.monotonic()
        self.operation = self.ledger.save(self.operation.with_step(replace(step, detail=detail)), self.fence)

    def send_once(
        self,
        name: str,
        what: str,
        exists: Callable[[], bool],
        send: Callable[[], object],
        *,
        bills: bool = False,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Outcome | None:
        """Send a request that must not arrive twice; None once the workspace has confirmed what it makes ("the run").

        The wish is recorded before the request, and that it was confirmed after it: from then on it is never sent
        again, also where what it made is gone (`find_confirmed`). When the answer is lost, the workspace is looked at
        until the request can no longer be on its way, and only then is it sent again, or given up where it was
        cancelled meanwhile. `exists` asks the workspace anew each time. Looks are counted, so that no clock matters.

        bills: a process that ended may have heard that it was confirmed, and it may have been deleted since; so what
        bills is not sent again by another process, but by a person's retry. Raises ServiceRefused then.
        guard: it is sent within this, which may raise: then it was not sent.
        """
        looks = self._looks_since_sent(name)
        if isinstance(looks, str):  # CONFIRMED
            return None
        if exists():
            self.record(**{f"sent_{name}": CONFIRMED, "unconfirmed": ""})
            return None
        if looks is not None and looks < SETTLE_LOOKS:
            self.record(**{f"sent_{name}": looks + 1, "unconfirmed": what})
            return Wait(not_confirmed(what), LOOK_S)
        if looks is not None and self.operation.cancel_wanted:
            self.record(unconfirmed="")
            return Stop("It did not arrive and is not sent again.", cancelled=True)
        if looks is not None and bills and self.facts.get(f"sent_by_{name}") != self.fence:
            self.record(**{f"sent_{name}": None, "unconfirmed": ""})
            raise ServiceRefused(
                f"Tunedeck was interrupted while it asked for {what}, and the workspace does not have it.",
                "It was not asked for again, since it may have been made and deleted. Try again to ask for it anew.",
            )
        if looks is not None:  # it did not arrive
            self.record(**{f"sent_{name}": None, "unconfirmed": ""})
        with guard():
            self._send(name, what, exists, send)
        self.record(**{f"sent_{name}": CONFIRMED, "unconfirmed": ""})
        return None

    def _send(self, name: str, what: str, exists: Callable[[], bool], send: Callable[[], object]) -> None:
        self.record(**{f"sent_{name}": 0, f"sent_by_{name}": self.fence, "unconfirmed": what})
        try:
            send()
        except (Unreachable, Throttled, ServiceFailed):
            raise
        except TunedeckError:
            if exists():  # refused because an earlier try, whose answer was lost, had been taken
                return
            self.record(**{f"sent_{name}": None, "unconfirmed": ""})  # it was refused: there is nothing to wait for
            raise

    def _looks_since_sent(self, name: str) -> int | str | None:
        """Return how often was looked since something was sent, CONFIRMED, or None where it was not sent.

        Before there was CONFIRMED, the time of sending stood here, and an empty `unconfirmed` said that all was well.
        """
        found = self.facts.get(f"sent_{name}")
        if isinstance(found, float):
            return None if not found else 0 if self.facts.get("unconfirmed") else CONFIRMED
        return found

    def find_confirmed(self, what: str, find: Callable[[], T | None]) -> T | None:
        """Return what `find` finds of a thing that was confirmed; None while it is not certain that it is gone.

        Raises NotFound once it was absent twice: somebody deleted it, and no polling makes it again.
        """
        found, key = find(), f"absent {what}"
        absent = 0 if found is not None else int(self.facts.get(key, 0)) + 1
        if absent >= GONE_LOOKS:
            self.record(**{key: 0}, vanished=True)
            raise NotFound(
                f"{what[0].upper()}{what[1:]} was deleted elsewhere while Tunedeck worked on it. It is not made again.",
                "Try again to make it anew.",
            )
        if absent != self.facts.get(key, 0):
            self.record(**{key: absent})
        return found


def not_confirmed(what: str) -> str:
    """Return what is said while an answer is missing."""
    return f"The workspace did not confirm {what}. Tunedeck is checking. It will not start a second one."
