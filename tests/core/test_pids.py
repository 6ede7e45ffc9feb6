"""A process is known again by pid and start time, on real processes and under a clock that was set."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from core import pids
from core.home import Home
from core.launcher import Dashboard, find_dashboard, stop_dashboard

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="stands on /proc")
HOUR_S = 3600


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def set_clock(monkeypatch: pytest.MonkeyPatch, folder: Path, by_s: int) -> None:
    """Show psutil, through the setting it has for it, the /proc of a machine whose clock was set: another boot time."""
    folder.mkdir()
    for entry in Path("/proc").iterdir():
        if entry.name != "stat":
            (folder / entry.name).symlink_to(entry)
    lines = [line.split(" ") for line in Path("/proc/stat").read_text().splitlines()]
    moved = [f"btime {int(words[1]) + by_s}" if words[0] == "btime" else " ".join(words) for words in lines]
    (folder / "stat").write_text("\n".join(moved))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder))


@on_linux
@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
def test_a_dashboard_is_known_and_ended_after_the_clock_was_set(
    home: Home, sleeper: subprocess.Popen[bytes], by_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = psutil.Process(sleeper.pid).create_time()
    recorded = Dashboard(sleeper.pid, pids.start_time_of(sleeper.pid), 8501)
    (home.path / "dashboard.json").write_text(json.dumps(asdict(recorded)))
    set_clock(monkeypatch, tmp_path / "proc", by_s)
    assert psutil.Process(sleeper.pid).create_time() == pytest.approx(before + by_s), "the clock was not set"
    assert find_dashboard(home) == recorded
    assert stop_dashboard(home)
    assert not pids.lives(sleeper.pid, recorded.started_at)


@on_linux
def test_a_pid_given_to_another_process_at_the_same_time_of_the_clock_is_not_the_one_recorded(
    sleeper: subprocess.Popen[bytes],
) -> None:
    boot, ticks = pids.start_time_of(sleeper.pid).rsplit(":", 1)
    assert pids.lives(sleeper.pid, f"{boot}:{ticks}")
    for other in (f"{boot}:{int(ticks) - HOUR_S * 100}", f"another-boot:{ticks}", "", ticks):
        assert not pids.lives(sleeper.pid, other), other


def test_a_record_of_an_earlier_version_is_understood(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    """It holds seconds since 1970, as psutil tells them."""
    started_at = psutil.Process(sleeper.pid).create_time()
    for seconds, known in ((started_at, True), (started_at + 0.4, True), (started_at - HOUR_S, False), (1, False)):
        record = {"pid": sleeper.pid, "started_at": seconds, "port": 8501}
        (home.path / "dashboard.json").write_text(json.dumps(record))
        assert (find_dashboard(home) is not None) == known, seconds
    (home.path / "dashboard.json").write_text("not JSON")
    assert find_dashboard(home) is None


def test_what_has_ended_lives_no_more_even_before_its_parent_has_read_how(sleeper: subprocess.Popen[bytes]) -> None:
    word, seconds = pids.start_time_of(sleeper.pid), psutil.Process(sleeper.pid).create_time()
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    for _ in ("a zombie", "nothing"):
        assert pids.start_time_of(sleeper.pid) == ""
        assert not pids.lives(sleeper.pid, word)
        assert not pids.lives(sleeper.pid, seconds)
        sleeper.wait()


def test_where_ps_is_asked_the_time_zone_of_the_machine_changes_nothing(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    word = pids.start_time_of(sleeper.pid)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    earlier_version = subprocess.check_output(["ps", "-o", "lstart=", "-p", str(sleeper.pid)], text=True).strip()
    assert word != earlier_version
    assert pids.lives(sleeper.pid, word)
    assert pids.lives(sleeper.pid, earlier_version)
    assert not pids.lives(sleeper.pid, "Mon Jan  1 00:00:00 2024")
    sleeper.kill()
    sleeper.wait()
    assert not pids.lives(sleeper.pid, word)
