"""A trainer of a few lines for tests of what runs trainers: it measures, it may crash, it obeys SIGTERM.

    python trivial_trainer.py --steps 20 --pause 0.05 [--crash exit|kill|disk|told] [--deaf] [--output DIR]

Writes into TUNEDECK_STEP_FOLDER as the engine's programs do, and `steps_done` into --output at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--crash", choices=("exit", "kill", "disk", "told"))
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--config", type=Path)
    options = parser.parse_args()
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    folder = Path(os.environ["TUNEDECK_STEP_FOLDER"])
    print(f"trains in {folder}", flush=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        for step in range(1, options.steps + 1):
            now = int(time.time() * 1000)
            row = {"key": "loss", "value": 4.0 / step, "step": step, "timestamp": now}
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            told = {
                "step": step,
                "total_steps": options.steps,
                "epoch": step / options.steps,
                "phase": "training",
                "at": now,
            }
            (folder / ".progress").write_text(json.dumps(told), encoding="utf-8")
            (folder / ".progress").replace(folder / "progress.json")
            time.sleep(options.pause)
    return _end(options, folder)


def _end(options: argparse.Namespace, folder: Path) -> int:
    if options.crash == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if options.crash == "disk":
        print("OSError: [Errno 28] No space left on device: 'model.safetensors'", flush=True)
        return 1
    if options.crash == "told":
        told = {"code": "UserError", "message": "The learning rate was too high.", "hint": "Lower it."}
        (folder / "error.json").write_text(json.dumps(told), encoding="utf-8")
        return 1
    if options.crash == "exit":
        print("ValueError: the last line of the log", flush=True)
        return 3
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "steps_done").write_text(str(options.steps), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
