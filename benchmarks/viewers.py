"""Many browser sessions on one run that trains: what they take of the dashboard.

    python -m benchmarks.viewers [--viewers 20] [--seconds 30]

Each session opens the run's page as a browser does, then asks for each part that draws itself as often as the page told
it to, and names the messages that it still holds. A real run of the sample goes on beside them.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from benchmarks.__main__ import bench_home, start_run, wait_for_first_step
from core import launcher
from core.azureml.local_process import ensure_local

CORES_BAR, FIRST_BAR_S, RATE_BAR = 0.5, 1.5, 20_000


@dataclass
class Viewer:
    """One session: the seconds that its first page took, and the bytes that came since."""

    port: int
    query: str
    ended: threading.Event
    first_s: float = 0.0
    received: int = 0
    _timers: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each part that draws itself: every how many seconds, and when next."""
    _held: set[str] = field(default_factory=set)

    def view(self) -> None:
        """Open the page and look at it until the end."""
        with connect(f"ws://127.0.0.1:{self.port}/_stcore/stream", max_size=None, proxy=None) as socket:
            began = time.perf_counter()
            self._ask(socket, "")
            self._listen(socket)
            self.first_s, self.received = time.perf_counter() - began, 0
            while not self.ended.is_set():
                part, (every, due) = min(self._timers.items(), key=lambda timer: timer[1][1])
                self.ended.wait(max(0.0, due - time.monotonic()))
                self._timers[part] = (every, time.monotonic() + every)
                self._ask(socket, part)
                self._listen(socket)

    def _ask(self, socket: ClientConnection, part: str) -> None:
        asked = BackMsg()
        asked.rerun_script.query_string, asked.rerun_script.page_name = self.query, "runs"
        asked.rerun_script.fragment_id, asked.rerun_script.is_auto_rerun = part, bool(part)
        asked.rerun_script.cached_message_hashes.extend(self._held)
        socket.send(asked.SerializeToString())

    def _listen(self, socket: ClientConnection) -> None:
        """Take what comes until the script has ended."""
        while True:
            raw = socket.recv(timeout=60)
            self.received += len(raw)
            message = ForwardMsg.FromString(raw if isinstance(raw, bytes) else raw.encode())
            if message.metadata.cacheable:
                self._held.add(message.hash)
            kind = message.WhichOneof("type")
            if kind == "auto_rerun":
                every = message.auto_rerun.interval
                self._timers[message.auto_rerun.fragment_id] = (every, time.monotonic() + every)
            for gone in message.stop_auto_rerun.fragment_ids:
                self._timers.pop(gone, None)
            if kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with bench_home() as home:
        ensure_local(home)
        dashboard = launcher.start_dashboard(home)
        ids = start_run(home)
        wait_for_first_step(home, ids["run"])
        query, ended = urlencode({"at": ids["at"], "run": ids["run"]}), threading.Event()
        viewers = [Viewer(dashboard.port, query, ended) for _ in range(options.viewers)]
        threads = [threading.Thread(target=viewer.view) for viewer in viewers]
        for thread in threads:
            thread.start()
        while not all(viewer.first_s for viewer in viewers):
            time.sleep(0.1)
        before, process = sum(viewer.received for viewer in viewers), psutil.Process(dashboard.pid)
        used = process.cpu_times()
        time.sleep(options.seconds)
        spent = process.cpu_times()
        rate = (sum(viewer.received for viewer in viewers) - before) / options.seconds / len(viewers)
        late = Viewer(dashboard.port, query, ended)
        threads.append(threading.Thread(target=late.view))
        threads[-1].start()
        while not late.first_s:
            time.sleep(0.1)
        ended.set()
        for thread in threads:
            thread.join()
    cores = (spent.user + spent.system - used.user - used.system) / options.seconds
    at_once = statistics.median(viewer.first_s for viewer in viewers)
    print(f"{len(viewers)} viewers of a run that trains: {cores:.2f} of a core (bar: {CORES_BAR}), ", end="")
    print(f"{rate:,.0f} bytes/s each (bar: {RATE_BAR:,}); first page of one more {late.first_s:.2f} s ", end="")
    print(f"(bar: {FIRST_BAR_S} s), of all at once {at_once:.2f} s")
    return 0 if cores <= CORES_BAR and late.first_s <= FIRST_BAR_S and rate <= RATE_BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
