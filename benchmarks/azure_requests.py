"""How many requests each page sends to Azure: `python -m benchmarks.azure_requests`, at the stand-in.

A workspace with a cluster, a finished run and an endpoint; a dashboard that has just begun. "First" is the page's first
visit until it has gone quiet, "then" half a minute of looking at it, in which a browser asks again every few seconds.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from core.operations import start_deploy, start_launch
from tests import environment
from tests.azure.stand_in import SIZE, StandIn, running_stand_in
from tests.azure.walking import walking
from tests.pages.apps import open_app

PAGES = ("overview", "model", "data", "launch", "runs", "deploy", "chat", "teardown", "activity")
QUIET_S, LOOK_S, LOOKED_S = 3.0, 0.8, 30.0


def main() -> None:
    """Measure and print a row a page."""
    environment.enter()
    with (
        tempfile.TemporaryDirectory(prefix="tunedeck-azure-") as folder,
        running_stand_in(Path(folder), module="tests.core.local.trivial_server") as azure,
    ):
        os.environ |= azure.environment
        with walking(azure) as walk:
            walk.ensure_compute()
            run = walk.finish(start_launch(walk.plan())).subject
            walk.finish(start_deploy(walk.conn.alias, run, "kettle", "kettle-1", SIZE, None))
            print("| page | first | then, half a minute |\n|---|---|---|")
            for page in PAGES:
                first, then = measure(azure, page, walk.conn.alias)
                print(f"| {page} | {first} | {then} |", flush=True)


def measure(azure: StandIn, page: str, alias: str) -> tuple[int, int]:
    """Return the requests of a page's first visit, and of half a minute of looking at it."""
    azure.rules.clear()
    app = open_app(page, at=alias)
    seen, heard = 0, time.monotonic()
    while time.monotonic() - heard < QUIET_S:
        time.sleep(LOOK_S)
        app.run()
        if len(azure.rules.asked()) > seen:
            seen, heard = len(azure.rules.asked()), time.monotonic()
    until = time.monotonic() + LOOKED_S
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        app.run()
    return seen, len(azure.rules.asked()) - seen


if __name__ == "__main__":
    main()
