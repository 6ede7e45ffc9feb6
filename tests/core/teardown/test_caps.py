"""What a cap comes to: a decision about money and about somebody's run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.azureml import tags
from core.catalog.compute import Compute
from core.catalog.prices import PRICE_UNKNOWN, Price
from core.errors import BadInput
from core.runs.states import FINE_TUNE, QUEUED, JobState, Progress, Run, Stage
from core.teardown.caps import (
    Cap,
    Limits,
    Reached,
    Standing,
    Wanted,
    check_agreed,
    cost_of_day,
    judge,
    measure_run,
    parse_cap,
    parse_capped,
    parse_limits,
    to_agreed,
)
from core.teardown.costs import Cost
from core.teardown.inventory import Item
from core.teardown.rates import GONE, Mark, Rate

NOW = datetime(2026, 11, 28, 18, 0, tzinfo=UTC)
CLUSTER = Compute("gpu", "cluster", "S", "Succeeded", "Steady", 24, 1, 0, 2, 1, 120, {}, None, price=Price(4.0))
ENDPOINT = Item("endpoint", "kettle-1", price=Price(3.0), per_hour=3.0, since=NOW - timedelta(hours=30))
EURO = replace(ENDPOINT, name="euro", price=Price(1.0, "EUR"), per_hour=1.0)
STANDING = Standing(Limits(Cap(8.0)), (ENDPOINT,), clusters={"gpu": CLUSTER})


def test_a_cap_is_written_and_read_alike() -> None:
    for cap in (Cap(3.5), Cap(0.0001, "EUR"), Cap(100000.0, "USD")):
        assert parse_cap(cap.tag) == cap
    assert Cap(3.5).tag == "3.5 USD"
    assert parse_cap("") is None


@pytest.mark.parametrize(
    "text", ["0 USD", "-1 USD", "3.5", "1e9 USD", "nan USD", "3,5 EUR", "3.5 usd", "3 USD\n", "٣ USD"]
)
def test_a_broken_cap_is_told_of_and_not_obeyed(text: str) -> None:
    with pytest.raises(BadInput):
        parse_cap(text)
    limits = parse_limits({tags.CAP_HOUR: text, tags.CAP_DAY: "9 USD"})
    assert (limits.hour, limits.day) == (None, Cap(9.0))
    assert limits.problems[0].startswith("The workspace's tag tunedeck.cap_hour is not obeyed")
    capped = parse_capped("run", "otter", {tags.CAP: text, tags.CAP_THEN: "stop otter"}, "otter")
    assert capped is not None
    assert (capped.reached, capped.ends) == (Reached.NOT_YET, False)
    assert "not obeyed" in capped.words


@pytest.mark.parametrize(
    ("standing", "wanted", "said"),
    [
        (STANDING, Wanted(Price(1.0)), ""),
        (STANDING, Wanted(Price(1.01)), "With this, $8.01/h would bill"),
        (STANDING, Wanted(Price(9.0), at_once=Price(0.0)), ""),
        (STANDING, Wanted(Price(5.0), replaces="endpoint:kettle-1"), "With this, $9.00/h"),
        (STANDING, Wanted(Price(4.0), replaces="endpoint:kettle-1"), ""),
        (STANDING, Wanted(Price(4.0), compute="gpu", nodes=1), ""),  # its node stands there idle, and bills already
        (STANDING, Wanted(Price(8.0), compute="gpu", nodes=2), "With this, $11.00/h"),
        (replace(STANDING, asked={"gpu": 1}), Wanted(Price(4.0), compute="gpu", nodes=1), "With this, $11.00/h"),
        (replace(STANDING, asked={"gpu": 2}), Wanted(Price(4.0), compute="gpu", nodes=1), ""),  # it waits its turn
        (replace(STANDING, limits=Limits()), Wanted(Price(99.0)), ""),
        (
            replace(STANDING, billing=(ENDPOINT, EURO)),
            Wanted(Price(2.0)),
            "With this, $9.00/h",
        ),  # dollars alone suffice
        (replace(STANDING, limits=Limits(Cap(1.0))), Wanted(Price(0.0)), ""),  # what is free starts beyond a cap, too
    ],
)
def test_what_is_about_to_start_is_held_against_the_cap_per_hour(standing: Standing, wanted: Wanted, said: str) -> None:
    answer = standing.check(wanted)
    assert answer.blocked.startswith(said), answer
    assert bool(answer.blocked) == bool(said), answer
    assert not answer.unsure


def test_a_start_that_is_blocked_names_the_cap_who_sees_it_and_what_to_do() -> None:
    answer = STANDING.check(Wanted(Price(2.0)))
    assert answer.blocked == (
        "With this, $9.00/h would bill: more than this workspace's cap of $8.00/h, which all who use it see. "
        "Now it is $7.00/h."
    )
    assert answer.hint == "Raise the cap, or delete kettle-1 ($3.00/h)."


@pytest.mark.parametrize(
    ("standing", "wanted"),
    [
        (STANDING, Wanted(Price(None))),
        (STANDING, Wanted(Price(1.0, "EUR"))),
        (replace(STANDING, billing=(ENDPOINT, EURO)), Wanted(Price(0.5))),
        (replace(STANDING, limits=Limits(Cap(8.0, "EUR"))), Wanted(Price(0.5))),
        (replace(STANDING, unread=("computes",)), Wanted(Price(0.5))),
        (replace(STANDING, billing=(ENDPOINT, replace(ENDPOINT, name="b", per_hour=None))), Wanted(Price(0.5))),
    ],
)
def test_what_cannot_be_told_is_said_and_blocks_nobody_who_accepts_it(standing: Standing, wanted: Wanted) -> None:
    answer = standing.check(wanted)
    assert answer.unsure
    assert not answer.blocked


@pytest.mark.parametrize(
    ("agreed", "price", "starts"),
    [
        ("3.673 USD", Price(3.673), True),
        ("3.673 USD", Price(3.0), True),
        ("3.673 USD", Price(3.68), False),
        ("3.673 USD", Price(3.0, "EUR"), False),
        ("3.673 USD", Price(None), True),
        (PRICE_UNKNOWN, Price(99.0), True),
        ("", Price(99.0), True),
    ],
)
def test_nothing_starts_at_a_higher_price_than_was_agreed_to(agreed: str, price: Price, starts: bool) -> None:
    assert (check_agreed(agreed, price) == "") is starts
    assert check_agreed(to_agreed(price), price) == ""


@pytest.mark.parametrize(
    ("cost", "rest", "ends", "reached"),
    [
        (Cost({"USD": 9.99}), None, True, Reached.NOT_YET),
        (Cost({"USD": 10.0}), None, False, Reached.WARNS),
        (Cost({"USD": 10.0}), 0.5, False, Reached.WARNS),
        (Cost({"USD": 10.0}), None, True, Reached.ENDS),
        (Cost({"USD": 10.0}), 1.0, True, Reached.ENDS),
        (Cost({"USD": 10.0}), 0.99, True, Reached.GOES_ON),
        (Cost({"USD": 99.0}), 0.0, True, Reached.GOES_ON),
        (Cost({"EUR": 99.0}), None, True, Reached.UNKNOWN),
        (Cost({"USD": 5.0}, unknown=1), None, True, Reached.UNKNOWN),
        (Cost({"USD": 11.0}, unknown=1), None, True, Reached.ENDS),
        (Cost(unknown=1), None, True, Reached.UNKNOWN),
    ],
)
def test_a_cap_ends_only_what_was_chosen_and_never_for_a_tenth(
    cost: Cost, rest: float | None, ends: bool, reached: Reached
) -> None:
    assert judge(Cap(10.0), cost, rest, ends=ends) is reached


@pytest.mark.parametrize(
    ("then", "ends", "told"),
    [
        ("stop otter", True, False),
        ("stop other", False, True),
        ("stop ", False, True),
        ("warn", False, False),
        ("", False, False),
    ],
)
def test_a_copied_wish_to_end_only_warns(then: str, ends: bool, told: bool) -> None:
    capped = parse_capped("run", "otter", {tags.CAP: "5 USD", tags.CAP_THEN: then}, "otter")
    assert capped is not None
    assert (capped.ends, bool(capped.problem)) == (ends, told)


def run_of(**stages: tuple[datetime | None, datetime | None]) -> Run:
    made = [Stage(name, name, JobState.RUNNING, "", *times) for name, times in stages.items()]
    return Run("otter", "brave-otter", JobState.RUNNING, parameters={"num_nodes_finetune": 3}, stages=tuple(made))


def test_a_run_costs_one_node_and_all_of_them_while_it_trains() -> None:
    hour = timedelta(hours=1)
    waits = run_of(**{QUEUED: (NOW - 9 * hour, None)})
    assert measure_run(waits, Price(4.0), NOW)["cost"].amount == 0.0
    trains = run_of(**{QUEUED: (NOW - 9 * hour, NOW - 3 * hour), FINE_TUNE: (NOW - 2 * hour, None)})
    trains = replace(trains, progress=Progress(5, 10, None, 0.5, 1800.0))
    measured = measure_run(trains, Price(4.0), NOW)
    assert measured["cost"].amount == pytest.approx(3 * 4.0 + 2 * 2 * 4.0)
    assert measured["rest"] == pytest.approx(0.5 * 3 * 4.0)
    converts = run_of(**{QUEUED: (None, NOW - 3 * hour), FINE_TUNE: (NOW - 2 * hour, NOW - hour / 4)})
    assert measure_run(converts, Price(4.0), NOW)["rest"] == pytest.approx(1.0)
    assert measure_run(converts, Price(None), NOW)["cost"].unknown == 1


def test_a_day_costs_what_was_seen_since_midnight_and_not_what_was_before_it() -> None:
    def seen(name: str, hours: float, ended: float, price: Price) -> tuple[Mark, list[Rate]]:
        begun = NOW - timedelta(hours=hours)
        gone = [Rate(NOW - timedelta(hours=ended), NOW, 0, price, GONE)] if ended else []
        until = NOW - timedelta(hours=ended)
        return Mark(f"deployment:{name}/demo", begun), [Rate(begun, until, 2, price), *gone]

    history = dict(
        [seen("old", 30, 0, Price(1.0)), seen("gone", 5, 3, Price(2.0)), seen("euro", 1, 0, Price(9.0, "EUR"))]
    )
    cost = cost_of_day(history, NOW)
    assert cost.amounts == {"USD": pytest.approx(18 * 2.0 + 2 * 2 * 2.0), "EUR": pytest.approx(18.0)}
    assert cost.unknown == 0
    assert judge(Cap(44.0), cost_of_day(dict([seen("old", 30, 0, Price(2.0))]), NOW), None, ends=False) is Reached.WARNS
