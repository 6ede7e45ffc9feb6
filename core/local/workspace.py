"""The one object every route works on, and what the routes expect of the parts that run things."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.home import Home
from core.local.blobs import BlobStore
from core.local.faults import Faults
from core.local.machine import Machine
from core.local.profile import Profile, ServerEnds
from core.local.registry import Registry
from core.local.store import Store, now_utc
from core.local.wire import answers
from core.local.wire.answers import WireError
from core.local.wire.auth import Gatekeeper
from core.local.wire.request_log import RequestLog

if TYPE_CHECKING:
    from core.local.endpoints.deployments import Deployments
    from core.local.jobs.runner import Runner

_log = logging.getLogger(__name__)


@dataclass
class Workspace:
    """A home being served. `runner` and `deployments` are set once, before the first request.

    Both are built with the workspace alone. Their `start()` is called when the server starts and must adopt what an
    earlier server left running; `stop()` ends their threads and leaves the subprocesses alone.
    """

    home: Home
    store: Store
    machine: Machine
    registry: Registry
    gatekeeper: Gatekeeper
    url: str
    profile: Profile = field(default_factory=Profile)
    started_at: str = field(default_factory=now_utc)
    blobs: BlobStore = field(init=False, repr=False)
    faults: Faults = field(init=False, repr=False)
    request_log: RequestLog = field(init=False, repr=False)
    runner: Runner = field(init=False, repr=False)
    deployments: Deployments = field(init=False, repr=False)
    _background: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="operation"), repr=False
    )

    def __post_init__(self) -> None:
        self.blobs = BlobStore(self)
        self.faults = Faults(self.home)
        self.request_log = RequestLog(self.home.deployments)

    def go_on(self, operation: str, work: Callable[[], None]) -> None:
        """Do the rest of a long-running operation off the request; it ends as `work` does."""

        def run() -> None:
            error = None
            try:
                work()
            except ServerEnds:
                return
            except WireError as refusal:
                error = refusal
            except Exception:  # noqa: BLE001 - the top of this thread: logged, and told to who polls
                _log.exception("operation %s failed", operation)
                error = WireError(500, "InternalServerError", "The local workspace failed; server.log says where.")
            answers.finish_operation(self.store, operation, error=error)

        self._background.submit(run)

    def close(self) -> None:
        """Wait for background work that has begun."""
        self.profile.stop()
        self._background.shutdown(wait=True, cancel_futures=True)
