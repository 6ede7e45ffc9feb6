"""First use: from `git clone` to the page, against how it was when pip installed and the loader wrote the weights.

    python -m benchmarks.first_use [--python python3.12] [--turns 2]

Both clones start with nothing: an environment, caches and a home of their own, thrown away afterwards. They come in
turns, for the network and the disk are shared, and run the same command, `make run`; the best of each counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.home import REPOSITORY

BEFORE = "e3e202c~1"  # the last commit that installed with pip and wrote the base model's weights by the loader
BAR = 1 / 3
LONGEST_S = 1800.0


def main() -> int:
    """Measure and print; exit status 1 where the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_use", description="From the clone to the page.")
    parser.add_argument("--python", default="python3", help="the interpreter that both are built with")
    parser.add_argument("--turns", type=int, default=2, help="of both")
    asked = parser.parse_args()
    turns = [[_time(commit, asked.python) for commit in (BEFORE, "HEAD")] for _ in range(asked.turns)]
    before, now = map(min, zip(*turns, strict=True))
    ratio = now / before
    print(f"clone to page: {now:.0f} s, before {before:.0f} s: {ratio:.2f} of it (bar {BAR:.2f})")
    return int(ratio > BAR)


def _time(commit: str, python: str) -> float:
    """Return the seconds from the clone to the page."""
    with tempfile.TemporaryDirectory(prefix="tunedeck-first-use-") as name:
        folder = Path(name)
        clone, log = folder / "clone", folder / "log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("TUNEDECK_", "HF_"))}
        environment |= {"TUNEDECK_HOME": str(folder / "home"), "UV_CACHE_DIR": str(folder / "uv"), "BROWSER": "true"}
        environment |= {"PIP_NO_CACHE_DIR": "1"}
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
        make = ["make", f"PYTHON={python}"]
        with log.open("wb") as said, subprocess.Popen([*make, "run"], cwd=clone, env=environment, stdout=said) as run:
            try:
                while b"http://127" not in log.read_bytes():
                    if run.poll() is not None or time.perf_counter() - began > LONGEST_S:
                        run.kill()
                        sys.exit(f"{commit} did not come to its page:\n{log.read_text(encoding='utf-8')[-2000:]}")
                    time.sleep(0.1)
                return time.perf_counter() - began
            finally:
                subprocess.run([*make, "stop"], cwd=clone, env=environment, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main())
