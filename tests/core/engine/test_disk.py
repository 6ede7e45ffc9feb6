"""What is acknowledged is on the disk first: the order of syncs and renames, as the kernel saw it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.local import processes

WRITE = """
import sys
from pathlib import Path
from core.engine import disk
from core.local.store import Store
root = Path(sys.argv[1])
(root / "staged").write_bytes(b"content")
disk.place(root / "staged", root / "blob")
(root / "model" / "deep").mkdir(parents=True)
(root / "model" / "deep" / "weights").write_bytes(b"w")
disk.link_tree(root / "model", root / "output", root / "putting-together")
Store(root / "workspace.db").put("job", "a", {})
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the system calls about names, as `call file` and `rename from to`, in order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    root = tmp_path_factory.mktemp("disk")
    trace = root / "trace"
    asked = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat"
    command = [strace, "-f", "-y", "-e", asked, "-o", str(trace), sys.executable, "-c", WRITE, str(root)]
    done = subprocess.run(command, cwd=processes.REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("this machine lets nobody trace")
    assert done.returncode == 0, done.stderr
    assert (root / "output" / "deep" / "weights").read_bytes() == b"w"
    return [_words(line, root) for line in trace.read_text(encoding="utf-8").splitlines() if str(root) in line]


def _words(line: str, root: Path) -> str:
    call = re.search(r"(f(?:data)?sync|rename|link)", line)
    names = re.findall(rf"[\"<]{re.escape(str(root))}/?([^\">]*)[\">]", line)
    return " ".join([call[1].replace("fdatasync", "fsync") if call else "?", *(name or "." for name in names)])


def test_a_blob_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_answer(calls: list[str]) -> None:
    order = [calls.index(each) for each in ("fsync staged", "rename staged blob", "fsync .")]
    assert order == sorted(order), calls


def test_an_output_is_whole_on_the_disk_before_it_has_its_name(calls: list[str]) -> None:
    renamed = calls.index("rename putting-together output")
    for name in ("putting-together/deep/weights", "putting-together/deep", "putting-together"):
        assert calls.index(f"fsync {name}") < renamed, calls
    assert "fsync ." in calls[renamed:]


def test_what_the_store_acknowledges_has_been_synced(calls: list[str]) -> None:
    assert "fsync workspace.db-wal" in calls, calls
