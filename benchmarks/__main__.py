"""`make bench`: how long pages take and how much memory the parts hold, on a home of its own, with a real run going on.

    python -m benchmarks [--repeats 5]
    python -m benchmarks load | held        the local workspace, see load.py
    python -m benchmarks train              training beside its peers, see train.py

Times are of page scripts in a real dashboard (page_clock.py): first of a new session, then again in it; the slowest of
all counts, since that is the bar: no page over 500 ms, whatever the local workspace does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import load, train
from benchmarks.page_clock import STRIP_BAR_MS, STRIP_LOOKS, open_tab
from core import home as homes
from core import launcher
from core.azureml.connection import connect
from core.azureml.local_process import ensure_local
from core.azureml.settings import local_settings
from core.home import Home
from core.launcher import Dashboard

BAR_MS = 500
PAGES = ("overview", "connect", "model", "data", "launch", "runs", "deploy", "chat", "teardown")
MEMORY_BARS_MIB = {"local workspace": 250, "dashboard": 600, "trainer": 4096}
SLOW_S = 3.0
AWAKE_S = 0.1
FIRST_STEP_TIMEOUT_S = 180.0


@dataclass
class Peaks:
    """Highest resident memory of each part, MiB, read twice a second from a thread of its own."""

    home: Home
    dashboard: int
    server: int
    mib: dict[str, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._ended.wait(0.5):
            self._note("dashboard", self.dashboard)
            self._note("local workspace", self.server)
            for process in _find_trainers(self.home):
                self._note("trainer", process.pid)

    def end(self) -> None:
        self._ended.set()

    def _note(self, name: str, pid: int) -> None:
        try:
            now = psutil.Process(pid).memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            return
        self.mib[name] = max(self.mib.get(name, 0.0), now)


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("pages", "load", "held", "train"), default="pages")
    parser.add_argument(
        "--repeats", type=int, default=5, help="pages: script runs of each in each condition (2 or more)"
    )
    parser.add_argument("--clients", type=int, default=64, help="load: each asks once a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="load: for how long")
    for name, count in (("jobs", 10_000), ("models", 2_000), ("points", 1_000_000)):
        parser.add_argument(f"--{name}", type=int, default=count, help="held: how many")
    parser.add_argument("--steps", type=int, default=24, help="train: optimiser steps of a turn")
    parser.add_argument("--turns", type=int, default=3, help="train: of each trainer")
    parser.add_argument("--peers", type=Path, help="train: the environment of the others, made where it is missing")
    parser.add_argument("--rows", nargs="+", choices=[*train.BARS], default=[*train.BARS], help="train: on which rows")
    parser.add_argument(
        "--beside", nargs="+", choices=[*train.PEERS], default=[*train.PEERS], help="train: which peers"
    )
    options = parser.parse_args()
    if options.what == "train":
        return 0 if train.measure(options.steps, options.turns, options.peers, options.rows, options.beside) else 1
    if options.what == "load":
        return 0 if load.measure_load(options.clients, options.seconds) else 1
    if options.what == "held":
        return 0 if load.measure_held(options.jobs, options.models, options.points) else 1
    return _measure_pages(options.repeats)


def _measure_pages(repeats: int) -> int:
    with bench_home() as home:
        ensure_local(home)
        dashboard = launcher.start_dashboard(home)
        server = json.loads(home.server_file.read_text(encoding="utf-8"))["pid"]
        peaks = Peaks(home, dashboard.pid, server)
        watcher = threading.Thread(target=peaks.watch, daemon=True)
        watcher.start()
        ids = start_run(home)
        print(
            f"A run trains: step {wait_for_first_step(home, ids['run'])}. {repeats} script runs of each page.\n",
            flush=True,
        )
        print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} (what the trainer adds included).\n")
        slowest = 0.0
        for name, condition in _conditions(server).items():
            with condition:
                slowest = max(slowest, _time_pages(name, dashboard, ids, repeats))
        peaks.end()
        _print_memory(peaks)
    fits = all(peaks.mib.get(name, 0.0) < bar for name, bar in MEMORY_BARS_MIB.items())
    print(f"\nSlowest page script: {slowest:.0f} ms (bar: {BAR_MS} ms).")
    return 0 if slowest < BAR_MS and fits else 1


@contextmanager
def bench_home() -> Iterator[Home]:
    """Serve a new home that shares the base model of the usual one; everything of it is ended and removed."""
    models = homes.current().base_models
    folder = Path(tempfile.mkdtemp(prefix="tunedeck-bench-"))
    os.environ |= {"TUNEDECK_BASE_MODELS": str(models), "TUNEDECK_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    home = Home(folder).create()
    try:
        yield home
    finally:
        launcher.stop(home)
        shutil.rmtree(folder, ignore_errors=True)


def start_run(home: Home) -> dict[str, str]:
    """Start the sample run with its default settings, as the Launch page does; return the ids of its links."""
    from core import dataset, operations
    from core.launch.drafts import create_draft
    from core.launch.preflight import make_plan, read_facts
    from core.local.base_model import NAME, VERSION

    local = connect(local_settings(), home=home)
    draft = create_draft(
        local.alias,
        model=NAME,
        model_version=VERSION,
        compute="this-machine",
        dataset=dataset.load_sample().key,
    )
    begun = operations.start_launch(
        make_plan(read_facts(local, draft.model, draft.model_version, draft.compute, draft.dataset), draft)
    )
    return {"at": local.alias, "draft": draft.id, "run": begun.subject}


def wait_for_first_step(home: Home, name: str) -> int:
    from core.errors import NotFound
    from core.runs.jobs import get_run

    local = connect(local_settings(), home=home)
    deadline = time.monotonic() + FIRST_STEP_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(NotFound):  # not sent yet
            found = get_run(local, name)
            if found.finished:
                sys.exit(f"Run {name} ended before its first step: {found.error}")
            if found.progress and found.progress.step > 0:
                return found.progress.step
        time.sleep(0.5)
    sys.exit(f"Run {name} reached no step within {FIRST_STEP_TIMEOUT_S:.0f} s.")


def _time_pages(condition: str, dashboard: Dashboard, ids: dict[str, str], repeats: int) -> float:
    """Print a table for one condition; return its slowest time.

    The processor time, of the whole dashboard and its background readers, tells a slow page from a busy machine.
    """
    print(f"Local workspace {condition}\n")
    print("| page | first, ms | again, median ms | slowest, ms | processor per run, ms |\n|---|---|---|---|---|")
    slowest = 0.0
    for page in PAGES:
        known = ids if page != "chat" else {"at": ids["at"]}
        path = "" if page == "overview" else page
        used = load.process_ms(dashboard.pid)
        with open_tab(dashboard.port) as tab:
            first, *again = [tab.open(path, **known) for _ in range(repeats)]
        used = (load.process_ms(dashboard.pid) - used) / repeats
        worst = max(first, *again)
        mark = "" if worst < BAR_MS else " !"
        print(f"| {page} | {first:.0f} | {statistics.median(again):.0f} | {worst:.0f}{mark} | {used:.0f} |", flush=True)
        slowest = max(slowest, worst)
    with open_tab(dashboard.port) as tab:
        tab.open("", **ids)
        strip = [tab.refresh_strip() for _ in range(STRIP_LOOKS)]
    mark = "" if statistics.median(strip) < STRIP_BAR_MS else " !"
    print(f"\nThe strip alone: median {statistics.median(strip):.0f}{mark} ms (bar: {STRIP_BAR_MS} ms).\n", flush=True)
    return slowest


def _conditions(server: int) -> dict[str, AbstractContextManager[None]]:
    """Return what is done to the local workspace; the last cannot be undone."""
    return {
        "answering": nullcontext(),
        f"answering after up to {SLOW_S:.0f} s": _slow(server),
        "stopped (SIGSTOP)": _stopped(server),
        "killed": _killed(server),
    }


@contextmanager
def _slow(server: int) -> Iterator[None]:
    """Let the server work for a moment every three seconds."""
    ended = threading.Event()

    def hold_back() -> None:
        while not ended.is_set():
            os.kill(server, signal.SIGSTOP)
            ended.wait(SLOW_S)
            os.kill(server, signal.SIGCONT)
            ended.wait(AWAKE_S)

    thread = threading.Thread(target=hold_back, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _stopped(server: int) -> Iterator[None]:
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


@contextmanager
def _killed(server: int) -> Iterator[None]:
    os.kill(server, signal.SIGKILL)
    yield


def _find_trainers(home: Home) -> list[psutil.Process]:
    """Return the fine-tuning programs of this home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "core.engine.finetune" in line and str(home.path) in line and "core.local.shim" not in line:
            found.append(process)
    return found


def _print_memory(peaks: Peaks) -> None:
    print("| part | peak resident memory, MiB | bar, MiB |\n|---|---|---|")
    for name, bar in MEMORY_BARS_MIB.items():
        print(f"| {name} | {peaks.mib.get(name, 0.0):.0f} | {bar} |")


if __name__ == "__main__":
    sys.exit(main())
