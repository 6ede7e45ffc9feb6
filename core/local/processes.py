"""Starts, finds again and stops what runs in a step folder.

Liveness is the lock of the folder, never a pid: a pid may have been given to another process. A signal is sent only
to a pid whose start time is the one that the shim wrote down.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import locks
from core.home import REPOSITORY, write_atomically
from core.local import shim
from core.pids import lives, start_time_of

_START_WAIT_S = 15.0
# Makes glibc give nothing back, and take what comes next from what it kept (engine/memory.py).
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 40),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "CUDA_HOME",
    "TUNEDECK_DEVICE",
    "XDG_CACHE_HOME",
)
_KEPT_PREFIXES = ("LC_", "NVIDIA_")


@dataclass(frozen=True)
class Exit:
    """How a program ended; exit_status is 128 + signal where a signal ended it."""

    exit_status: int
    signal: int | None
    ended_at: str
    attempt: int


def start(
    folder: Path,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    attempt: int = 1,
    cwd: Path = REPOSITORY,
    niceness: int = 0,
    cpus: Sequence[int] = (),
) -> None:
    """Start `argv` under the shim and return when it is written down, so that it can be found again.

    Starting the same attempt twice, by whomever, runs it once. `env` is the whole environment. Raises OSError where the
    shim itself cannot run. `cpus` are the processors it may use, all where none are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = [sys.executable, "-m", "core.local.shim", str(folder), "--attempt", str(attempt)]
    own += ["--cwd", str(cwd), "--nice", str(niceness), "--cpus", ",".join(map(str, cpus))]
    with (folder / "shim_log.txt").open("ab") as log:
        launched = subprocess.Popen(
            [*own, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(env),
            cwd=REPOSITORY,
            start_new_session=True,
        )
    threading.Thread(target=launched.wait, name=f"reap-{launched.pid}", daemon=True).start()
    until = time.monotonic() + _START_WAIT_S
    while time.monotonic() < until and launched.poll() is None and shim.read_attempt(folder) < attempt:
        time.sleep(0.01)
    if launched.poll() not in (None, shim.EXIT_TAKEN) and shim.read_attempt(folder) < attempt:
        tail = read_tail(folder / "shim_log.txt", 1)
        raise ChildProcessError(errno.ECHILD, f"the shim ended with {launched.returncode}", "".join(tail))


def is_alive(folder: Path) -> bool:
    """Tell whether the shim of this folder, or its child, lives."""
    return locks.is_held(folder / shim.LOCK_NAME)


def forbid(folder: Path, attempt: int) -> bool:
    """Keep an attempt that does not run from ever running; False, and nothing is done, when it is alive.

    A shim that was launched by a server which then died may still be on its way to the lock.
    """
    if is_alive(folder):  # asked of a step at each look until it has stopped: `tried` would wait each time
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with locks.tried(folder / shim.LOCK_NAME) as free:
        if free and shim.read_attempt(folder) < attempt:
            write_atomically(folder / shim.PROCESS_NAME, json.dumps({"attempt": attempt}))
        return free


def is_supervised(folder: Path) -> bool:
    """Tell whether the shim itself lives; without it nobody writes down how its child ends."""
    record = _read_json(folder / shim.PROCESS_NAME)
    # Between taking the lock and writing this attempt down the record is missing or the one before.
    if "pid" not in record:
        return True
    return read_exit(folder) is None and lives(int(record["pid"]), record["start_time"])


def read_exit(folder: Path) -> Exit | None:
    """Return how the last attempt ended; None while it runs, or when nobody lived to write it down."""
    found = _read_json(folder / shim.EXIT_NAME)
    if not found:
        return None
    return Exit(int(found["exit_status"]), found["signal"], str(found["ended_at"]), int(found["attempt"]))


def ask_to_stop(folder: Path) -> None:
    """Send SIGTERM to the shim, which hands it on to its child; returns at once."""
    record = _read_json(folder / shim.PROCESS_NAME)
    _signal(record.get("pid"), record.get("start_time"), signal.SIGTERM)


def kill(folder: Path) -> None:
    """End the child with its whole group; the shim stays to write down how it ended."""
    record = _read_json(folder / shim.PROCESS_NAME)
    child, born = record.get("child_pid"), record.get("child_start_time")
    if child and born and lives(int(child), born):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(child), signal.SIGKILL)
    for pid in _session_of(record):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def stop(folder: Path, grace_s: float = 5.0) -> bool:
    """Stop what runs here, gently and then by force; returns whether it is gone."""
    ask_to_stop(folder)
    if _wait_until_gone(folder, grace_s):
        return True
    kill(folder)
    if _wait_until_gone(folder, 5.0):
        return True
    record = _read_json(folder / shim.PROCESS_NAME)
    _signal(record.get("pid"), record.get("start_time"), signal.SIGKILL)
    return _wait_until_gone(folder, 5.0)


def read_tail(path: Path, lines: int, limit_bytes: int = 65_536) -> list[str]:
    """Return the last lines of a log; a line that redrew itself (progress bars) counts as it was left."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - limit_bytes))
            text = file.read(limit_bytes).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")]
    return kept[-lines:] if text.strip() else []


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what a program may see of the server's environment (no secret is on the list), and `extra`."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    interpreter = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join([interpreter, kept.get("PATH", os.defpath)])
    return kept | dict(extra)


def compute_environment(cores: int, gpus: int = 0, which: Sequence[int] | None = None) -> dict[str, str]:
    """Return thread counts, the GPUs in sight, and the allocator settings that cut page faults to a third.

    `gpus` are the first ones, where `which` does not name them.
    """
    count = str(cores)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), count)
    large = str(1 << 30)
    return threads | {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_THRESHOLD_": large,
        "MALLOC_TRIM_THRESHOLD_": large,
        "MALLOC_TOP_PAD_": str(64 << 20),
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": _visible_gpus(range(gpus) if which is None else which),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _visible_gpus(which: Sequence[int]) -> str:
    """Return the names of some of the GPUs that the server itself may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = allowed.split(",") if allowed else None
    return ",".join(listed[index] if listed else str(index) for index in which if not listed or index < len(listed))


def _wait_until_gone(folder: Path, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while is_alive(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _signal(pid: object, born: object, number: int) -> None:
    if isinstance(pid, int) and isinstance(born, str) and lives(pid, born):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _session_of(record: Mapping[str, object]) -> list[int]:
    """Return the processes of the shim's session but itself (Linux).

    A session's number is not given to a new process while a member lives, so membership is proof enough.
    """
    shim_pid = record.get("pid")
    if sys.platform != "linux" or not isinstance(shim_pid, int):
        return []
    if start_time_of(shim_pid) not in ("", record.get("start_time")):
        return []  # another process has this pid now, so nothing of the old session is left
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != shim_pid:
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                if int(fields[3]) == shim_pid:
                    members.append(int(entry.name))
    return members


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
