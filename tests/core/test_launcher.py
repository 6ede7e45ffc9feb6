"""`make run` and `make stop` as an operator meets them: real programs, a real browser for the first deep link."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.home import REPOSITORY, Home
from core.launcher import _field_numbers, find_dashboard
from tests.pages.conftest import free_port

READY_S = 90.0
NO_REGISTRY = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


class Command:
    """`python -m core.launcher` in a process of its own, its lines as they come."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "core.launcher", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"TUNEDECK_HOME": str(home.path)} | NO_REGISTRY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._arriving: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arriving.put(line)

    def wait_for(self, words: str, timeout_s: float = READY_S) -> str:
        """Return the first line with these words."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                self.lines.append(self._arriving.get(timeout=0.5))
            except queue.Empty:
                assert self.process.poll() is None, "".join(self.lines)
                continue
            if words in self.lines[-1]:
                return self.lines[-1]
        raise AssertionError(f"{words!r} did not come: {''.join(self.lines)}")

    def finish(self) -> tuple[int, str]:
        """Return the exit status and all that was printed."""
        status = self.process.wait(60)
        self._reader.join(10)
        while not self._arriving.empty():
            self.lines.append(self._arriving.get())
        return status, "".join(self.lines)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path / "home").create()
    # A port of its own, since another workspace may be stopped on the usual one at this moment.
    (found.path / "address.json").write_text(json.dumps({"port": free_port()}), encoding="utf-8")
    yield found
    Command(found, "stop").finish()


@pytest.mark.browser
@pytest.mark.slow
def test_run_serves_warm_pages_without_a_base_model_and_ctrl_c_leaves_the_workspace_which_stop_ends(
    home: Home, browser: Browser
) -> None:
    """Half a minute: it starts the whole of Tunedeck once."""
    first = Command(home)
    url = first.wait_for("http://127.0.0.1:").split()[-1]
    page = browser.new_page()
    page.goto(f"{url}/connect?at=local")
    expect(page.get_by_role("heading", name="Connect", level=1)).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)  # Streamlit's "Page not found"
    page.close()

    status, printed = Command(home).finish()
    assert status == 0
    assert f"Tunedeck already runs: {url}" in printed
    assert any("could not be fetched. Check that a package registry can be reached" in line for line in first.lines)

    first.process.send_signal(signal.SIGINT)
    status, printed = first.finish()
    assert status == 0
    assert "The dashboard has ended. On this machine now:" in printed
    assert f"Server: {home.url()}" in printed
    assert "`make stop` ends all of it." in printed
    assert find_dashboard(home) is None

    status, printed = Command(home, "stop").finish()
    assert status == 0
    assert "No dashboard runs." in printed
    assert "Ended the server" in printed


def test_an_unknown_word_shows_how_to_use_it(home: Home) -> None:
    status, printed = Command(home, "sotp").finish()
    assert status == 2
    assert "python -m core.launcher stop" in printed


def test_streamlits_own_messages_are_read_by_the_warm_up() -> None:
    """The launcher reads Streamlit's wire format without importing it; this holds it against the real classes."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    from core import launcher

    asked = BackMsg.FromString(launcher._RUN_SCRIPT)
    assert asked.WhichOneof("type") == "rerun_script"
    finished = ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY)
    finished.metadata.active_script_hash = "x" * 300
    other = ForwardMsg(session_event={"script_changed_on_disk": True})
    assert launcher._SCRIPT_FINISHED in _field_numbers(finished.SerializeToString())
    assert launcher._SCRIPT_FINISHED not in _field_numbers(other.SerializeToString())
