"""Memory touched before it is needed. A page's first touch costs a virtual machine a trip to its host: 1 to 2 s a GiB.

Measured on two cores with 24 GiB: the first optimiser step ended 7.1 to 9.3 s after the trainer's start instead of 8.0
to 14.3, the third after 13.0 to 18.0 instead of 17.2 to 25.6, in seven runs each.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from pathlib import Path

import psutil

# Of the size of a model's file in bf16: its weights in fp32 take two, activations and logits of a batch the rest.
_TIMES_THE_FILE = 8
_MOST_BYTES = 3 << 30
_SHARE_OF_FREE = 0.25
CGROUP = Path("/sys/fs/cgroup")
_GLIBC = (2, 35)  # older ones refuse thresholds of such a size


def touch_ahead(model_dir: Path) -> threading.Thread | None:
    """Touch as much memory as training this model is going to hold, in a thread beside the imports.

    glibc keeps it for what is allocated next where it was told so (processes.KEEP_MEMORY). Elsewhere, and where a GPU
    trains, nothing is done.
    """
    if not keeps_memory() or os.environ.get("CUDA_VISIBLE_DEVICES"):
        return None
    weights = sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))
    size = how_much_to_touch(weights, free_bytes())
    thread = threading.Thread(target=_touch, args=(size,), name="touch", daemon=True)
    thread.start()
    return thread


def how_much_to_touch(weights: int, free: int) -> int:
    """Return how many bytes are touched for a model whose files hold `weights`, of `free` that are."""
    return min(_TIMES_THE_FILE * weights, _MOST_BYTES, int(_SHARE_OF_FREE * free))


def keeps_memory() -> bool:
    """Tell whether what this process gives back stays with it."""
    name, version = platform.libc_ver()
    known = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    return name == "glibc" and known >= _GLIBC and os.environ.get("MALLOC_ARENA_MAX") == "1"


def free_bytes() -> int:
    """Return how much memory a process may still take: what the machine has available, and its container leaves it."""
    limit, used = first_line(CGROUP / "memory.max"), first_line(CGROUP / "memory.current")
    left = int(limit) - int(used) if limit.isdecimal() and used.isdecimal() else sys.maxsize
    return max(0, min(psutil.virtual_memory().available, left))


def first_line(path: Path) -> str:
    """Return the first line of a small file, "" where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _touch(size: int) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    if block := libc.malloc(size):
        libc.memset(block, 1, size)
        libc.free(block)
