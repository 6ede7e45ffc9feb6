"""The process that serves a deployment: it is found again, asked, started and ended through its folder."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from core.home import Home
from core.local import processes, shim
from core.local.endpoints.resources import Deployment
from core.local.jobs import runs, steps
from core.local.store import now_utc

_READY_NAME = "ready.json"
_STORAGE_LOG_NAME = "storage_initializer.txt"
_LONGEST_LOG_BYTES = 4 * 1024 * 1024


class Scorer:
    """The scorer of a deployment."""

    def __init__(self, home: Home, deployment: Deployment) -> None:
        self._home = home
        self.folder = home.deployments / deployment.endpoint / deployment.name
        self._deployment = deployment

    @property
    def is_of_this_attempt(self) -> bool:
        """Tell whether the deployment's latest attempt was started."""
        return shim.read_attempt(self.folder) >= self._deployment.attempt

    @property
    def is_alive(self) -> bool:
        """Tell whether a scorer lives, of this attempt or an earlier one."""
        return processes.is_alive(self.folder)

    def read_port(self) -> int | None:
        """Return the port of a scorer that has loaded its model and lives, or None."""
        if shim.read_attempt(self.folder) != self._deployment.attempt:
            return None
        try:
            port = int(json.loads((self.folder / _READY_NAME).read_text(encoding="utf-8"))["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return port if self.is_alive else None

    def answers(self, timeout_s: float = 2.0) -> bool:
        """Tell whether it has loaded its model and answers."""
        port = self.read_port()
        if not port:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.request("GET", "/", headers={"X-Score-Secret": self._deployment.secret})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def launch(self, program: steps.Program) -> None:
        """Start the deployment's latest attempt."""
        deployment = self._deployment
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _READY_NAME).unlink(missing_ok=True)
        model = Path(deployment.model_dir)
        size_bytes = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        with (self.folder / _STORAGE_LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"[{now_utc()[:19]}Z] Model {deployment.model}: {size_bytes} bytes, read where they are.\n")
        environment = processes.clean_environment(
            processes.compute_environment(deployment.cores * deployment.instances, deployment.gpus)
            | deployment.environment
            | {"SCORE_SECRET": deployment.secret, "TUNEDECK_SPEEDS": str(self._home.speeds)}
        )
        argv = [*program("score"), "--model", str(model), "--folder", str(self.folder)]
        argv += ["--cores", str(deployment.cores), "--instances", str(deployment.instances)]
        processes.start(self.folder, argv, environment, attempt=deployment.attempt)

    def explain_end(self) -> str:
        """Return why it ended: a sentence, then the last lines of its log."""
        return steps.explain_failure(self.folder, "The scorer", processes.read_exit(self.folder)).message

    def note(self, line: str) -> None:
        """Write a line into the container's log, between the scorer's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / runs.LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"[{now_utc()[:19]}Z tunedeck] {line}\n")

    def read_log(self, container: str, tail: int) -> str:
        """Return the end of a container's log: InferenceServer or StorageInitializer."""
        name = _STORAGE_LOG_NAME if container == "StorageInitializer" else runs.LOG_NAME
        lines = processes.read_tail(self.folder / name, tail, _LONGEST_LOG_BYTES)
        return "\n".join([*lines, ""]) if lines else ""
