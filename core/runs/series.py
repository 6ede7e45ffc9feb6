"""A measure's points in columns, and the few of them that are worth drawing, kept up as points are added.

A run may log millions: as objects they would take seven times the memory, and a look at what is new as long as all.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

MOST_DRAWN = 1000  # points of a curve: a chart is some 900 pixels wide


class Point(NamedTuple):
    """One measure: optimiser step, value (may be NaN), milliseconds since 1970."""

    step: int
    value: float
    at_ms: int


class Columns:
    """Points that are only ever added to. steps, values, times: see Point."""

    def __init__(self, points: Iterable[Point] = ()) -> None:
        self.steps, self.values, self.times = array("q"), array("d"), array("q")
        for step, value, at_ms in points:
            self.steps.append(step)
            self.values.append(value)
            self.times.append(at_ms)

    def __len__(self) -> int:
        return len(self.times)  # the last to grow

    def extend(self, other: Columns, start: int = 0) -> None:
        """Add another's points from `start` on."""
        self.steps.extend(other.steps[start:])
        self.values.extend(other.values[start:])
        self.times.extend(other.times[start:])

    def until(self, end: int) -> Columns:
        """Return a copy of the first points."""
        copy = Columns()
        copy.steps, copy.values, copy.times = self.steps[:end], self.values[:end], self.times[:end]
        return copy

    def get(self, place: int) -> Point:
        """Return one point."""
        return Point(self.steps[place], self.values[place], self.times[place])


class Points(Sequence[Point]):
    """The first `count` points of columns: a moment of them that costs no copy."""

    __slots__ = ("_columns", "_count")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, columns: Columns) -> None:
        self._columns, self._count = columns, len(columns)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Point]:
        return map(self._columns.get, range(self._count))

    @overload
    def __getitem__(self, place: int) -> Point: ...
    @overload
    def __getitem__(self, place: slice) -> list[Point]: ...
    def __getitem__(self, place: int | slice) -> Point | list[Point]:
        found = range(self._count)[place]
        return self._columns.get(found) if isinstance(found, int) else list(map(self._columns.get, found))

    def to_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return copies of the columns: steps, values, times."""
        until = slice(self._count)
        return (
            np.array(self._columns.steps[until]),
            np.array(self._columns.values[until]),
            np.array(self._columns.times[until]),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != self._count:
            return False
        return (isinstance(other, Points) and other._columns is self._columns) or list(self) == list(other)


@dataclass
class _Stretch:
    """Some points side by side: the place and the value of the smallest and of the largest."""

    low: float
    low_at: int
    high: float
    high_at: int

    def join(self, other: _Stretch) -> _Stretch:
        low, high = min(self, other, key=lambda one: one.low), max(self, other, key=lambda one: one.high)
        return _Stretch(low.low, low.low_at, high.high, high.high_at)


class Curve:
    """What of growing columns is drawn: the ends, and the smallest and the largest of each of some hundred stretches.

    A point costs the same however many came before: when the stretches are too many, each two become one.
    """

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._width, self._filled = 1, 1  # points of a stretch, and of the last one until now
        self._ends: list[int] = []

    def add(self, places: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Add points, by their place in the columns, that come after all others."""
        if not len(places):
            return
        self._ends = [self._ends[0] if self._ends else int(places[0]), int(places[-1])]
        start = 0
        while start < len(places):
            if self._filled == self._width and len(self._stretches) >= MOST_DRAWN // 2 - 1:
                self._halve()
            is_new = self._filled == self._width
            taken = slice(start, start + (self._width if is_new else self._width - self._filled))
            added = _measure(places[taken], values[taken])
            if is_new:
                self._stretches.append(added)
                self._filled = 0
            else:
                self._stretches[-1] = self._stretches[-1].join(added)
            count = len(places[taken])
            start, self._filled = start + count, self._filled + count

    def _halve(self) -> None:
        pairs = zip(self._stretches[::2], self._stretches[1::2], strict=False)
        left_over = self._stretches[-1:] if len(self._stretches) % 2 else []
        self._stretches = [*(one.join(other) for one, other in pairs), *left_over]
        self._filled = self._width if left_over else self._width * 2
        self._width *= 2

    @property
    def places(self) -> list[int]:
        """Where what is drawn stands in the columns, in order."""
        inner = {place for one in self._stretches for place in (one.low_at, one.high_at)}
        return sorted(inner.union(self._ends))


def _measure(places: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> _Stretch:
    low, high = int(values.argmin()), int(values.argmax())
    return _Stretch(float(values[low]), int(places[low]), float(values[high]), int(places[high]))


@dataclass(frozen=True)
class Drawn:
    """What of a series is drawn. curve: points that are numbers. broken: points that are not, so that they show."""

    curve: tuple[Point, ...]
    broken: tuple[Point, ...]


@dataclass(frozen=True)
class Series:
    """All points of one measure, in the order of their steps."""

    key: str
    points: Sequence[Point] = ()
    sources: tuple[str, ...] = ()
    """The runs that the points were read from, the one that counts where several measured a step first."""
    kept: Drawn | None = field(default=None, repr=False, compare=False)
    """What is drawn, where who made the series kept it up."""

    @cached_property
    def drawn(self) -> Drawn:
        """The points that are worth drawing: the ends and every stretch's smallest and largest."""
        if self.kept:
            return self.kept
        finite = tuple(point for point in self.points if math.isfinite(point.value))
        return Drawn(finite, tuple(point for point in self.points if not math.isfinite(point.value)))

    @property
    def last(self) -> Point | None:
        """The newest point."""
        return self.points[-1] if self.points else None

    @property
    def first(self) -> Point | None:
        """The oldest point."""
        return self.points[0] if self.points else None

    @property
    def best(self) -> Point | None:
        """The point with the smallest value, NaN left out."""
        return min(self.drawn.curve, key=_value, default=None)

    def average(self, newest: int = 10) -> float | None:
        """Return the mean of the newest points, those that are no number left out; None where there is none."""
        values = [point.value for point in self.points[-newest:] if math.isfinite(point.value)]
        return sum(values) / len(values) if values else None

    def find_trend(self, least: int = 5, most: int = 10) -> tuple[float, int] | None:
        """Return how the mean of the newest points differs from that of as many before, and their distance in steps.

        Of a batch of few rows one value alone says little: None where there are not `least` on either side, where one
        is not finite, or where all are of one step (a service that counts none).
        """
        count = min(most, len(self.points) // 2)
        if count < least:
            return None
        newest, before = self.points[-count:], self.points[-2 * count : -count]
        change = sum(point.value for point in newest) / count - sum(point.value for point in before) / count
        steps = newest[-1].step - before[-1].step
        return (change, steps) if math.isfinite(change) and steps > 0 else None

    def find_pace(self, newest: int = 30) -> float | None:
        """Return the seconds from step to step among the newest points: what came before the first does not count."""
        recent = self.points[-newest:]
        if len(recent) < 2 or recent[-1].step <= recent[0].step:
            return None
        return (recent[-1].at_ms - recent[0].at_ms) / 1000 / (recent[-1].step - recent[0].step)

    def to_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return steps, values and times (milliseconds since 1970) of all points."""
        points = self.points if isinstance(self.points, Points) else Points(Columns(self.points))
        return points.to_arrays()

    @property
    def steps(self) -> list[int]:
        """Steps, for an x axis."""
        return [point.step for point in self.points]

    @property
    def values(self) -> list[float]:
        """Values, for a y axis."""
        return [point.value for point in self.points]


class Ordered:
    """Columns that grow, with one point for each step in their order, and what of them is drawn."""

    def __init__(self, columns: Columns | None = None) -> None:
        self._columns = Columns() if columns is None else columns
        self._count = 0
        self._curve, self._broken = Curve(), Curve()

    def take_new(self) -> bool:
        """Take what was added to the columns since; False where it does not follow in order on what was there."""
        begun, ended = self._count, len(self._columns)
        before = max(0, begun - 1)
        steps = np.array(self._columns.steps[before:ended])
        times = np.array(self._columns.times[before:ended])
        longer = np.diff(steps) > 0
        stepless = (steps[1:] == 0) & (steps[:-1] == 0) & (np.diff(times) > 0)
        if not (longer.all() or (stepless.all() and not self._columns.steps[0])):
            return False
        if begun > 1 and not self._columns.steps[begun - 1] and longer.any():
            return False  # what had no steps has some now
        places, values = np.arange(begun, ended), np.array(self._columns.values[begun:ended])
        finite = np.isfinite(values)
        self._curve.add(places[finite], values[finite])
        self._broken.add(places[~finite], np.zeros(int((~finite).sum())))
        self._count = ended
        return True

    @property
    def drawn(self) -> Drawn:
        """What of it is drawn now."""
        curve, broken = (tuple(map(self._columns.get, one.places)) for one in (self._curve, self._broken))
        return Drawn(curve, broken)

    def to_series(self, key: str, sources: tuple[str, ...]) -> Series:
        """Return it as it is now."""
        return Series(key, Points(self._columns), sources, self.drawn)


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Return the bias-corrected exponential moving average; weight 0 (none) to below 1. NaN stays a gap."""
    mean, count, smoothed = 0.0, 0, list[float]()
    for value in values:
        if not math.isfinite(value):
            smoothed.append(math.nan)
            continue
        count += 1
        mean = weight * mean + (1.0 - weight) * value
        smoothed.append(mean / (1.0 - weight**count))
    return smoothed


def _value(point: Point) -> float:
    return point.value
