"""`python -m tests.azure`: a dashboard that can be opened, and nothing left of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import requests

from core.home import REPOSITORY
from tests.waiting import wait_until


def test_it_serves_a_dashboard_until_it_is_told_to_end(tmp_path: Path) -> None:
    """Takes some seconds: a workspace and a dashboard begin, and end."""
    log = tmp_path / "said"
    with log.open("wb") as output:
        served = subprocess.Popen([sys.executable, "-m", "tests.azure"], cwd=REPOSITORY, stdout=output, stderr=output)
    try:
        found = wait_until(lambda: re.search(r"Tunedeck +(http\S+)", log.read_text()), log.read_text)
        assert requests.get(found[1], timeout=10).ok
        begun = psutil.Process(served.pid).children(recursive=True)
        assert len(begun) >= 2, "a workspace and a dashboard"
    finally:
        served.send_signal(signal.SIGINT)
        status = served.wait(60)
    assert (status, "Traceback" in log.read_text()) == (0, False), log.read_text()
    assert not [each for each in begun if each.is_running()]
