"""Tests that go on for as long as they are let: a few rounds in `make test`, many in `make soak`, with memory between.

    @pytest.mark.soak
    def test_whatever_is_sent_there_is_no_500() -> None:
        with Soak("fuzz", quick=500, long=20_000, what="malformed requests") as soak:
            for number, chance in soak.rounds():
                ...
                soak.add("requests", 3)

`chance` is a generator of this round alone (made of seed and number), so that one round can be repeated by itself. In a
soak each finished round is written to the home folder: one that was interrupted goes on with the same seed where it
was, as long as the commit is the same, and its end becomes a row of docs/reliability.md. A failed round is not counted
as finished: the next soak begins with it.

TUNEDECK_SOAK=1   the long number of rounds; a number above 1: that many
TUNEDECK_SEED=7   begin anew with this seed
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import pytest

from core.home import REPOSITORY, write_atomically
from tests.environment import SOAK_FOLDER

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: rows below are written by `make soak` -->", "<!-- end of soak -->"
HEAD = "| What | Rounds | Seed | Commit | Figures | Took | Ended (UTC) |\n|---|---|---|---|---|---|---|"
CODE = ("core", "pages", "app.py", "tests", "benchmarks")


def is_soak() -> bool:
    """Tell whether the long tests are asked for."""
    return int(os.environ.get("TUNEDECK_SOAK") or 0) > 0


@dataclass
class State:
    """How far a soak is. `figures` are sums and maxima over the rounds, seconds is the time of the finished rounds."""

    seed: int
    commit: str
    total: int
    done: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


class Soak:
    """The rounds of one long test; `name` is its file and its row, `what` its words in the document."""

    def __init__(
        self, name: str, *, quick: int, long: int, what: str, folder: Path = SOAK_FOLDER, document: Path = DOCUMENT
    ) -> None:
        asked = int(os.environ.get("TUNEDECK_SOAK") or 0)
        self._name, self._what, self._document = name, what, document
        self._path = folder / f"{name}.json" if asked else None
        self._state = self._begin({0: quick, 1: long}.get(asked, asked))
        self._began = time.monotonic()

    @property
    def seed(self) -> int:
        """Return the number all rounds are made of."""
        return self._state.seed

    @property
    def total(self) -> int:
        """Return how many rounds there are in all."""
        return self._state.total

    def rounds(self) -> Iterator[tuple[int, random.Random]]:
        """Give the rounds that are left, each with its number and its own source of chance."""
        state = self._state
        while state.done < state.total:
            began = time.monotonic()
            yield state.done, random.Random(f"{state.seed}/{state.done}")
            state.done += 1
            state.seconds += time.monotonic() - began
            self._keep()

    def add(self, name: str, count: float = 1) -> None:
        """Add to a figure of the whole soak."""
        self._state.figures[name] = self._state.figures.get(name, 0) + count

    def worst(self, name: str, value: float) -> None:
        """Keep the highest value of a figure."""
        self._state.figures[name] = max(self._state.figures.get(name, value), value)

    def __enter__(self) -> Soak:
        state = self._state
        print(f"{self._name}: TUNEDECK_SEED={state.seed}, {state.total} rounds, from round {state.done} on")
        if state.total and state.done >= state.total:
            pytest.skip(f"done at commit {state.commit} with seed {state.seed}; TUNEDECK_SEED=… begins anew")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._state
        if kind is not None:
            print(f"{self._name}: round {state.done} failed; TUNEDECK_SEED={state.seed}")
        elif self._path is not None:
            if not state.seconds:  # no use was made of rounds()
                state.seconds = time.monotonic() - self._began
            state.done = state.total
            self._keep()
            write_row(self._document, self._what, self._row())

    def _begin(self, total: int) -> State:
        given, commit = int(os.environ.get("TUNEDECK_SEED") or 0), read_commit()
        if self._path is not None and self._path.exists() and not given:
            kept = State(**json.loads(self._path.read_text(encoding="utf-8")))
            if (kept.commit, kept.total) == (commit, total):
                return kept
        return State(given or random.SystemRandom().randrange(1, 10**6), commit, total)

    def _keep(self) -> None:
        if self._path is not None:
            write_atomically(self._path, json.dumps(asdict(self._state)))

    def _row(self) -> str:
        state = self._state
        figures = ", ".join(f"{name} {value:,.6g}" for name, value in state.figures.items()) or "-"
        ended = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        cells = (self._what, state.total, state.seed, state.commit, figures, f"{state.seconds / 60:.1f} min", ended)
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def read_commit() -> str:
    """Return the commit the code stands at, with a + where files that are run differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + "+" * bool(_git("status", "--porcelain", "--", *CODE))
    except (OSError, subprocess.CalledProcessError):
        return "none"


def write_row(document: Path, what: str, row: str) -> None:
    """Put a row into the document's table of soaks, in the place of the one about the same."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    table, end, after = rest.partition(END)
    assert begin, f"{document} has no line {BEGIN}"
    assert end, f"{document} has no line {END}"
    rows = {line.split("|")[1].strip(): line for line in table.splitlines()[4:] if line.startswith("|")}
    rows[what] = row
    lines = "\n".join(rows[name] for name in sorted(rows))
    write_atomically(document, f"{before}{BEGIN}\n\n{HEAD}\n{lines}\n\n{END}{after}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()
