"""The local workspace with programs of a few lines for an engine: `python -m tests.core.local.trivial_server serve`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from core.local import __main__, server
from core.local.endpoints.deployments import Deployments
from core.local.jobs import runner
from core.local.jobs.runner import Runner


def trivial_program(name: str) -> list[str]:
    script = "trivial_scorer.py" if name == "score" else "trivial_step.py"
    arguments = [] if name == "score" else [name]
    return [sys.executable, str(Path(__file__).with_name(script)), *arguments]


if __name__ == "__main__":
    runner.STOP_GRACE_S = 1.0
    server.Runner = partial(Runner, program=trivial_program)  # type: ignore[misc, assignment]
    server.Deployments = partial(Deployments, program=trivial_program)  # type: ignore[misc, assignment]
    raise SystemExit(__main__.main())
