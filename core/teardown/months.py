"""What a month cost, by day and resource, from the history of rates. Days are those of UTC."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property

from core.azureml.connection import Connection
from core.teardown.costs import Cost, Span, cost_of, sum_costs
from core.teardown.rates import Mark, Rate, RateHistory, to_spans

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Share:
    """What a resource cost on a day. node_hours: as far as they are known; unseen_hours: of which nodes are not."""

    day: date
    key: str
    cost: Cost
    node_hours: float
    unseen_hours: float


@dataclass(frozen=True)
class Month:
    """What a month cost until now. factors: the shares of list prices that it was counted at."""

    begun: date
    shares: tuple[Share, ...]
    factors: frozenset[float]
    months: tuple[date, ...]
    """All those in which something was seen, newest first."""

    @property
    def title(self) -> str:
        """ "November 2026"."""
        return f"{self.begun:%B %Y}"

    @cached_property
    def by_key(self) -> Mapping[str, Share]:
        """What each resource cost in the whole month, the dearest first."""
        shares = defaultdict[str, list[Share]](list)
        for share in self.shares:
            shares[share.key].append(share)
        whole = [_sum_up(self.begun, key, parts) for key, parts in shares.items()]
        return {each.key: each for each in sorted(whole, key=lambda each: -sum(each.cost.amounts.values()))}

    @property
    def cost(self) -> Cost:
        """What all of it cost."""
        return sum_costs(share.cost for share in self.by_key.values())

    def to_csv(self) -> str:
        """Return a row for each resource, day and currency; an amount that is not known at all is empty."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["day", "kind", "name", "currency", "amount", "node_hours", "unseen_hours"])
        for share in self.shares:
            kind, _, name = share.key.partition(":")
            hours = (f"{share.node_hours:.4f}", f"{share.unseen_hours:.4f}")
            for currency, amount in share.cost.amounts.items() or [("", None)]:
                rows.writerow([share.day, kind, name, currency, "" if amount is None else f"{amount:.4f}", *hours])
        return text.getvalue()


def read_month(conn: Connection, wanted: str) -> Month:
    """Return a month, "2026-11", of what this home saw; the newest for any other text."""
    history, now = RateHistory.of(conn), conn.now
    months = list_months((history.find_ends() or (now, now))[0], now)
    begun = next((month for month in months if f"{month:%Y-%m}" == wanted), months[0])
    return count_month(history.read(since=_midnight(begun)), begun, months, now)


def list_months(first: datetime, last: datetime) -> list[date]:
    """Return the first days of the months between two times, newest first."""
    months = [last.date().replace(day=1)]
    while months[-1] > first.date():
        months.append((months[-1] - _DAY).replace(day=1))
    return months


def count_month(rates: Mapping[Mark, Sequence[Rate]], begun: date, months: Iterable[date], now: datetime) -> Month:
    """Return what the month cost. now: the workspace's time; nothing is counted beyond it."""
    parts = defaultdict[tuple[date, str], list[Span]](list)
    for mark, each in rates.items():
        for span in to_spans(each, mark.created_at, now):
            for day, part in _split(span, begun):
                parts[day, mark.key].append(part)
    shares = (_share(day, key, found, now) for (day, key), found in sorted(parts.items()))
    factors = frozenset(part.price.factor for found in parts.values() for part in found if part.nodes)
    return Month(begun, tuple(each for each in shares if each.node_hours or each.unseen_hours), factors, tuple(months))


def _split(span: Span, month: date) -> Iterator[tuple[date, Span]]:
    """Yield the parts of a span in each day of a month."""
    begins, ends = _midnight(month), _midnight((month + timedelta(days=32)).replace(day=1))
    inside = span.within(begins, ends)
    day = inside.begun.date() if inside else month
    while inside and (part := inside.within(_midnight(day), _midnight(day + _DAY))):
        yield day, part
        day += _DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _share(day: date, key: str, parts: Sequence[Span], now: datetime) -> Share:
    seen = unseen = 0.0
    for part in parts:
        hours = ((part.ended or now) - part.begun) / timedelta(hours=1)
        seen += hours * (part.nodes or 0)
        unseen += hours if part.nodes is None and part.per_hour is None else 0.0
    return Share(day, key, cost_of(parts, now), seen, unseen)


def _sum_up(day: date, key: str, shares: Sequence[Share]) -> Share:
    cost = sum_costs(share.cost for share in shares)
    hours = (sum(share.node_hours for share in shares), sum(share.unseen_hours for share in shares))
    return Share(day, key, Cost(cost.amounts, min(1, cost.unknown)), *hours)
