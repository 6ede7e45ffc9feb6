"""The one object every route works on: a home being served, with what runs its jobs and deployments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.requests import Request

from core.local.backend import Backend
from core.local.endpoints.deployments import Deployments
from core.local.jobs.runner import Runner
from core.local.profile import ServerEnds
from core.local.store import now_utc
from core.local.wire import answers
from core.local.wire.auth import Gatekeeper
from core.local.wire.errors import WireError
from core.local.wire.request_log import RequestLog

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Workspace(Backend):
    """A home being served. `runner` and `deployments` are set once, before the first request.

    Their `start()` adopts what an earlier server left running; `stop()` ends their threads and leaves the subprocesses
    alone.
    """

    gatekeeper: Gatekeeper
    url: str
    started_at: str = field(default_factory=now_utc)
    request_log: RequestLog = field(init=False, repr=False)
    runner: Runner = field(init=False, repr=False)
    deployments: Deployments = field(init=False, repr=False)
    _background: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="operation"), repr=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
            except Exception:  # noqa: BLE001 - the top of this thread: logged, and answered to who polls
                _log.exception("operation %s failed", operation)
                error = WireError(500, "InternalServerError", "The local workspace failed; server.log says where.")
            answers.finish_operation(self.store, operation, error=error)

        self._background.submit(run)

    def close(self) -> None:
        """Wait for background work that has begun."""
        self.profile.stop()
        self._background.shutdown(wait=True, cancel_futures=True)


def workspace_of(request: Request) -> Workspace:
    """Return the workspace that serves the request."""
    workspace: Workspace = request.app.state.workspace
    return workspace
