"""Everything that exists in the workspace, with what it bills and what it occupies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.azureml.datastore import path_of, sum_bytes
from core.azureml.owners import Names, is_mine, read_made, read_names
from core.catalog.compute import Compute, get_compute, list_computes, size_price
from core.catalog.prices import PRICE_UNKNOWN, Price
from core.errors import AccessDenied, NotFound, SignInFailed, TunedeckError, Unreachable
from core.runs.index import list_runs
from core.runs.running import list_running
from core.serving.endpoints import DeploymentView, EndpointView, get_endpoint, list_endpoints
from core.serving.registered_models import list_registered_models
from core.teardown.costs import Cost, Span, cost_of, sum_costs
from core.teardown.due import as_timed
from core.teardown.rates import Mark, Rate, RateHistory, Sighting, find_cost
from core.words import plural

COUNTED = {"deployment": "endpoints", "compute": "computes"}
"""The kinds that bill by nodes, each with the reading that lists it."""
ENDED_LISTED = 50  # runs that have ended whose files are listed, the newest
NOT_COUNTED = (
    "Not counted here: storage and what was softly deleted in it, the container registry, load balancers, disks of "
    "stopped instances, private endpoints and logs."
)
_GOES_ON = {True: "; its disk, address and load balancer go on billing", False: "; its load balancer goes on billing"}
_NOBODY = Names()


@dataclass(frozen=True)
class Item:
    """One thing that exists."""

    kind: str
    """ "endpoint", "deployment", "compute", "model", "data" or "run"."""
    name: str
    """A deployment's is "ENDPOINT/NAME"."""
    version: str = ""
    state: str = ""
    price: Price | None = None
    per_hour: float | None = 0.0
    """What it bills now, None for an unknown price. An endpoint's is the sum of its deployments: it bills nothing."""
    since: datetime | None = None
    cost: Cost = field(default=Cost())
    """What it came to until now, by what was seen of it and what the service tells."""
    delete_at: datetime | None = None
    """When it deletes itself, where that holds."""
    delete_at_ignored: str = ""
    """Why a delete-at that stands there is not obeyed."""
    parent: str = ""
    """Key of the endpoint that a deployment belongs to, or of the compute that a job runs on."""
    owner: str = ""
    """Who made it, as the service calls them; "" where it does not say."""
    mine: bool = False
    """Whether the identity that is signed in made it, through Tunedeck, from whichever home."""
    run: str = ""
    """The run that it comes from or is."""
    created_at: datetime | None = None
    nodes: int | None = None
    """How many bill: of a cluster or its instances; None where that is not told."""
    steady_since: datetime | None = None
    """From when on it has as many, by the service's word; None where that is not told."""
    stamp: str = ""
    """What is another after each change: "changed 18:22:05; state Succeeded; traffic demo 100"."""
    traffic: int = 0
    """Percent that a deployment gets."""
    compute: str = ""
    """What a compute is: "cluster" or "instance"."""
    standing: bool = False
    """Whether it is a cost that stays while the thing is stopped or deleted."""
    note: str = ""
    bytes: int | None = None
    """What it occupies, None where unknown."""
    path: str = ""
    parts: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()
    """Titles of the operations that make or change it now."""

    @property
    def key(self) -> str:
        """Identity within the workspace: "endpoint:phi4-support-3f2", "model:phi4-support:3"."""
        return ":".join(filter(None, (self.kind, self.name, self.version)))

    @property
    def bills(self) -> bool:
        """Whether it costs while it stands, a price of 0 or an unknown one included."""
        if self.kind in ("endpoint", "deployment"):
            return self.nodes != 0
        return self.kind in ("compute", "run") and self.per_hour != 0.0

    @property
    def short_name(self) -> str:
        """Its name; a deployment's without its endpoint's."""
        return self.name.rpartition("/")[2]

    @property
    def label(self) -> str:
        """What it is called in a sentence: "cluster gpu-1", "model phi4-support v3", "the files of run kettle-7"."""
        noun = {"compute": self.compute or "compute", "run": "the files of run"}.get(self.kind, self.kind)
        return f"{noun} {self.name}{f' v{self.version}' if self.version else ''}"

    @property
    def whose(self) -> str:
        """ "yours", "by ana@contoso.com" or "owner unknown"."""
        return "yours" if self.mine else f"by {self.owner}" if self.owner else "owner unknown"

    @property
    def currency(self) -> str:
        """The currency of its price."""
        return self.price.currency if self.price else "USD"

    @property
    def hourly_words(self) -> str:
        """ "$3.67/h", "$0.00/h" or "price unknown"; "free" for what never bills."""
        if not self.bills and self.kind != "compute":
            return "free"
        return replace(self.price or Price(None), per_hour=self.per_hour).words


@dataclass(frozen=True)
class Inventory:
    """Everything that exists. Sums are of known prices, by currency; `unknown` counts what bills at another."""

    items: tuple[Item, ...] = ()
    read_at: datetime | None = None
    problems: tuple[str, ...] = ()
    """Sentences on what could not be read."""
    unread: tuple[str, ...] = ()
    """Which of "endpoints" and "computes" are among that, so that what they bill is not known."""

    @property
    def amounts(self) -> tuple[Price, ...]:
        """What an hour comes to, by currency; no known price at all is none."""
        amounts: dict[str, float] = {}
        for item in self.billing:
            if item.per_hour:
                amounts[item.currency] = amounts.get(item.currency, 0.0) + item.per_hour
        return tuple(Price(amounts[currency], currency) for currency in sorted(amounts))

    @property
    def currency(self) -> str:
        """The currency of the first amount."""
        return next((amount.currency for amount in self.amounts), "USD")

    @property
    def per_hour(self) -> float:
        """The first amount."""
        return next((amount.per_hour or 0.0 for amount in self.amounts), 0.0)

    @property
    def unknown(self) -> int:
        """How many things bill at a price that is unknown; a kind that is not read is one."""
        return sum(item.per_hour is None for item in self.billing) + len(self.unread)

    @property
    def cost(self) -> Cost:
        """What the things that bill came to until now."""
        return sum_costs(item.cost for item in self.billing)

    @property
    def words(self) -> str:
        """What it bills: "$3.67/h", "$3.67/h + EUR 2.00/h + 1 unknown" or "price unknown"."""
        known = [amount.words for amount in self.amounts]
        if not self.unknown:
            return " + ".join(known) or Price(0.0, next((item.currency for item in self.billing), "USD")).words
        return " + ".join([*known, f"{self.unknown} unknown"]) if known else PRICE_UNKNOWN

    @property
    def billing(self) -> tuple[Item, ...]:
        """What bills now, failed things first; nothing twice: deployments stand for their endpoint, and a cluster for
        the jobs on it.
        """
        keys = {item.key for item in self.items}
        whole = {item.parent for item in self.items if item.kind == "deployment"}
        whole |= {item.key for item in self.items if item.kind == "run" and item.parent in keys}
        found = [item for item in self.items if item.bills and item.key not in whole]
        return tuple(sorted(found, key=lambda item: item.state != "Failed"))

    def list_jobs_on(self, compute: Item) -> tuple[Item, ...]:
        """Return what runs on a cluster or an instance, whose nodes are counted there."""
        return tuple(item for item in self.items if item.kind == "run" and item.bills and item.parent == compute.key)

    @property
    def standing(self) -> tuple[Item, ...]:
        """What rests and still costs something that no price is known for."""
        return tuple(item for item in self.items if item.standing)

    def find(self, key: str) -> Item | None:
        """Return the item with this key, or None."""
        return next((item for item in self.items if item.key == key), None)


def list_inventory(conn: Connection, with_files: bool = True) -> Inventory:
    """Return everything that exists in the workspace; `with_files` also sums the bytes of models, data and outputs.

    What may not be read is named in `problems` and the rest is still shown. Raises where the workspace does not answer,
    or fails on what bills: an empty list would say that nothing does. Many requests: read it through a Reader.
    """
    found = _read(conn, {**_BILLING, **_JOBS, **_STANDING})
    running = {item.key: item for item in found.items if item.kind == "run" and item.bills}
    known = [
        replace(running.pop(item.key), path=item.path, note=item.note)
        if item.kind == "run" and not item.bills and item.key in running
        else item
        for item in found.items
        if not (item.kind == "run" and item.bills)
    ]
    found = replace(found, items=(*known, *running.values()))
    if not with_files:
        return found
    problems = list(found.problems)
    items = _with_bytes(conn, list(found.items), problems)
    return replace(found, items=tuple(items), problems=tuple(dict.fromkeys(problems)))


def list_billing(conn: Connection) -> Inventory:
    """Return only endpoints, computes and what runs, in few requests; raises as `list_inventory` does."""
    return _read(conn, {**_BILLING, **_JOBS})


def _read(conn: Connection, readings: Mapping[str, Callable[[Connection], list[Item]]]) -> Inventory:
    items: list[Item] = []
    problems: list[str] = []
    unread: list[str] = []
    with ThreadPoolExecutor(len(readings), "inventory") as kinds:
        begun = {kind: kinds.submit(reading, conn) for kind, reading in readings.items()}
    for kind, reading in begun.items():
        try:
            items += reading.result()
        except TunedeckError as error:
            bills = kind in _BILLING
            if isinstance(error, Unreachable | SignInFailed) or (bills and not isinstance(error, AccessDenied)):
                raise
            problems.append(error.message)
            unread += [kind] if bills else []
    items = with_costs(_with_rates(items, conn.now), RateHistory.of(conn).read([item.key for item in items]), conn.now)
    return Inventory(tuple(items), datetime.now(UTC), tuple(dict.fromkeys(problems)), tuple(unread))


def read_one(conn: Connection, kind: str, name: str, names: Names = _NOBODY) -> Inventory:
    """Return one endpoint with its deployments, or one compute, as it is now: a list may be some seconds behind.

    kind: "endpoint", "deployment" for the endpoint of "ENDPOINT/NAME", or "compute". Empty where it is gone. Prices are
    left out, and whether it is mine where no names are given.
    """
    try:
        if kind == "compute":
            return Inventory((item_of_compute(get_compute(conn, name), names),))
        endpoint = get_endpoint(conn, name.partition("/")[0])
    except NotFound:
        return Inventory()
    return Inventory(tuple(items_of_endpoint(endpoint, [Price(None)] * len(endpoint.deployments), names)))


def _endpoints(conn: Connection) -> list[Item]:
    found = list_endpoints(conn)
    names = read_names(conn)
    items: list[Item] = []
    sizes = sorted({each.size for endpoint in found for each in endpoint.deployments if each.size})
    [known] = abreast(conn, [lambda: {size: size_price(conn, size) for size in sizes}])
    for endpoint in found:
        prices = [known.get(each.size, Price(None)) for each in endpoint.deployments]
        items += items_of_endpoint(endpoint, prices, names)
    return items


def items_of_endpoint(endpoint: EndpointView, prices: Sequence[Price], names: Names = _NOBODY) -> list[Item]:
    """Return an endpoint and then its deployments. prices: of one instance of each of these, in their order.

    A deployment bills from the moment it is asked for until it is deleted, a failed one too.
    """
    verdict = as_timed("endpoint", endpoint).verdict
    whole = Item(
        kind="endpoint",
        name=endpoint.name,
        state=endpoint.state_word,
        since=endpoint.created_at,
        delete_at=None if verdict.ignored else endpoint.delete_at,
        delete_at_ignored=str(verdict) if verdict.ignored else "",
        **_made(names, endpoint),
        run=endpoint.run,
        stamp=_stamp(
            endpoint.changed_at,
            delete_at=_say_when(endpoint.delete_at),
            state=endpoint.state,
            traffic=", ".join(f"{name} {share}" for name, share in sorted(endpoint.traffic.items()) if share) or "none",
        ),
        parts=(*(deployment.name for deployment in endpoint.deployments), *filter(None, [endpoint.model])),
    )
    parts = [
        _item_of_deployment(whole, deployment, price, names)
        for deployment, price in zip(endpoint.deployments, prices, strict=True)
    ]
    currencies = {price.currency for price in prices}
    per_hour = _sum([part.per_hour for part in parts]) if len(currencies) <= 1 else None
    whole = replace(
        whole,
        price=Price(per_hour, next(iter(currencies), "USD"), prices[0].source if prices else "unknown"),
        per_hour=per_hour,
        since=min((part.since for part in parts if part.since), default=whole.since),
        nodes=sum(part.nodes or 0 for part in parts),
        note="" if parts else "Without a deployment it bills nothing.",
    )
    return [whole, *parts]


def _item_of_deployment(whole: Item, deployment: DeploymentView, price: Price, names: Names) -> Item:
    begun, nodes = deployment.created_at or whole.created_at, deployment.instances
    return Item(
        kind="deployment",
        name=f"{whole.name}/{deployment.name}",
        state=str(deployment.state),
        price=price,
        per_hour=price.times(nodes).per_hour,
        since=begun,
        delete_at=whole.delete_at,
        delete_at_ignored=whole.delete_at_ignored,
        parent=whole.key,
        **_made(names, deployment),
        run=deployment.tags.get(tags.RUN, whole.run),
        nodes=nodes,
        steady_since=deployment.changed_at,
        stamp=_stamp(deployment.changed_at, state=deployment.state, instances=nodes),
        traffic=deployment.traffic,
        note=f"{plural(nodes, 'instance')} of {deployment.size or 'an unknown size'}",
    )


def _computes(conn: Connection) -> list[Item]:
    [found] = abreast(conn, [lambda: list_computes(conn)])
    names = read_names(conn)
    return [item_of_compute(compute, names, conn.costs_money) for compute in found]


def item_of_compute(compute: Compute, names: Names = _NOBODY, costs_money: bool = True) -> Item:
    """Return what a compute bills, or what of it goes on at rest."""
    instance, timed = compute.kind == "instance", as_timed("compute", compute)
    nodes = (compute.nodes or 0) if instance else max(compute.min_nodes, compute.nodes or 0)
    at_rest = costs_money and nodes == 0
    return Item(
        kind="compute",
        name=compute.name,
        state=compute.state,
        price=compute.price,
        per_hour=0.0 if nodes == 0 else compute.price.times(nodes).per_hour,
        since=compute.steady_since if nodes else None,
        delete_at=None if timed.verdict.ignored else timed.delete_at,
        delete_at_ignored=str(timed.verdict) if timed.verdict.ignored else "",
        **_made(names, compute),
        nodes=nodes,
        steady_since=compute.steady_since,
        stamp=_stamp(
            compute.changed_at,
            delete_at=_say_when(timed.delete_at),
            state=compute.state,
            scaling=compute.allocation,
            minimum=compute.min_nodes,
            nodes=nodes,
        ),
        compute=compute.kind,
        standing=at_rest,
        note=f"{nodes} of {compute.max_nodes} nodes, {compute.size}{_GOES_ON[instance] if at_rest else ''}",
    )


def _models(conn: Connection) -> list[Item]:
    found = list_registered_models(conn)
    names = read_names(conn)
    return [
        Item(
            "model",
            model.name,
            model.version,
            since=model.created_at,
            **_made(names, model),
            run=model.run,
            stamp=_stamp(model.changed_at),
            path=path_of(conn, model.path) or "",
            note="archive only",
        )
        for model in found
        if not model.archived
    ]


def _data(conn: Connection) -> list[Item]:
    data = conn.workspace.data
    [listed] = abreast(conn, [lambda: conn.call("read", "data assets", lambda: [asset.name for asset in data.list()])])
    names = read_names(conn)

    def read_versions(name: str) -> list[Item]:
        found = conn.call("read", f"data '{name}'", lambda: list(data.list(name)))
        return [_item_of_data(conn, asset, names) for asset in found]

    return [item for items in abreast(conn, [partial(read_versions, name) for name in listed]) for item in items]


def _item_of_data(conn: Connection, asset: Any, names: Names) -> Item:
    made = read_made(asset)
    return Item(
        "data",
        asset.name,
        str(asset.version or ""),
        since=made.at,
        owner=made.by,
        mine=is_mine(names, made.by, asset.tags or {}),
        created_at=made.at,
        stamp=_stamp(made.changed_at),
        path=path_of(conn, str(asset.path or "")) or "",
        note="archive only",
    )


def _outputs(conn: Connection) -> list[Item]:
    runs = list_runs(conn)
    found = runs[: runs.active + ENDED_LISTED]
    names = read_names(conn)
    return [
        Item(
            "run",
            run.name,
            state=run.state_word,
            since=run.created_at,
            **_made(names, run),
            run=run.name,
            stamp=run.state,
            path=f"azureml/{run.name}/",
            note=f"of {run.title}",
        )
        for run in found
    ]


def _running(conn: Connection) -> list[Item]:
    """Return what runs; on this machine nothing of it bills."""
    if not conn.costs_money:
        return []
    [found] = abreast(conn, [lambda: list_running(conn)])
    names = read_names(conn)
    [prices] = abreast(conn, [lambda: {job.size: size_price(conn, job.size) for job in found if job.size}])
    return [
        Item(
            "run",
            job.name,
            state=job.state,
            price=prices.get(job.size),
            per_hour=None,
            since=job.started_at,
            parent=f"compute:{job.compute}" if job.compute else "",
            **_made(names, job),
            run=job.name,
            nodes=job.nodes,
            stamp=job.state,
            note=f"{job.title} on {job.compute or job.size or 'a compute that is not told'}",
        )
        for job in found
    ]


def _with_rates(items: Iterable[Item], now: datetime) -> list[Item]:
    """Add to what runs the price of the compute it runs on, and what its own time came to."""
    items = list(items)
    prices = {item.key: item.price for item in items if item.kind == "compute"}

    def rate(job: Item) -> Item:
        price = job.price or prices.get(job.parent) or Price(None)
        if job.nodes is None:
            return replace(job, price=price, cost=Cost(unknown=1))
        cost = cost_of([Span(job.since, None, job.nodes, price)], now) if job.since else Cost(unknown=1)
        return replace(job, price=price, per_hour=price.times(job.nodes).per_hour, cost=cost)

    return [rate(item) if item.kind == "run" and item.bills else item for item in items]


_BILLING = {"endpoints": _endpoints, "computes": _computes}
_JOBS = {"jobs": _running}
_STANDING = {"models": _models, "data": _data, "outputs": _outputs}


def _with_bytes(conn: Connection, items: list[Item], problems: list[str]) -> list[Item]:
    """Add sizes, each file counted once: with the registered model, not again with the run that made it."""
    sizes = sum_bytes(conn, {item.path for item in items if item.path}, problems)
    counted: set[str] = set()
    sized = []
    for item in items:
        size = sizes.get(item.path)
        if size is not None:
            inner = sum(sizes[path] or 0 for path in sizes if path != item.path and path.startswith(item.path))
            size = 0 if item.path in counted else size - inner
            counted.add(item.path)
        sized.append(replace(item, bytes=size))
    return sized


def sighting_of(item: Item) -> Sighting:
    """Return what the history of rates keeps of something that can bill."""
    price = item.price or Price(None)
    return Sighting(item.key, item.created_at, item.nodes, price, item.state, item.steady_since)


def with_costs(items: Iterable[Item], rates: Mapping[Mark, Sequence[Rate]], now: datetime) -> list[Item]:
    """Add what each came to until now. rates: what was seen of it before."""
    counted = [
        replace(item, cost=find_cost(rates.get((seen := sighting_of(item)).mark, ()), seen, now))
        if item.kind in COUNTED
        else item
        for item in items
    ]
    costs = defaultdict[str, list[Cost]](list)
    for item in counted:
        costs[item.parent].append(item.cost)
    return [replace(item, cost=sum_costs(costs[item.key])) if item.kind == "endpoint" else item for item in counted]


def _made(names: Names, of: Any) -> dict[str, Any]:
    """Return what an item says of who made it, and when."""
    return {"owner": of.owner, "mine": is_mine(names, of.owner, of.tags), "created_at": of.created_at}


def _sum(amounts: Iterable[float | None]) -> float | None:
    """Return the sum, None where one of the amounts is not known."""
    known = list(amounts)
    return None if None in known else sum(amount or 0.0 for amount in known)


def _stamp(changed_at: datetime | None, **facts: object) -> str:
    changed = {"changed": f"{changed_at:%H:%M:%S}"} if changed_at else {}
    return "; ".join(f"{name.replace('_', '-')} {fact}" for name, fact in {**changed, **facts}.items())


def _say_when(at: datetime | None) -> str:
    return f"{at.day} {at:%b %H:%M} UTC" if at else "none"
