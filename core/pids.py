"""Tells a process from a later one that was given its pid, whatever happens to the machine's clock.

Shared by both sides of the wire. Standard library only where nothing old is read: the shim of every step imports it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_IN_UTC = {"TZ": "UTC", "LC_ALL": "C"}


def start_time_of(pid: int) -> str:
    """Return a word that differs for every process that ever has this pid; "" where none lives.

    On Linux boot id and clock ticks since boot (proc(5), field 22), which no change of the clock moves; elsewhere the
    time that the kernel noted at the start, in UTC, since the machine's time zone may change. To be compared, not read.
    """
    if sys.platform != "linux":
        return _ask_ps(pid, _IN_UTC)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def lives(pid: int, start_time: str | float) -> bool:
    """Tell whether the process with this pid is the one that was recorded with this start time.

    Records of earlier versions are understood: a number is seconds since 1970, good to one second; on macOS the word
    was in the machine's time zone.
    """
    if isinstance(start_time, str):
        words = [start_time_of(pid)] + ([] if sys.platform == "linux" else [_ask_ps(pid, {})])
        return start_time != "" and start_time in words
    import psutil

    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - start_time) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _ask_ps(pid: int, zone: Mapping[str, str]) -> str:
    asked = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(asked, env={**os.environ, **zone}, capture_output=True, text=True, check=False)
    state, _, start_time = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else start_time.strip()
