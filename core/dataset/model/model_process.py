"""Asks model_reader, the process that reads a model's own files: they come from anyone, so it has limits.

Up to READERS such processes wait for the next question, and end by themselves if none comes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from core.errors import BadInput, TunedeckError
from core.home import REPOSITORY

MEMORY_BYTES = 2 << 30  # beside what the process takes by itself
_CPU_S = 1.0  # for a question, and more for a longer one: what a slow machine needs
_BYTES_PER_S = 100_000
_MODEL_BYTES_PER_S = 1_000_000  # of a tokenizer that is loaded
_WAITS_LONGER = 10  # times the processor time, on a busy machine
_LOOKS_EVERY_S = 0.25
_CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
READERS = min(_CORES, 2 + _CORES // 4)
"""How many processes keep all cores busy: a quarter of what one does to count tokens is done by one thread."""
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_HINT = "Choose another model, or mend the files in its folder."
_lock = threading.Lock()
_idle: list[_Process] = []


class BadModel(BadInput):
    """A model's own files cannot be used, whatever the rows are."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message, _HINT, detail)


def ask(folder: Path, question: bytes) -> dict[str, Any]:
    """Return model_reader's answer to a question about the model in a folder; from any thread.

    Raises BadModel if the model's files are at fault: unreadable, too slow, too large.
    """
    model = identify(folder)
    process = _take(model)
    try:
        answer = process.ask(model, question)
    except _Ended:  # while it was idle, or as this question came
        process.end()
        process = _Process()
        answer = process.ask(model, question)
    _give_back(process)
    if "bad_model" in answer:
        said, detail = answer["bad_model"]
        raise BadModel(f"The model '{name_of(folder)}' cannot be used: {said}", detail)
    return answer


def name_of(folder: Path) -> str:
    """Return the name of the model in a folder: base models lie in `<name>/<version>`."""
    return folder.parent.name if (folder / "tunedeck.json").is_file() else folder.name


def identify(folder: Path) -> list[Any]:
    """Return a model's folder and when each of its files changed: when this differs, the model is loaded again."""
    paths = [folder / name for name in _FILES]
    return [str(folder), *(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)]


def _take(model: list[Any]) -> _Process:
    """Return an idle process, if possible one that has loaded the model; else a new one."""
    with _lock:
        for process in sorted(_idle, key=lambda process: process.model != model):
            _idle.remove(process)
            if process.lives():
                return process
    return _Process()


def _give_back(process: _Process) -> None:
    with _lock:
        _idle.append(process)
        spare = [_idle.pop(0) for _ in range(len(_idle) - READERS)]
    for process in spare:
        process.end()


class _Ended(Exception):
    """The process ended, and not by the question as far as is known."""


class _Process:
    """One process of model_reader. model: the one it has loaded."""

    def __init__(self) -> None:
        self.model: list[Any] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "RAYON_NUM_THREADS": str(_CORES)}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}  # each thread takes address space
        self._process = subprocess.Popen(
            [sys.executable, "-m", "core.dataset.model.model_reader", str(MEMORY_BYTES)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def lives(self) -> bool:
        """Tell whether it is running."""
        return self._process.poll() is None

    def ask(self, model: list[Any], question: bytes) -> dict[str, Any]:
        """Return its answer; raises BadModel if the question ended it."""
        cpu_s = _CPU_S + len(question) / _BYTES_PER_S
        if self.model != model:
            sizes = [path.stat().st_size for name in _FILES if (path := Path(model[0], name)).is_file()]
            cpu_s += sum(sizes) / _MODEL_BYTES_PER_S
        answered = threading.Event()
        watch = _Watch(self._process, time.monotonic() + 20 + cpu_s * _WAITS_LONGER, answered)
        watch.start()
        try:
            line = self._send(json.dumps({"model": model, "cpu_s": cpu_s}).encode() + b"\n" + question + b"\n")
        finally:
            answered.set()
        if not line.endswith(b"\n"):
            raise self._explain(name_of(Path(model[0])), cpu_s, watch.reason)
        self.model = model
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End it and close its pipes."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _send(self, question: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(question)
            self._process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self._process.stdout.readline()

    def _explain(self, name: str, cpu_s: float, reason: str) -> Exception:
        """Return the error for a process that a question ended."""
        status = self._process.wait()
        self._log.seek(0)
        log = self._log.read()[-2000:].decode("utf-8", "replace")
        was_killed = status == -signal.SIGKILL and not reason and bool(self.model)
        if status == 0 or was_killed:  # by another hand, maybe before the question: a new process will tell
            return _Ended()
        self._log.close()
        if status == -signal.SIGXCPU:
            said = f"its chat template or tokenizer does not come to an end: it was stopped after {cpu_s:.0f} s."
        elif reason == "time":
            said = "The tokens could not be counted in time: this machine is too busy."
            return TunedeckError(said, "Wait until less runs on it, then try again.", log)
        elif reason == "memory" or status in (-signal.SIGABRT, -signal.SIGKILL):
            said = f"its chat template or tokenizer takes more than {MEMORY_BYTES >> 30} GiB of memory."
        else:
            said = "its chat template or tokenizer cannot be read."
        return BadModel(f"The model '{name}' cannot be used: {said}", log)


class _Watch(threading.Thread):
    """Ends a process that takes too long, or too much memory where the system sets no limit (macOS)."""

    def __init__(self, process: subprocess.Popen[bytes], until: float, answered: threading.Event) -> None:
        super().__init__(name="watch of a model's files", daemon=True)
        self._process, self._until, self._answered = process, until, answered
        self.reason = ""

    def run(self) -> None:
        """Watch until there is an answer."""
        while not self._answered.wait(_LOOKS_EVERY_S):
            if time.monotonic() > self._until:
                self.reason = "time"
            elif _resident(self._process.pid) > 2 * MEMORY_BYTES:
                self.reason = "memory"
            if self.reason:
                self._process.kill()
                return


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
