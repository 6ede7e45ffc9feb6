"""Each note is made where its rule holds, and none on a curve that is only noisy."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import pytest

from core.runs import anomalies
from core.runs.anomalies import Rule, find_notes
from core.runs.metrics import RunMetrics
from core.runs.series import Columns, Ordered, Point, Series

STEPS = 300
HEALTHY = 200 * int(os.environ.get("TUNEDECK_SOAK") or 1)


def measures(**series: Sequence[float]) -> RunMetrics:
    return RunMetrics("run", {key: make_series(key, values) for key, values in series.items()})


def make_series(key: str, values: Sequence[float]) -> Series:
    distance = max(1, STEPS // len(values))
    ordered = Ordered(Columns(Point(distance * at, value, 1000 * at) for at, value in enumerate(values, 1)))
    assert ordered.take_new()
    return ordered.to_series(key, ())


def falling(seed: int, noise: float = 0.15, steps: int = STEPS) -> list[float]:
    """A loss as small batches give it: it falls by a power of the steps, with noise and rare outliers of a hard row."""
    chance = np.random.default_rng(seed)
    smooth = 1.0 + 2.5 * np.arange(1, steps + 1) ** -0.35
    hard = (chance.random(steps) < 0.02) * chance.exponential(0.6, steps)
    return list(smooth * (1 + noise * chance.standard_normal(steps)).clip(0.3) + hard)


def linear_rate(steps: int = STEPS) -> list[float]:
    return [2e-3 * min(at / 10, (steps - at) / (steps - 10)) for at in range(1, steps + 1)]


DIVERGING = falling(0)[:150] + [value + 0.05 * at for at, value in enumerate(falling(1)[150:])]
FLAT = [2.0 + 0.02 * (-1) ** at for at in range(STEPS)]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (anomalies.NOT_A_NUMBER, measures(loss=[2.0, 1.5, math.nan, math.nan])),
        (anomalies.NOT_A_NUMBER, measures(loss=falling(3), grad_norm=[1.0] * 9 + [math.inf] * 5)),
        (anomalies.DIVERGENCE, measures(loss=DIVERGING)),
        (anomalies.RATE_ZERO, measures(loss=falling(3), learning_rate=[1e-3] * 20 + [0.0] * 3)),
        (anomalies.EVAL_RISES, measures(loss=falling(3), eval_loss=[1.3, 1.1, 1.12, 1.15, 1.2])),
        (anomalies.PLATEAU, measures(loss=FLAT, learning_rate=linear_rate())),
    ],
    ids=lambda given: given.name if isinstance(given, Rule) else "",
)
def test_a_note_is_made_where_its_rule_holds_and_says_what_to_do(rule: Rule, found: RunMetrics) -> None:
    notes = find_notes(found, {"learning_rate": 2e-3})
    assert [note.rule for note in notes] == [rule]
    assert notes[0].said.endswith(".")
    assert notes[0].advice


def test_a_rise_by_less_than_a_percent_or_only_twice_is_no_note() -> None:
    for losses in ([1.3, 1.1, 1.101, 1.102, 1.103], [1.3, 1.1, 1.2, 1.3], [1.3, 1.1, 1.2, 1.15, 1.25, 1.2]):
        assert find_notes(measures(loss=falling(3), eval_loss=losses), {}) == ()


def test_a_schedule_that_begins_or_ends_at_zero_is_no_note() -> None:
    assert find_notes(measures(loss=falling(3), learning_rate=[0.0, *linear_rate()[1:-1], 0.0, 0.0]), {}) == ()


def test_no_healthy_noisy_curve_is_noted() -> None:
    """Only a plateau may be said of a curve that falls ever slower, and of these it is not."""
    wrong = []
    for seed in range(HEALTHY):
        noise = (0.05, 0.15, 0.3)[seed % 3]
        steps = (40, 120, 300, 900)[seed % 4]
        notes = find_notes(measures(loss=falling(seed, noise, steps), learning_rate=linear_rate(steps)), {})
        wrong += [(seed, note.rule.name) for note in notes]
    assert len(wrong) <= HEALTHY * 0.005, wrong


def test_a_long_run_is_looked_at_through_a_sample() -> None:
    long = measures(loss=np.tile(falling(5), 700).tolist())
    assert len(long.get("loss").points) > 200_000
    assert len(anomalies._sample(long.get("loss"))) <= anomalies.SAMPLE
