"""Memory that was touched ahead is there when it is asked for: no page of it is touched for the first time again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.engine import memory
from core.engine.memory import touch_ahead
from core.local import processes

is_told = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is given back")
SIZE = 64 << 20
COUNT_FAULTS = f"""
import ctypes, resource, sys
from pathlib import Path
from core.engine import memory
from core.engine.memory import touch_ahead
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages: each small one counts
if sys.argv[1]:
    touch_ahead(Path(sys.argv[1])).join()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytearray({SIZE})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(model: str) -> int:
    environment = processes.clean_environment(processes.compute_environment(1) | processes.KEEP_MEMORY)
    ran = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, model],
        cwd=processes.REPOSITORY,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(ran.stdout)


@is_told
def test_what_was_touched_ahead_is_not_touched_for_the_first_time(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * (SIZE // 4))
    assert count_faults("") > 1000
    assert count_faults(str(tmp_path)) < 100


def test_nothing_is_touched_where_a_gpu_trains_or_it_would_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert touch_ahead(tmp_path) is None
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert touch_ahead(tmp_path) is None


def test_free_memory_is_what_the_machine_has_and_the_container_leaves() -> None:
    assert 0 < memory.free_bytes() <= psutil.virtual_memory().total
