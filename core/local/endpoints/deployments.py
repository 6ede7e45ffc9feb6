"""Keep the scorers of online deployments running: start, readiness, restart, log, traffic, end. Knows no route.

One thread looks at every endpoint and deployment. As with jobs, what is wanted is in the documents and what is so is in
the folders, so a server that takes over after a kill adopts living scorers, starts dead ones and finishes deletions.

    endpoint    {name, state, asked, tags, traffic, keys, operation}
    deployment  {endpoint, name, state, asked, sku, tags, model_dir, cores, gpus, secret, attempt, starting_since,
                 restarts, last_restart_at, last_exit, health, error, error_code, operation}
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from core.local import faults, processes, quota, shim
from core.local.backend import Backend
from core.local.jobs import runs, steps
from core.local.store import Document, now_utc
from core.local.wire import answers
from core.local.wire.errors import WireError

LOOK_EVERY_S = 0.2
LOAD_TIMEOUT_S = 300.0
STOP_GRACE_S = 3.0
TAIL_LINES = 20
MOST_QUICK_STARTS = 3
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0
_READY_NAME = "ready.json"
_STORAGE_LOG_NAME = "storage_initializer.txt"
_BUSY = ("Creating", "Updating", "Deleting")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_FAILURES: dict[str, Callable[[str], WireError]] = {
    "out-of-capacity": faults.out_of_capacity,
    "image-build": faults.image_build_failure,
    "liveness": faults.liveness_failure,
}
_log = logging.getLogger(__name__)


class Deployments:
    """The scorers of one workspace. `program` gives the command line of an engine program."""

    def __init__(self, backend: Backend, program: steps.Program = steps.engine_program) -> None:
        self._backend = backend
        self._program = program
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._probed: dict[str, tuple[float, int]] = {}
        self._since: dict[tuple[str, str], tuple[int, float]] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Adopt living scorers, start those that died with the machine, and begin to look."""
        for deployment in self._backend.store.list("deployment"):
            folder = self.folder_of(deployment)
            if deployment["state"] == "Succeeded" and not processes.is_alive(folder):
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
        """Look now: a document was changed."""
        self._wake.set()

    def folder_of(self, deployment: Document) -> Path:
        """Return the folder of a deployment's scorer."""
        return self._backend.home.deployments / str(deployment["endpoint"]) / str(deployment["name"])

    def read_port(self, deployment: Document) -> int | None:
        """Return the port of a scorer that has loaded its model and lives, or None."""
        folder = self.folder_of(deployment)
        if shim.read_attempt(folder) != deployment["attempt"]:
            return None
        try:
            port = int(json.loads((folder / _READY_NAME).read_text(encoding="utf-8"))["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return port if processes.is_alive(folder) else None

    def read_log(self, deployment: Document, container: str, tail: int) -> str:
        """Return the end of a container's log: InferenceServer or StorageInitializer."""
        name = _STORAGE_LOG_NAME if container == "StorageInitializer" else runs.LOG_NAME
        lines = processes.read_tail(self.folder_of(deployment) / name, tail, 4 * 1024 * 1024)
        return "\n".join([*lines, ""]) if lines else ""

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            try:
                for deployment in self._backend.store.list("deployment"):
                    self._look_and_survive(deployment)
                for endpoint in self._backend.store.list("endpoint"):
                    if endpoint["state"] in _BUSY:
                        self._settle_endpoint(endpoint)
            except (sqlite3.Error, OSError, WireError):
                _log.exception("looked at the deployments in vain, will look again")

    def _look_and_survive(self, deployment: Document) -> None:
        key = key_of(deployment)
        try:
            look = _WHAT_TO_DO.get(deployment["state"])
            if look:
                look(self, deployment)
        except (sqlite3.Error, OSError, WireError):
            raise
        except Exception as error:  # noqa: BLE001  (the watch over the others goes on)
            _log.exception("deployment %s failed in its watch", key)
            self._fail(deployment, f"The local workspace failed: {error!r}")

    # Starting

    def _bring_up(self, deployment: Document) -> None:
        folder = self.folder_of(deployment)
        if shim.read_attempt(folder) < deployment["attempt"]:
            if processes.is_alive(folder):
                self._end_gently(deployment)  # the scorer of the version before
            elif self._backend.profile.is_due("deployment", deployment["starting_since"]):
                try:
                    self._meet_faults(deployment, "out-of-capacity", "image-build")
                    self._launch(deployment)
                except OSError as error:
                    self._fail(deployment, f"The scorer could not be started: {error.strerror} ({error.filename}).")
                except WireError as failure:
                    self._fail(deployment, failure.message, failure.code)
        elif not processes.is_alive(folder):
            was_ended_from_outside = (
                processes.read_exit(folder) is None
            )  # with its shim: by the end of the machine, say
            if was_ended_from_outside and deployment["quick_restarts"] < MOST_QUICK_STARTS:
                self._begin_attempt(deployment, self._explain(deployment, tail=False))
            else:
                self._fail(deployment, self._explain(deployment))
        elif self._is_ready(deployment) and not self._has_deaf_container(deployment):
            self._change(deployment, {"state": "Succeeded", "health": "healthy", "error": None})
            self._note(deployment, "Ready.")
            answers.finish_operation(self._backend.store, deployment["operation"])
        elif self._waited_s("load", deployment) > LOAD_TIMEOUT_S:
            processes.kill(folder)
            self._fail(deployment, f"The model was not loaded within {LOAD_TIMEOUT_S:.0f} s.")

    def _meet_faults(self, deployment: Document, *kinds: str) -> None:
        """Raise what a fault that was asked for does to this deployment."""
        what = f"deployment '{deployment['name']}'"
        path = f"onlineEndpoints/{deployment['endpoint']}/deployments/{deployment['name']}"
        for kind in kinds:
            if self._backend.faults.take(kind, path):
                raise _FAILURES[kind](what)

    def _has_deaf_container(self, deployment: Document) -> bool:
        """End a scorer whose liveness probe is to fail, and tell whether it was so."""
        try:
            self._meet_faults(deployment, "liveness")
        except WireError as failure:
            processes.kill(self.folder_of(deployment))
            self._fail(deployment, failure.message, failure.code)
            return True
        return False

    def _launch(self, deployment: Document) -> None:
        folder = self.folder_of(deployment)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _READY_NAME).unlink(missing_ok=True)
        model = Path(deployment["model_dir"])
        size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        with (folder / _STORAGE_LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"[{now_utc()[:19]}Z] Model {deployment['asked']['model']}: {size} bytes, read where they are.\n")
        instances = quota.instances_of(deployment["sku"])
        environment = processes.clean_environment(
            processes.compute_environment(deployment["cores"] * instances, deployment["gpus"])
            | {str(key): str(value) for key, value in (deployment["asked"].get("environmentVariables") or {}).items()}
            | {"SCORE_SECRET": deployment["secret"]}
        )
        argv = [*self._program("score"), "--model", str(model), "--folder", str(folder)]
        argv += ["--cores", str(deployment["cores"]), "--instances", str(instances)]
        processes.start(folder, argv, environment, attempt=deployment["attempt"])

    def _is_ready(self, deployment: Document) -> bool:
        port = self.read_port(deployment)
        return port is not None and _answers(port, deployment["secret"])

    # Watching

    def _watch(self, deployment: Document) -> None:
        folder = self.folder_of(deployment)
        if shim.read_attempt(folder) < deployment["attempt"]:
            if not processes.is_alive(folder) and self._waited_s("pause", deployment) >= deployment.get("pause_s", 0.0):
                self._launch(deployment)
        elif not processes.is_alive(folder):
            self._begin_attempt(deployment, self._explain(deployment, tail=False))
        elif not processes.is_supervised(folder):
            processes.kill(folder)
        elif deployment["health"] != "healthy":
            if self._is_ready(deployment):
                self._change(deployment, {"health": "healthy"})
                self._note(deployment, "Ready again.")
        else:
            self._probe(deployment)

    def _begin_attempt(self, deployment: Document, reason: str, *, counts: bool = True) -> None:
        """Record that the scorer is started once more; the pause grows while it dies soon after each start."""
        soon = _seconds_since(deployment["starting_since"]) < _STEADY_S
        quick = deployment["quick_restarts"] + 1 if soon and counts else 0
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (quick - 1)) if quick > 1 else 0.0
        changes: Document = {
            "attempt": deployment["attempt"] + 1,
            "health": "restarting",
            "starting_since": now_utc(),
            "quick_restarts": quick,
            "pause_s": pause_s,
        }
        if counts:
            changes |= {"restarts": deployment["restarts"] + 1, "last_restart_at": now_utc(), "last_exit": reason}
        self._change(deployment, changes)
        self._note(deployment, f"{reason} It is started again." if counts else reason)

    def _probe(self, deployment: Document) -> None:
        """Ask a healthy scorer whether it still answers, as the liveness probe of the deployment says."""
        probe = deployment["asked"].get("livenessProbe") or {}
        period_s, timeout_s = read_duration(probe.get("period"), 10.0), read_duration(probe.get("timeout"), 2.0)
        key = key_of(deployment)
        last, failures = self._probed.get(key, (time.monotonic(), 0))
        if time.monotonic() - last < period_s:
            self._probed.setdefault(key, (last, failures))
            return
        port = self.read_port(deployment)
        failures = 0 if port and _answers(port, deployment["secret"], timeout_s) else failures + 1
        self._probed[key] = (time.monotonic(), failures)
        if failures >= int(probe.get("failureThreshold") or 30):
            self._note(deployment, f"{failures} liveness probes in a row had no answer.")
            self._probed.pop(key)
            processes.kill(self.folder_of(deployment))

    # Ending

    def _end_gently(self, deployment: Document) -> None:
        """Stop a scorer without waiting for it: SIGTERM first, SIGKILL when the grace is over."""
        folder = self.folder_of(deployment)
        if not deployment.get("stop_asked_at"):
            self._since.pop(("stop", key_of(deployment)), None)
            self._change(deployment, {"stop_asked_at": now_utc()})
            processes.ask_to_stop(folder)
        elif self._waited_s("stop", deployment) > STOP_GRACE_S:
            processes.kill(folder)

    def _waited_s(self, what: str, deployment: Document) -> float:
        """Return how long this server has waited for something of an attempt, however the clock is set."""
        now, key = time.monotonic(), (what, key_of(deployment))
        attempt, since = self._since.get(key, (-1, now))
        if attempt != deployment["attempt"]:
            since = now
            self._since[key] = (deployment["attempt"], now)
        return now - since

    def _delete(self, deployment: Document) -> None:
        folder = self.folder_of(deployment)
        if not processes.forbid(folder, deployment["attempt"]):
            self._end_gently(deployment)
            return
        shutil.rmtree(folder, ignore_errors=True)
        self._since = {key: since for key, since in self._since.items() if key[1] != key_of(deployment)}
        self._drop_traffic(deployment)
        self._backend.store.delete("deployment", key_of(deployment))
        answers.finish_operation(self._backend.store, deployment["operation"])
        self._wake.set()

    def _drop_traffic(self, deployment: Document) -> None:
        def drop(endpoint: Document) -> Document:
            endpoint["traffic"].pop(deployment["name"], None)
            (endpoint.get("mirror") or {}).pop(deployment["name"], None)
            return endpoint

        if self._backend.store.get("endpoint", deployment["endpoint"]):
            self._backend.store.update("endpoint", deployment["endpoint"], drop)

    def _settle_endpoint(self, endpoint: Document) -> None:
        store, name = self._backend.store, endpoint["name"]
        if endpoint["state"] != "Deleting":
            store.update("endpoint", name, lambda body: {**body, "state": "Succeeded"})
            answers.finish_operation(store, endpoint["operation"])
            return
        left = store.list("deployment", parent=name)
        for deployment in left:
            if deployment["state"] != "Deleting":
                self.begin_deletion(deployment)
        if left:
            return
        shutil.rmtree(self._backend.home.deployments / name, ignore_errors=True)
        store.delete("endpoint", name)
        answers.finish_operation(store, endpoint["operation"])

    def begin_deletion(self, deployment: Document) -> str:
        """Record that a deployment is to go; return the operation that ends when it has gone."""
        store = self._backend.store
        operation = answers.start_operation(store, deployment_id(deployment), deletes=True)
        change = {"state": "Deleting", "operation": operation, "stop_asked_at": None}
        store.update("deployment", key_of(deployment), lambda body: {**body, **change})
        self._wake.set()
        return operation

    def _fail(self, deployment: Document, message: str, code: str = "ResourceNotReady") -> None:
        self._change(deployment, {"state": "Failed", "health": "failed", "error": message, "error_code": code})
        self._note(deployment, "The deployment failed.")
        error = WireError(400, code, message)
        answers.finish_operation(self._backend.store, deployment["operation"], error=error)

    # Small hands

    def _change(self, deployment: Document, changes: Document) -> None:
        def apply(current: Document) -> Document | None:
            # Someone asked for another state since this document was read: the next look sees it.
            return None if current["operation"] != deployment["operation"] else {**current, **changes}

        self._backend.store.update("deployment", key_of(deployment), apply)
        self._wake.set()

    def _explain(self, deployment: Document, *, tail: bool = True) -> str:
        folder = self.folder_of(deployment)
        message = steps.explain_failure(folder, "The scorer", processes.read_exit(folder)).message
        return message if tail else message.partition("\n")[0]

    def _note(self, deployment: Document, line: str) -> None:
        """Write a line into the container's log, between the scorer's own."""
        folder = self.folder_of(deployment)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / runs.LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"[{now_utc()[:19]}Z tunedeck] {line}\n")


_WHAT_TO_DO: dict[str, Callable[[Deployments, Document], None]] = {
    "Creating": Deployments._bring_up,
    "Updating": Deployments._bring_up,
    "Succeeded": Deployments._watch,
    "Deleting": Deployments._delete,
}


def new_deployment(endpoint: str, name: str) -> Document:
    """Return what a deployment is before its first start."""
    return {
        "endpoint": endpoint,
        "name": name,
        "attempt": 0,
        "restarts": 0,
        "quick_restarts": 0,
        "last_restart_at": None,
        "last_exit": None,
        "pause_s": 0.0,
        "stop_asked_at": None,
        "secret": secrets.token_hex(24),
        "operation": "",
    }


def key_of(deployment: Document) -> str:
    """Return the key of a deployment's document."""
    return f"{deployment['endpoint']}/{deployment['name']}"


def deployment_id(deployment: Document) -> str:
    """Return the ARM id of a deployment."""
    return answers.arm_id("onlineEndpoints", deployment["endpoint"], "deployments", deployment["name"])


def read_duration(text: object, default_s: float) -> float:
    """Return an ISO 8601 duration of hours, minutes and seconds in seconds; raises WireError 400."""
    if text is None:
        return default_s
    found = _DURATION.fullmatch(str(text))
    if found is None or not any(found.groups()):
        raise WireError(400, "BadRequest", f"'{text}' is not a duration such as PT1M30S.")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _answers(port: int, secret: str, timeout_s: float = 2.0) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/", headers={"X-Score-Secret": secret})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _seconds_since(stored: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stored)).total_seconds()
