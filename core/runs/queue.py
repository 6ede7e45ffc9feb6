"""What stands before a run that wants a compute: how many runs, and about how long they take. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.runs.states import Run
from core.words import duration, plural


@dataclass(frozen=True)
class Queue:
    """The runs before another, the nearest to its end first."""

    titles: tuple[str, ...] = ()
    seconds: float | None = None
    """About how long they take together; None where one of them cannot be told."""

    @property
    def words(self) -> str:
        """Return "2 runs before this one, about 6 min", "" where none is."""
        if not self.titles:
            return ""
        after = f": {', '.join(self.titles)}" if len(self.titles) <= 3 else ""
        about = f", about {duration(60 * max(1, round(self.seconds / 60)))}" if self.seconds is not None else ""
        return f"{plural(len(self.titles), 'run')} before this one{about}{after}"


def find_queue(
    runs: Sequence[Run],
    compute: str,
    estimated: Callable[[Run], float | None],
    *,
    nodes: int = 1,
    here: bool,
    created: datetime | None = None,
) -> Queue:
    """Return the runs before one on a compute.

    estimated: seconds that a whole run was said to take. nodes: of the compute; a run waits when all are taken. here:
    on this machine runs of other computes take the same cores. created: of the run itself, None for one to come.
    """
    ahead = [
        run
        for run in runs
        if not run.finished
        and (here or run.compute == compute)
        and (created is None or (run.created_at is not None and run.created_at < created))
    ]
    at_once = 1 if here else max(1, nodes)
    if len(ahead) < at_once:
        return Queue()
    lefts = [_estimate_left(run, estimated(run)) for run in ahead]
    known = [left for left in lefts if left is not None]
    total = sum(known) / at_once if len(known) == len(lefts) else None
    return Queue(tuple(run.title for run in sorted(ahead, key=lambda run: run.rank)), total)


def _estimate_left(run: Run, estimated: float | None) -> float | None:
    progress = run.progress
    if progress is not None and progress.eta_s is not None:
        return progress.eta_s
    if estimated is None:
        return None
    return max(0.0, estimated - (run.seconds or 0.0))
