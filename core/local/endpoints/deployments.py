"""Keep the scorers of online deployments running: start, readiness, restart, traffic, end.

One thread looks at every endpoint and deployment. As with jobs, what is wanted is in the records and what is so is in
the folders, so a server that takes over after a kill adopts living scorers, starts dead ones and finishes deletions.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from core.local import faults, processes
from core.local.backend import Backend
from core.local.endpoints.resources import Deployment, Endpoint, Health
from core.local.endpoints.scorer import Scorer
from core.local.jobs import steps
from core.local.provisioned import ProvisioningState
from core.local.store import now_utc
from core.local.wire import answers
from core.local.wire.errors import WireError

LOOK_EVERY_S = 0.2
LOAD_TIMEOUT_S = 300.0
STOP_GRACE_S = 3.0
MOST_QUICK_STARTS = 3
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0
_FAILURES: dict[str, Callable[[str], WireError]] = {
    "out-of-capacity": faults.out_of_capacity,
    "image-build": faults.image_build_failure,
    "liveness": faults.liveness_failure,
}
_log = logging.getLogger(__name__)


class Deployments:
    """The deployments of one workspace. `program` gives the command line of an engine program."""

    def __init__(self, backend: Backend, program: steps.Program = steps.engine_program) -> None:
        self._backend = backend
        self._program = program
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._probed: dict[str, tuple[float, int]] = {}  # when, and how often in a row there was no answer
        self._since: dict[tuple[str, str], tuple[int, float]] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Adopt living scorers, start those that died with the machine, and begin to look."""
        for deployment in Deployment.list_all(self._backend.store):
            if deployment.state.ready and not self.scorer_of(deployment).is_alive:
                self._begin_attempt(deployment, "The local workspace started.", counts=False)
        self._thread = threading.Thread(target=self._loop, name="deployments", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; scorers go on and are adopted by the next server."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """Look now: a record was changed."""
        self._wake.set()

    def scorer_of(self, deployment: Deployment) -> Scorer:
        """Return the scorer of a deployment."""
        return Scorer(self._backend.home, deployment)

    def begin_deletion(self, deployment: Deployment) -> str:
        """Record that a deployment is to go; return the operation that ends when it has gone."""
        operation = deployment.begin_deletion(self._backend.store)
        self._wake.set()
        return operation

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            try:
                for deployment in Deployment.list_all(self._backend.store):
                    self._look_and_survive(deployment)
                for endpoint in Endpoint.list_all(self._backend.store):
                    if not endpoint.state.finished:
                        self._settle_endpoint(endpoint)
            except (sqlite3.Error, OSError, WireError):
                _log.exception("looked at the deployments in vain, will look again")

    def _look_and_survive(self, deployment: Deployment) -> None:
        try:
            if deployment.state.deleting:
                self._delete(deployment)
            elif deployment.state.ready:
                self._watch(deployment)
            elif not deployment.state.failed:
                self._bring_up(deployment)
        except (sqlite3.Error, OSError, WireError):
            raise
        except Exception as error:  # noqa: BLE001  (the watch over the others goes on)
            _log.exception("deployment %s failed in its watch", deployment.key)
            self._fail(deployment, f"The local workspace failed: {error!r}")

    # Starting

    def _bring_up(self, deployment: Deployment) -> None:
        scorer = self.scorer_of(deployment)
        if not scorer.is_of_this_attempt:
            if scorer.is_alive:
                self._end_gently(deployment)  # the scorer of the version before
            elif self._backend.profile.is_due("deployment", deployment.starting_since):
                self._start_scorer(deployment)
        elif not scorer.is_alive:
            # No exit status: it ended together with its shim, with the machine for example.
            was_killed = processes.read_exit(scorer.folder) is None
            if was_killed and deployment.quick_restarts < MOST_QUICK_STARTS:
                self._restart(deployment)
            else:
                self._fail(deployment, scorer.explain_end())
        elif scorer.answers():
            if self._fails_by_fault(deployment, "liveness"):
                processes.kill(scorer.folder)
                return
            self._change(deployment, state=ProvisioningState.SUCCEEDED, health=Health.HEALTHY, error=None)
            scorer.note("Ready.")
            answers.finish_operation(self._backend.store, deployment.operation)
        elif self._waited_s("load", deployment) > LOAD_TIMEOUT_S:
            processes.kill(scorer.folder)
            self._fail(deployment, f"The model was not loaded within {LOAD_TIMEOUT_S:.0f} s.")

    def _start_scorer(self, deployment: Deployment) -> None:
        if self._fails_by_fault(deployment, "out-of-capacity") or self._fails_by_fault(deployment, "image-build"):
            return
        try:
            self.scorer_of(deployment).launch(self._program)
        except OSError as error:
            self._fail(deployment, f"The scorer could not be started: {error.strerror} ({error.filename}).")

    def _fails_by_fault(self, deployment: Deployment, kind: str) -> bool:
        """Tell whether a fault was asked for on this deployment, and fail it then."""
        path = f"onlineEndpoints/{deployment.endpoint}/deployments/{deployment.name}"
        if not self._backend.faults.take(kind, path):
            return False
        failure = _FAILURES[kind](f"deployment '{deployment.name}'")
        self._fail(deployment, failure.message, failure.code)
        return True

    # Watching

    def _watch(self, deployment: Deployment) -> None:
        scorer = self.scorer_of(deployment)
        if not scorer.is_of_this_attempt:
            if not scorer.is_alive and self._waited_s("pause", deployment) >= deployment.pause_s:
                scorer.launch(self._program)
        elif not scorer.is_alive:
            self._restart(deployment)
        elif not processes.is_supervised(scorer.folder):
            processes.kill(scorer.folder)
        elif deployment.health is Health.HEALTHY:
            self._probe(deployment)
        elif scorer.answers():
            self._change(deployment, health=Health.HEALTHY)
            scorer.note("Ready again.")

    def _restart(self, deployment: Deployment) -> None:
        self._begin_attempt(deployment, self.scorer_of(deployment).explain_end().partition("\n")[0])

    def _begin_attempt(self, deployment: Deployment, reason: str, *, counts: bool = True) -> None:
        """Record that the scorer is started once more; the pause grows while it dies soon after each start."""
        now = now_utc()
        running_s = (datetime.now(UTC) - datetime.fromisoformat(deployment.starting_since)).total_seconds()
        quick = deployment.quick_restarts + 1 if running_s < _STEADY_S and counts else 0
        self._change(
            deployment,
            attempt=deployment.attempt + 1,
            health=Health.RESTARTING,
            starting_since=now,
            quick_restarts=quick,
            pause_s=min(_LONGEST_PAUSE_S, 2.0 ** (quick - 1)) if quick > 1 else 0.0,
            **({"restarts": deployment.restarts + 1, "last_restart_at": now, "last_exit": reason} if counts else {}),
        )
        self.scorer_of(deployment).note(f"{reason} It is started again." if counts else reason)

    def _probe(self, deployment: Deployment) -> None:
        """Ask a healthy scorer whether it still answers, as the liveness probe of the deployment says."""
        probe, key, now = deployment.liveness_probe, deployment.key, time.monotonic()
        last, failures = self._probed.setdefault(key, (now, 0))
        if now - last < probe.period_s:
            return
        scorer = self.scorer_of(deployment)
        failures = 0 if scorer.answers(probe.timeout_s) else failures + 1
        self._probed[key] = (time.monotonic(), failures)
        if failures >= probe.failure_threshold:
            scorer.note(f"{failures} liveness probes in a row had no answer.")
            self._probed.pop(key)
            processes.kill(scorer.folder)

    # Ending

    def _end_gently(self, deployment: Deployment) -> None:
        """Stop a scorer without waiting for it: SIGTERM first, SIGKILL when the grace is over."""
        folder = self.scorer_of(deployment).folder
        if not deployment.stop_asked_at:
            self._since.pop(("stop", deployment.key), None)
            self._change(deployment, stop_asked_at=now_utc())
            processes.ask_to_stop(folder)
        elif self._waited_s("stop", deployment) > STOP_GRACE_S:
            processes.kill(folder)

    def _waited_s(self, what: str, deployment: Deployment) -> float:
        """Return how long this server has waited for something of an attempt, however the clock is set."""
        now, key = time.monotonic(), (what, deployment.key)
        attempt, since = self._since.get(key, (-1, now))
        if attempt != deployment.attempt:
            since = now
            self._since[key] = (deployment.attempt, now)
        return now - since

    def _delete(self, deployment: Deployment) -> None:
        folder, store = self.scorer_of(deployment).folder, self._backend.store
        if not processes.forbid(folder, deployment.attempt):
            self._end_gently(deployment)
            return
        shutil.rmtree(folder, ignore_errors=True)
        self._since = {key: since for key, since in self._since.items() if key[1] != deployment.key}
        if Endpoint.find(store, deployment.endpoint):
            Endpoint.update(store, deployment.endpoint, lambda endpoint: endpoint.without(deployment.name))
        deployment.delete(store)
        answers.finish_operation(store, deployment.operation)
        self._wake.set()

    def _settle_endpoint(self, endpoint: Endpoint) -> None:
        store = self._backend.store
        if not endpoint.state.deleting:
            ready = ProvisioningState.SUCCEEDED
            Endpoint.update(store, endpoint.name, lambda current: replace(current, state=ready))
            answers.finish_operation(store, endpoint.operation)
            return
        left = Deployment.list_all(store, endpoint.name)
        for deployment in left:
            if not deployment.state.deleting:
                self.begin_deletion(deployment)
        if left:
            return
        shutil.rmtree(self._backend.home.deployments / endpoint.name, ignore_errors=True)
        endpoint.delete(store)
        answers.finish_operation(store, endpoint.operation)

    def _fail(self, deployment: Deployment, message: str, code: str = "ResourceNotReady") -> None:
        self._change(deployment, state=ProvisioningState.FAILED, health=Health.FAILED, error=message, error_code=code)
        self.scorer_of(deployment).note("The deployment failed.")
        answers.finish_operation(self._backend.store, deployment.operation, error=WireError(400, code, message))

    def _change(self, deployment: Deployment, **changes: Any) -> None:
        def apply(current: Deployment) -> Deployment | None:
            # Someone asked for another state since this record was read: the next look sees it.
            return replace(current, **changes) if current.operation == deployment.operation else None

        Deployment.update(self._backend.store, deployment.key, apply)
        self._wake.set()
