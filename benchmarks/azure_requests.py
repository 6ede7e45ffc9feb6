"""How many requests each page sends to Azure: `python -m benchmarks.azure_requests`, at the stand-in.

A workspace with a cluster, a finished run and an endpoint; a dashboard that has just begun. "First" is the page's first
first ten seconds, "then" the next thirty, in which it is drawn anew as a browser does while something goes on.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.operations import start_deploy, start_launch
from tests import environment
from tests.azure.stand_in import SIZE, StandIn, running_stand_in
from tests.azure.walking import walking
from tests.pages.apps import open_app

PAGES = ("overview", "model", "data", "launch", "runs", "deploy", "chat", "teardown", "activity")
FIRST_S, LOOKED_S, LOOK_S = 10.0, 30.0, 0.8


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
            print("| page | first 10 s | next 30 s |\n|---|---|---|")
            for page in PAGES:
                first, then = measure(azure, page, walk.conn.alias)
                print(f"| {page} | {first} | {then} |", flush=True)


def measure(azure: StandIn, page: str, alias: str) -> tuple[int, int]:
    """Return the requests of a page's first seconds, and of the next ones."""
    before = len(azure.rules.asked())
    app = open_app(page, at=alias)
    first = look(azure, app, FIRST_S)
    return first - before, look(azure, app, LOOKED_S) - first


def look(azure: StandIn, app: AppTest, seconds: float) -> int:
    """Look at a page for some time; return how many requests there were in all."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        app.run()
    return len(azure.rules.asked())


if __name__ == "__main__":
    main()
