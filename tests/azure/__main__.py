"""Serve the stand-in with a dashboard to click through, until Ctrl-C.

python -m tests.azure                    signed in by `az`, everything new and thrown away at the end
python -m tests.azure --az expired       the login of `az` has expired; also "signed out"
python -m tests.azure verify --at ALIAS  hold it against a real workspace: see verify.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

from core.launcher import start_dashboard, stop_dashboard
from tests import environment
from tests.azure import az, verify
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE
from tests.azure.login import TENANT
from tests.azure.stand_in import StandIn, running_stand_in


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.azure", description="Azure to click through, on loopback.")
    parser.add_argument("--az", default="signed in", choices=("signed in", *az.REFUSALS), help="how `az` is")
    options = parser.parse_args()
    empty = environment.enter()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tunedeck-azure-") as folder,
            running_stand_in(Path(folder)) as azure,
            azure.hurried(),
        ):
            azure.az(state=options.az)
            os.environ |= azure.environment
            serve(azure)
    finally:
        shutil.rmtree(empty, ignore_errors=True)
    return 0


def serve(azure: StandIn) -> None:
    """Serve a dashboard until the process is told to end."""
    for name in (signal.SIGINT, signal.SIGTERM):  # a shell hands SIGINT down ignored to what it starts behind
        signal.signal(name, signal.default_int_handler)
    try:
        dashboard = start_dashboard(azure.home)
        print(describe(azure, dashboard.url), flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("\nEnding the dashboard and all behind it…", flush=True)
    finally:
        stop_dashboard(azure.home)


def describe(azure: StandIn, url: str) -> str:
    """Return where it is, what to fill in on Connect, and how to let requests fail."""
    return textwrap.dedent(f"""
        Tunedeck          {url}/connect?where=Azure
        Subscription id   {SUBSCRIPTION}
        Resource group    {GROUP}
        Workspace         {WORKSPACE}
        Tenant id         {TENANT}
        A cloud apart     https://management.contoso.example

        Minutes go by there in a fifth of a second. The next two lists of computes fail by
          curl {azure.proxy.url}/rules -d '{{"pattern": "/computes", "status": 429, "times": 2}}'
        What was asked:  curl {azure.proxy.url}/requests
        Ctrl-C ends it, and nothing of it stays.""")


if __name__ == "__main__":
    raise SystemExit(verify.main(sys.argv[2:]) if sys.argv[1:2] == ["verify"] else main())
