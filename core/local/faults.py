"""Faults on demand, for tests and for teaching: the next N answers to a route fail in a way that Azure fails.

They lie in one small file of the home, which `python -m core.local fault` writes and the server reads when it changes:
no fault, no cost but one `stat`. Two sorts: what a request is answered (the gate asks for it), and what becomes of work
(runner and deployments ask when they come to it).
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.errors import BadInput
from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME, Home, write_atomically
from core.local.wire.answers import WORKSPACE_PATH
from core.local.wire.errors import WireError, expired_token
from core.locks import held

FILE_NAME = "faults.json"
_WORKSPACE = WORKSPACE_PATH.format(subscription=SUBSCRIPTION_ID, group=RESOURCE_GROUP, workspace=WORKSPACE_NAME)
_NEVER = ("/health",)  # it is how an operator finds out what goes on
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A sort of fault."""

    words: str
    seconds: float = 0.0
    """What `--seconds` is where it is not given."""


KINDS: dict[str, Kind] = {
    "throttle": Kind("429 with Retry-After (--seconds)", 1.0),
    "error": Kind("500"),
    "unavailable": Kind("503"),
    "slow": Kind("the right answer, late (--seconds)", 5.0),
    "drop": Kind("the connection ends without an answer"),
    "expired-token": Kind("401, the token has expired"),
    "quota": Kind("400, no quota for the size; of a compute or a deployment that is created"),
    "out-of-capacity": Kind("no machine is free for a job (again after --seconds) or a deployment", 5.0),
    "image-build": Kind("the image of a job or a deployment cannot be built"),
    "liveness": Kind("the container of a deployment does not pass its liveness probe"),
    "preempt": Kind("the node of a running job is taken away; the job is queued again"),
}


@dataclass(frozen=True)
class Fault:
    """A fault that is on. route: "GET computes/*", a method or none, then a pattern of a path below the workspace."""

    kind: str
    route: str = "*"
    left: int = 1
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """Return one line: "throttle on GET computes/*, 3 more, 2 s"."""
        pause = f", {self.seconds:g} s" if self.seconds else ""
        return f"{self.kind} on {self.route}, {self.left} more{pause}"

    def fits(self, kind: str, method: str, path: str) -> bool:
        """Tell whether it is this one's turn."""
        first, _, rest = self.route.partition(" ")
        wanted, pattern = (first, rest.strip()) if rest else ("*", first)
        return (
            self.kind == kind and wanted.upper() in ("*", method) and fnmatch.fnmatchcase(path.lower(), pattern.lower())
        )


class Faults:
    """The faults of one home. Safe to share between threads and processes."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / FILE_NAME
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._faults: tuple[Fault, ...] = ()

    def active(self) -> tuple[Fault, ...]:
        """Return the faults that are on."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._read_at, self._faults = None, ()
            return ()
        if self._read_at != (status.st_mtime_ns, status.st_ino):
            self._read_at, self._faults = (status.st_mtime_ns, status.st_ino), _read(self._path)
            if self._faults:
                _log.warning("Faults are on: %s", "; ".join(fault.words for fault in self._faults))
        return self._faults

    def add(self, kind: str, route: str = "*", times: int = 1, seconds: float | None = None) -> Fault:
        """Switch a fault on; raises BadInput for what is none."""
        if kind not in KINDS:
            raise BadInput(f"'{kind}' is no fault.", f"There are: {', '.join(KINDS)}.")
        if times < 1 or (seconds is not None and not 0 <= seconds <= 600):
            raise BadInput("A fault happens at least once, and lasts 0 to 600 seconds.", "Change --times or --seconds.")
        fault = Fault(kind, route, times, KINDS[kind].seconds if seconds is None else seconds)
        with self._writing() as faults:
            faults.append(fault)
        return fault

    def clear(self) -> tuple[Fault, ...]:
        """Switch all faults off; return which were on."""
        with self._writing() as faults:
            gone = tuple(faults)
            faults.clear()
        return gone

    def take(self, kind: str, path: str, method: str = "*") -> Fault | None:
        """Return the first fault of that kind whose turn it is, and count it; None where there is none."""
        if not any(fault.fits(kind, method, path) for fault in self.active()):
            return None
        with self._writing() as faults:
            for index, fault in enumerate(faults):
                if fault.fits(kind, method, path):
                    faults[index : index + 1] = [replace(fault, left=fault.left - 1)] if fault.left > 1 else []
                    _log.warning("Fault: %s strikes %s %s", fault.kind, method, path)
                    return fault
        return None

    async def strike(self, method: str, path: str) -> bool:
        """Let a request meet its fault: waits, raises WireError, or returns True where it gets no answer at all."""
        if not self.active() or path in _NEVER:
            return False
        path = path.lower().removeprefix(f"{_WORKSPACE}/".lower())
        if late := self.take("slow", path, method):
            await asyncio.sleep(late.seconds)
        for kind in _ANSWERS:
            if (kind != "quota" or _asks_for_cores(method, path)) and (fault := self.take(kind, path, method)):
                raise _refusal_of(fault, path)
        return self.take("drop", path, method) is not None

    @contextmanager
    def _writing(self) -> Iterator[list[Fault]]:
        """Give the faults to change, and write them; one at a time, also between processes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, held(self._path.with_suffix(".lock")):
            faults = list(_read(self._path))
            before = list(faults)
            yield faults
            if not faults:
                self._path.unlink(missing_ok=True)
            elif faults != before:
                write_atomically(self._path, json.dumps([asdict(fault) for fault in faults], indent=1), 0o600)


_ANSWERS = ("throttle", "error", "unavailable", "expired-token", "quota")


def _read(path: Path) -> tuple[Fault, ...]:
    """Return the faults of a file; a file that cannot be read holds none, and a warning is logged."""
    try:
        return tuple(Fault(**fields) for fields in json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        _log.warning("%s holds no faults: %r", path.name, error)
        return ()


def _asks_for_cores(method: str, path: str) -> bool:
    return method == "PUT" and (path.startswith("computes/") or "/deployments/" in path)


def _refusal_of(fault: Fault, path: str) -> WireError:
    if fault.kind == "throttle":
        seconds = str(max(1, round(fault.seconds)))
        return WireError(429, "TooManyRequests", "Too many requests were sent. Wait.", headers={"Retry-After": seconds})
    if fault.kind == "error":
        return WireError(500, "InternalServerError", "A fault that was asked for: the service failed.")
    if fault.kind == "unavailable":
        return WireError(503, "ServiceUnavailable", "A fault that was asked for: the service cannot be reached.")
    if fault.kind == "expired-token":
        return expired_token()
    if path.startswith("computes/"):
        return WireError(
            400,
            "ClusterMinNodesExceedCoreQuota",
            "The specified subscription has a Standard NCADSA100v4 family vCPU quota of 0 and cannot hold the nodes "
            "asked for, which maps to 24 vCPUs.",
        )
    reason = (
        "Not enough quota available for Standard_NC24ads_A100_v4 in this subscription. Current usage/limit: 0/6. "
        "Additional needed: 24"
    )
    details = [("InferencingClientCreateDeploymentFailed", f'"VmSize":["{reason}"]')]
    return WireError(400, "BadRequest", "The deployment cannot be created.", details)


def out_of_capacity(what: str) -> WireError:
    """Return the failure of an allocation."""
    return WireError(400, "OutOfCapacity", f"No machine of the size of {what} is free in this region.")


def image_build_failure(what: str) -> WireError:
    """Return the failure of an image."""
    message = f"The image of {what} could not be built: pip found no versions that fit each other."
    return WireError(400, "ImageBuildFailure", message)


def liveness_failure(what: str) -> WireError:
    """Return the failure of a container that does not answer."""
    message = f"The container of {what} did not pass its liveness probe: 30 probes in a row had no answer."
    return WireError(400, "ResourceNotReady", message)
