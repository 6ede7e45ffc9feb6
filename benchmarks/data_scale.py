"""Data at scale: what a file of 1 GB costs in memory over one of 10 MB, and what all cores bring to exact token counts.

    python -m benchmarks.data_scale [--rows 160000]

Memory is what a program holds of its own (RssAnon, looked at 50 times a second): pages of a mapped file are the
system's, which drops them when it needs room. Each step runs as the local workspace starts it. Training is ended
when it has taken its first step, evaluation when its first model is loaded: all data is read by then. 1 GB is tokenised
twice: 20 minutes of two cores. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import chat_file
from benchmarks.chat_checks import find_tokenizer
from core.dataset.checks.file_check import check_file
from core.dataset.model.token_counts import count_lengths
from core.home import REPOSITORY
from core.local.processes import KEEP_MEMORY, clean_environment, compute_environment

SMALL_ROWS, LARGE_ROWS = 1_600, 160_000  # 10 MB and 1 GB
MOST_MIB = 300
LEAST_SPEEDUP = 0.8  # of the number of cores
TURNS = 3
# One row at a time with adapters: the rows of the first step decide less of what is measured.
TRAINING = {"apply_lora": "true", "precision": "16", "per_device_train_batch_size": "1", "max_seq_length": "512"}
STEPS = ("validate", "preprocess", "finetune", "evaluate")


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.data_scale", description=__doc__)
    options.add_argument("--rows", type=int, default=LARGE_ROWS)
    options.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    given, model = options.parse_args(), find_tokenizer()
    assert model is not None, "no base model is on this machine: make base-model"
    if given.count:
        return _count(given.count, model)
    with tempfile.TemporaryDirectory(prefix="tunedeck-bench-") as name:
        folder = Path(name)
        chat_file.write(folder / "small.jsonl", SMALL_ROWS)
        chat_file.write(folder / "large.jsonl", given.rows)
        size = (folder / "large.jsonl").stat().st_size / 1e6
        held = _compare_cores(folder / "small.jsonl")
        print(
            f"| step | of 10 MB, MiB | of {size:,.0f} MB, MiB | over, at most {MOST_MIB} | s |\n|---|---|---|---|---|"
        )
        for step in STEPS:
            (small, _), (large, seconds) = (_peak(folder, each, step, model) for each in ("small", "large"))
            held &= large - small <= MOST_MIB
            print(f"| {step} | {small:.0f} | {large:.0f} | {large - small:.0f} | {seconds:.0f} |", flush=True)
    return int(not held)


def _compare_cores(path: Path) -> bool:
    """Print how many times as fast all cores count tokens as one, the best of some runs in turns."""
    every = sorted(os.sched_getaffinity(0))
    best = {}
    for _ in range(TURNS):
        for cores in (every[:1], every):
            command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "benchmarks.data_scale"]
            ran = subprocess.run([*command, "--count", str(path)], stdout=subprocess.PIPE, check=True)
            best[len(cores)] = max(best.get(len(cores), 0.0), float(ran.stdout.split()[-1]))
    ratio, bar = best[len(every)] / best[1], max(1.0, LEAST_SPEEDUP * len(every))
    print(f"exact tokens/s with {len(every)} cores over one: {ratio:.2f} (at least {bar:.2f}); {best}", flush=True)
    return ratio >= bar


def _count(path: Path, model: Path) -> int:
    """Print tokens a second of the second count: for the first the processes that count are started."""
    check_file(path)
    for _ in range(2):
        begun = time.perf_counter()
        records, _ = count_lengths(path, model)
    print(records["tokens"].sum() / (time.perf_counter() - begun))
    return 0


def _peak(folder: Path, size: str, step: str, model: Path) -> tuple[float, float]:
    """Return MiB of the process's own memory at its most, and its seconds."""
    place, data = folder / size / step, folder / f"{size}.jsonl"
    (place / "outputs").mkdir(parents=True)
    config: dict[str, Any] = {"train_file": str(data), "model_dir": str(model), "parameters": TRAINING}
    config |= {"data_dir": str(folder / size / "preprocess" / "outputs"), "cores": os.cpu_count()}
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", f"core.engine.{step}", "--config", str(place / "config.json")]
    if step == "evaluate":
        command = [sys.executable, "-m", "core.engine.evaluate", "--base", str(model), "--tuned", str(model)]
        command += ["--test", str(data), "--output", str(place / "outputs")]
    extra = compute_environment(os.cpu_count() or 1) | (KEEP_MEMORY if step == "finetune" else {})
    environment = clean_environment(extra | {"TUNEDECK_STEP_FOLDER": str(place)})
    begun, most = time.perf_counter(), 0
    with (place / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
    while process.poll() is None:
        most = max(most, _own_kib(process.pid))
        if (step == "finetune" and _steps_taken(place)) or (step == "evaluate" and _has_loaded(place)):
            process.kill()
            process.wait()
            break
        time.sleep(0.02)
    if process.returncode > 0:
        raise SystemExit((place / "log.txt").read_text(encoding="utf-8"))
    return most / 1024, time.perf_counter() - begun


def _own_kib(pid: int) -> int:
    try:
        found = re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:  # it has just ended
        return 0
    return int(found[1]) if found else 0


def _has_loaded(place: Path) -> bool:
    """Tell whether an evaluation has its first model: the data was read before."""
    return "tuned loaded" in (place / "log.txt").read_text(encoding="utf-8")


def _steps_taken(place: Path) -> int:
    try:
        return int(json.loads((place / "progress.json").read_text(encoding="utf-8"))["step"])
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
