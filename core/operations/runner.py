"""Who carries operations out: one thread in one process at a time, the one that holds the ledger's lease."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.alerts.delivery import deliver, is_due
from core.errors import ServiceFailed, ServiceRefused, SignInFailed, Throttled, TunedeckError, Unreachable
from core.home import Home, current
from core.operations import turns
from core.operations.change import Change, Done, Outcome, Skip, StepSpec, Stop, Wait
from core.operations.ledger import WAITED, LeaseLost, Ledger
from core.operations.records import Failure, Operation, OperationState, StepState
from core.operations.sweep import Sweeper, tell_mistake
from core.operations.work import LOCAL_LOOK_S, LOOK_S, Work, not_confirmed
from core.pids import lives, start_time_of

LEASE_S = 15.0
LOOK_EVERY_S = 0.25
PATIENCE_S = 600.0  # a service that answers 5xx for longer than this is not going to be well again by itself
UNREACHABLE_S = 86400.0  # a laptop may be offline for a night
TURN_S = 0.5  # between two looks at whether an older operation about the same thing has ended
DELIVER_EVERY_S = 1.0
LOOK_VARIABLE = "TUNEDECK_LOOK_S"  # seconds in place of LOOK_S, for a stand-in of Azure whose clock hurries
THREADS = 4

_log = logging.getLogger(__name__)
_runners: dict[Path, Runner] = {}
_runners_lock = threading.Lock()


class Runner:
    """Advances the operations of one home while it holds the lease.

    Whatever it waits for is counted in seconds of its own clock, which nobody sets; a new process looks at all at once.
    """

    def __init__(self, home: Home, ledger: Ledger | None = None) -> None:
        self._ledger = ledger or Ledger(home)
        self._fence: int | None = None
        self._flights: dict[str, Future[None]] = {}
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}  # when an operation that waits is looked at again
        self._failing: dict[str, float] = {}  # since when a step has failed for a reason that may pass
        self._known: set[str] = set()  # the unfinished operations this process has had in hand
        self._sweeper = Sweeper(self._ledger)
        self._delivery, self._deliver_at = Future[None](), 0.0
        self._delivery.set_result(None)
        self._renewed_at = 0.0
        self._alive = threading.Event()
        self.stopping = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._alive.is_set()

    def run(self) -> None:
        """Work until `stopping` is set, then give the lease back."""
        self._alive.set()
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="operation")
        while not self.stopping.wait(LOOK_EVERY_S):
            try:
                if self._hold_lease():
                    self._advance_due(pool)
                    self._sweeper.look(pool)
                    self._deliver(pool)
            except Exception:  # noqa: BLE001 - the top loop: a full disk or a broken ledger must not end the thread for good
                _log.exception("the runner could not look at the ledger")
                self.stopping.wait(1.0)
        pool.shutdown(wait=True, cancel_futures=True)
        if self._fence is not None:
            self._ledger.drop_lease(self._fence)
            self._fence = None
        self._alive.clear()

    def _hold_lease(self) -> bool:
        now = time.monotonic()
        if self._fence is not None:
            if now - self._renewed_at < LEASE_S / 4:
                return True
            if self._ledger.renew_lease(self._fence, LEASE_S):
                self._renewed_at = now
                return True
            self._fence = None
        lease = self._ledger.read_lease()
        alive = bool(lease and lives(lease[0], lease[1]))
        self._fence = self._ledger.take_lease(os.getpid(), start_time_of(os.getpid()), LEASE_S, alive)
        self._renewed_at = now
        return self._fence is not None

    def _advance_due(self, pool: ThreadPoolExecutor) -> None:
        self._flights = {key: flight for key, flight in self._flights.items() if not flight.done()}
        for operation, is_wanted in self._ledger.list_unfinished():
            if operation.id in self._flights or self._fence is None:
                continue
            if is_wanted or time.monotonic() >= self._due.get(operation.id, 0.0):
                self._flights[operation.id] = pool.submit(self.advance, operation, self._fence)

    def _deliver(self, pool: ThreadPoolExecutor) -> None:
        """Begin to send the alerts that are due, one message at a time."""
        if time.monotonic() < self._deliver_at or not self._delivery.done():
            return
        self._deliver_at = time.monotonic() + DELIVER_EVERY_S
        if is_due(self._ledger.home):
            self._delivery = pool.submit(deliver, self._ledger.home)
            self._delivery.add_done_callback(tell_mistake)

    def advance(self, operation: Operation, fence: int) -> None:
        """Carry an unfinished operation as far as it goes without waiting."""
        if operation.finished:
            return
        work = Work[Change](self._ledger, operation, fence)
        try:
            self._take_up(work)
            while not self.stopping.is_set() and self._advance_step(work):
                pass
            if work.operation.finished:
                self._known.discard(operation.id)
                self._due.pop(operation.id, None)
        except LeaseLost:
            _log.info("operation %s is carried out by another process now", operation.id)
        except Exception:  # noqa: BLE001 - the top of an operation's thread
            _log.exception("operation %s could not be written", operation.id)

    def _take_up(self, work: Work[Change]) -> None:
        """Note once that another process watched this run before, so that its page can say what was missed."""
        operation, at = work.operation, work.operation.step
        if operation.id in self._known:
            return
        self._known.add(operation.id)
        if at is None or at.state is not StepState.RUNNING or operation.updated_at is None:
            return
        if operation.change.find_step(at.name).watches:
            now = datetime.now(UTC).isoformat()
            work.record(reattached={"at": now, "since": operation.updated_at.isoformat()})

    def _advance_step(self, work: Work[Change]) -> bool:
        """Do one step; True when the next may follow at once."""
        operation = work.operation
        at = operation.step
        if at is None:
            work.operation = self._ledger.save(replace(operation, state=OperationState.DONE, note=""), work.fence)
            return False
        # A request that may still be on its way is waited for: cancelled now, it would make a run that nobody ends.
        if operation.cancel_wanted and operation.change.cancellable and not operation.facts.get("unconfirmed"):
            self._finish(work, OperationState.CANCELLED, "Cancelled before this step.")
            return False
        if older := turns.find_older(self._ledger, operation, at):
            held = operation.with_step(replace(at, detail=f"Waits for another change to end: {older.title}."))
            self._wait(work, held, TURN_S)
            return False
        if at.state is not StepState.RUNNING or operation.state is not OperationState.RUNNING:
            begun = replace(at, state=StepState.RUNNING, started=at.started or datetime.now(UTC))
            work.operation = self._ledger.save(
                replace(operation, state=OperationState.RUNNING).with_step(begun), work.fence
            )
        spec = operation.change.find_step(at.name)
        try:
            outcome = _without_end(work, spec, _sooner(work, spec.run(work)))
        except LeaseLost:
            raise
        except TunedeckError as error:
            return self._take_error(work, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours ends this operation, never the runner
            mistake = TunedeckError(
                f"Tunedeck made a mistake in the step '{at.title}'.",
                "Retry; if it comes again, report the details.",
                "".join(traceback.format_exception(error))[-4000:],
            )
            return self._take_error(work, mistake)
        self._forget_errors(operation)
        return self._take_outcome(work, outcome)

    def _take_outcome(self, work: Work[Change], outcome: Outcome) -> bool:
        operation, at = work.operation, work.operation.step
        assert at is not None
        if isinstance(outcome, Stop):
            self._finish(work, OperationState.CANCELLED if outcome.cancelled else OperationState.DONE, outcome.detail)
            return False
        if isinstance(outcome, Wait):
            waiting = replace(operation, note="").with_step(replace(at, detail=outcome.detail))
            self._wait(work, replace(waiting, facts={**waiting.facts, **outcome.facts}), outcome.seconds)
            return False
        state = StepState.SKIPPED if isinstance(outcome, Skip) else StepState.DONE
        ended = replace(at, state=state, detail=outcome.detail, ended=datetime.now(UTC))
        facts = outcome.facts if isinstance(outcome, Done) else {}
        done = replace(operation, note="", facts={**operation.facts, **facts}).with_step(ended)
        work.operation = self._ledger.save(done, work.fence)
        return True

    def _take_error(self, work: Work[Change], error: TunedeckError) -> bool:
        """No answer and "slow down" are tried again, a missing identity is waited for, the rest ends the operation.

        A service that failed on its own side is tried again for PATIENCE_S, one that cannot be reached for a day.
        """
        operation, at = work.operation, work.operation.step
        assert at is not None
        if isinstance(error, SignInFailed) or self._may_pass(operation, error):
            pause = min(30.0, self._pauses.get(operation.id, 0.5) * 2)
            self._pauses[operation.id] = pause
            waits = isinstance(error, SignInFailed)
            note = f"{error.message} {error.hint}".strip() if waits else error.message
            detail = (
                not_confirmed(str(operation.facts["unconfirmed"]))
                if operation.facts.get("unconfirmed")
                else f"{error.message} Tunedeck tries again in {pause:.0f} s."
            )
            held = replace(
                operation, state=OperationState.WAITING if waits else OperationState.RUNNING, note=note
            ).with_step(replace(at, detail=detail))
            self._wait(work, held, pause)
            return False
        self._forget_errors(operation)
        failed = replace(at, state=StepState.FAILED, detail=error.message, ended=datetime.now(UTC))
        failure = Failure(error.message, error.hint, error.detail)
        work.operation = self._ledger.save(
            replace(operation, state=OperationState.FAILED, error=failure, note="").with_step(failed), work.fence
        )
        return False

    def _may_pass(self, operation: Operation, error: TunedeckError) -> bool:
        if not isinstance(error, (ServiceFailed, Unreachable, Throttled)):
            return False
        patience_s = PATIENCE_S if isinstance(error, ServiceFailed) else UNREACHABLE_S
        return time.monotonic() - self._failing.setdefault(operation.id, time.monotonic()) < patience_s

    def _wait(self, work: Work[Change], operation: Operation, seconds: float) -> None:
        self._due[operation.id] = time.monotonic() + seconds
        work.operation = self._ledger.save(operation, work.fence, waits=True)

    def _forget_errors(self, operation: Operation) -> None:
        self._pauses.pop(operation.id, None)
        self._failing.pop(operation.id, None)

    def _finish(self, work: Work[Change], state: OperationState, detail: str) -> None:
        now = datetime.now(UTC)
        left = [step for step in work.operation.steps if step.state in {StepState.WAITING, StepState.RUNNING}]
        steps = tuple(
            replace(
                step,
                state=StepState.SKIPPED,
                detail=detail if step is left[0] else "",
                ended=now if step.started else None,
            )
            if step in left
            else step
            for step in work.operation.steps
        )
        work.operation = self._ledger.save(replace(work.operation, state=state, steps=steps, note=""), work.fence)


def start_runner(home: Home | None = None) -> Runner:
    """Start this process's runner thread (daemon) for a home unless it runs; it works only while it holds the lease."""
    home = home or current()
    with _runners_lock:
        runner = _runners.get(home.path)
        if runner is None or runner.stopping.is_set():
            runner = _runners[home.path] = Runner(home)
            threading.Thread(target=runner.run, name="operations", daemon=True).start()
    return runner


def run_forever() -> None:
    """Work in this thread until interrupted: `python -m core.operations run`."""
    runner = Runner(current())
    try:
        runner.run()
    except KeyboardInterrupt:
        runner.stopping.set()


def _sooner(work: Work[Change], outcome: Outcome) -> Outcome:
    """Shorten a pause between two looks at a workspace that takes seconds, unless a request may be on its way to it."""
    if not isinstance(outcome, Wait) or outcome.seconds != LOOK_S or work.facts.get("unconfirmed"):
        return outcome
    look_s = LOCAL_LOOK_S if work.conn.cloud.is_local else float(os.environ.get(LOOK_VARIABLE, LOOK_S))
    return replace(outcome, seconds=look_s)


def _without_end(work: Work[Change], spec: StepSpec[Any], outcome: Outcome) -> Outcome:
    """Count what a step waits in all; raises ServiceRefused once that is longer than its patience."""
    if not isinstance(outcome, Wait) or spec.patience_s == math.inf:
        return outcome
    waited_s = float(work.facts.get(f"{WAITED}{spec.name}", 0.0)) + outcome.seconds
    if waited_s > spec.patience_s:
        raise ServiceRefused(
            f"'{spec.title}' has not ended after {spec.patience_s / 60:.0f} min: {outcome.detail}",
            "Look in the workspace at what it waits for. Try again to wait as long once more.",
        )
    return replace(outcome, facts={**outcome.facts, f"{WAITED}{spec.name}": waited_s})
