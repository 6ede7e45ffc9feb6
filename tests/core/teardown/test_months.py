"""A month is the sum of its days, by resource and currency, and says what nobody saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from core.catalog.prices import Price
from core.teardown.months import count_month, list_months
from core.teardown.rates import GONE, Mark, Rate

T = datetime(2026, 2, 27, 12, tzinfo=UTC)
A100 = Price(2.40)
FEBRUARY, MARCH = date(2026, 2, 1), date(2026, 3, 1)


def _at(hours: float) -> datetime:
    return T + timedelta(hours=hours)


RATES: Mapping[Mark, Sequence[Rate]] = {
    Mark("compute:gpu", _at(0)): [
        Rate(_at(0), _at(10), 2, A100),  # 27 Feb, 12:00 to 22:00
        Rate(_at(13), _at(37), 1, A100.at(0.5)),  # 28 Feb, 1:00 to 1 Mar, 1:00; three hours were not seen before
        Rate(_at(37), _at(40), 0, A100.at(0.5)),
    ],
    Mark("deployment:shop/demo", _at(36)): [
        Rate(_at(36), _at(38), 1, Price(3.0, "EUR")),  # 1 Mar, 0:00 to 2:00
        Rate(_at(38), _at(38), 0, Price(3.0, "EUR"), GONE),
    ],
}


def test_a_month_is_counted_by_day_and_resource() -> None:
    march = count_month(RATES, MARCH, (), _at(40))

    assert [(share.day.day, share.key, share.cost.amounts, share.node_hours) for share in march.shares] == [
        (1, "compute:gpu", {"USD": pytest.approx(1.20)}, 1.0),  # 1 h x 1 node x 2.40 x 0.5
        (1, "deployment:shop/demo", {"EUR": pytest.approx(6.0)}, 2.0),  # 2 h x 1 x 3.00
    ]
    assert (march.cost.words, march.title) == ("EUR 6.00 + $1.20", "March 2026")
    assert march.factors == {0.5, 1.0}


def test_hours_that_nobody_saw_are_said_and_not_counted() -> None:
    february = count_month(RATES, FEBRUARY, (), _at(40))

    assert [(share.day.day, round(share.unseen_hours, 2)) for share in february.shares] == [(27, 2.0), (28, 1.0)]
    # 27 Feb: 10 h x 2 x 2.40 = 48.00; 28 Feb: 23 h x 1.20 = 27.60
    assert february.cost.words == "$75.60 + 1 unknown"


def test_what_was_not_seen_any_more_and_is_not_gone_is_unknown() -> None:
    april = count_month(RATES, date(2026, 4, 1), (), _at(24 * 40))
    assert april.cost.words == "unknown"
    assert {share.key for share in april.shares} == {"compute:gpu"}


def test_months_go_from_the_first_look_to_now() -> None:
    assert list_months(T, _at(24 * 40)) == [date(2026, 4, 1), MARCH, FEBRUARY]
    assert list_months(T, T) == [FEBRUARY]


def test_the_table_to_download_has_a_row_for_each_day_and_currency() -> None:
    assert count_month(RATES, MARCH, (), _at(40)).to_csv().splitlines() == [
        "day,kind,name,currency,amount,node_hours,unseen_hours",
        "2026-03-01,compute,gpu,USD,1.2000,1.0000,0.0000",
        "2026-03-01,deployment,shop/demo,EUR,6.0000,2.0000,0.0000",
    ]
