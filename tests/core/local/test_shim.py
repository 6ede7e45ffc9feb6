"""The shim and what finds processes again, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.local import processes, shim
from tests.waiting import wait_until

SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's own")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "step"
    processes.stop(tmp_path / "step", 0.1)


def start(folder: Path, program: list[str], attempt: int = 1) -> None:
    processes.start(folder, program, processes.clean_environment({}), attempt=attempt)


def record_of(folder: Path) -> dict[str, int]:
    return processes._read_json(folder / shim.PROCESS_NAME)


def is_running(pid: int) -> bool:
    return shim.start_time_of(pid) != ""


def test_the_exit_status_and_both_streams_are_kept(folder: Path) -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"
    start(folder, [sys.executable, "-c", code])
    wait_until(lambda: not processes.is_alive(folder))
    ended = processes.read_exit(folder)
    assert ended is not None
    assert (ended.exit_status, ended.signal, ended.attempt) == (7, None, 1)
    assert (folder / shim.LOG_NAME).read_text() == "out\nerr\n"


def test_a_program_that_does_not_exist_ends_with_127_and_a_line_in_the_log(folder: Path) -> None:
    start(folder, ["/nowhere/program"])
    wait_until(lambda: processes.read_exit(folder))
    assert processes.read_exit(folder).exit_status == 127  # type: ignore[union-attr]
    assert "No such file" in (folder / shim.LOG_NAME).read_text()


def test_a_signal_is_told_as_128_and_its_number(folder: Path) -> None:
    start(folder, SLEEPER)
    os.kill(record_of(folder)["child_pid"], signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(folder))
    ended = processes.read_exit(folder)
    assert ended is not None
    assert (ended.exit_status, ended.signal) == (137, 9)


def test_stop_hands_sigterm_to_the_child_and_the_shim_writes_the_end(folder: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print('x', flush=True); time.sleep(60)"
    )
    start(folder, [sys.executable, "-c", code])
    wait_until(lambda: "x" in (folder / shim.LOG_NAME).read_text())
    assert processes.stop(folder, 5)
    assert processes.read_exit(folder).exit_status == 143  # type: ignore[union-attr]


@LINUX_ONLY
def test_stop_kills_a_deaf_child_with_all_its_descendants(folder: Path) -> None:
    deaf = "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN); "
    start(folder, [sys.executable, "-c", deaf + f"subprocess.Popen({SLEEPER!r}); time.sleep(60)"])
    wait_until(lambda: "here" in (folder / shim.LOG_NAME).read_text())
    children = processes._session_of(record_of(folder))
    assert len(children) == 2
    assert processes.stop(folder, 0.3)
    assert processes.read_exit(folder).signal == signal.SIGKILL  # type: ignore[union-attr]
    assert not any(is_running(pid) for pid in children)


@LINUX_ONLY
def test_a_grandchild_in_a_session_of_its_own_ends_with_the_child(folder: Path) -> None:
    code = f"import subprocess; print(subprocess.Popen({SLEEPER!r}, start_new_session=True).pid, flush=True)"
    start(folder, [sys.executable, "-c", code])
    wait_until(lambda: not processes.is_alive(folder))
    assert not is_running(int((folder / shim.LOG_NAME).read_text().split()[0]))


@LINUX_ONLY
def test_the_child_dies_with_its_shim_and_nobody_tells_how(folder: Path) -> None:
    start(folder, SLEEPER)
    record = record_of(folder)
    os.kill(record["pid"], signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(folder))
    assert not is_running(record["child_pid"])
    assert processes.read_exit(folder) is None


def test_the_same_attempt_started_twice_runs_once(folder: Path) -> None:
    """Two servers, one killed right after its launch: whichever shim has the lock runs, the other leaves."""
    code = "import time; print('ran', flush=True); time.sleep(0.3)"
    command = [sys.executable, "-m", "core.local.shim", str(folder), "--attempt", "1", "--", sys.executable, "-c", code]
    folder.mkdir(parents=True)
    both = [subprocess.Popen(command, cwd=processes.REPOSITORY, start_new_session=True) for _ in range(2)]
    assert sorted(each.wait(20) for each in both) == [0, shim.EXIT_TAKEN]
    assert subprocess.call(command, cwd=processes.REPOSITORY) == shim.EXIT_TAKEN
    assert (folder / shim.LOG_NAME).read_text() == "ran\n"


def test_a_later_attempt_runs_in_the_same_folder_and_its_end_replaces_the_first(folder: Path) -> None:
    start(folder, [sys.executable, "-c", "raise SystemExit(1)"])
    wait_until(lambda: not processes.is_alive(folder))
    start(folder, [sys.executable, "-c", "raise SystemExit(2)"], attempt=2)
    wait_until(lambda: not processes.is_alive(folder))
    ended = processes.read_exit(folder)
    assert ended is not None
    assert (ended.exit_status, ended.attempt) == (2, 2)


def test_a_forbidden_attempt_never_runs(folder: Path) -> None:
    assert processes.forbid(folder, 1)
    start(folder, SLEEPER)
    assert not processes.is_alive(folder)
    assert not (folder / shim.LOG_NAME).exists()


def test_what_runs_cannot_be_forbidden(folder: Path) -> None:
    start(folder, SLEEPER)
    assert not processes.forbid(folder, 1)
    assert processes.is_alive(folder)


def test_no_signal_goes_to_a_process_that_has_the_pid_now(folder: Path) -> None:
    other = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL)
    folder.mkdir(parents=True)
    false = f'{{"pid": {other.pid}, "start_time": "boot:1", "child_pid": {other.pid}, "child_start_time": "boot:1"}}'
    (folder / shim.PROCESS_NAME).write_text(false)
    processes.ask_to_stop(folder)
    processes.kill(folder)
    time.sleep(0.1)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_program_sees_no_secret_of_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hush")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    start(folder, [sys.executable, "-c", "import os; print(dict(os.environ))"])
    wait_until(lambda: not processes.is_alive(folder))
    assert "hush" not in (folder / shim.LOG_NAME).read_text()


def test_the_tail_of_a_log_shows_a_progress_bar_as_it_was_left(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\n 10%\r 50%\r100%\nlast\n")
    assert processes.read_tail(tmp_path / "log", 2) == ["100%", "last"]
    assert processes.read_tail(tmp_path / "none", 2) == []


def test_a_shim_that_cannot_run_is_an_error_and_not_a_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the shim ended with 1"):
        start(folder, SLEEPER)


def test_what_was_told_only_by_its_end_is_not_run_again(folder: Path) -> None:
    """A disk that was full when the start should be written down, and had a block for the end."""
    start(folder, [sys.executable, "-c", "print('ran')"])
    wait_until(lambda: processes.read_exit(folder))
    (folder / shim.PROCESS_NAME).unlink()
    start(folder, [sys.executable, "-c", "print('ran')"])
    wait_until(lambda: not processes.is_alive(folder))
    assert (folder / shim.LOG_NAME).read_text() == "ran\n"
