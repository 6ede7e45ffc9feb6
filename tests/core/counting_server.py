"""The local workspace with trivial programs, writing down each PUT of a job: `python -m tests.core.counting_server`.

A line is written before the PUT is handled, and says which server process it reached and whether the job was there
already: a second PUT of a job that the workspace has, or is about to have, is what an operator must never pay for.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from typing import Any

from core.home import Home
from core.local import __main__, server
from core.local.deployments import Deployments
from core.local.runner import Runner
from tests.local.trivial_server import trivial_program

FILE = "puts.jsonl"
_JOB = re.compile(r"/workspaces/[^/]+/jobs/([^/?]+)$")
_create_app = server.create_app


class CountPuts:
    def __init__(self, app: Any, home: Home, store: Any) -> None:
        self._app, self._home, self._store = app, home, store

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = _JOB.search(scope.get("path", "")) if scope.get("method") == "PUT" else None
        if found:
            existed = self._store.get("job", found[1]) is not None
            line = {"job": found[1], "server": os.getpid(), "existed": existed}
            with (self._home.logs / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        await self._app(scope, receive, send)


def create_app(home: Home, port: int) -> Any:
    app = _create_app(home, port)
    app.add_middleware(CountPuts, home=home, store=app.state.workspace.store)
    return app


if __name__ == "__main__":
    server.Runner = partial(Runner, program=trivial_program)  # type: ignore[misc, assignment]
    server.Deployments = partial(Deployments, program=trivial_program)  # type: ignore[misc, assignment]
    server.create_app = create_app
    raise SystemExit(__main__.main())
