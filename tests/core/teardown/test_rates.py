"""What was seen to bill is kept by change, and what nobody saw is never made up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.catalog.prices import Price
from core.database import Database
from core.teardown.costs import cost_of
from core.teardown.rates import GONE, Counted, RateHistory, Sighting, to_spans
from tests.waiting import wait_until

T = datetime(2026, 3, 1, tzinfo=UTC)
KINDS = ("compute", "deployment")
CLUSTER = "compute:gpu"
A100 = Price(3.60, source="retail")
EURO = Price(3.00, "EUR", "retail")


@pytest.fixture
def history(tmp_path: Path) -> RateHistory:
    return RateHistory(Database.at(tmp_path / "ledger.db"), "azure")


def _at(hours: float) -> datetime:
    return T + timedelta(hours=hours)


def _look(
    history: RateHistory,
    at: float,
    nodes: int | None,
    *,
    price: Price = A100,
    since: float | None = None,
    made: float = 0,
    counted: Sequence[Counted] = (),
) -> None:
    """Look at the cluster once. nodes: None for a workspace that has it no more."""
    told = None if since is None else _at(since)
    seen = [] if nodes is None else [Sighting(CLUSTER, _at(made), nodes, price, "Succeeded", told)]
    history.record(seen, KINDS, _at(at), counted)


def _look_often(history: RateHistory, begun: float, ended: float, nodes: int, price: Price = A100) -> None:
    for number in range(round((ended - begun) * 10) + 1):
        _look(history, begun + number / 10, nodes, price=price)


def _hours(history: RateHistory, now: float) -> list[tuple[int | None, float]]:
    """Return node counts with their hours, equal ones that follow one another as one."""
    found: list[tuple[int | None, float]] = []
    for mark, rates in history.read().items():
        for span in to_spans(rates, mark.created_at, _at(now)):
            assert span.ended
            hours = (span.ended - span.begun).total_seconds() / 3600
            if found and found[-1][0] == span.nodes:
                hours += found.pop()[1]
            found.append((span.nodes, round(hours, 4)))
    return found


def test_a_cluster_that_scales_is_counted_by_what_was_seen(history: RateHistory) -> None:
    _look_often(history, 0, 1, 0)
    _look_often(history, 1.1, 2, 2)
    _look_often(history, 2.1, 4, 1)

    assert _hours(history, 4) == [(0, 1.1), (2, 1.0), (1, 1.9)]
    (rates,) = history.read().values()
    assert len(rates) == 3, "a row for each change, not for each look"


def test_the_moment_of_a_change_is_the_services(history: RateHistory) -> None:
    _look(history, 1.0, 0, since=0)
    _look(history, 1.1, 2, since=1.05)

    assert _hours(history, 1.1) == [(0, 1.05), (2, 0.05)]


def test_what_nobody_saw_for_three_hours_is_unknown(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look_often(history, 4, 5, 1)

    assert _hours(history, 5) == [(1, 1.0), (None, 3.0), (1, 1.0)]
    (rates,) = history.read().values()
    cost = cost_of(to_spans(rates, T, _at(5)), _at(5))
    assert cost.words == "$7.20 + 1 unknown"


def test_what_the_service_says_was_so_all_the_time_is_counted(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look(history, 4, 1, since=0.5)

    assert _hours(history, 4) == [(1, 4.0)]


def test_a_change_while_nobody_looked_leaves_only_the_time_before_it_unknown(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look(history, 4, 3, since=3.5)

    assert _hours(history, 4) == [(1, 1.0), (None, 2.5), (3, 0.5)]


def test_what_the_service_counted_while_nobody_looked_is_counted(history: RateHistory) -> None:
    _look_often(history, 0, 1, 0)
    counted = [
        Counted(CLUSTER, _at(-1), _at(0.5), 8),  # before: it was looked at then
        Counted(CLUSTER, _at(0.9), _at(3), 1),
        Counted(CLUSTER, _at(3), _at(3.5), 3),
        Counted("compute:other", _at(2), _at(4), 8),
    ]
    _look(history, 5, 0, counted=counted)

    assert _hours(history, 5) == [(0, 1.0), (1, 2.0), (3, 0.5), (None, 1.5)]


def test_of_what_is_seen_the_first_time_the_service_tells_since_when(history: RateHistory) -> None:
    _look(history, 5, 2, since=0)
    assert _hours(history, 5) == [(2, 5.0)]


def test_of_what_changed_before_the_first_look_the_time_before_is_unknown(history: RateHistory) -> None:
    _look(history, 5, 2, since=3)
    assert _hours(history, 5) == [(None, 3.0), (2, 2.0)]


def test_what_was_made_since_the_last_look_bills_from_then(history: RateHistory) -> None:
    _look(history, 0.1, 1)
    assert _hours(history, 0.1) == [(1, 0.1)]


def test_a_new_price_does_not_rewrite_the_past(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look_often(history, 1, 2, 1, price=A100.at(0.5))
    _look_often(history, 2, 3, 1, price=EURO)

    (rates,) = history.read().values()
    cost = cost_of(to_spans(rates, T, _at(3)), _at(3))
    assert cost.amounts == pytest.approx({"USD": 5.40, "EUR": 3.00})
    assert [rate.price.factor for rate in rates] == [1, 0.5, 1]


def test_what_was_deleted_stays_in_the_history_and_bills_no_more(history: RateHistory) -> None:
    _look_often(history, 0, 1, 2)
    _look(history, 1.1, None)
    _look(history, 9, None)

    assert _hours(history, 9) == [(2, 1.1), (0, 7.9)]


def test_when_something_went_while_nobody_looked_is_unknown(history: RateHistory) -> None:
    _look_often(history, 0, 1, 2)
    _look(history, 4, None)

    assert _hours(history, 6) == [(2, 1.0), (None, 3.0), (0, 2.0)]


def test_what_could_not_be_read_is_not_gone(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    history.record([], ["deployment"], _at(1.1))
    _look(history, 1.2, 1, since=0)

    assert _hours(history, 1.2) == [(1, 1.2)]


def test_another_of_the_same_name_begins_anew(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look(history, 1.1, 4, made=1.05)

    marks = {mark.created_at: rates for mark, rates in history.read().items()}
    assert [rate.state for rate in marks[T]] == ["Succeeded", GONE]
    assert [rate.nodes for rate in marks[_at(1.05)]] == [4]
    assert _hours(history, 2.05)[-1] == (None, 0.95)


def test_a_clock_that_is_set_back_and_right_again_counts_nothing_twice(history: RateHistory) -> None:
    _look_often(history, 0, 2, 1)
    _look_often(history, 1, 1.5, 1)
    _look_often(history, 2.1, 3, 1)

    assert _hours(history, 3) == [(1, 3.0)]


def test_one_look_by_a_clock_set_far_ahead_bills_no_time_to_come(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look(history, 49, 1)
    assert _hours(history, 1.1) == [(1, 1.1)]

    _look_often(history, 1.1, 2, 1)
    assert _hours(history, 2) == [(1, 2.0)]


def test_free_nodes_cost_nothing_also_where_nobody_saw_how_many(history: RateHistory) -> None:
    _look(history, 0, 1, price=Price(0.0))
    _look(history, 9, 2, price=Price(0.0))

    (rates,) = history.read().values()
    assert cost_of(to_spans(rates, T, _at(9)), _at(9)).words == "$0.00"


def test_only_what_held_since_a_time_or_of_some_keys_is_read(history: RateHistory) -> None:
    _look_often(history, 0, 1, 1)
    _look_often(history, 1.1, 2, 2)
    _look_often(history, 2.1, 3, 3)

    assert [rate.nodes for rates in history.read(since=_at(1.5)).values() for rate in rates] == [2, 3]
    assert [rate.nodes for rates in history.read([CLUSTER]).values() for rate in rates] == [1, 2, 3]
    assert history.read(["compute:other"]) == {}
    assert history.find_ends() == (T, _at(3))


def test_two_writers_at_once_leave_what_one_would(history: RateHistory) -> None:
    begin = threading.Barrier(2)

    def write() -> None:
        for number in range(21):
            begin.wait(10)
            _look(history, number / 10, 1 if number < 11 else 3)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)

    assert _hours(history, 2) == [(1, 1.1), (3, 0.9)]
    (rates,) = history.read().values()
    assert len(rates) == 2


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from core.catalog.prices import Price
from core.database import Database
from core.teardown.rates import RateHistory, Sighting
history, made = RateHistory(Database.at(Path(sys.argv[1])), "azure"), datetime(2026, 3, 1, tzinfo=UTC)
for look in range(100_000):
    now = made + timedelta(seconds=look)
    history.record([Sighting(f"compute:{n}", made, look, Price(1.0)) for n in range(40)], ["compute"], now)
"""


def test_a_writer_killed_in_between_leaves_whole_looks(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    history = RateHistory(Database.at(path), "azure")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        wait_until(lambda: (history.find_ends() or (T, T))[1] > T + timedelta(seconds=3))
    finally:
        writer.kill()
        writer.wait(10)

    looks = {tuple((rate.begun, rate.nodes) for rate in rates) for rates in history.read().values()}
    assert len(looks) == 1, "of each look all is there or nothing"
