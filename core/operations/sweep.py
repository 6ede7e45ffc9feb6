"""Delete what is due, wherever it was made: by the runner of every dashboard, or once from a command.

Several sweepers at once do no harm: each asks the workspace what is due and whether it is still there, a deletion that
is under way is not asked for again, and only what was seen to be gone stands on a receipt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from core.alerts.book import AlertBook
from core.alerts.events import Alert
from core.azureml.connection import Connection, connect
from core.azureml.settings import list_settings
from core.errors import TunedeckError
from core.operations.at_cap import start_at_cap
from core.operations.due_deletion import start_due_deletion
from core.operations.idle import start_chosen
from core.operations.ledger import Ledger
from core.operations.news import tell_cap, tell_no_ends, tell_no_sweep, tell_soon
from core.operations.records import Operation
from core.teardown.caps import list_capped
from core.teardown.due import Timed, Verdict, list_timed
from core.teardown.idle import find_chosen
from core.teardown.rate_looks import look_at_rates

FIRST_S = 5.0  # after a start: what fell due meanwhile bills
EVERY_S = 20.0
EVERY_ON_AZURE_S = 60.0
IDLE_EVERY_S = 240.0  # Azure Monitor's values come by the minute, some minutes late
RATES_EVERY_S = 120.0  # less than half of what counts as a time in which nobody looked
TOLD_AT_PAUSE_S = 480.0  # a quarter of an hour after the first failure
LONGEST_PAUSE_S = 1800.0  # where a workspace cannot be asked: nobody is signed in, or it does not run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What a sweep found about one resource, and the operation that ends it."""

    timed: Timed
    outcome: str
    failed: bool = False
    """Whether its tags say what is not obeyed."""
    operation: Operation | None = None


def sweep(
    ledger: Ledger,
    conn: Connection,
    problems: list[TunedeckError],
    *,
    strict: bool = False,
    dry: bool = False,
    idle: bool = True,
) -> list[Swept]:
    """Record the end of what is due, of what is idle and of what came to its cap, each where that was chosen.

    Return all with such tags. problems: takes why a part of the workspace could not be read; dry: nothing is recorded;
    idle: whether the metrics are asked what is idle.
    """
    everything = list_timed(conn, problems)
    found = [
        Swept(each, str(each.verdict), each.verdict.ignored, None if dry else _delete(ledger, conn, each, strict))
        for each in everything
        if each.verdict is not Verdict.STAYS
    ]
    if not dry:
        _note(ledger, *(tell_soon(conn.alias, each) for each in everything))
    for timed in (each for each in everything if idle and each.verdict is not Verdict.DUE):
        if used := find_chosen(conn, timed):
            begun = None if dry else start_chosen(ledger, conn.alias, used)
            found.append(Swept(timed, used.words, bool(used.choice.problem), begun))
    try:
        for timed, capped in list_capped(conn, everything):
            begun = None if dry else start_at_cap(ledger, conn.alias, capped)
            if not dry:
                _note(ledger, tell_cap(conn.alias, capped))
            found.append(Swept(timed, capped.words, bool(capped.problem), begun))
    except TunedeckError as error:
        problems.append(error)
    return found


def _delete(ledger: Ledger, conn: Connection, timed: Timed, strict: bool) -> Operation | None:
    if timed.verdict is not Verdict.DUE or timed.state == "Deleting":
        return None
    return start_due_deletion(ledger, conn.alias, timed, strict=strict)


def _note(ledger: Ledger, *alerts: Alert | None) -> None:
    book = AlertBook(ledger.home)
    for alert in filter(None, alerts):
        book.note(alert)


class Sweeper:
    """Looks at every known workspace again and again, never in its caller's thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._failing: dict[str, str] = {}  # since when a workspace cannot be swept
        self._next_rates: dict[str, float] = {}
        self._next_idle: dict[str, float] = {}
        self._begun = time.monotonic()

    def look(self, pool: ThreadPoolExecutor) -> None:
        """Begin to sweep the workspaces whose turn it is."""
        now = time.monotonic()
        for settings in list_settings(self._ledger.home):
            if now >= self._next.setdefault(settings.alias, self._begun + FIRST_S):
                self._next[settings.alias] = float("inf")  # until this sweep has ended
                swept = pool.submit(self._sweep, connect(settings, home=self._ledger.home))
                swept.add_done_callback(tell_mistake)

    def _sweep(self, conn: Connection) -> None:
        every_s = EVERY_ON_AZURE_S if conn.costs_money else EVERY_S
        pause_s = self._pauses.get(conn.alias, every_s)
        try:
            problems: list[TunedeckError] = []
            asks = time.monotonic() >= self._next_idle.get(conn.alias, 0.0)
            if asks:
                self._next_idle[conn.alias] = time.monotonic() + IDLE_EVERY_S
            found = sweep(self._ledger, conn, problems, idle=asks)
            for problem in problems:
                _log.info("%s was swept in part: %s", conn.alias, problem.message)
            self._pauses.pop(conn.alias, None)
            self._failing.pop(conn.alias, None)
            pause_s = min([every_s, *_until_due(each.timed for each in found)])
        except TunedeckError as error:
            _log.info("%s could not be swept: %s", conn.alias, error.message)
            self._pauses[conn.alias] = min(LONGEST_PAUSE_S, pause_s * 2)
            since = self._failing.setdefault(conn.alias, conn.now.isoformat(timespec="seconds"))
            if conn.costs_money and self._pauses[conn.alias] >= TOLD_AT_PAUSE_S:
                _note(self._ledger, tell_no_sweep(conn.alias, since, error.message))
            return
        finally:  # a mistake must not end the sweeping for good
            self._next[conn.alias] = time.monotonic() + pause_s
        self._look_at_rates(conn)

    def _look_at_rates(self, conn: Connection) -> None:
        """Write down what bills, where it is time to; no sweep waits for it or is put off by its failure."""
        now = time.monotonic()
        if now < self._next_rates.get(conn.alias, 0.0):
            return
        self._next_rates[conn.alias] = now + RATES_EVERY_S
        try:
            found = look_at_rates(conn)
            _note(self._ledger, *tell_no_ends(conn.alias, found, conn.now))
        except TunedeckError as error:
            _log.info("what bills in %s was not written down: %s", conn.alias, error.message)


def tell_mistake(swept: Future[None]) -> None:
    """Log what ended a part of the background's work; it is begun again."""
    if not swept.cancelled() and (mistake := swept.exception()):
        _log.error("a sweep or a delivery ended in a mistake", exc_info=mistake)


def _until_due(found: Iterable[Timed]) -> list[float]:
    """Return in how many seconds each will be due, as its workspace's clock goes."""
    later = [each for each in found if each.verdict is Verdict.LATER]
    return [(each.delete_at - each.now).total_seconds() + 1.0 for each in later if each.delete_at]
