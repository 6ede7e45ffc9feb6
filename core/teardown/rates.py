"""The history of what was seen to bill: how many nodes of what, at what price, from when until when it was last seen.

A row for each change of a resource. Between two looks the service's own times are believed (since when it is as it is,
how many nodes it counted); what neither a look nor the service proves is a span of unknown nodes. What was seen once is
never written anew: a new price counts from then on. Rows left by a clock set ahead count when their time comes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from core.azureml.connection import Connection
from core.catalog.prices import Price
from core.database import Database
from core.teardown.costs import Cost, Span, cost_of

UNSEEN = timedelta(minutes=10)  # between two looks: what is shorter is only their pause
GONE = "Gone"
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_SELECT = (
    "select * from rates where connection = ? and (? is null or key in (select value from json_each(?))) "
    "and begun_at >= coalesce((select max(held.begun_at) from rates held where held.connection = rates.connection "
    "and held.key = rates.key and held.created_at = rates.created_at and held.begun_at <= ?), 0) "
    "order by key, created_at, begun_at"
)
_LATEST = (  # of the row with the greatest begun_at, as SQLite gives the columns beside a lone max()
    "select *, max(begun_at) from rates where connection = ? and begun_at <= ? group by key, created_at"
)
_UPSERT = (
    "insert into rates (connection, key, created_at, begun_at, seen_at, nodes, per_hour, currency, factor, state) "
    "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (connection, key, created_at, begun_at) do update set "
    "seen_at = max(seen_at, excluded.seen_at), nodes = excluded.nodes, per_hour = excluded.per_hour, "
    "currency = excluded.currency, factor = excluded.factor, state = excluded.state"
)


@dataclass(frozen=True)
class Mark:
    """What tells a resource from another of the same name. created_at: to the second, 1970 where it is not known."""

    key: str
    created_at: datetime


@dataclass(frozen=True)
class Sighting:
    """A resource as it is now. since: from when on it has these nodes by the service's word, None where it has none."""

    key: str
    created_at: datetime | None
    nodes: int | None
    price: Price
    """Of one node."""
    state: str = ""
    since: datetime | None = None

    @property
    def mark(self) -> Mark:
        """What it is filed under."""
        return Mark(self.key, (self.created_at or _LONG_AGO).replace(microsecond=0))


@dataclass(frozen=True)
class Rate:
    """What was seen unchanged from its begin until it was last seen."""

    begun: datetime
    seen: datetime
    nodes: int | None
    price: Price
    state: str = ""


@dataclass(frozen=True)
class Counted:
    """How many nodes of a resource the service itself counted for some time."""

    key: str
    begun: datetime
    ended: datetime
    nodes: int


class RateHistory:
    """What was seen to bill in one workspace."""

    def __init__(self, database: Database, connection: str) -> None:
        self._database, self._connection = database, connection

    @classmethod
    def of(cls, conn: Connection) -> RateHistory:
        """Return what the connection's home knows of its workspace."""
        return cls(Database.at(conn.home.ledger_db), conn.alias)

    def record(
        self, sightings: Iterable[Sighting], kinds: Collection[str], now: datetime, counted: Sequence[Counted] = ()
    ) -> None:
        """Write one look, whole or not at all.

        kinds: those that were read, so that what is missing of them is gone. counted: what the service tells of the
        time in which nobody looked.
        """
        found = {sighting.mark: sighting for sighting in sightings}
        with self._database.write() as db:
            known = _group(db.execute(_LATEST, (self._connection, now.timestamp())).fetchall())
            for mark, (latest,) in known.items():
                if mark not in found and mark.key.split(":")[0] in kinds and latest.state != GONE:
                    found[mark] = Sighting(mark.key, mark.created_at, 0, latest.price, GONE)
            for mark, sighting in found.items():
                latest_rates = known.get(mark, [])
                rates = advance(latest_rates, sighting, now)
                rates += prove(latest_rates, rates[0].begun, [each for each in counted if each.key == mark.key])
                db.executemany(_UPSERT, [(self._connection, *_to_row(mark, rate)) for rate in rates])

    def read(self, keys: Collection[str] | None = None, since: datetime = _LONG_AGO) -> Mapping[Mark, list[Rate]]:
        """Return the rates of each resource, oldest first. keys: of these alone; since: that held then or later."""
        wanted = None if keys is None else json.dumps(list(keys))
        return _group(self._database.rows(_SELECT, self._connection, wanted, wanted, since.timestamp()))

    def find_ends(self) -> tuple[datetime, datetime] | None:
        """Return from when on something is known, and when something was seen last."""
        sql = "select min(begun_at), max(seen_at) from rates where connection = ?"
        ends = [datetime.fromtimestamp(end, UTC) for end in self._database.rows(sql, self._connection)[0] if end]
        return (ends[0], ends[1]) if ends else None


def advance(rates: Sequence[Rate], sighting: Sighting, now: datetime) -> list[Rate]:
    """Return what a sighting adds or prolongs. rates: of the same resource, oldest first."""
    latest = next((rate for rate in reversed(rates) if rate.begun <= now), None)
    since = min(sighting.since or now, now)
    price = Price(sighting.price.per_hour, sighting.price.currency, factor=sighting.price.factor)  # as it is kept
    new = Rate(since, now, sighting.nodes, price, sighting.state)
    if latest is None:
        return [new]
    seen = min(latest.seen, now)
    if latest.nodes != sighting.nodes or not (now - seen <= UNSEEN or since <= seen):
        return [replace(new, begun=max(since, seen) if since > seen - UNSEEN else now)]
    longer = replace(latest, seen=max(latest.seen, now))
    changed = (latest.price, latest.state) != (new.price, new.state)
    return [longer, replace(new, begun=now)] if changed else [longer]


def prove(rates: Sequence[Rate], until: datetime, counted: Iterable[Counted]) -> list[Rate]:
    """Return what the service counted between the last look and `until`, where nobody looked that long."""
    if not rates or until - rates[-1].seen <= UNSEEN:
        return []
    seen, price = rates[-1].seen, rates[-1].price
    proven = [Rate(max(each.begun, seen), min(each.ended, until), each.nodes, price, "Counted") for each in counted]
    return [rate for rate in proven if rate.begun < rate.seen]


def to_spans(rates: Sequence[Rate], created_at: datetime, now: datetime) -> list[Span]:
    """Return all the time since a resource was made, without a hole; of unknown nodes where nobody looked."""
    rates = [rate for rate in rates if rate.begun <= now]
    spans: list[Span] = []
    if rates and created_at > _LONG_AGO:
        soon = rates[0].begun - created_at <= UNSEEN
        spans.append(Span(created_at, rates[0].begun, rates[0].nodes if soon else None, rates[0].price))
    for rate, follows in zip(rates, [*(rate.begun for rate in rates[1:]), now], strict=True):
        seen = min(rate.seen, follows)
        if rate.state == GONE or follows - seen <= UNSEEN:
            seen = follows
        spans += [Span(rate.begun, seen, rate.nodes, rate.price), Span(seen, follows, None, rate.price)]
    return [span for span in spans if span.ended and span.begun < span.ended]


def find_cost(rates: Sequence[Rate], sighting: Sighting, now: datetime) -> Cost:
    """Return what a resource came to until now, as a look at this moment would leave it."""
    added = {rate.begun: rate for rate in advance(rates, sighting, now)}
    whole = sorted(({rate.begun: rate for rate in rates} | added).values(), key=lambda rate: rate.begun)
    return cost_of(to_spans(whole, sighting.mark.created_at, now), now)


def _to_row(mark: Mark, rate: Rate) -> tuple[str | float | None, ...]:
    price, times = rate.price, (mark.created_at, rate.begun, rate.seen)
    told = (rate.nodes, price.per_hour, price.currency, price.factor, rate.state)
    return (mark.key, *(time.timestamp() for time in times), *told)


def _group(rows: Iterable[sqlite3.Row]) -> dict[Mark, list[Rate]]:
    grouped: dict[Mark, list[Rate]] = defaultdict(list)
    for row in rows:
        begun, seen = datetime.fromtimestamp(row["begun_at"], UTC), datetime.fromtimestamp(row["seen_at"], UTC)
        price = Price(row["per_hour"], row["currency"], factor=row["factor"])
        mark = Mark(row["key"], datetime.fromtimestamp(row["created_at"], UTC))
        grouped[mark].append(Rate(begun, seen, row["nodes"], price, row["state"]))
    return grouped
