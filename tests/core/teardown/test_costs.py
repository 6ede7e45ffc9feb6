"""What spans of time come to, each case worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.catalog.prices import Price
from core.teardown.costs import Cost, Span, cost_of, sum_costs

T = datetime(2026, 3, 1, tzinfo=UTC)
A100 = Price(3.60)  # $3.60 an hour is a cent in ten seconds
LOW = Price(0.72)
EURO = Price(3.00, "EUR")
UNKNOWN = Price(None)


def _at(hours: float) -> datetime:
    return T + timedelta(hours=hours)


def _span(begun: float, ended: float | None, nodes: int | None = 1, price: Price = A100) -> Span:
    return Span(_at(begun), None if ended is None else _at(ended), nodes, price)


CASES = [
    # What it is, the spans in hours since T, now, the amounts by currency, how many are unknown.
    ("nothing costs nothing", [], 5, {}, 0),
    ("1 node x 1 h x 3.60 = 3.60", [_span(0, 1)], 5, {"USD": 3.60}, 0),
    ("going on for 5 h x 3.60 = 18.00", [_span(0, None)], 5, {"USD": 18.00}, 0),
    # Parts of an hour
    ("90 min x 3.60/h = 1.5 x 3.60 = 5.40", [_span(0, 1.5)], 5, {"USD": 5.40}, 0),
    ("10 s x 3.60/3600 = 0.01, no whole hour", [_span(0, 10 / 3600)], 5, {"USD": 0.01}, 0),
    ("1 s = 0.001, no whole minute", [_span(0, 1 / 3600)], 5, {"USD": 0.001}, 0),
    ("3661 s x 0.001 = 3.661", [_span(0, 3661 / 3600)], 5, {"USD": 3.661}, 0),
    ("begun this moment: 0 s = 0", [_span(5, None)], 5, {"USD": 0.0}, 0),
    ("over midnight and a month's end: 48 h x 3.60 = 172.80", [_span(-24, 24)], 99, {"USD": 172.80}, 0),
    # Scaling
    ("4 nodes x 2 h x 3.60 = 28.80", [_span(0, 2, 4)], 5, {"USD": 28.80}, 0),
    (
        "0 then 2 then 1 nodes: (0x1 + 2x0.5 + 1x2) h x 3.60 = 3 x 3.60 = 10.80",
        [_span(0, 1, 0), _span(1, 1.5, 2), _span(1.5, 3.5, 1)],
        5,
        {"USD": 10.80},
        0,
    ),
    ("scaled to zero: 0 nodes x 5 h = 0", [_span(0, None, 0)], 5, {"USD": 0.0}, 0),
    ("up to 3 and on: 1x2 + 3x3 = 11 h x 3.60 = 39.60", [_span(0, 2), _span(2, None, 3)], 5, {"USD": 39.60}, 0),
    ("a stop of 1 h between is not billed: 2 + 2 = 4 h = 14.40", [_span(0, 2), _span(3, 5)], 9, {"USD": 14.40}, 0),
    # Several deployments at once
    ("two deployments, 1 and 2 instances, 2 h: 6 h = 21.60", [_span(0, 2), _span(0, 2, 2)], 5, {"USD": 21.60}, 0),
    (
        "blue 4 h at 3.60 and green 1 h of 2 at 0.72: 14.40 + 1.44 = 15.84",
        [_span(0, 4), _span(3, 4, 2, LOW)],
        5,
        {"USD": 15.84},
        0,
    ),
    ("a second one that begins later: 5 + 1 = 6 h = 21.60", [_span(0, None), _span(4, None)], 5, {"USD": 21.60}, 0),
    # Low priority
    ("low priority: 4 nodes x 2.5 h x 0.72 = 7.20", [_span(0, 2.5, 4, LOW)], 5, {"USD": 7.20}, 0),
    (
        "preempted for 1 h: (2x1 + 0x1 + 2x1) h x 0.72 = 2.88",
        [_span(0, 1, 2, LOW), _span(1, 2, 0, LOW), _span(2, 3, 2, LOW)],
        5,
        {"USD": 2.88},
        0,
    ),
    # The price changes
    (
        "2 h at 3.60, then 3 h at 4.00: 7.20 + 12.00 = 19.20",
        [_span(0, 2), _span(2, 5, 1, Price(4.0))],
        9,
        {"USD": 19.20},
        0,
    ),
    (
        "from dear to free: 1 h x 3.60 + 4 h x 0 = 3.60",
        [_span(0, 1), _span(1, None, 1, Price(0.0))],
        5,
        {"USD": 3.60},
        0,
    ),
    (
        "a factor from 1 h on: 3.60 + 1 h x 3.60 x 0.83 = 6.588",
        [_span(0, 1), _span(1, 2, 1, Price(2.988))],
        5,
        {"USD": 6.588},
        0,
    ),
    # Currencies
    ("2 h x 3.00 = EUR 6.00", [_span(0, 2, 1, EURO)], 5, {"EUR": 6.00}, 0),
    ("1 h of each, never added", [_span(0, 1), _span(0, 1, 1, EURO)], 5, {"USD": 3.60, "EUR": 3.00}, 0),
    ("billed in another currency from 1 h on", [_span(0, 1), _span(1, 3, 1, EURO)], 5, {"USD": 3.60, "EUR": 6.00}, 0),
    # What is not known
    ("price unknown", [_span(0, 1, 1, UNKNOWN)], 5, {}, 1),
    ("1 h x 3.60, then 1 h at an unknown price", [_span(0, 1), _span(1, 2, 1, UNKNOWN)], 5, {"USD": 3.60}, 1),
    (
        "nobody saw how many for 3 h between: 2 h x 3.60 + unknown",
        [_span(0, 1), _span(1, 4, None), _span(4, 5)],
        5,
        {"USD": 7.20},
        1,
    ),
    ("no node of an unknown price costs nothing", [_span(0, 5, 0, UNKNOWN)], 5, {"USD": 0.0}, 0),
    ("unknown for no time is not unknown", [_span(0, 1), _span(1, 1, None)], 5, {"USD": 3.60}, 0),
    # Clocks
    ("begun after now, by a clock that was set back: 0, never less", [_span(6, None)], 5, {"USD": 0.0}, 0),
    ("ended before it was begun: 0, never less", [_span(4, 2), _span(0, 1)], 5, {"USD": 3.60}, 0),
]


@pytest.mark.parametrize(
    ("spans", "now", "amounts", "unknown"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_span_costs_its_seconds_at_the_price_it_was_seen_at(
    spans: list[Span], now: float, amounts: dict[str, float], unknown: int
) -> None:
    cost = cost_of(spans, _at(now))

    assert cost.amounts == pytest.approx(amounts)
    assert cost.unknown == unknown


@pytest.mark.parametrize(
    ("costs", "said", "amount"),
    [
        ([], "$0.00", 0.0),
        ([Cost({"USD": 1.0}), Cost({"USD": 2.5})], "$3.50", 3.5),
        ([Cost({"USD": 1.0}), Cost({"EUR": 2.0}, 1), Cost({}, 1)], "EUR 2.00 + $1.00 + 2 unknown", None),
        ([Cost({"EUR": 0.0})], "EUR 0.00", 0.0),
        ([Cost({}, 1)], "unknown", None),
        ([Cost({"USD": 1.0}), Cost({"EUR": 2.0})], "EUR 2.00 + $1.00", None),
    ],
)
def test_a_sum_keeps_currencies_apart_and_says_how_many_are_unknown(
    costs: list[Cost], said: str, amount: float | None
) -> None:
    total = sum_costs(costs)

    assert (total.words, total.amount) == (said, amount)


def test_the_parts_of_a_span_in_each_day_come_to_the_whole() -> None:
    whole = _span(-7.3, 61.9, 3)
    days = [part for day in range(-24, 72, 24) if (part := whole.within(_at(day), _at(day + 24)))]

    assert len(days) == 4
    assert sum_costs(cost_of([part], _at(99)) for part in days).amount == pytest.approx(69.2 * 3 * 3.60)
    assert whole.within(_at(62), _at(80)) is None
