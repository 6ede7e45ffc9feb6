"""Homes that cannot be served, or not at the moment: a sentence each, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.errors import BadInput
from core.home import Home
from core.local import control
from core.local.home_check import check_home, find_file_system
from tests.core.local.test_assets import data
from tests.core.local.test_serving import run_command
from tests.local_server import LocalServer

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync
41 22 0:36 / /srv/a\\040b rw - nfs4 server:/export rw
"""


def fill(disk: Path) -> Path:
    """Fill a disk to its last block; return the file that did."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return filler


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS, encoding="utf-8")
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB, where this machine lets tests mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "none", path], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no disk can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_home_on_a_network_file_system_is_refused_before_anything_is_written(mounts: Path) -> None:
    assert find_file_system(Path("/var/x"), mounts) == "ext4"
    assert find_file_system(Path("/srv/a b/home"), mounts) == "nfs4"
    with pytest.raises(BadInput) as caught:
        check_home(Path("/mnt/c/data/tunedeck"), mounts)
    assert caught.value.message == (
        "The home folder /mnt/c/data/tunedeck lies on a network file system (9p), which cannot keep it safely."
    )
    assert "TUNEDECK_HOME" in caught.value.hint


def test_a_read_only_home_is_said_in_a_sentence(small_disk: Path) -> None:
    home = small_disk / "home"
    home.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for command in ("serve", "start"):
        answer = run_command(Home(home), command)
        assert answer.returncode == 1
        assert answer.stderr.startswith(f"The home folder {home} is on a read-only disk.\nChoose a folder")
        assert "Traceback" not in answer.stderr
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run_command(Home(tmp_path / "file" / "home"), "serve")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"The home folder {tmp_path}/file/home cannot be used: Not a directory.")


def test_a_home_of_a_newer_tunedeck_is_said_in_a_sentence_and_left_alone(own_server: LocalServer) -> None:
    own_server.request("PUT", "data/kept/versions/1", json=data())
    own_server.stop()
    path = own_server.home.workspace_db
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    answer = run_command(own_server.home, "serve")
    assert answer.returncode == 1
    assert "This home was written by a newer Tunedeck (schema 99; this one knows" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_what_was_acknowledged_stays(own_server: LocalServer) -> None:
    """The limit on the size of files stands in for a full disk, as far as the server can tell."""
    assert own_server.request("PUT", "data/before/versions/1", json=data()).status_code == 201
    server = psutil.Process(own_server.pid)
    limits = server.rlimit(psutil.RLIMIT_FSIZE)
    server.rlimit(psutil.RLIMIT_FSIZE, (4096, limits[1]))
    refused = own_server.request("PUT", "data/during/versions/1", json=data())
    assert refused.status_code == 507
    assert refused.json()["error"]["message"].startswith("The disk of the home folder is full.")
    assert own_server.request("GET", "data/before/versions/1").status_code == 200
    server.rlimit(psutil.RLIMIT_FSIZE, limits)
    assert own_server.request("GET", "data/during/versions/1").status_code == 404
    assert own_server.request("PUT", "data/during/versions/1", json=data()).status_code == 201
    own_server.kill()
    own_server.start()
    for name in ("before", "during"):
        assert own_server.request("GET", f"data/{name}/versions/1").status_code == 200


def test_on_a_disk_that_is_full_the_server_answers_and_goes_on_when_there_is_space_again(small_disk: Path) -> None:
    server = LocalServer(Home(small_disk / "home"))
    try:
        server.start()
        assert server.request("PUT", "data/before/versions/1", json=data()).status_code == 201
        filler = fill(small_disk)
        answers = [server.request("PUT", f"data/during/versions/{n}", json=data()) for n in range(200)]
        assert {answer.status_code for answer in answers} <= {201, 507}
        assert answers[-1].status_code == 507
        acknowledged = [n for n, answer in enumerate(answers) if answer.status_code == 201]
        assert run_command(server.home, "status").returncode == 0
        filler.unlink()
        assert server.request("PUT", "data/after/versions/1", json=data()).status_code == 201
        server.kill()
        server.start()
        for path in ("before/versions/1", "after/versions/1", *(f"during/versions/{n}" for n in acknowledged)):
            assert server.request("GET", f"data/{path}").status_code == 200
    finally:
        control.stop(server.home)
        if server.process:
            server.process.wait(timeout=10)


def test_a_start_on_a_full_disk_is_said_in_a_sentence(small_disk: Path) -> None:
    fill(small_disk)
    answer = run_command(Home(small_disk / "home"), "serve")
    assert answer.returncode == 1
    assert "is full." in answer.stderr
    assert "Traceback" not in answer.stderr
