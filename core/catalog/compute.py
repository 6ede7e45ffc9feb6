"""Sizes and computes of a workspace, and what a model may be trained on. Creates and deletes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.azureml.connection import Connection
from core.azureml.owners import read_made
from core.catalog.allow_list import AllowList
from core.catalog.base_models import BaseModel
from core.catalog.families import find_family
from core.catalog.prices import Price, Rates, read_estimated_prices, retail_prices

# The lesson's list: refused where a model publishes no list of its own.
DENIED_SIZES = ("standard_nc6", "standard_nc12", "standard_nc24", "standard_nc24r")
_COMPUTE_API = "2023-08-01-preview"
_SIZES_KEPT_S = 600
_KINDS = {"amlcompute": "cluster", "computeinstance": "instance"}


@dataclass(frozen=True)
class Size:
    """One virtual machine size of the workspace's region."""

    name: str
    family: str
    cores: int
    memory_gib: float
    gpus: int
    price: Price
    supports_online: bool
    supports_training: bool
    low_price: Price = field(default=Price(None))
    """Of a low-priority node."""
    low_priority: bool = True
    """Whether it can be had at low priority."""

    @property
    def gpu_words(self) -> str:
        """Return "2 × A100 80 GiB", "1 GPU" where its kind is not known, or "no GPU"."""
        family = find_family(self.family)
        if not (self.gpus and family.gpu):
            return f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else "no GPU"
        part = min(1.0, self.cores / family.whole) if family.whole else 1.0
        return f"{self.gpus} × {family.gpu} {family.gpu_gib * part:.0f} GiB"

    def price_at(self, *, low_priority: bool) -> Price:
        """Return the price of a dedicated or a low-priority node."""
        return self.low_price if low_priority else self.price


@dataclass(frozen=True)
class Compute:
    """A cluster or an instance. state: of provisioning, "Succeeded" when it is there; allocation: "Steady", "Resizing".

    cores, gpus: of one node, None where the region does not list the size.
    """

    name: str
    kind: str  # "cluster" or "instance"
    size: str
    state: str
    allocation: str
    cores: int | None
    gpus: int | None
    min_nodes: int
    max_nodes: int
    nodes: int | None
    idle_s: int | None
    tags: dict[str, str]
    created_at: datetime | None
    errors: tuple[str, ...] = ()
    price: Price = field(default=Price(None))
    low_priority: bool = False
    node_states: Mapping[str, int] = field(default_factory=dict)
    """How many nodes are "preparing", "running", "idle", "unusable", "leaving", "preempted"; none is left out."""
    id: str = ""
    owner: str = ""
    """Who made it, as the service calls them."""
    changed_at: datetime | None = None
    steady_since: datetime | None = None
    """From when on it has as many nodes, by the service's word; None while that changes."""

    @property
    def busy_nodes(self) -> int:
        """How many have a job at work or about to begin, whoever started it."""
        return self.node_states.get("running", 0) + self.node_states.get("preparing", 0)


@dataclass(frozen=True)
class Verdict:
    """Whether a compute may train a model; if not: why, and what to do."""

    compute: Compute
    eligible: bool
    reason: str = ""
    fix: str = ""


def list_sizes(conn: Connection) -> list[Size]:
    """Return the sizes of the region, with the prices the workspace itself gives. Kept for ten minutes."""

    def ask() -> list[Size]:
        found = conn.call("read", "the sizes of the region", lambda: list(conn.workspace.compute.list_sizes()))
        # The SDK copies the wire's names into the object beside its own attributes, which stay None.
        return [_to_size(vars(size), factor) for size in found]

    factor = conn.settings.price_factor
    return conn.remember(f"sizes at {factor}", ask, _SIZES_KEPT_S)


def find_size(sizes: Sequence[Size], name: str) -> Size | None:
    """Return the size of that name, case ignored: computes answer it in capitals."""
    return next((size for size in sizes if size.name.lower() == name.lower()), None)


def size_price(conn: Connection, size_name: str, *, low_priority: bool = False) -> Price:
    """Return the list price of a size by its name; unknown where the region does not list the size."""
    size = find_size(list_sizes(conn), size_name)
    if size is None:
        return Price(None, why="The region does not list this size.")
    return with_prices(conn, [size])[0].price_at(low_priority=low_priority)


def with_prices(conn: Connection, sizes: Sequence[Size]) -> list[Size]:
    """Return the sizes with their list prices in the workspace's region: its own, else those of the price list."""
    asked = [size.name for size in sizes if size.price.per_hour is None or size.low_price.per_hour is None]
    if not asked or not conn.costs_money:
        return list(sizes)
    region = conn.remember("region", lambda: conn.facts().region, _SIZES_KEPT_S)
    found = retail_prices(conn, region, asked)
    return [_with_rates(size, found.get(size.name)) for size in sizes]


def _with_rates(size: Size, rates: Rates | None) -> Size:
    if rates is None:
        return size
    price = size.price if size.price.per_hour is not None else rates.dedicated
    low_price = size.low_price if size.low_price.per_hour is not None else rates.low_priority
    return replace(size, price=price, low_price=low_price)


def list_computes(conn: Connection) -> list[Compute]:
    """Return clusters and instances, cores, GPUs and price filled in from the sizes.

    Read past the SDK, which drops the allocation state, the node count and the text of provisioning errors.
    """
    sizes = list_sizes(conn)
    found: list[Compute] = []
    for answer in conn.pages(f"{conn.workspace_path}/computes?api-version={_COMPUTE_API}", "the computes"):
        found += [_to_compute(conn, body, sizes) for body in answer.json().get("value", []) if _kind_of(body)]
    return sorted(found, key=lambda compute: compute.name.lower())


def get_compute(conn: Connection, name: str) -> Compute:
    """Return one compute, or raise NotFound."""
    answer = conn.http(
        "GET", f"{conn.workspace_path}/computes/{name}", params={"api-version": _COMPUTE_API}, what=f"compute '{name}'"
    )
    return _to_compute(conn, answer.json(), list_sizes(conn))


def scale_to_zero(conn: Connection, compute: Compute) -> None:
    """Let a cluster keep no node that has nothing to do; jobs on it go on."""
    scale = {"minNodeCount": 0, "maxNodeCount": compute.max_nodes}
    path, params = f"{conn.workspace_path}/computes/{compute.name}", {"api-version": _COMPUTE_API}
    body = {"properties": {"properties": {"scaleSettings": scale}}}
    conn.http("PATCH", path, params=params, json=body, doing="change", what=f"compute '{compute.name}'")


def list_allowed_sizes(sizes: Sequence[Size], allow_list: AllowList, *, online: bool = False) -> list[Size]:
    """Return the sizes of the region that a model's list permits, cheapest known price first."""
    permitted = [
        size
        for size in sizes
        if (size.supports_online if online else size.supports_training)
        and check_size(size.name, allow_list, "", size=size) is None
    ]
    return sorted(permitted, key=lambda size: (size.price.per_hour is None, size.price.per_hour or 0.0, size.name))


def check_size(
    size_name: str, allow_list: AllowList, model_name: str, doing: str = "train", size: Size | None = None
) -> str | None:
    """Return why a size may not "train" or "serve" a model, or None.

    Without a list, the least that the model asks counts where the size is known, and always the deny-list.
    """
    permitted, least = allow_list.permits(size_name), allow_list.minimum
    if permitted is False or (permitted is None and size_name.lower() in DENIED_SIZES):
        return f"Size {size_name} may not {doing} '{model_name}'."
    if permitted is None and least and size and not least.holds(size.cores, size.gpus, size.memory_gib):
        return f"Size {size_name} may not {doing} '{model_name}': it needs {least.words}."
    return None


def check_compute(compute: Compute, model: BaseModel, sizes: Sequence[Size]) -> Verdict:
    """Say whether a compute may train a model, by the lesson's rules: state, size, GPU count known."""
    for problem in (_problem_of_state(compute), _problem_of_model(model), _problem_of_size(compute, model, sizes)):
        if problem:
            return Verdict(compute, False, *problem)
    return Verdict(compute, True)


def _problem_of_state(compute: Compute) -> tuple[str, str] | None:
    state = compute.state.lower()
    if state == "failed":
        why = f": {compute.errors[0]}" if compute.errors else "."
        return f"Compute '{compute.name}' could not be provisioned{why}", "Delete it, or pick another compute."
    if state in ("deleting", "creating"):
        words = "being deleted" if state == "deleting" else "still being created"
        return f"Compute '{compute.name}' is {words}.", "Pick another compute, or wait until it is there."
    if compute.kind == "instance" and compute.allocation.lower() == "stopped":
        return f"Instance '{compute.name}' is stopped.", "Start it in Azure ML studio, or pick a cluster."
    return None


def _problem_of_model(model: BaseModel) -> tuple[str, str] | None:
    if model.runs_on:
        return (
            f"'{model.name}' cannot be trained here: it needs the GPUs of {model.runs_on}.",
            f"Pick a model that runs here, or connect to {model.runs_on}.",
        )
    if not model.finetunable:
        return f"'{model.name}' can be deployed, but not fine-tuned.", "Pick a model that can be fine-tuned."
    if refusal := model.lifecycle.refusal(f"'{model.name}'"):
        return refusal, model.lifecycle.way_out
    return None


def _problem_of_size(compute: Compute, model: BaseModel, sizes: Sequence[Size]) -> tuple[str, str] | None:
    size = find_size(sizes, compute.size)
    if reason := check_size(size.name if size else compute.size, model.finetune, model.name, size=size):
        allowed = list_allowed_sizes(sizes, model.finetune)
        if model.finetune.sizes is None and not model.finetune.minimum:
            return reason, "Pick a compute of another size: this one is on the deny-list."
        if not allowed:
            return reason, "No size of this region is allowed. Pick another model."
        count = "the one allowed size" if len(allowed) == 1 else f"one of {len(allowed)} allowed sizes"
        return reason, f"Pick {count}, or create a compute: {', '.join(size.name for size in allowed[:3])}."
    if compute.gpus is None:
        names = ", ".join(size.name for size in sizes[:5]) or "none"
        return (
            f"The GPU count of size {compute.size} is not known: this region does not list it.",
            f"Pick a compute of a listed size ({names}{', …' if len(sizes) > 5 else ''}).",
        )
    return None


def _to_size(wire: Mapping[str, Any], factor: float) -> Size:
    kinds = {str(kind).lower() for kind in wire.get("supportedComputeTypes") or []}
    rates = read_estimated_prices(wire.get("estimatedVMPrices"), factor)
    return Size(
        name=str(wire["name"]),
        family=str(wire.get("family") or ""),
        cores=int(wire.get("vCPUs") or 0),
        memory_gib=float(wire.get("memoryGB") or 0.0),
        gpus=int(wire.get("gpus") or 0),
        price=rates.dedicated,
        supports_online="mir" in kinds,
        supports_training=not kinds or bool(kinds & {"amlcompute", "computeinstance"}),
        low_price=rates.low_priority,
        low_priority=wire.get("lowPriorityCapable") is not False,
    )


def _kind_of(body: Mapping[str, Any]) -> str:
    return _KINDS.get(str(body.get("properties", {}).get("computeType", "")).lower(), "")


def _to_compute(conn: Connection, body: Mapping[str, Any], sizes: Sequence[Size]) -> Compute:
    outer = body.get("properties") or {}
    inner = outer.get("properties") or {}
    scale = inner.get("scaleSettings") or {}
    kind = _kind_of(body)
    size = find_size(sizes, str(inner.get("vmSize") or ""))
    low_priority = str(inner.get("vmPriority") or "").lower() == "lowpriority"
    price = with_prices(conn, [size])[0].price_at(low_priority=low_priority) if size else Price(None)
    instance = kind == "instance"
    made = read_made(body)
    return Compute(
        name=str(body.get("name") or ""),
        kind=kind or str(outer.get("computeType") or ""),
        size=size.name if size else str(inner.get("vmSize") or ""),
        state=str(outer.get("provisioningState") or ""),
        allocation=str(inner.get("state" if instance else "allocationState") or ""),
        cores=size.cores if size else None,
        gpus=size.gpus if size else None,
        min_nodes=1 if instance else int(scale.get("minNodeCount") or 0),
        max_nodes=1 if instance else int(scale.get("maxNodeCount") or 0),
        nodes=_count_nodes(inner, instance),
        idle_s=_seconds(scale.get("nodeIdleTimeBeforeScaleDown")),
        tags={str(key): str(value) for key, value in (body.get("tags") or {}).items()},
        created_at=made.at or read_time(outer.get("createdOn")),
        errors=tuple(_read_errors(outer.get("provisioningErrors"), inner.get("errors"))),
        price=price,
        low_priority=low_priority,
        node_states={
            key.removesuffix("NodeCount"): int(count)
            for key, count in (inner.get("nodeStateCounts") or {}).items()
            if count
        },
        id=str(body.get("id") or ""),
        owner=made.by or str((inner.get("createdBy") or {}).get("userName") or ""),  # an instance tells its user
        changed_at=made.changed_at or read_time(outer.get("modifiedOn")),
        steady_since=_find_steady_since(inner, instance),
    )


def _count_nodes(inner: Mapping[str, Any], instance: bool) -> int | None:
    if instance:
        return 0 if str(inner.get("state")).lower() == "stopped" else 1  # one that starts or stops bills too
    count = inner.get("currentNodeCount")
    return int(count) if count is not None else None


def _find_steady_since(inner: Mapping[str, Any], instance: bool) -> datetime | None:
    if instance:
        return read_time((inner.get("lastOperation") or {}).get("operationTime"))
    steady = str(inner.get("allocationState")).lower() == "steady"
    return read_time(inner.get("allocationStateTransitionTime")) if steady else None


def _read_errors(*lists: Any) -> list[str]:
    found: list[str] = []
    for one in (entry for entries in lists for entry in entries or []):
        error = one.get("error", one) if isinstance(one, dict) else {}
        text = str(error.get("message") or error.get("code") or "")
        if text and text not in found:
            found.append(text)
    return found


def _seconds(duration: Any) -> int | None:
    """Return the seconds of an ISO 8601 duration such as PT2M."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?", str(duration or ""))
    if not found or not duration:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def read_time(text: Any) -> datetime | None:
    """Return an answer's time; Azure writes seven decimals where Python reads six."""
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text)))
    except ValueError:
        return None
