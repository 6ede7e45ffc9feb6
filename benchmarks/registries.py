"""`make bench`: how soon models of 3,039 in eight registries are on screen, at the stand-in for Azure.

    python -m benchmarks.registries [--latency 0.05] [--repeats 3]

The stand-in is a process of its own and answers after --latency seconds. Cold: a home that has looked at no
registry, asked as the page asks. Kept: a process that begins on a home that has. A keystroke is the search alone, and
the page's whole script in a real dashboard. In the storm every second request is refused, or breaks off, forty times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from benchmarks.page_clock import open_tab
from core import launcher
from core.azureml.connection import Connection
from core.azureml.settings import Settings, save_settings
from core.catalog.base_models import get_base_model
from core.catalog.catalogue import SCREENFUL, Found, search
from core.catalog.flights import MOST
from core.catalog.kept import Wanted
from core.errors import TunedeckError
from core.home import Home
from tests.azure.registries import MODELS
from tests.azure.stand_in import running_stand_in

COLD_MS, KEPT_MS, KEYSTROKE_MS = 1000.0, 100.0, 150.0
REGISTRIES = r"registries/"
TYPED = ("l", "ll", "lla", "llam", "llama", "llama 7", "llama 7b", "phi", "phi-4", "meta", "mit")
SHOWN = Wanted(tunable=True, current=True)  # what the page asks for at first
FIRST_LOOK = """
import sys, time
from core.azureml.connection import connect
from core.azureml.settings import list_settings
from core.catalog.base_models import get_base_model
from core.catalog.catalogue import search
from core.catalog.kept import Wanted
conn = connect(list_settings()[1])
began = time.perf_counter()
found = search(conn, wanted=Wanted(tunable=True, current=True))
print((time.perf_counter() - began) * 1000, sum(entry.model is not None for entry in found.entries))
"""


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registries", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer of a registry")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with stand_in(options.latency) as (pipe, environment, settings), tempfile.TemporaryDirectory() as folder:
        os.environ |= environment
        homes = [Path(folder) / str(number) for number in range(options.repeats)]
        cold = [measure_cold(home, settings) for home in homes]
        kept = [measure_kept(home) for home in homes]
        keystrokes = measure_keystrokes(Connection(settings, Home(homes[0])))
        pages = measure_pages(Home(homes[0]), settings)
        pipe.send("peak")
        peak = int(pipe.recv())
        pipe.send("storm")
        stormy = measure_cold(Path(folder) / "storm", settings)
    load, answered_ms = os.getloadavg()[0], options.latency * 1000
    print(f"{os.cpu_count()} cores, load average {load:.1f}; a registry answers after {answered_ms:.0f} ms.\n")
    print("| what | median, ms | slowest, ms | bar, ms |\n|---|---|---|---|")
    fits = [
        show("first model that can be tuned on screen, cold", [each[0] for each in cold], COLD_MS),
        show(f"a full screen ({SCREENFUL} that can be tuned), cold", [each[1] for each in cold], None),
        show(f"all {MODELS} names, cold", [each[2] for each in cold], None),
        show("a screen, kept", kept, KEPT_MS),
        show("a keystroke, the search", keystrokes, KEYSTROKE_MS),
        show("a keystroke, the page's script", pages, KEYSTROKE_MS),
        show(f"all {MODELS} names in a storm", [stormy[2]], None),
        peak <= MOST,
    ]
    print(f"\nAt most {peak} requests in flight (bar: {MOST}).")
    return 0 if all(fits) else 1


def show(what: str, values: list[float], bar: float | None) -> bool:
    """Print a line; tell whether the median is within its bar."""
    middle = statistics.median(values)
    mark = " !" if bar is not None and middle > bar else ""
    print(f"| {what} | {middle:.0f}{mark} | {max(values):.0f} | {'' if bar is None else f'{bar:.0f}'} |")
    return not mark


def measure_cold(path: Path, settings: Settings) -> tuple[float, float, float]:
    """Return the milliseconds to the first models, to a full screen of them, and to the whole lists."""
    conn = connect_at(path, settings)
    began = time.perf_counter()
    threading.Thread(target=_ask_for_the_first, args=(conn,), daemon=True).start()

    def until(is_there: Callable[[Found], bool]) -> float:
        while not is_there(search(conn, wanted=SHOWN)):
            time.sleep(0.1)  # a page looks less often
        return (time.perf_counter() - began) * 1000

    first = until(lambda found: any(entry.model for entry in found.entries))
    full = until(lambda found: len(found.entries) == SCREENFUL)
    whole = until(lambda found: not found.moving)
    listed = sum(each.listed for each in search(conn).registries)
    if listed != MODELS:
        raise ValueError(f"{listed} names were listed")
    return first, full, whole


def _ask_for_the_first(conn: Connection) -> None:
    with suppress(TunedeckError):  # in a storm
        get_base_model(conn, "Phi-4")


def connect_at(path: Path, settings: Settings) -> Connection:
    os.environ["TUNEDECK_HOME"] = str(path)
    home = Home(path).create()
    save_settings(settings)
    conn = Connection(settings, home)
    conn.credential.get_token(conn.cloud.scope)  # `az` is started before a page asks for models
    return conn


def measure_kept(path: Path) -> float:
    environment = {**os.environ, "TUNEDECK_HOME": str(path)}
    command = [sys.executable, "-c", FIRST_LOOK]
    took, models = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    if int(models) != SCREENFUL:
        raise ValueError(f"{models} models were kept")
    return float(took)


def measure_keystrokes(conn: Connection) -> list[float]:
    found = []
    for typed in TYPED:
        began = time.perf_counter()
        search(conn, typed, SHOWN)
        found.append((time.perf_counter() - began) * 1000)
    return found


def measure_pages(home: Home, settings: Settings) -> list[float]:
    """Return what the page's script takes for each thing that is typed, in a dashboard that has drawn it before."""
    os.environ["TUNEDECK_HOME"] = str(home.path)
    dashboard = launcher.start_dashboard(home)
    try:
        with open_tab(dashboard.port) as tab:
            for _ in range(3):
                tab.open("model", at=settings.alias)
            return [tab.open("model", at=settings.alias, q=typed) for typed in TYPED]
    finally:
        launcher.stop(home)


@contextmanager
def stand_in(latency_s: float) -> Iterator[tuple[Pipe, dict[str, str], Settings]]:
    """Serve the stand-in in a process of its own for the block; what is sent down the pipe is done there."""
    spawned = multiprocessing.get_context("spawn")
    mine, its = spawned.Pipe()
    process = spawned.Process(target=_serve, args=(its, latency_s), daemon=True)
    process.start()
    environment, settings = mine.recv()
    try:
        yield mine, environment, settings
    finally:
        mine.send("end")
        process.join()


def _serve(pipe: Pipe, latency_s: float) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, running_stand_in(Path(folder)) as azure:
        azure.rules.add(REGISTRIES, delay_s=latency_s, times=10**9)
        pipe.send((azure.environment, azure.settings()))
        while (asked := pipe.recv()) != "end":
            if asked == "peak":
                pipe.send(azure.rules.peak)
            else:
                azure.rules.clear()
                for status, cut in ((429, False), (503, False), (200, True), (429, False)):
                    headers = {"Retry-After": "1"} if status == 429 else {}
                    azure.rules.add(REGISTRIES, status, body='{"value": [', cut=cut, headers=headers, every=2, times=10)


if __name__ == "__main__":
    sys.exit(main())
