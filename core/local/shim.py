"""The small parent of every trainer and scorer: it holds a lock while they live and writes down how they ended.

    python -m core.local.shim FOLDER [--attempt N] [--cwd DIR] [--nice N] [--cpus 0,1] -- PROGRAM ARGUMENT...

A server that was killed finds in FOLDER all there is to know. The shim imports next to nothing, because it is started
for every step of a run.

    alive.lock    locked (flock) as long as the shim or its child lives
    process.json  {pid, start_time, child_pid, child_start_time, attempt}
    std_log.txt   both streams of the child, appended
    exit.json     {exit_status, signal, ended_at, attempt}, by rename, before the lock is let go
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from core.pids import start_time_of

LOCK_NAME = "alive.lock"
PROCESS_NAME = "process.json"
EXIT_NAME = "exit.json"
LOG_NAME = "std_log.txt"

EXIT_TAKEN = 75
"""Exit status of a shim that found this attempt started, or another one still alive."""

_RESERVE_NAME = ".exit.reserved"
_LOCK_WAIT_S = 3.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def read_attempt(folder: Path) -> int:
    """Return the number of the last attempt that was begun in a folder, 0 where none was.

    Either file tells it: on a full disk only the one with a block of its own could be written.
    """
    numbers = [0]
    for name in (PROCESS_NAME, EXIT_NAME):
        with contextlib.suppress(OSError, ValueError, KeyError):
            numbers.append(int(json.loads((folder / name).read_text(encoding="utf-8"))["attempt"]))
    return max(numbers)


def main(arguments: list[str]) -> int:
    """Run one program under the lock of its folder and return its exit status."""
    if "--" not in arguments or not arguments[0]:
        print(__doc__, file=sys.stderr)
        return 2
    split = arguments.index("--")
    own, program = arguments[:split], arguments[split + 1 :]
    options = dict(zip(own[1::2], own[2::2], strict=True))
    os.nice(int(options.get("--nice", "0")))
    if cpus := options.get("--cpus"):
        with contextlib.suppress(OSError, AttributeError):  # this machine has others since, or no such call
            os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    return _run(Path(own[0]), program, int(options.get("--attempt", "1")), options.get("--cwd"))


def _run(folder: Path, program: list[str], attempt: int, cwd: str | None) -> int:
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A server that was killed right after the launch may have a successor which launches again:
    # the lock lets one of the two in, the attempt keeps the other out once the first has ended.
    if not _take_lock(lock) or read_attempt(folder) >= attempt:
        return EXIT_TAKEN
    (folder / EXIT_NAME).unlink(missing_ok=True)
    _reserve(folder)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop_asked: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        stop_asked.append(number)
        if child is not None:
            _signal_group(child.pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    try:
        child = _start_child(folder, program, cwd, lock)
    except OSError as error:
        _write(folder, PROCESS_NAME, {"pid": os.getpid(), "start_time": start_time_of(os.getpid()), "attempt": attempt})
        _log(folder, f"{program[0]}: {error.strerror}\n")
        return _finish(folder, 127, attempt)
    record = {
        "pid": os.getpid(),
        "start_time": start_time_of(os.getpid()),
        "child_pid": child.pid,
        "child_start_time": start_time_of(child.pid),
        "attempt": attempt,
    }
    with contextlib.suppress(OSError):  # a full disk must not end a trainer that runs
        _write(folder, PROCESS_NAME, record)
    if stop_asked:
        _signal_group(child.pid, stop_asked[0])
    status = child.wait()
    _signal_group(child.pid, signal.SIGKILL)  # what the child left behind in its group
    _end_orphans()
    return _finish(folder, status, attempt)


def _take_lock(lock: int) -> bool:
    """Wait a little: someone who only asks whether this folder is alive holds the lock for an instant.

    Not by core.locks: no block lets this lock go, but the end of the shim and of the child that inherits it.
    """
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def _start_child(folder: Path, program: list[str], cwd: str | None, lock: int) -> subprocess.Popen[bytes]:
    shim = os.getpid()

    def before_exec() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != shim:
                os._exit(1)
            # Where memory runs out the kernel takes the trainer, not the server that has to report it.
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")

    with (folder / LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            pass_fds=(lock,),
            process_group=0,
            preexec_fn=before_exec,
        )


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_orphans() -> None:
    """End what the child started in sessions of its own: such a process falls to this one, the subreaper."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(ChildProcessError, OSError):
        while True:
            for pid in listed.read_text(encoding="ascii").split():
                os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


def _reserve(folder: Path) -> None:
    """Take the block of exit.json now, so that the end can be recorded on a disk that the child filled."""
    with contextlib.suppress(OSError):
        (folder / _RESERVE_NAME).write_text(" " * 512, encoding="ascii")


def _write(folder: Path, name: str, record: Mapping[str, object]) -> None:
    temporary = folder / (_RESERVE_NAME if name == EXIT_NAME else f".{name}")
    with temporary.open("r+" if temporary.exists() else "w", encoding="ascii") as file:
        file.write(json.dumps(record))
        file.truncate()
    temporary.replace(folder / name)


def _log(folder: Path, line: str) -> None:
    with contextlib.suppress(OSError), (folder / LOG_NAME).open("a", encoding="utf-8") as log:
        log.write(line)


def _finish(folder: Path, status: int, attempt: int) -> int:
    number = -status if status < 0 else None
    exit_status = 128 - status if status < 0 else status
    record = {
        "exit_status": exit_status,
        "signal": number,
        "attempt": attempt,
        "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    try:
        _write(folder, EXIT_NAME, record)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
    return exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
