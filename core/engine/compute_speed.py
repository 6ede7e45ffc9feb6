"""How torch computes fastest on this machine: in which number format, and with how many threads."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SPEEDS_VARIABLE = "TUNEDECK_SPEEDS"
ROOM_FOR_PREPACKED = 1 << 30
"""Bytes that prepacked weights may take (docs/decisions/0021): training beside the plain ones, for answers in all."""


def has_prepacked_layout() -> bool:
    """Tell whether oneDNN has a layout of its own for this kind of processor."""
    return platform.machine() in ("x86_64", "AMD64")


def choose_device() -> str:
    """Return "cuda" where torch finds a card, else "cpu"; TUNEDECK_DEVICE may ask for "cpu" instead, or for "mps"."""
    import torch

    wanted = os.environ.get("TUNEDECK_DEVICE")
    if wanted == "mps" and torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu"


def choose_number_format(rows: int = 256, device: str = "cpu") -> tuple[str, str]:
    """Return "bfloat16" or "float32", whichever multiplies faster here, and the reason in words.

    rows: how many tokens go through a layer at once: some hundreds when training, 1 when generating. Processors
    without bf16 instructions are faster in fp32, so it is measured: a tenth of a second.
    """
    import torch

    if device == "mps":
        return "float32", "bf16 was not tried on MPS"
    if device == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16", "the GPU computes in bf16") if good else ("float32", "the GPU has no bf16")
    seconds = _time_products(rows)
    faster = min(seconds, key=lambda name: seconds[name])
    ratio = max(seconds.values()) / min(seconds.values())
    return faster, f"measured {ratio:.1f} times as fast as the other on this processor ({rows} rows at a time)"


class Threads:
    """Sets how many threads torch computes with: those that compute fastest, tried again every few seconds.

    Which count that is on an idle machine is measured once for a number format, and kept in the file that
    TUNEDECK_SPEEDS names. Where a browser and a dashboard want the cores too, threads that wait for each other a
    thousand times a second can be ten times slower than half as many (measured on two busy cores: 13 s instead of 0.8 s
    for a training step). A try costs a tenth of a second: it is of two counts, the one in use and half of it, or the
    next one up or down.
    """

    TRY_EVERY_S = 6.0
    TRY_FOR_S = 0.06
    WORTH = 0.2
    """Twice the threads are used where they bring 2 ** WORTH: 15% more."""

    def __init__(self, cores: int, number_format: str = "float32", *, fixed: bool = False) -> None:
        import torch

        self.counts = [cores] if fixed else list_useful_counts(cores)
        self._format, self._kind = number_format, f"{number_format} on {cores} cores"
        self._best = 0 if fixed else _read_best().get(self._kind, 0)
        self._turn, self._tried_at = 0, float("-inf")
        if self._best in self.counts:
            self._at = self.counts.index(self._best)
            self.adapt()
        elif len(self.counts) > 1:
            self._choose(range(len(self.counts)))
        else:
            torch.set_num_threads(cores)

    def adapt(self) -> None:
        """Choose anew if it is time to; call it between pieces of work, in the thread that does the work."""
        if len(self.counts) == 1 or time.perf_counter() - self._tried_at < self.TRY_EVERY_S:
            return
        half = max((at for at, count in enumerate(self.counts) if 2 * count <= self.counts[self._at]), default=self._at)
        others = [at for at in dict.fromkeys((half, self._at + 1, self._at - 1)) if 0 <= at < len(self.counts)]
        others = [at for at in others if at != self._at]
        self._choose((self._at, others[self._turn % len(others)]))
        self._turn += 1

    def _choose(self, places: Iterable[int]) -> None:
        """Use the best of some counts. It is kept where it is more than before: a busy machine has room for fewer."""
        import torch

        speeds = {at: self._measure(self.counts[at]) for at in places}
        self._at = max(speeds, key=lambda at: speeds[at] / self.counts[at] ** self.WORTH)
        torch.set_num_threads(self.counts[self._at])
        self._tried_at = time.perf_counter()
        if self.counts[self._at] > self._best:
            self._best = self.counts[self._at]
            _keep_best(self._kind, self._best)

    def _measure(self, count: int) -> float:
        """Return small matrix products per second."""
        import torch

        torch.set_num_threads(count)
        left, right = (torch.ones(size, 576, dtype=getattr(torch, self._format)) for size in (128, 576))
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < self.TRY_FOR_S:
            torch.nn.functional.linear(left, right)
            done += 1
        return done / (time.perf_counter() - started)


def list_useful_counts(cores: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12, … up to `cores`, which is one of them, and so is how many of these are physical."""
    counts = {cores, min(cores, _count_physical_cores() or cores)}
    counts |= {size * 2**power for size in (1, 3) for power in range(cores.bit_length())}
    return sorted(count for count in counts if count <= cores)


def _count_physical_cores() -> int:
    """Return how many cores this process may use, the threads of one core counted as one; 0 where it is not told."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    found = set()
    for number in os.sched_getaffinity(0):
        with suppress(OSError):
            found.add(Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text("ascii"))
    return len(found)


def _read_best() -> dict[str, int]:
    """Return the counts of threads that were kept on this machine, {} where it, or torch, has changed since."""
    try:
        kept = json.loads(Path(os.environ.get(SPEEDS_VARIABLE, "")).read_text(encoding="utf-8"))
        return dict(kept["threads"]) if kept["machine"] == _describe_machine() else {}
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not of this version's writing
        return {}


def _keep_best(kind: str, count: int) -> None:
    """Keep it, in one move: of two that write at once the other's may be lost, and is then measured again."""
    if not (name := os.environ.get(SPEEDS_VARIABLE)):
        return
    path = Path(name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    body = {"machine": _describe_machine(), "threads": _read_best() | {kind: count}}
    with suppress(OSError):  # a full disk costs a measurement
        temporary.write_text(json.dumps(body), encoding="utf-8")
        temporary.replace(path)


def _describe_machine() -> list[str]:
    """Return what measured speeds hang on: the processor, its number of cores, and torch."""
    import torch

    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = ""
    names = {line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("model name")}
    return [*sorted(names), platform.processor(), platform.machine(), str(os.cpu_count()), torch.__version__]


def _time_products(rows: int) -> dict[str, float]:
    """Return the best of twelve tries in each format, on one thread and in turns: a busy machine misleads less.

    A format that is left far behind after three is not tried again: without bf16 instructions a try takes a tenth of a
    second, and a run waits for it.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = ("bfloat16", "float32")
    wide = 1024 if rows > 1 else 32 * 1024  # one row at a time reads all weights from memory: no cache may hold them
    pairs = {name: [torch.ones(size, 1024, dtype=getattr(torch, name)) for size in (rows, wide)] for name in names}
    best = dict.fromkeys(names, float("inf"))
    for number in range(12):
        for name, (left, right) in pairs.items():
            if number >= 3 and best[name] > 2 * min(best.values()):
                continue
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[name] = min(best[name], time.perf_counter() - started)
    torch.set_num_threads(threads)
    return best
