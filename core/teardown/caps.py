"""Caps: what may bill at most, kept in tags so that all who use a workspace see the same. Starts and ends nothing.

Of a workspace `tunedeck.cap_hour` is held against what bills together before anything is started, and
`tunedeck.cap_day` warns. Of a run and an endpoint `tunedeck.cap` is held against what it came to. A tag that makes no
sense is told of, never obeyed; two currencies are told of, never converted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.catalog.compute import Compute, get_compute, list_computes, size_price
from core.catalog.prices import PRICE_UNKNOWN, Price, money
from core.errors import AccessDenied, BadInput, NotFound
from core.runs.index import list_runs
from core.runs.jobs import get_run, list_active
from core.runs.states import FINE_TUNE, QUEUED, Run
from core.serving.endpoints import find_endpoint
from core.teardown.costs import Cost, Span, cost_of, sum_costs
from core.teardown.due import Timed, Verdict, find_timed
from core.teardown.inventory import Item, list_billing
from core.teardown.rates import Mark, Rate, RateHistory, to_spans

SMALL_REST = 0.1  # of a cap: what is left of a run or an endpoint is not worth its end
_WORKSPACE_API, _TAGS_API = "2024-10-01", "2021-04-01"
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,4})?) ([A-Z]{3})")


@dataclass(frozen=True)
class Cap:
    """A highest amount."""

    amount: float
    currency: str = "USD"

    @property
    def words(self) -> str:
        """Return "$3.50" or "EUR 3.50"."""
        return money(self.amount, self.currency)

    @property
    def tag(self) -> str:
        """Return it as its tag says it: "3.5 USD"."""
        return f"{self.amount:.4f}".rstrip("0").rstrip(".") + f" {self.currency}"


def parse_cap(text: str) -> Cap | None:
    """Return the cap of a tag, None where there is none; raises BadInput for what is no amount above 0."""
    if not text:
        return None
    found = _AMOUNT.fullmatch(text)
    if found is None or not float(found[1]):
        raise BadInput(f"'{text[:40]}' is no cap.", 'Write an amount above 0 and a currency, as "3.50 USD".')
    return Cap(float(found[1]), found[2])


# The workspace's caps, and what is about to start ----------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """The caps of a workspace. problems: sentences on tags that make no sense, which are not obeyed."""

    hour: Cap | None = None
    day: Cap | None = None
    by: str = ""
    problems: tuple[str, ...] = ()


def parse_limits(found: Mapping[str, str]) -> Limits:
    """Return the caps in a workspace's tags."""
    problems: list[str] = []

    def parse(name: str) -> Cap | None:
        try:
            return parse_cap(found.get(name, ""))
        except BadInput as error:
            problems.append(f"The workspace's tag {name} is not obeyed: {error.message}")
            return None

    return Limits(parse(tags.CAP_HOUR), parse(tags.CAP_DAY), found.get(tags.CAP_BY, "")[:80], tuple(problems))


def read_limits(conn: Connection) -> Limits:
    """Return the caps of a workspace, which everybody sees who may read it. One request."""
    answer = conn.http("GET", conn.workspace_path, params={"api-version": _WORKSPACE_API})
    return parse_limits({str(name): str(value or "") for name, value in (answer.json().get("tags") or {}).items()})


def write_limits(conn: Connection, wanted: Mapping[str, str]) -> None:
    """Merge tags into the workspace's; nothing else of it is sent, and no other tag. Raises AccessDenied in our words.

    By the Tags API, which Tag Contributor may use without a right on the workspace: a PATCH of the workspace itself
    takes `workspaces/write`, and replaces what others tagged meanwhile.
    https://learn.microsoft.com/rest/api/resources/tags/update-at-scope
    """
    path = f"{conn.workspace_path}/providers/Microsoft.Resources/tags/default"
    body = {"operation": "Merge", "properties": {"tags": dict(wanted)}}
    try:
        conn.http(
            "PATCH", path, params={"api-version": _TAGS_API}, json=body, doing="change", what="the workspace's tags"
        )
    except AccessDenied as error:
        hint = "It takes Tag Contributor or Contributor on the workspace. What stands there goes on being held."
        raise AccessDenied("You may not change this workspace's tags; ask its owner.", hint, error.detail) from error


@dataclass(frozen=True)
class Wanted:
    """What is about to start. price: of an hour of all of it, as it is shown at the click."""

    price: Price
    at_once: Price | None = None
    """What of that begins with it, where that is less: a cluster's nodes come with the runs."""
    compute: str = ""
    """The cluster whose nodes it takes: those that stand idle there bill already."""
    nodes: int = 1
    replaces: str = ""
    """Key of what bills now in its place: "endpoint:kettle-1"."""


@dataclass(frozen=True)
class Answer:
    """Whether something may start: why not, a sentence; or what is not certain, which a person has to accept."""

    blocked: str = ""
    hint: str = ""
    unsure: str = ""


@dataclass(frozen=True)
class Standing:
    """What bills in a workspace now, or will for runs that were started, beside its caps."""

    limits: Limits = Limits()
    billing: tuple[Item, ...] = ()
    unread: tuple[str, ...] = ()
    clusters: Mapping[str, Compute] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    """Nodes that the runs under way take, by the name of their cluster."""

    def rates(self, wanted: Wanted | None = None) -> list[Price]:
        """Return the price per hour of each thing, with what is about to start among them."""
        replaced = wanted.replaces if wanted else ""
        found = [
            Price(item.per_hour, item.currency)
            for item in self.billing
            if item.name not in self.clusters and not (replaced and replaced in (item.key, item.parent))
        ]
        for name, cluster in self.clusters.items():
            more = wanted.nodes if wanted and wanted.compute == name else 0
            needed = min(cluster.max_nodes, self.asked.get(name, 0) + more)
            nodes = max(cluster.min_nodes, cluster.nodes or 0, needed)
            found += [cluster.price.times(nodes)] if nodes else []
        return found + ([wanted.at_once or wanted.price] if wanted and not wanted.compute else [])

    def check(self, wanted: Wanted) -> Answer:
        """Hold what is about to start against the cap per hour."""
        cap = self.limits.hour
        if cap is None:
            return Answer(unsure=" ".join(self.limits.problems))
        rates = self.rates(wanted)
        now, then = (_sum(prices, cap.currency) for prices in (self.rates(), rates))
        if then > max(cap.amount, now) + 1e-9:
            dearest = max(self.billing, key=lambda item: item.per_hour or 0.0, default=None)
            delete = f", or delete {dearest.name} ({dearest.hourly_words})" if dearest and dearest.per_hour else ""
            said = f"With this, {Cap(then, cap.currency).words}/h would bill: more than this workspace's cap"
            already = f"{Cap(now, cap.currency).words}/h" if now else "nothing"
            return Answer(
                f"{said} of {cap.words}/h, which all who use it see. Now it is {already}.", f"Raise the cap{delete}."
            )
        doubts = [f"the {kind} cannot be read" for kind in self.unread]
        doubts += ["not every price is known"] if any(each.per_hour is None for each in rates) else []
        others = {each.currency for each in rates if each.per_hour} - {cap.currency}
        doubts += [f"not all prices are in {cap.currency}, and nothing is converted"] if others else []
        doubt = f"Whether the cap of {cap.words}/h is kept cannot be told: {', '.join(doubts)}."
        return Answer(unsure=doubt if doubts else "")


def _sum(prices: Iterable[Price], currency: str) -> float:
    return sum(each.per_hour or 0.0 for each in prices if each.currency == currency)


def read_standing(conn: Connection) -> Standing:
    """Return what bills beside the workspace's caps; without a cap per hour nothing but the caps is read."""
    limits = read_limits(conn)
    if limits.hour is None:
        return Standing(limits)
    asked: dict[str, int] = {}
    runs = list_runs(conn)
    for run in runs[: runs.active]:
        asked[run.compute] = asked.get(run.compute, 0) + nodes_of(run)
    found = list_billing(conn)
    clusters = {each.name: each for each in list_computes(conn) if each.kind == "cluster"}
    return Standing(limits, found.billing, found.unread, clusters, asked)


def nodes_of(run: Run) -> int:
    """Return on how many nodes a run trains."""
    return int(run.parameters.get("num_nodes_finetune") or 1)


def check_agreed(agreed: str, price: Price) -> str:
    """Return why something may not start at a price that is not what was shown at the click, "" where it may.

    agreed: as a cap's tag; "" where nobody was shown a price, "unknown" where that was accepted.
    """
    found = _AMOUNT.fullmatch(agreed)
    if found is None or price.per_hour is None:
        return ""
    amount, currency = float(found[1]), found[2]
    if price.currency == currency and price.per_hour <= amount + 1e-4:
        return ""
    now, then = money(price.per_hour, price.currency), money(amount, currency)
    return f"An hour of it costs {now} now; {then} was agreed to at the click."


def to_agreed(price: Price) -> str:
    """Return what a click on this price agrees to."""
    if price.per_hour is None:
        return PRICE_UNKNOWN
    return Cap(price.per_hour, price.currency).tag


def read_day(conn: Connection) -> Cost:
    """Return what the workspace came to since midnight UTC, as far as this home saw it."""
    return cost_of_day(RateHistory.of(conn).read(since=_midnight(conn.now)), conn.now)


def cost_of_day(history: Mapping[Mark, Sequence[Rate]], now: datetime) -> Cost:
    """Return what each thing came to since midnight UTC, what is gone by now among them."""

    def cost(mark: Mark, rates: Sequence[Rate]) -> Cost:
        spans = (span.within(_midnight(now), now) for span in to_spans(rates, mark.created_at, now))
        return cost_of(filter(None, spans), now)

    return sum_costs(cost(*each) for each in history.items())


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


# What a run or an endpoint may cost ------------------------------------------------------------------------------


class Reached(StrEnum):
    """What the cap of a run or an endpoint comes to, a sentence about its `cost` and its `cap`."""

    NOT_YET = "It came to about {cost} of its cap of {cap}."
    UNKNOWN = "Its cap of {cap} is not held: what it costs is not known."
    WARNS = "Its cap of {cap} is reached: it came to about {cost}."
    GOES_ON = "Its cap of {cap} is reached: it came to about {cost}. It goes on: the rest is less than a tenth of that."
    ENDS = "Its cap of {cap} is reached: it came to about {cost}. So it is ended, as was chosen."

    @property
    def reached(self) -> bool:
        """Whether it came to its cap."""
        return self in {Reached.WARNS, Reached.GOES_ON, Reached.ENDS}


def judge(cap: Cap, cost: Cost, rest: float | None, *, ends: bool) -> Reached:
    """Hold what something came to against its cap. rest: what is left of it costs; None where nobody knows.

    ends: whether its end was chosen. A part that is known and reaches the cap is enough to warn and to end.
    """
    if set(cost.amounts) - {cap.currency} or (cost.unknown and cost.amounts.get(cap.currency, 0.0) < cap.amount):
        return Reached.UNKNOWN
    if cost.amounts.get(cap.currency, 0.0) < cap.amount:
        return Reached.NOT_YET
    if not ends:
        return Reached.WARNS
    return Reached.GOES_ON if rest is not None and rest < SMALL_REST * cap.amount else Reached.ENDS


@dataclass(frozen=True)
class Capped:
    """A run or an endpoint with a cap, and what it came to. problem: why its tags are not obeyed, a sentence."""

    kind: str
    name: str
    cap: Cap | None
    ends: bool = False
    cost: Cost = field(default=Cost())
    rest: float | None = None
    problem: str = ""

    @property
    def reached(self) -> Reached:
        """What its cap comes to."""
        return judge(self.cap, self.cost, self.rest, ends=self.ends) if self.cap else Reached.NOT_YET

    @property
    def words(self) -> str:
        """Return what its cap comes to, in a sentence or two."""
        said = self.reached.format(cost=self.cost.words, cap=self.cap.words) if self.cap else ""
        return " ".join(filter(None, (said, self.problem)))


def parse_capped(kind: str, name: str, found: Mapping[str, str], mark: str) -> Capped | None:
    """Return the cap in the tags of a run or an endpoint, None without one. mark: what its end has to stand beside."""
    then = found.get(tags.CAP_THEN, "")
    try:
        cap = parse_cap(found.get(tags.CAP, ""))
    except BadInput as error:
        return Capped(kind, name, None, problem=f"Its cap is not obeyed: {error.message}")
    if cap is None:
        return None
    ends = bool(mark) and then == f"{tags.STOP}{mark}"
    copied = "" if ends or not then.startswith(tags.STOP) else "Its end was chosen for another: it only warns."
    return Capped(kind, name, cap, ends, problem=copied)


def list_capped(conn: Connection, timed: Iterable[Timed]) -> list[tuple[Timed, Capped]]:
    """Return the runs under way and the endpoints with a cap. timed: as of `list_timed`; a run is given as one, too."""
    capped = [(each, find_capped_endpoint(conn, each)) for each in timed if each.kind == "endpoint"]
    for active in list_active(conn, tags.CAP):
        run = get_run(conn, active.name)
        as_timed = Timed("run", run.name, run.name, run.created_at, "", run.state_word, conn.now, run.tags)
        capped.append((as_timed, find_capped_run(conn, run)))
    return [(each, found) for each, found in capped if found]


def find_capped(conn: Connection, kind: str, name: str) -> Capped | None:
    """Return what a "run" or an "endpoint" came to of its cap; None without one, or once it is gone."""
    if kind == "run":
        return find_capped_run(conn, get_run(conn, name))
    timed = find_timed(conn, kind, name)
    return find_capped_endpoint(conn, timed) if timed else None


def find_capped_endpoint(conn: Connection, timed: Timed) -> Capped | None:
    """Return what a capped endpoint came to; None without a cap, or once it is gone."""
    found = parse_capped("endpoint", timed.name, timed.tags, timed.mark)
    endpoint = find_endpoint(conn, timed.name) if found and found.cap else None
    if found is None or (endpoint is None and found.cap):
        return None
    spans = [
        Span(begun, None, each.instances, size_price(conn, each.size))
        for each in (endpoint.deployments if endpoint else ())
        if (begun := each.created_at or timed.created_at)
    ]
    rest = None
    if timed.verdict is Verdict.LATER and timed.delete_at:
        rest = cost_of([replace(span, begun=timed.now) for span in spans], timed.delete_at).amount
    return replace(found, cost=cost_of(spans, timed.now), rest=rest)


def find_capped_run(conn: Connection, run: Run) -> Capped | None:
    """Return what a capped run came to; None without a cap. run: with its stages."""
    found = parse_capped("run", run.name, run.tags, run.name)
    if found is None or found.cap is None:
        return found
    try:
        price = get_compute(conn, run.compute).price
    except NotFound:
        price = Price(None)
    return replace(found, **measure_run(run, price, conn.now))


def measure_run(run: Run, price: Price, now: datetime) -> dict[str, Any]:
    """Return the `cost` and the `rest` of a run: one node since it got one, the others while it trains.

    The rest of training is what its progress says. Once it has trained, what is left is taken to last as long as that
    already does: mostly minutes, and yet bounded.
    """
    begun = next((stage.ended for stage in run.stages if stage.name == QUEUED), None)
    training = next((stage for stage in run.stages if stage.name == FINE_TUNE and stage.started), None)
    spans = [Span(begun, run.ended_at, 1, price)] if begun else []
    if training and training.started:
        spans.append(Span(training.started, training.ended or run.ended_at, nodes_of(run) - 1, price))
    rest = None
    if training and training.ended and price.per_hour is not None:
        rest = price.per_hour * (now - training.ended).total_seconds() / 3600
    elif run.progress and run.progress.eta_s is not None and price.per_hour is not None:
        rest = price.per_hour * nodes_of(run) * run.progress.eta_s / 3600
    return {"cost": cost_of(spans, now), "rest": rest}
