"""The columns of the table of runs: one row here is one column, with what it shows and how it sorts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.azureml import tags
from core.azureml.reader import Snapshot
from core.runs.choice import describe_change
from core.runs.metrics import RunMetrics
from core.runs.states import Run
from core.words import duration
from pages.parts.kit import reads, words
from pages.parts.kit.elements.table import Cell, Column, Mark, Row
from pages.parts.kit.links import link
from pages.parts.kit.steps import BADGES
from pages.parts.tune.run_tiles import find_cost, say_missing

_CURVE = 60  # points of a run's curve, which is drawn 96 pixels wide


@dataclass(frozen=True)
class _Look:
    """A run that is shown, what it measured, and the run before it."""

    run: Run
    measured: Snapshot[RunMetrics]
    before: Run | None = None

    def loss(self, key: str, listed: float | None) -> str:
        """Return the last value of a loss in words, as it was listed or else measured, or why there is none."""
        if listed is not None:
            return words.format_loss(listed)
        last = self.measured.value.get(key).last if self.measured.value else None
        if last is None or (self.run.settled and not reads.is_final(self.run, self.measured)):
            return say_missing(self.run, self.measured)
        return words.format_loss(last.value)

    def curve(self) -> list[float]:
        """Return some points of the train loss, the last one among them."""
        points = self.measured.value.get("loss").points if self.measured.value else ()
        values = [point.value for point in points[-200:] if math.isfinite(point.value)]
        return values[:: -(-len(values) // _CURVE) or 1]


@dataclass(frozen=True)
class _RunColumn:
    column: Column
    show: Callable[[_Look], Cell]
    order: Callable[[Run], Any] | None = None
    """What the runs are sorted by; None for a run stands last, whichever way."""
    by_itself: bool = True
    """Whether it is shown where nothing was chosen."""


def _state(look: _Look) -> Mark:
    word = look.run.state_word
    return Mark(word, *BADGES.get(word, ("help", "gray")))


def _started(look: _Look) -> str:
    if look.run.started_at:
        return words.moment(look.run.started_at)
    return "…" if look.run.finished and look.run.ended_at is None else "not started"  # when is read after its end


_COLUMNS = (
    _RunColumn(Column("Run"), lambda look: look.run.title or look.run.name, lambda run: run.title.lower()),
    _RunColumn(Column("State", "short"), _state, lambda run: run.state_word),
    _RunColumn(Column("Model", from_px=840), lambda look: look.run.model, lambda run: run.model.lower() or None),
    _RunColumn(Column("Data", from_px=1100), lambda look: look.run.dataset, lambda run: run.dataset.lower() or None),
    _RunColumn(Column("Changed"), lambda look: describe_change(look.run, look.before), by_itself=False),
    _RunColumn(
        Column("Train loss", "number"), lambda look: look.loss("loss", look.run.train_loss), lambda run: run.train_loss
    ),
    _RunColumn(
        Column("Eval loss", "number", from_px=560),
        lambda look: look.loss("eval_loss", look.run.eval_loss),
        lambda run: run.eval_loss,
    ),
    _RunColumn(
        Column("Test loss", "number", from_px=1100),
        lambda look: "" if look.run.test_loss is None else words.format_loss(look.run.test_loss),
        lambda run: run.test_loss,
    ),
    _RunColumn(Column("Curve", "curve", from_px=840), _Look.curve),
    _RunColumn(
        Column("Took", "number", from_px=560),
        lambda look: duration(look.run.whole_s) if look.run.whole_s is not None else "",
        lambda run: run.whole_s,
    ),
    _RunColumn(Column("Cost", "number"), lambda look: find_cost(look.run)[1], by_itself=False),
    _RunColumn(Column("Who"), lambda look: look.run.owner, lambda run: run.owner.lower() or None, by_itself=False),
    _RunColumn(Column("Tags"), lambda look: ", ".join(look.run.label_words), by_itself=False),
    _RunColumn(Column("Note"), lambda look: look.run.tags.get(tags.NOTE, ""), by_itself=False),
    _RunColumn(Column("Started", "short", from_px=560), _started, lambda run: run.started_at),
)
_BY_TITLE = {each.column.title: each for each in _COLUMNS}
CHOICES = tuple(_BY_TITLE)[1:]  # a run's name is always there
BY_THEMSELVES = tuple(title for title, each in _BY_TITLE.items() if each.by_itself)


def list_columns(chosen: Sequence[str], *, sortable: bool) -> list[Column]:
    """Return the columns that were chosen, in the order of the table, else those that the width has room for."""
    shown = [each for each in _COLUMNS if each.column.title in (chosen or BY_THEMSELVES) or each is _COLUMNS[0]]
    return [
        replace(each.column, from_px=0 if chosen else each.column.from_px, sorts=sortable and each.order is not None)
        for each in shown
    ]


def make_row(run: Run, columns: Sequence[Column], before: Run | None = None) -> Row:
    """Return a run's row; what it measured is read."""
    look = _Look(run, reads.read_measures(run), before)
    return Row(run.name, link("runs", run=run.name), [_BY_TITLE[column.title].show(look) for column in columns])


def sort_runs(runs: Sequence[Run], by: str) -> list[Run]:
    """Return the runs sorted by a column's title, "-" before it for descending; as they are for any other word."""
    column = _BY_TITLE.get(by.removeprefix("-"))
    if column is None or column.order is None:
        return list(runs)
    placed = [(column.order(run), run) for run in runs]
    known = [pair for pair in placed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=by.startswith("-"))
    return [run for _, run in known] + [run for value, run in placed if value is None]
