"""The local workspace with trivial programs, writing down each PUT of a job.

Run as `python -m tests.core.operations.counting_server`.

A line is written before the PUT is handled, and says which server process it reached and whether the job was there
already: a second PUT of a job that the workspace has, or is about to have, is what an operator must never pay for.

Beside that it fails as it is told to: `plan_faults` names requests that are answered with an error, before or after
they were carried out, or that are held back for a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from starlette.responses import JSONResponse

from core.home import Home, write_atomically
from core.local import __main__, server
from core.local.endpoints.deployments import Deployments
from core.local.jobs.runner import Runner
from tests.core.local.trivial_server import trivial_program

FILE = "puts.jsonl"
FAULTS = "faults.json"
_JOB = re.compile(r"/workspaces/[^/]+/jobs/([^/?]+)$")
_create_app = server.create_app


@dataclass
class Fault:
    """What happens to the next `times` requests to a path that matches. status 0: they are only held back."""

    method: str
    path: str
    status: int = 0
    times: int = 1
    carried_out: bool = False
    hold_s: float = 0.0


def plan_faults(home: Home, *faults: Fault) -> None:
    """Tell the server of a home how to fail from now on."""
    write_atomically(home.logs / FAULTS, json.dumps([asdict(fault) for fault in faults]))


class Fail:
    def __init__(self, app: Any, home: Home) -> None:
        self._app, self._path = app, home.logs / FAULTS

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        fault = self._take(scope) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.hold_s:
            body = await _read_all(receive)
            await asyncio.sleep(fault.hold_s)
            receive = _once(body)  # it arrives even when its sender died meanwhile
        if not fault.status or fault.carried_out:
            await self._app(scope, receive, _nowhere if fault.status else send)
        if fault.status:
            told = {"error": {"code": "Planned", "message": "As the test wished."}}
            await JSONResponse(told, fault.status)(scope, receive, send)

    def _take(self, scope: Any) -> Fault | None:
        if not self._path.exists():
            return None
        faults = [Fault(**one) for one in json.loads(self._path.read_text(encoding="utf-8"))]
        for fault in faults:
            if fault.times and fault.method == scope["method"] and re.search(fault.path, scope["path"]):
                fault.times -= 1
                write_atomically(self._path, json.dumps([asdict(one) for one in faults]))
                return fault
        return None


async def _read_all(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _once(body: bytes) -> Any:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop()

    return receive


async def _nowhere(message: Any) -> None:
    """Drop an answer."""


class CountPuts:
    def __init__(self, app: Any, home: Home, store: Any) -> None:
        self._app, self._home, self._store = app, home, store

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = _JOB.search(scope.get("path", "")) if scope.get("method") == "PUT" else None
        messages: list[Any] = []
        while found and (not messages or messages[-1].get("more_body")):
            messages.append(await receive())
        if found and messages[-1]["type"] == "http.request":  # a sender killed halfway sent no PUT
            existed = self._store.get("job", found[1]) is not None
            line = {"job": found[1], "server": os.getpid(), "existed": existed}
            with (self._home.logs / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, again, send)


def create_app(home: Home, *ports: int) -> Any:
    app = _create_app(home, *ports)
    app.add_middleware(Fail, home=home)
    app.add_middleware(CountPuts, home=home, store=app.state.workspace.store)
    return app


if __name__ == "__main__":
    server.Runner = partial(Runner, program=trivial_program)  # type: ignore[misc, assignment]
    server.Deployments = partial(Deployments, program=trivial_program)  # type: ignore[misc, assignment]
    server.create_app = create_app
    raise SystemExit(__main__.main())
