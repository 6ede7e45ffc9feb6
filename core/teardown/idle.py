"""What had nothing to do for hours, and what an hour of it costs: endpoints without a request, clusters with nodes.

Idle is only what was watched for the whole time: each deployment reported its memory, each cluster its idle nodes, and
nothing else was counted beside that. Everything else is unknown, and says why. Of compute instances nothing is counted.

The tags `tunedeck.idle_hours` and `tunedeck.idle_then` choose that it ends by itself; as a delete-at they are good only
beside the mark of the resource that they were written for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.monitor import Points, find_watched_since, read_series
from core.catalog.compute import get_compute, list_computes, size_price
from core.catalog.prices import Price, money, total_per_hour
from core.errors import TunedeckError
from core.serving.endpoints import get_endpoint
from core.serving.request_counts import read_watched_since
from core.teardown.due import Timed, find_timed, list_timed
from core.words import duration

DEFAULT_HOURS = 4  # longer than a lunch or a meeting, and the same working day
MOST_HOURS = 168
THEN = {"endpoint": "delete", "compute": "zero"}
"""What is done to each kind, as its tag says it: deleted, or let go to zero nodes."""
_LONGEST = timedelta(hours=24)  # looked back at least so far, so that "for 6 h" is known where 4 were asked for
_MINUTES = 5  # of a point


class Use(StrEnum):
    """Whether something has work."""

    IDLE = "idle"
    BUSY = "in use"
    YOUNG = "made too lately"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a resource. hours: None for nothing."""

    hours: int | None = None
    problem: str = ""
    """Why what stands in its tags is not obeyed."""


@dataclass(frozen=True)
class Idle:
    """What is known of the use of one endpoint or cluster."""

    timed: Timed
    use: Use
    since: datetime | None = None
    """From when on it is known to be idle, or when it was last in use."""
    why: str = ""
    price: Price = field(default=Price(None))
    """What ending it saves an hour."""
    nodes: int = 0
    """How many nodes a cluster keeps."""

    @property
    def choice(self) -> Choice:
        """What was chosen to happen by itself."""
        return read_choice(self.timed)

    @property
    def key(self) -> str:
        """As the inventory has it."""
        return f"{self.timed.kind}:{self.timed.name}"

    @property
    def words(self) -> str:
        """ "kettle-1 had no request for 6 h. Deleting it saves $3.67/h, $88.08 a day."; why where it is not known."""
        if self.use is not Use.IDLE or self.since is None:
            return f"{self.timed.name}: {self.why}"
        idle = self.timed.now - self.since
        how_long = duration(idle.total_seconds() // 60 * 60)
        nodes = f" and keeps {self.nodes} node{'s' if self.nodes > 1 else ''}"
        had = f"had no request for {how_long}" if not self.nodes else f"had no job for {how_long}{nodes}"
        return f"{self.timed.name} {had}. {'Zero minimum nodes' if self.nodes else 'Deleting it'} {self._saving}."

    @property
    def _saving(self) -> str:
        if self.price.per_hour is None:
            return "ends what it bills; the price is unknown"
        if self.price.is_free:
            return "frees what it holds of this machine"
        return f"saves {self.price.words}, {money(self.price.per_hour * 24, self.price.currency)} a day"


def read_choice(timed: Timed) -> Choice:
    """Return what the tags of a resource choose; a copied choice is told of, never obeyed."""
    text, then = timed.tags.get(tags.IDLE_HOURS, ""), timed.tags.get(tags.IDLE_THEN, "")
    if not text:
        return Choice()
    if timed.tags.get(tags.IDLE_OF, "") != timed.mark or not timed.mark:
        return Choice(problem="its choice for idle hours was written for another resource.")
    if not (text.isdecimal() and 1 <= int(text) <= MOST_HOURS) or then != THEN[timed.kind]:
        return Choice(problem=f"its choice for idle hours, '{text}, {then}', is none.")
    return Choice(int(text))


def choice_tags(timed: Timed, hours: int | None) -> dict[str, str]:
    """Return the tags that choose an end after so many idle hours; None takes the choice back."""
    if not hours:
        return dict.fromkeys((tags.IDLE_HOURS, tags.IDLE_THEN, tags.IDLE_OF), "")
    return {tags.IDLE_HOURS: str(hours), tags.IDLE_THEN: THEN[timed.kind], tags.IDLE_OF: timed.mark}


def list_idle(conn: Connection, hours: int = DEFAULT_HOURS) -> list[Idle]:
    """Return the use of the endpoints with deployments and of the clusters that keep nodes, idle ones first.

    A choice of its own comes before `hours`. What cannot be counted is unknown; that is raised for none of them. Each
    is read by its name, for Azure's lists show for a while what was before a change.
    """

    def look(each: Timed) -> Idle | None:
        try:
            now = find_timed(conn, each.kind, each.name)
        except TunedeckError as error:
            return Idle(each, Use.UNKNOWN, why=f"{error.message} {error.hint}")
        return find_idle(conn, now, read_choice(now).hours or hours) if now else None

    resources = list_timed(conn)
    nodes = {each.name for each in list_computes(conn) if each.kind == "cluster" and each.min_nodes}
    asked = [each for each in resources if each.kind == "endpoint" or each.name in nodes]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look, asked))
    order = list(Use)
    return sorted(filter(None, found), key=lambda each: (order.index(each.use), -(each.price.per_hour or 0.0)))


def find_chosen(conn: Connection, timed: Timed) -> Idle | None:
    """Return the use of what was chosen to end when idle; None for the rest. A copied choice is unknown."""
    choice = read_choice(timed)
    if choice.problem:
        return Idle(timed, Use.UNKNOWN, why=choice.problem)
    return find_idle(conn, timed, choice.hours) if choice.hours else None


def find_idle(conn: Connection, timed: Timed, hours: int) -> Idle | None:
    """Return the use of one endpoint or compute; None for what keeps nothing that bills."""
    now = timed.now.replace(second=0, microsecond=0)
    since, until, least = (
        now - max(_LONGEST, timedelta(hours=hours)),
        now + timedelta(minutes=1),
        now - timedelta(hours=hours),
    )
    try:
        read = _read_endpoint if timed.kind == "endpoint" else _read_cluster
        return read(conn, timed, since, until, least)
    except TunedeckError as error:
        return Idle(timed, Use.UNKNOWN, why=f"{error.message} {error.hint}")


def _read_endpoint(conn: Connection, timed: Timed, since: datetime, until: datetime, least: datetime) -> Idle | None:
    endpoint = get_endpoint(conn, timed.name)
    if not endpoint.deployments:
        return None
    price, unknown = total_per_hour(
        size_price(conn, each.size).times(each.instances) if each.size else Price(None) for each in endpoint.deployments
    )
    idle = Idle(timed, Use.UNKNOWN, price=Price(None) if unknown else price)
    made = [each.created_at for each in endpoint.deployments if each.created_at]
    if young := _find_young([*made, timed.created_at], least):
        return replace(idle, use=Use.YOUNG, why=young)
    path = f"/onlineEndpoints/{timed.name}"
    series = read_series(conn, path, "RequestsPerMinute", since, until, minutes=_MINUTES)
    if not series:
        return replace(idle, why="nothing has ever been counted, so it is not known whether requests are.")
    watched = {
        f"deployment '{each.name}'": read_watched_since(conn, timed.name, each.name, since, until, minutes=_MINUTES)
        for each in endpoint.deployments
    }
    return _judge(idle, [each for points in series for each in points], watched, since, least)


def _read_cluster(conn: Connection, timed: Timed, since: datetime, until: datetime, least: datetime) -> Idle | None:
    compute = get_compute(conn, timed.name)
    if compute.kind != "cluster" or not compute.min_nodes:
        return None
    idle = Idle(timed, Use.UNKNOWN, price=compute.price.times(compute.min_nodes), nodes=compute.min_nodes)
    if compute.busy_nodes:
        return replace(idle, use=Use.BUSY, since=timed.now, why=f"{compute.busy_nodes} nodes are at work.")
    if young := _find_young([timed.created_at], least):
        return replace(idle, use=Use.YOUNG, why=young)
    named = f"ClusterName eq '{timed.name}'"
    active, waiting = (
        [each for points in read_series(conn, "", name, since, until, minutes=_MINUTES, split=named) for each in points]
        for name in ("Active Nodes", "Idle Nodes")
    )
    return _judge(
        idle, active, {"its nodes": find_watched_since(waiting, since, until, minutes=_MINUTES)}, since, least
    )


def _find_young(made: Sequence[datetime | None], least: datetime) -> str:
    newest = max((at for at in made if at), default=None)
    return f"made only at {newest:%H:%M} UTC." if newest and newest > least else ""


def _judge(
    idle: Idle, counted: Points, watched: Mapping[str, datetime | None], since: datetime, least: datetime
) -> Idle:
    """Hold what was counted against the time in which it would have been. least: when idle has to have begun."""
    ended = [at + timedelta(minutes=_MINUTES) for at, value in counted if value > 0]
    if ended and max(ended) > least:
        return replace(idle, use=Use.BUSY, since=max(ended), why=f"last in use at {max(ended):%H:%M} UTC.")
    for what, start in watched.items():
        if start is None:
            return replace(idle, why=f"{what} reports nothing now, so whether it was idle is not known.")
        if start > least:
            return replace(
                idle,
                why=f"{what} reported nothing before {start:%d %b %H:%M} UTC, so whether it was idle is not known.",
            )
    return replace(idle, use=Use.IDLE, since=max([since, *ended, *filter(None, watched.values())]))
