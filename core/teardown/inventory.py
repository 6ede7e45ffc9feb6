"""Everything that exists in the workspace, with what it bills and what it occupies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.datastore import path_of, sum_bytes
from core.catalog.compute import Compute, list_computes, size_price
from core.catalog.prices import Price
from core.errors import AccessDenied, SignInFailed, TunedeckError, Unreachable
from core.runs.jobs import OUTPUT_NAME, list_runs
from core.serving.endpoints import EndpointView, list_endpoints
from core.serving.registered_models import list_registered_models

DELETABLE = ("endpoint", "compute", "model")


@dataclass(frozen=True)
class Item:
    """One thing that exists."""

    kind: str
    """ "endpoint", "compute", "model", "data" or "run"."""
    name: str
    version: str = ""
    state: str = ""
    price: Price | None = None
    per_hour: float | None = 0.0
    """What it bills now, None for an unknown price."""
    since: datetime | None = None
    cost_so_far: float | None = None
    delete_at: datetime | None = None
    created_here: bool = False
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
        return self.kind == "endpoint" or (self.kind == "compute" and self.per_hour != 0.0)

    @property
    def deletable(self) -> bool:
        """Whether a teardown can delete or archive it; the rest is history and stays."""
        return self.kind in DELETABLE

    @property
    def currency(self) -> str:
        """The currency of its price."""
        return self.price.currency if self.price else "USD"

    @property
    def hourly_words(self) -> str:
        """ "$3.67/h", "$0.00/h" or "price unknown"; "free" for what never bills."""
        if not self.bills and self.kind != "compute":
            return "free"
        return "price unknown" if self.per_hour is None else Price(self.per_hour, self.currency).words


@dataclass(frozen=True)
class Inventory:
    """Everything that exists. The sums are over the known prices of one currency; `unknown` counts the others."""

    items: tuple[Item, ...] = ()
    read_at: datetime | None = None
    problems: tuple[str, ...] = ()
    """Sentences on what could not be read."""
    unread: tuple[str, ...] = ()
    """Which of "endpoints" and "computes" are among that, so that what they bill is not known."""

    @property
    def currency(self) -> str:
        """The currency of the sums: amounts in another are not added to them."""
        return next((item.currency for item in self.items if item.per_hour), "USD")

    @property
    def per_hour(self) -> float:
        """Sum of the known prices per hour."""
        return sum(item.per_hour or 0.0 for item in self._summed())

    @property
    def unknown(self) -> int:
        """How many things bill at a price that is unknown or in another currency; a kind that is not read is one."""
        summed = self._summed()
        return sum(item.per_hour is None or item not in summed for item in self.items) + len(self.unread)

    @property
    def so_far(self) -> float:
        """Sum of the known costs until now."""
        return sum(item.cost_so_far or 0.0 for item in self._summed())

    @property
    def words(self) -> str:
        """What it bills: "$3.67/h", "$3.67/h + 1 unknown" or "price unknown"."""
        known = Price(self.per_hour, self.currency).words
        if not self.unknown:
            return known
        return f"{known} + {self.unknown} unknown" if self.per_hour else "price unknown"

    @property
    def billing(self) -> tuple[Item, ...]:
        """What bills now."""
        return tuple(item for item in self.items if item.bills)

    def _summed(self) -> list[Item]:
        return [item for item in self.items if not item.per_hour or item.currency == self.currency]

    def find(self, key: str) -> Item | None:
        """Return the item with this key, or None."""
        return next((item for item in self.items if item.key == key), None)


def list_inventory(conn: Connection, with_files: bool = True) -> Inventory:
    """Return everything that exists in the workspace; `with_files` also sums the bytes of models, data and outputs.

    What may not be read is named in `problems` and the rest is still shown. Raises where the workspace does not answer,
    or fails on what bills: an empty list would say that nothing does. Many requests: read it through a Reader.
    """
    found = _read(conn, {**_BILLING, **_STANDING})
    if not with_files:
        return found
    problems = list(found.problems)
    items = _with_bytes(conn, list(found.items), problems)
    return replace(found, items=tuple(items), problems=tuple(dict.fromkeys(problems)))


def list_billing(conn: Connection) -> Inventory:
    """Return only endpoints and computes, in few requests; raises as `list_inventory` does."""
    return _read(conn, _BILLING)


def _read(conn: Connection, readings: Mapping[str, Callable[[Connection], list[Item]]]) -> Inventory:
    items: list[Item] = []
    problems: list[str] = []
    unread: list[str] = []
    for kind, reading in readings.items():
        try:
            items += reading(conn)
        except TunedeckError as error:
            bills = kind in _BILLING
            if isinstance(error, Unreachable | SignInFailed) or (bills and not isinstance(error, AccessDenied)):
                raise
            problems.append(error.message)
            unread += [kind] if bills else []
    return Inventory(tuple(items), datetime.now(UTC), tuple(dict.fromkeys(problems)), tuple(unread))


def _endpoints(conn: Connection) -> list[Item]:
    def read_prices(endpoint: EndpointView) -> list[Price]:
        return [size_price(conn, each.size) if each.size else Price(None) for each in endpoint.deployments]

    return [item_of_endpoint(endpoint, read_prices(endpoint)) for endpoint in list_endpoints(conn)]


def item_of_endpoint(endpoint: EndpointView, prices: Sequence[Price]) -> Item:
    """Return what an endpoint bills. prices: of one instance of each of its deployments, in their order."""
    billed = [
        (price.times(deployment.instances).per_hour, deployment.created_at or endpoint.created_at)
        for deployment, price in zip(endpoint.deployments, prices, strict=True)
    ]
    since = min((at for _, at in billed if at), default=endpoint.created_at)
    currency = prices[0].currency if prices else "USD"
    per_hour = _sum([amount for amount, _ in billed]) if {price.currency for price in prices} <= {currency} else None
    return Item(
        kind="endpoint",
        name=endpoint.name,
        state=endpoint.state_word,
        price=Price(per_hour, currency, prices[0].source if prices else "unknown"),
        per_hour=per_hour,
        since=since,
        cost_so_far=_sum([_cost(*each) for each in billed]) if per_hour is not None else None,
        delete_at=endpoint.delete_at,
        created_here=endpoint.created_here,
        parts=(*(deployment.name for deployment in endpoint.deployments), *filter(None, [endpoint.model])),
    )


def _computes(conn: Connection) -> list[Item]:
    return [item_of_compute(compute) for compute in list_computes(conn)]


def item_of_compute(compute: Compute) -> Item:
    """Return what a compute bills. What it cost so far is known only of nodes that never scale down."""
    instance = compute.kind == "instance"
    nodes = (compute.nodes or 0) if instance else max(compute.min_nodes, compute.nodes or 0)
    per_hour = 0.0 if nodes == 0 else compute.price.times(nodes).per_hour
    kept = not instance and nodes == compute.min_nodes
    return Item(
        kind="compute",
        name=compute.name,
        state=compute.state,
        price=compute.price,
        per_hour=per_hour,
        since=compute.created_at if kept and nodes else None,
        cost_so_far=_cost(per_hour, compute.created_at if kept else None),
        delete_at=tags.parse_time(compute.tags.get(tags.DELETE_AT)),
        created_here=tags.is_ours(compute.tags),
        note=f"{nodes} of {compute.max_nodes} nodes, {compute.size}",
    )


def _models(conn: Connection) -> list[Item]:
    return [
        Item(
            "model",
            model.name,
            model.version,
            created_here=tags.is_ours(model.tags),
            since=model.created_at,
            path=path_of(conn, model.path) or "",
            note="archive only",
        )
        for model in list_registered_models(conn)
        if not model.archived
    ]


def _data(conn: Connection) -> list[Item]:
    data = conn.workspace.data
    names = conn.call("read", "data assets", lambda: [asset.name for asset in data.list()])
    items = []
    for name in names:
        for asset in conn.call("read", f"data '{name}'", lambda name=name: list(data.list(name))):
            path, ours = path_of(conn, str(asset.path or "")) or "", tags.is_ours(asset.tags or {})
            version = str(asset.version or "")
            items.append(Item("data", asset.name, version, created_here=ours, path=path, note="stays"))
    return items


def _outputs(conn: Connection) -> list[Item]:
    return [
        Item(
            "run",
            run.name,
            state=run.state_word,
            since=run.created_at,
            created_here=tags.is_ours(run.tags),
            path=f"azureml/{run.name}/",
            note=f"history and {OUTPUT_NAME} of {run.title}; stays",
        )
        for run in list_runs(conn)
    ]


_BILLING = {"endpoints": _endpoints, "computes": _computes}
_STANDING = {"models": _models, "data": _data, "outputs": _outputs}


def _with_bytes(conn: Connection, items: list[Item], problems: list[str]) -> list[Item]:
    """Add sizes, each file counted once: with the registered model, not again with the run that made it."""
    sizes: dict[str, int | None] = {}
    for path in {item.path for item in items if item.path}:
        try:
            sizes[path] = sum_bytes(conn, path)
        except TunedeckError as error:
            sizes[path] = None
            problems.append(error.message)
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


def _sum(amounts: Iterable[float | None]) -> float | None:
    """Return the sum, None where one of the amounts is not known."""
    known = list(amounts)
    return None if None in known else sum(amount or 0.0 for amount in known)


def _cost(per_hour: float | None, since: datetime | None) -> float | None:
    """Return the list price of the time since; None where either is not known."""
    if per_hour == 0.0:
        return 0.0
    if per_hour is None or since is None:
        return None
    return per_hour * max(0.0, (datetime.now(UTC) - since).total_seconds()) / 3600
