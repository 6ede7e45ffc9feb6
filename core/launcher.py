"""`make run` and `make stop`: the local workspace and the dashboard, started, warmed up and ended together.

The first start fetches the base model beside them.

    python -m core.launcher          until Ctrl-C, which ends the dashboard only and says what goes on
    python -m core.launcher stop     ends everything of this home

Knows Streamlit as a program on a port, never as a library.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect as open_websocket

from core import home as homes
from core import pids
from core.azureml.local_process import ensure_local
from core.errors import TunedeckError
from core.home import REPOSITORY, Home
from core.programs import start_detached

FIRST_PORT = 8501
PORTS_TRIED = 50
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0

# Streamlit's wire format (proto/BackMsg.proto and ForwardMsg.proto of 1.67): BackMsg{rerun_script: {}}, and the number
# of ForwardMsg.script_finished.
_RUN_SCRIPT = b"\x5a\x00"
_SCRIPT_FINISHED = 6
_LENGTH_DELIMITED = 2


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that serves a home: its process, found again by pid and start time, and its port."""

    pid: int
    started_at: str | float
    """As `pids` tells it; a number in a record of an earlier version."""
    port: int

    @property
    def url(self) -> str:
        """Return the address an operator opens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> psutil.Process | None:
        """Return the process while it lives; None also where the pid belongs to another by now."""
        try:
            return psutil.Process(self.pid) if pids.lives(self.pid, self.started_at) else None
        except psutil.NoSuchProcess:
            return None


def find_dashboard(home: Home) -> Dashboard | None:
    """Return the dashboard that serves this home now."""
    try:
        recorded = Dashboard(**json.loads(_record(home).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
    return recorded if recorded.process else None


def start_dashboard(home: Home, port: int | None = None) -> Dashboard:
    """Start Streamlit on 127.0.0.1 and return it once a page can be opened. Raises TunedeckError with its log's end."""
    home.create()
    port = port or _free_port()
    log_path = home.logs / "dashboard.log"
    options = ["--server.port", str(port), "--server.address", "127.0.0.1", "--server.headless", "true"]
    started = start_detached(["-m", "streamlit", "run", "app.py", *options], home, log_path)
    dashboard = Dashboard(started.pid, pids.start_time_of(started.pid), port)
    homes.write_atomically(_record(home), json.dumps(asdict(dashboard)))
    try:
        _wait_until_warm(dashboard, started)
    except TimeoutError as error:
        stop_dashboard(home)
        tail = log_path.read_bytes()[-4000:].decode("utf-8", "replace")
        hint = f"Its log says why: {log_path}"
        raise TunedeckError(f"The dashboard did not start on port {port}. {error}", hint, tail) from None
    return dashboard


def stop_dashboard(home: Home) -> bool:
    """End the dashboard of this home; tell whether there was one."""
    dashboard = find_dashboard(home)
    process = dashboard.process if dashboard else None
    _record(home).unlink(missing_ok=True)
    if process:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
    return process is not None


def read_left_running() -> str:
    """Return what goes on when the dashboard has ended, in the local workspace's own lines."""
    answer = subprocess.run(
        [sys.executable, "-m", "core.local", "status"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return (answer.stdout or answer.stderr).strip()


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    home = homes.current().create()
    if list(arguments) not in ([], ["stop"]):
        print(__doc__)
        return 2
    try:
        return stop(home) if arguments else run(home)
    except TunedeckError as error:
        print(f"{error.message}\n{error.hint}\n{error.detail}".rstrip(), file=sys.stderr)
        return 1


def run(home: Home) -> int:
    """Serve the dashboard until it ends or is told to."""
    if running := find_dashboard(home):
        print(f"Tunedeck already runs: {running.url}   (`make stop` ends it)")
        _open_browser(running.url)
        return 0
    # SIGINT too: a shell that starts a program in the background hands it down ignored.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    try:
        with _fetch_base_model(home):
            print("Starting the local workspace and the dashboard…", flush=True)
            workspace = threading.Thread(target=_start_workspace, args=(home,))
            workspace.start()
            dashboard = start_dashboard(home)
            workspace.join()
        print(f"\n  Tunedeck   {dashboard.url}\n  Home       {home.path}\n\nCtrl-C ends the dashboard.", flush=True)
        _open_browser(dashboard.url)
        while dashboard.process:
            time.sleep(0.5)
        return _say_how_it_ended(home)
    except KeyboardInterrupt:
        return _say_goodbye(home)


def stop(home: Home) -> int:
    """End the dashboard, then the local workspace with all it runs."""
    print("The dashboard has ended." if stop_dashboard(home) else "No dashboard runs.", flush=True)
    return subprocess.run([sys.executable, "-m", "core.local", "stop"], cwd=REPOSITORY, check=False).returncode


@contextmanager
def _fetch_base_model(home: Home) -> Iterator[None]:
    """Put the base model there beside what is done meanwhile; where that fails, the page Model offers it again."""
    command = [sys.executable, "-m", "core.local", "fetch-model"]
    own = {**os.environ, "TUNEDECK_HOME": str(home.path)}
    # In a session of its own: Ctrl-C is for the launcher, which ends it and the pip that it runs.
    with subprocess.Popen(command, cwd=REPOSITORY, env=own, start_new_session=True) as fetching:
        try:
            yield
            fetching.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(fetching.pid, signal.SIGTERM)
            raise


def _start_workspace(home: Home) -> None:
    """Start it beside the dashboard, which can do without it and says so on its pages."""
    try:
        ensure_local(home)
    except TunedeckError as error:
        print(f"{error.message}\n{error.hint}\n{error.detail}".rstrip(), file=sys.stderr, flush=True)


def _say_how_it_ended(home: Home) -> int:
    """Tell `make stop` in another terminal, which takes the record away, from an end that nobody wished."""
    if not _record(home).exists():
        print("The dashboard was ended by `make stop`.")
        return 0
    print(f"The dashboard has ended by itself. Its log says why: {home.logs / 'dashboard.log'}", file=sys.stderr)
    return 1


def _say_goodbye(home: Home) -> int:
    print("\nEnding the dashboard…", flush=True)
    stop_dashboard(home)
    print(f"The dashboard has ended. On this machine now:\n\n{textwrap.indent(read_left_running(), '  ')}\n")
    print("`make run` opens the dashboard again. `make stop` ends all of it.")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _record(home: Home) -> Path:
    return home.path / "dashboard.json"


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    last = FIRST_PORT + PORTS_TRIED - 1
    raise TunedeckError(f"No port from {FIRST_PORT} to {last} is free on 127.0.0.1.", "End what listens there.")


def _wait_until_warm(dashboard: Dashboard, started: subprocess.Popen[bytes]) -> None:
    """Return when the page script has run once. Raises TimeoutError with the reason."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(f"{dashboard.url}/_stcore/health"):
        if started.poll() is not None:
            raise TimeoutError(f"It ended at once, with exit status {started.returncode}.")
        if time.monotonic() > deadline:
            raise TimeoutError(f"It does not answer after {START_TIMEOUT_S:.0f} s.")
        time.sleep(0.1)
    try:
        run_script_once(dashboard.port, deadline)
    except (OSError, WebSocketException) as error:
        raise TimeoutError(f"Its page script did not run: {error}") from error


def run_script_once(port: int, deadline: float) -> None:
    """Run the page script of the dashboard on this port as a first visitor does; the next finds everything imported.

    `deadline` is of the monotonic clock. Raises OSError or WebSocketException where that does not end in time.
    """
    with open_websocket(f"ws://127.0.0.1:{port}/_stcore/stream", max_size=None, proxy=None) as session:
        session.send(_RUN_SCRIPT)
        while True:
            message = session.recv(timeout=max(0.1, deadline - time.monotonic()))
            if isinstance(message, bytes) and _SCRIPT_FINISHED in _field_numbers(message):
                return


def _field_numbers(message: bytes) -> set[int]:
    """Return the numbers of a protobuf message's outermost fields (varints and length-delimited ones)."""
    numbers, at = set(), 0
    while at < len(message):
        tag, at = _varint(message, at)
        numbers.add(tag >> 3)
        value, at = _varint(message, at)
        if tag & 7 == _LENGTH_DELIMITED:
            at += value
    return numbers


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not message[at - 1] & 0x80:
            return value, at


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _open_browser(url: str) -> None:
    has_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_screen and sys.stdout.isatty():
        webbrowser.open(url)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
