"""The environment of the tests: what of the shell reaches them, and the two folders of the operator's that they know.

Names are let in, not kept out, so that what a shell, an outer make or another tool will set tomorrow stays out too.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from core.home import Home, default_path

# Of the shell: where programs are, how they are loaded, who runs them and in what language.
_KEPT = {
    "PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
}
# Of the harness: what CONTRIBUTING, the Makefile and .ci/run set for the tests themselves.
_KEPT |= {"CHROMIUM", "CI", "TUNEDECK_SOAK", "TUNEDECK_SEED", "PYTHONUNBUFFERED"}
_KEPT_PREFIXES = ("LC_", "PYTEST_", "COVERAGE_", "COV_CORE_")

# pytest-xdist's workers start from the environment of the tests, so these two are handed on to them.
_OPERATORS = {
    "PYTEST_OPERATORS_HOME": str(default_path()),
    "PYTEST_OPERATORS_MODELS": str(Home(default_path()).base_models),
}
_OPERATORS |= {name: os.environ[name] for name in _OPERATORS if name in os.environ}

# Test files run side by side: a second thread of a tiny model gains nothing, and spins while it waits for a core.
_PROCESSORS = {"OMP_NUM_THREADS": "1"}

SOAK_FOLDER = Path(_OPERATORS["PYTEST_OPERATORS_HOME"]) / "soak"
"""Where `make soak` keeps how far it is; written by the long tests only."""

REAL_MODELS = Path(_OPERATORS["PYTEST_OPERATORS_MODELS"])
"""Where `make base-model` put the real base model; read by the tests that train it, never written."""


def enter() -> Path:
    """Leave the shell's environment for this process and what it starts; return the empty folder that is HOME now.

    The caller removes it. What is kept below a user's home by default lies below this one: Tunedeck's own home, and
    the caches and settings of Streamlit, Hugging Face, Azure, MLflow and the browser.
    """
    home = tempfile.mkdtemp(prefix="tunedeck-tests-")
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    os.environ.clear()
    os.environ.update(kept, HOME=home, **_OPERATORS, **_PROCESSORS)
    return Path(home)
