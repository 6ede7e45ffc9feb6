"""Installs what Tunedeck needs into the environment that it runs in; `make` calls it. Imports nothing but Python's own.

    python -m core.installer torch [REQUIREMENT]     PyTorch: the CPU build, or what is named
    python -m core.installer gpu                     PyTorch for this machine's card, tried; else the CPU build again
    python -m core.installer lock FILE               what a lock names

uv installs, some four times as fast as pip, from where pip's own configuration points; where it cannot, pip does.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LOCK, DEV_LOCK = REPOSITORY / "requirements.lock", REPOSITORY / "requirements-dev.lock"
TORCH = "2.13.0"

# What pip's configuration calls it, and uv's option; one for each value where there are several.
_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
}
_VARIABLES = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY", "default-timeout": "UV_HTTP_TIMEOUT"}
_ONE_STEP = """
import torch
kind = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
layer = torch.nn.Linear(256, 256, device="cuda", dtype=kind)
layer(torch.ones(8, 256, device="cuda", dtype=kind)).square().mean().backward()
assert layer.weight.grad.isfinite().all(), "the gradient is not finite"
print(torch.cuda.get_device_name())
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    match list(arguments):
        case ["torch"] | ["torch", ""]:
            return _install_torch()
        case ["torch", wanted]:
            print(f"Fetching PyTorch as asked for: {wanted}.", flush=True)
            return _pip(wanted, "--constraint", str(LOCK)).returncode
        case ["gpu"]:
            return _install_for_gpu()
        case ["lock", file]:
            return _install("--no-deps", "-r", file)
    print(__doc__)
    return 2


def _install_torch() -> int:
    """Install the CPU build. PyPI has none for Linux: it lies where pip is told to look, or where uv knows."""
    constraint = "--constraint", str(LOCK)
    if sys.platform != "linux":
        print(f"Fetching PyTorch {TORCH}: about 100 MB.", flush=True)
        return _install(f"torch=={TORCH}", *constraint)
    print(f"Fetching PyTorch {TORCH} for the CPU: about 200 MB, 730 MB on disk.", flush=True)
    cpu_build = f"torch=={TORCH}+cpu", *constraint
    if not _uv(*cpu_build).returncode or not _uv(f"torch=={TORCH}", "--torch-backend", "cpu", *constraint).returncode:
        return 0
    if not _pip(*cpu_build, quiet=True).returncode:
        return 0
    print(
        f"No CPU build of PyTorch {TORCH} can be reached. Fetching the one with CUDA, which also runs without a GPU:\n"
        "about 3 GB, 7 GB on disk. To have the small one: Ctrl-C, then make TORCH=<address of the CPU wheel>.",
        flush=True,
    )
    return _install(f"torch=={TORCH}", *constraint)


def _install_for_gpu() -> int:
    """Install the build for this machine's NVIDIA card and train one step on it; say why it went back where it did."""
    if not Path("/dev/nvidiactl").exists():
        print("No NVIDIA card is seen on this machine (no /dev/nvidiactl). Nothing was changed.", file=sys.stderr)
        return 1
    print(f"Fetching PyTorch {TORCH} for this machine's GPU: about 3 GB, 7 GB on disk.", flush=True)
    wanted = "--reinstall-package", "torch", f"torch=={TORCH}", "--constraint", str(LOCK)
    done = _uv(*wanted, "--torch-backend", "auto")
    if done.returncode:
        done = _pip("--force-reinstall", "--no-deps", f"torch=={TORCH}")
    step = done if done.returncode else _run([sys.executable, "-c", _ONE_STEP], quiet=True)
    if step.returncode == 0:
        print(f"Trained one step on {step.stdout.strip()}. Runs use it from now on.")
        return 0
    why = (step.stderr or "").strip().splitlines()
    print(f"It does not work here: {why[-1] if why else 'it could not be installed'}. Going back.", file=sys.stderr)
    _install_torch()
    return 1


def _install(*arguments: str) -> int:
    """Install with uv or, where that fails, with pip, whose words are shown."""
    return 0 if _uv(*arguments).returncode == 0 else _pip(*arguments).returncode


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    options, environment = read_pip_configuration()
    if importlib.util.find_spec("uv") is None:
        fetched = _pip("--no-deps", "--constraint", str(DEV_LOCK), "uv", quiet=True)
        if fetched.returncode:
            return fetched
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *options]
    return _run([*command, *arguments], quiet=True, environment=environment)


def _pip(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    return _run([*_find_pip(), "install", "--quiet", *arguments], quiet=quiet)


@functools.cache
def _find_pip() -> list[str]:
    """Return how pip is called: this environment's, which the lock brings, or before that the interpreter's own.

    An environment that is made with pip takes eight seconds longer, so it is put here only where there is no other.
    """
    own = [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("pip"):
        return own
    outer = [getattr(sys, "_base_executable", sys.executable), "-m", "pip", "--python", sys.executable]
    if _run([*outer, "--version"], quiet=True).returncode:
        if _run([sys.executable, "-m", "ensurepip"], quiet=True).returncode:
            sys.exit(
                f"{outer[0]} has neither pip nor ensurepip. Install them (`apt install python3-venv`), then try again."
            )
        return own
    return outer


def read_pip_configuration() -> tuple[list[str], dict[str, str]]:
    """Return what pip is configured with, as options of uv and as variables of its environment."""
    listed = _run([*_find_pip(), "config", "list"], quiet=True).stdout
    sections: dict[str, dict[str, list[str]]] = {"global": {}, "install": {}, ":env:": {}}
    for line in (line for line in listed.splitlines() if "=" in line):
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in sections:
            sections[section][name] = str(ast.literal_eval(value)).split()
    values = sections["global"] | sections["install"] | sections[":env:"]  # the order in which pip lets one overrule
    # pip takes the best version of all places, uv only of the first place that knows a package.
    options = ["--index-strategy", "unsafe-best-match"]
    options += [part for name, option in _OPTIONS.items() for value in values.get(name, ()) for part in (option, value)]
    options += ["--no-index"] if values.get("no-index", ["0"])[0].lower() in ("1", "true", "yes", "on") else []
    return options, {variable: values[name][0] for name, variable in _VARIABLES.items() if values.get(name)}


def _run(
    command: list[str], *, quiet: bool, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(environment or {})}
    return subprocess.run(command, cwd=REPOSITORY, env=given, capture_output=quiet, text=True, check=False)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
