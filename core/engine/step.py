"""The folder a step runs in: its config, and the files it reports through.

Files, all appended or renamed so that a reader never sees half a line: config.json (given), stop.json (given where it
is to end early, with what it has), metrics.jsonl, progress.json, error.json (a failure the program understands),
outputs/. What is printed is the step's log.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.engine.disk import link
from core.errors import BadInput, TunedeckError

Phase = Literal["loading", "training", "evaluating", "saving"]
STOPPED = 128 + signal.SIGTERM
PROGRESS_EVERY_S = 0.2
METRICS_FILE = "metrics.jsonl"


@dataclass
class Step:
    """One run of one step; methods write its reports."""

    folder: Path
    config: dict[str, Any]
    _progress_at: float = field(default=0.0, init=False)
    _phase: str = field(default="", init=False)
    _measured: set[tuple[str, int]] = field(default_factory=set, init=False)

    @property
    def outputs(self) -> Path:
        """Where the step's results go."""
        return self.folder / "outputs"

    def path(self, key: str) -> Path:
        """Return a path the config must name; raises BadInput."""
        if not self.config.get(key):
            raise BadInput(f"The step's config names no {key}.")
        return Path(self.config[key])

    def find_path(self, key: str) -> Path | None:
        """Return a path the config may name."""
        return Path(self.config[key]) if self.config.get(key) else None

    @property
    def parameters(self) -> dict[str, str]:
        """The literal inputs of the job, as strings."""
        return {name: str(value) for name, value in self.config.get("parameters", {}).items()}

    def is_asked_to_stop(self) -> bool:
        """Tell whether somebody asked for the end, with what was learned so far."""
        return (self.folder / "stop.json").exists()

    def read_stop(self) -> str:
        """Return who asked for the end, as " by anna", "" where that is not known."""
        by = json.loads((self.folder / "stop.json").read_text(encoding="utf-8")).get("by")
        return f" by {by}" if by else ""

    def say(self, line: str) -> None:
        """Add a line to the step's log."""
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Append metrics of an optimiser step (1 is the first), readable at once by whoever follows the file."""
        now = time.time_ns() // 1_000_000
        new = {key: value for key, value in values.items() if (key, step) not in self._measured}
        rows = [{"key": key, "value": value, "step": step, "timestamp": now} for key, value in new.items()]
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def go_on_measuring(self) -> None:
        """Carry on with the metrics of an attempt that died: what it measured is not written a second time.

        Steps after the last checkpoint are taken twice, the second time as the first, for data order and random numbers
        are the checkpoint's. A line that was cut short goes.
        """
        path = self.folder / METRICS_FILE
        if not path.exists():
            return
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        os.truncate(path, len(whole))
        rows = [json.loads(line) for line in whole.splitlines()]
        self._measured = {(row["key"], row["step"]) for row in rows}

    def report_progress(self, phase: Phase, step: int = 0, total_steps: int = 0, epoch: float = 0.0) -> None:
        """Say where the step is; calls in quick succession within a phase are dropped."""
        now = time.monotonic()
        if phase == self._phase and step < total_steps and now - self._progress_at < PROGRESS_EVERY_S:
            return
        self._progress_at, self._phase = now, phase
        body = {"step": step, "total_steps": total_steps, "epoch": epoch, "phase": phase, "at": int(time.time() * 1000)}
        write_json(self.folder / "progress.json", body)

    def fail(self, error: TunedeckError) -> None:
        """Leave the error where the job reads it, and in the log."""
        body = {"code": "UserError", "message": error.message, "hint": error.hint}
        write_json(self.folder / "error.json", body)
        self.say(f"ERROR {error}")
        if error.detail:
            print(error.detail, flush=True)


def run(program: Callable[[Step], None], arguments: list[str] | None = None) -> None:
    """Run a step's program on the config named by --config, then end this process.

    Exit status: 0 done, 1 failed with a sentence in error.json, 143 stopped by SIGTERM; anything else has its traceback
    in the log. Ends without Python's clean-up, which for torch takes longer than a cancelled run may.
    """
    parser = argparse.ArgumentParser(description=(sys.modules[program.__module__].__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="the step folder's config.json")
    config = parser.parse_args(arguments).config.resolve()
    step = Step(config.parent, json.loads(config.read_text(encoding="utf-8")))
    _end_on_sigterm(step)
    (step.folder / "error.json").unlink(missing_ok=True)
    status = 0
    try:
        step.outputs.mkdir(exist_ok=True)
        program(step)
    except TunedeckError as error:
        step.fail(error)
        status = 1
    except (MemoryError, RuntimeError, OSError) as error:
        sentence = explain(error)
        if sentence is None:
            raise
        step.fail(sentence)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch or Python found no memory; torch on a CPU says so in a RuntimeError's text only."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


def explain(error: BaseException) -> TunedeckError | None:
    """Return the sentence for a failure that lies in the machine's limits, or None."""
    if is_out_of_memory(error):
        return TunedeckError(
            "There is not enough memory on this machine for this run.",
            "Lower per_device_train_batch_size or max_seq_length, or set apply_lora to true.",
            str(error),
        )
    if isinstance(error, OSError) and error.errno == 28:
        return TunedeckError("The disk is full.", "Free some space, then start the run again.", str(error))
    return None


def _end_on_sigterm(step: Step) -> None:
    """End this process as soon as SIGTERM comes, by a thread that waits for it.

    A Python signal handler would run only when torch returns, which on a busy machine took half a minute. Nothing is
    lost: metrics are on disk line by line, and checkpoints appear by rename.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        step.say("Stopped.")
        os._exit(STOPPED)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Replace a small file in one move; not synced to disk, for progress is written several times a second."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(body, indent=2), encoding="utf-8")
    temporary.replace(path)


def link_folder(source: Path, target: Path) -> int:
    """Link every file of a folder into another, made new; return how many files."""
    shutil.rmtree(target, ignore_errors=True)
    count = 0
    for file in sorted(source.rglob("*")):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            link(file.resolve(), place)
            count += 1
    return count
