"""When each stage of a run began and ended, on one axis; what was not measured is not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.runs.states import Stage

BETWEEN = "Between stages"
_LEAST_WAIT_S = 1.0


@dataclass(frozen=True)
class Bar:
    """A stage's time: spans (from, to) in seconds since the first start. word: its state; "" for what lies between."""

    title: str
    word: str
    spans: tuple[tuple[float, float], ...]
    running: bool = False

    @property
    def seconds(self) -> float:
        """How long it took, or takes until now."""
        return sum(end - start for start, end in self.spans)


def make_timeline(stages: Sequence[Stage], now: datetime) -> tuple[Bar, ...]:
    """Return a bar for each stage whose start is known, and its end unless it goes on; then the waits between them.

    Between two stages a node and its image are made ready, which no service tells the time of by itself.
    """
    measured = [stage for stage in stages if stage.started and (stage.ended or stage.running)]
    if not measured:
        return ()
    zero = min(stage.started for stage in measured if stage.started)

    def place(moment: datetime | None) -> float:
        return max(0.0, ((moment or now) - zero).total_seconds())

    bars = []
    for stage in measured:
        start = place(stage.started)
        span = (start, max(start, place(stage.ended)))  # clocks of two machines differ a little
        bars.append(Bar(stage.title, stage.state_word, (span,), stage.ended is None))
    waits = _find_waits([bar.spans[0] for bar in bars])
    between = Bar(BETWEEN, "", waits)
    return (*bars, between) if between.seconds >= _LEAST_WAIT_S else tuple(bars)


def _find_waits(spans: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    waits, reached = [], 0.0
    for start, end in sorted(spans):
        if start > reached:
            waits.append((reached, start))
        reached = max(reached, end)
    return tuple(waits)
