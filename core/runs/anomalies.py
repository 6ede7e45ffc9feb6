"""What is wrong with a run's curves, each with its rule, its source and what to do. Knows only the measures.

A series of any length costs the same: a sample spread evenly over it is looked at, and its newest points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from core.recipe import Value
from core.runs.failures import explain
from core.runs.metrics import RunMetrics
from core.runs.series import Point, Series
from core.words import number

Values = npt.NDArray[np.float64]

SAMPLE = 4000  # points of a series that are looked at
BROKEN_GRADIENTS = 5  # fp16 training drops single steps while it looks for its scale
RISES, LEAST_RISE = 3, 0.01
ZERO_RATES = 3  # a schedule may begin and end with one 0
DIVERGED, CERTAIN, OF_FIRST = 1.5, 7.0, 0.1
WINDOW, WINDOWS = (7, 50), 20  # points of a window, and how many windows a short run has
PLATEAU_FALL, PLATEAU_POINTS = 0.01, 60


@dataclass(frozen=True)
class Rule:
    """When a note is made, and where the threshold comes from."""

    name: str
    threshold: str
    source: str


@dataclass(frozen=True)
class Note:
    """One thing that is wrong. at: the point it is marked at; key: the measure."""

    rule: Rule
    said: str
    advice: str
    key: str
    at: Point

    @property
    def breaks(self) -> bool:
        """Whether the run learns nothing from there on."""
        return self.rule in (NOT_A_NUMBER, DIVERGENCE)

    @property
    def on_loss(self) -> bool:
        """Whether it has a place in the chart of losses, which marks what is not a number by itself."""
        return self.key in ("loss", "eval_loss") and math.isfinite(self.at.value)


NOT_A_NUMBER = Rule(
    "Not a number",
    f"A loss is NaN or infinite at any step, or the gradient norm at each of the newest {BROKEN_GRADIENTS} points.",
    "Keras' TerminateOnNaN and MosaicML's NaNMonitor stop at the first such loss.",
)
DIVERGENCE = Rule(
    "Divergence",
    f"The median of the newest points is over {DIVERGED} times the lowest median before, by more than {CERTAIN:g} "
    f"standard errors and {OF_FIRST:.0%} of the first loss.",
    "Our own threshold: set where no healthy noisy curve of our tests reaches it.",
)
RATE_ZERO = Rule(
    "Rate zero",
    f"The learning rate is 0 at {ZERO_RATES} points in a row.",
    "A schedule of transformers is 0 at its first and its last step alone.",
)
EVAL_RISES = Rule(
    "Eval loss rises",
    f"After its best value the eval loss rises {RISES} times in a row, by {LEAST_RISE:.0%} or more together.",
    "Prechelt, Early Stopping - But When? (1998), criterion UP with 3 strips.",
)
PLATEAU = Rule(
    "Plateau",
    f"In the second half of the steps the train loss falls by less than {PLATEAU_FALL:.0%} from the older to the newer "
    "part, by two standard errors. Not before the learning rate has had its peak.",
    "Our own threshold; that it is compared by its standard errors keeps noise from looking like a plateau.",
)


def find_notes(measures: RunMetrics, parameters: Mapping[str, Value]) -> tuple[Note, ...]:
    """Return what is wrong with the curves, the worst first. parameters: the run's, for what to do about it."""
    lower = explain("nan loss", "", parameters).action
    broken = [*_find_not_numbers(measures, lower), _find_divergence(measures, lower)]
    others = [_find_zero_rates(measures), _find_rising_eval(measures)]
    if not any(broken):
        others.append(_find_plateau(measures))
    return tuple(note for note in (*broken, *others) if note)


def _find_not_numbers(measures: RunMetrics, lower: str) -> Iterator[Note]:
    for key, name in (("loss", "train loss"), ("eval_loss", "eval loss")):
        series = measures.get(key)
        if series.drawn.broken and (last := series.last):
            first = series.drawn.broken[0]
            is_still = not math.isfinite(last.value)
            said = f"is not a number since {_place(first)}" if is_still else f"was not a number at {_place(first)}"
            advice = f"Later steps learn nothing. {lower}" if is_still else "Look whether it comes again."
            yield Note(NOT_A_NUMBER, f"The {name} {said}.", advice, key, first)
    newest = measures.get("grad_norm").points[-BROKEN_GRADIENTS:]
    if len(newest) == BROKEN_GRADIENTS and not any(math.isfinite(point.value) for point in newest):
        said = f"The gradient norm is not a number at the newest {BROKEN_GRADIENTS} points: these steps learn nothing."
        yield Note(NOT_A_NUMBER, said, lower, "grad_norm", newest[0])


def _find_divergence(measures: RunMetrics, lower: str) -> Note | None:
    series = measures.get("loss")
    points = _sample(series)
    width = int(np.clip(len(points) // WINDOWS, *WINDOW))
    newest = _finite(series.points[-width:])
    count = (len(points) - width) // width
    if count < 2 or len(newest) < WINDOW[0]:
        return None
    windows = _values(points)[: count * width].reshape(count, width)
    medians = np.median(windows, axis=1)
    noise = 1.4826 * float(np.median(np.abs(windows - medians[:, None])))  # a standard deviation, by the usual distance
    lowest, now = int(medians.argmin()), float(np.median(_values(newest)))
    rise = now - medians[lowest]
    certain = CERTAIN * noise * 1.2533 * math.sqrt(2 / width)  # of the difference of two medians
    if now <= DIVERGED * medians[lowest] or rise <= max(certain, OF_FIRST * medians[0]):
        return None
    at = points[(lowest + 1) * width - 1]
    said = f"The train loss rises since {_place(at)}: it was {medians[lowest]:.3g} and is {now:.3g}."
    return Note(DIVERGENCE, said, lower, "loss", at)


def _find_zero_rates(measures: RunMetrics) -> Note | None:
    run: list[Point] = []
    for point in _sample(measures.get("learning_rate")):
        run = [*run, point] if point.value == 0 and len(run) < ZERO_RATES else [] if point.value else run
        if len(run) == ZERO_RATES:
            said = f"The learning rate is 0 since {_place(run[0])}: such steps change nothing."
            advice = "Set a learning rate above 0, and let the warm-up be shorter than the run."
            return Note(RATE_ZERO, said, advice, "learning_rate", run[0])
    return None


def _find_rising_eval(measures: RunMetrics) -> Note | None:
    series = measures.get("eval_loss")
    best = series.best
    if best is None:
        return None
    after = [point for point in series.drawn.curve if (point.step, point.at_ms) >= (best.step, best.at_ms)]
    for start in range(len(after) - RISES):
        strip = after[start : start + RISES + 1]
        rises = all(later.value > point.value for point, later in pairwise(strip))
        if rises and strip[-1].value - strip[0].value >= LEAST_RISE * abs(strip[0].value):
            said = (
                f"The eval loss rises {RISES} times in a row since {_place(strip[0])}, from {strip[0].value:.3g} to "
                f"{strip[-1].value:.3g}: the model learns its rows by heart."
            )
            advice = f"Its best is {best.value:.3g} at {_place(best)}: keep that, or train for fewer epochs."
            return Note(EVAL_RISES, said, advice, "eval_loss", strip[-1])
    return None


def _find_plateau(measures: RunMetrics) -> Note | None:
    points = _sample(measures.get("loss"))
    half, quarter = len(points) // 2, len(points) // 4
    if len(points) < PLATEAU_POINTS:
        return None
    peak = max(_sample(measures.get("learning_rate")), key=lambda point: point.value, default=None)
    at = points[-half]
    if peak and (peak.step, peak.at_ms) > (at.step, at.at_ms):
        return None
    older, newer = _values(points[-half:-quarter]), _values(points[-quarter:])
    error = math.sqrt(older.var(ddof=1) / len(older) + newer.var(ddof=1) / len(newer))
    before, now = float(older.mean()), float(newer.mean())
    if before - now + 2 * error >= PLATEAU_FALL * abs(before):
        return None
    said = f"The train loss has hardly fallen since {_place(at)}: {before:.3g} then, {now:.3g} now, in the mean."
    fell = float(_values(points[:quarter]).max()) - before > 0.05 * abs(before)
    advice = "More steps will hardly lower it." if fell else "It never fell: try a higher learning rate."
    return Note(PLATEAU, said, advice, "loss", at)


def _sample(series: Series) -> list[Point]:
    return _finite(series.points[:: max(1, -(-len(series.points) // SAMPLE))])


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.value)]


def _values(points: Sequence[Point]) -> Values:
    return np.array([point.value for point in points])


def _place(point: Point) -> str:
    """Return "step 1,200"; the time, where the service counts no steps."""
    return (
        f"step {number(point.step)}"
        if point.step
        else f"{datetime.fromtimestamp(point.at_ms / 1000, UTC):%H:%M:%S} UTC"
    )
