"""What this machine has: cores, memory and GPUs, and the compute sizes that follow.

GPUs are looked for in a subprocess (`python -m core.local.machine`), because a library that has opened CUDA holds
memory on every GPU for as long as its process lives.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from core.engine.memory import CGROUP, first_line
from core.home import REPOSITORY

PROBE_TIMEOUT_S = 60
_COUNT_USABLE_GPUS = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


@dataclass(frozen=True)
class Size:
    """A compute size of the local location: a share of this machine."""

    name: str
    family: str
    cores: int
    memory_gib: float
    gpus: int
    online: bool = True


@dataclass(frozen=True)
class Machine:
    """This machine, as far as this process may use it."""

    cores: int
    memory_gib: float
    gpus: tuple[str, ...] = ()
    card_gib: float = 0.0
    """Memory of the smallest GPU."""
    processor: str = ""
    system: str = ""
    problem: str = ""
    quota_cores: int = 0
    """The quota that TUNEDECK_QUOTA_CORES sets, 0 for none."""

    @property
    def quota(self) -> int:
        """Return how many cores clusters may keep, and as many online deployments may use."""
        return self.quota_cores or self.cores

    def quota_of(self, _family: str) -> int:
        """Return how many cores of a family there are."""
        return self.quota

    def quota_pool(self, _family: str) -> str:
        """Return the pool that the quota of a family is drawn from: one for all, since they are the same cores."""
        return ""

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Return the sizes a compute can have, the largest last."""
        share = self.memory_gib / self.cores
        cpu = (
            Size(f"local.cpu{cores}", "localCPUFamily", cores, round(share * cores, 1), 0)
            for cores in sorted({1, self.cores})
        )
        total = len(self.gpus)
        gpu = (
            Size(
                f"local.gpu{count}",
                "localGPUFamily",
                max(1, self.cores * count // total),
                round(self.memory_gib * count / total, 1),
                count,
            )
            for count in sorted({1, total} if total else ())
        )
        return (*cpu, *gpu)

    @property
    def largest(self) -> Size:
        """Return the size that is the whole machine."""
        return self.sizes[-1]

    def find_size(self, name: str) -> Size | None:
        """Return a size by name, case ignored, or None."""
        return next((size for size in self.sizes if size.name.lower() == name.lower()), None)


def probe() -> Machine:
    """Return this machine, measured by a subprocess; when that fails there are no GPUs, and `problem` says why."""
    try:
        probed = subprocess.run(
            [sys.executable, "-m", "core.local.machine"],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            cwd=REPOSITORY,
            check=True,
        )
        fields: dict[str, Any] = json.loads(probed.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        problem = f"GPUs could not be looked for: {error}"
        return Machine(_count_cores(), _memory_gib(), problem=problem, quota_cores=_quota_cores())
    return Machine(**{**fields, "gpus": tuple(fields["gpus"])})


def measure() -> Machine:
    """Measure this machine in this process; may import torch in a further process where a GPU driver is there."""
    gpus, card_gib, problem = _find_gpus()
    system = platform.platform()
    return Machine(_count_cores(), _memory_gib(), gpus, card_gib, _processor(), system, problem, _quota_cores())


def _count_cores() -> int:
    """Return the whole cores this process may use: its affinity, and the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = first_line(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def _quota_cores() -> int:
    """Return the value of TUNEDECK_QUOTA_CORES, 0 where it is not set or not a number."""
    text = os.environ.get("TUNEDECK_QUOTA_CORES", "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _memory_gib() -> float:
    total = psutil.virtual_memory().total
    limit = first_line(CGROUP / "memory.max")
    if limit.isdecimal():
        total = min(total, int(limit))
    return round(total / 1024**3, 1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _find_gpus() -> tuple[tuple[str, ...], float, str]:
    """Return the names of the GPUs that the installed torch can use, GiB of the smallest, what is wrong with others."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), 0.0, ""
    asked = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run([tool, *asked], capture_output=True, text=True, timeout=20, check=False)
    cards = [line.rpartition(",") for line in listed.stdout.splitlines() if line.strip()]
    if listed.returncode or not cards:
        return (), 0.0, ""
    counted = subprocess.run(
        [sys.executable, "-c", _COUNT_USABLE_GPUS], capture_output=True, text=True, timeout=40, check=False
    )
    usable = int(counted.stdout.strip() or 0) if counted.returncode == 0 else 0
    problem = "" if usable == len(cards) else f"GPUs found: {len(cards)}, usable by the installed torch: {usable}."
    sizes = [float(size) / 1024 for _, _, size in cards[:usable] if size.strip().isdecimal()]
    return tuple(name.strip() for name, _, _ in cards[:usable]), round(min(sizes, default=0.0), 1), problem


if __name__ == "__main__":
    print(json.dumps(asdict(measure())))
