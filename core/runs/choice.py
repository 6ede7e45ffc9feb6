"""Which runs of a list are shown: filters and order over all of them, and what each changed. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from core.runs.comparison import NOT_KNOWN, NOT_SET, list_settings
from core.runs.states import Run

ACTIVE = "Active"
STATES = (ACTIVE, "Completed", "Failed", "Cancelled")
_MOST_TOLD = 5  # settings that differ
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Filters:
    """What a shown run has; an empty filter lets every run pass, and one of several values is enough."""

    q: str = ""
    """Text in its name, model, data, tags or note, in any case."""
    state: tuple[str, ...] = ()
    """Of STATES."""
    model: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    who: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    """As `Run.label_words` writes them."""

    @property
    def active(self) -> list[str]:
        """The names of the filters that are set."""
        return [name for name, value in vars(self).items() if value]

    def without(self, name: str) -> Filters:
        """Return the other filters."""
        return replace(self, **{name: type(getattr(self, name))()})

    def choose(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs that pass, in the order given."""
        text = self.q.lower()
        if not self.active:
            return list(runs)
        return [
            run
            for run in runs
            if (not self.state or run.state_word in self.state or (ACTIVE in self.state and not run.finished))
            and (not self.model or run.model in self.model)
            and (not self.data or run.dataset in self.data)
            and (not self.who or run.owner in self.who)
            and (not self.tag or not set(self.tag).isdisjoint(run.label_words))
            and (not text or text in run.searched)
        ]


def find_before(runs: Sequence[Run]) -> Mapping[str, Run]:
    """Return for each run, by name, the one that was made before it; the first has none."""
    oldest_first = sorted(runs, key=lambda run: run.created_at or _LONG_AGO)
    return {run.name: before for before, run in pairwise(oldest_first)}


def describe_change(run: Run, before: Run | None) -> str:
    """Return "learning rate 2e-05 → 0.0001, epochs 3 → 1": what differs from the run before; "" for the first."""
    if before is None:
        return ""
    pairs = [(setting.label.lower(), *setting.values) for setting in list_settings([before, run]) if setting.differs]
    known = [f"{label} {was} → {now}" for label, was, now in pairs if not {was, now} & {NOT_KNOWN, NOT_SET}]
    more = [f"{len(known) - _MOST_TOLD} more"] if len(known) > _MOST_TOLD else []
    return ", ".join([*known[:_MOST_TOLD], *more]) or "nothing"
