"""Starts programs of this checkout that outlive whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.home import REPOSITORY, Home


def start_detached(
    arguments: Sequence[str],
    home: Home,
    log: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    append: bool = False,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `python <arguments>` for a home, in a session of its own: Ctrl-C in this terminal does not reach it.

    Both of its streams go to `log`, anew or appended.
    """
    own = {"TUNEDECK_HOME": str(home.path), "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with log.open("ab" if append else "wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=pass_fds,
        )
