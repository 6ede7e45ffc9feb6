"""Looks at what bills now, for the history of rates, and asks Azure Monitor what it counted while nobody looked."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from core.azureml.connection import Connection
from core.azureml.monitor import read_series
from core.errors import TunedeckError
from core.teardown.inventory import COUNTED, Inventory, list_billing, sighting_of
from core.teardown.rates import UNSEEN, Counted, RateHistory

METRICS = ("Active Nodes", "Idle Nodes")  # those that prepare or leave bill too, and are in neither
_MINUTES = 5
_MOST = timedelta(days=31)


def look_at_rates(conn: Connection) -> Inventory:
    """Write down what bills now, and return it; raises where the workspace does not tell."""
    found, history = list_billing(conn), RateHistory.of(conn)
    sightings = [sighting_of(item) for item in found.items if item.kind in COUNTED]
    kinds = [kind for kind, reading in COUNTED.items() if reading not in found.unread]
    ends, counted = history.find_ends(), list[Counted]()
    if ends and conn.now - ends[1] > UNSEEN and conn.costs_money:
        since = max(ends[1], conn.now - _MOST)
        for key in (each.key for each in sightings if each.key.startswith("compute:")):
            counted += _read_counted(conn, key, since)
    history.record(sightings, kinds, conn.now, counted)
    return found


def _read_counted(conn: Connection, key: str, since: datetime) -> Iterator[Counted]:
    """Yield the nodes that a cluster reported; a count of 0 proves nothing: it is also what stands where none came."""
    nodes = Counter[datetime]()
    try:
        for metric in METRICS:
            split = f"ClusterName eq '{key.partition(':')[2]}'"
            for points in read_series(conn, "", metric, since, conn.now, minutes=_MINUTES, split=split):
                nodes.update(dict(points))
    except TunedeckError:
        return  # it stays unknown
    step = timedelta(minutes=_MINUTES)
    points = sorted((at, round(count)) for at, count in nodes.items())
    for (count, _), alike in itertools.groupby(
        enumerate(points), lambda each: (each[1][1], each[1][0] - each[0] * step)
    ):
        times = [at for _, (at, _) in alike]
        if count:
            yield Counted(key, times[0], times[-1] + step, count)
