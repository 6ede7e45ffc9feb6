"""What deleting things would mean: in what order, what is lost and what stays, whose it is, and what it was then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from core.azureml.connection import Connection
from core.azureml.owners import read_names
from core.catalog.prices import Price
from core.runs.jobs import ActiveJob, list_active_jobs
from core.runs.states import ACTIVE_WORDS
from core.teardown.inventory import Inventory, Item
from core.words import plural

ORDER = ("deployment", "endpoint", "compute", "model", "data", "run")  # what stands on another goes before it
_LOST = {
    "deployment": "Its endpoint stays, and what else answers behind it.",
    "data": "Where the service only archives data it is hidden from lists, and its files stay.",
    "run": "Its files are deleted and cannot be brought back; its history, its metrics and registered models stay.",
}
_CHANGING = ("deployment", "endpoint", "compute")  # the rest is written once


@dataclass(frozen=True)
class Action:
    """One thing to be done."""

    item: Item
    what: str
    """ "delete" or "archive"."""
    consequence: str
    """What is lost, a sentence or more."""
    deletes_files: bool = False
    others: tuple[str, ...] = ()
    """What of it is another's, a sentence each: each is ticked by itself."""
    seen: tuple[str, ...] = ()
    """What it was when this was planned, as `describe` says it; () for what changes by Tunedeck's own hand."""


@dataclass(frozen=True)
class TeardownPlan:
    """What would be deleted, what stays."""

    connection: str
    actions: tuple[Action, ...]
    kept: tuple[Item, ...]
    per_hour_before: float = 0.0
    confirm: str = ""
    """The name to type where money or Azure is involved, "" where not."""
    sentences: tuple[str, ...] = ()
    currency: str = "USD"
    frees: str = ""
    """What ends to bill: "$3.67/h", "$3.67/h + 1 unknown" or "price unknown"."""

    @property
    def others(self) -> tuple[str, ...]:
        """What of it all is another's, a sentence each."""
        return tuple(sentence for action in self.actions for sentence in action.others)


@dataclass(frozen=True)
class Surroundings:
    """What tells, beside the inventory, what is another's. me: how the service calls the identity that is signed in."""

    me: frozenset[str] = frozenset()
    jobs: tuple[ActiveJob, ...] = ()
    """What has not ended; empty where no compute is to go."""


def plan_teardown(
    conn: Connection, inventory: Inventory, picks: Collection[str], delete_files: Collection[str] = ()
) -> TeardownPlan:
    """Say what would be deleted and archived. picks: item keys. delete_files: keys of models whose files go too."""
    busy = any(pick.startswith("compute:") for pick in picks)
    return make_plan(conn, inventory, picks, delete_files, read_surroundings(conn, busy))


def read_surroundings(conn: Connection, with_jobs: bool) -> Surroundings:
    """Read who is signed in and, where a compute is to go, what jobs have not ended."""
    return Surroundings(read_names(conn).sure, tuple(list_active_jobs(conn)) if with_jobs else ())


def make_plan(
    conn: Connection, inventory: Inventory, picks: Collection[str], delete_files: Collection[str], around: Surroundings
) -> TeardownPlan:
    """Say the same of what was read already."""
    asked = (item for item in inventory.items if item.key in picks and item.parent not in picks)
    picked = sorted((item for item in asked if not find_obstacle(item)), key=lambda item: ORDER.index(item.kind))
    actions = tuple(_plan(item, item.key in delete_files, around, inventory) for item in picked)
    whole = [item for item in inventory.items if item in picked or item.parent in picks]
    freed = Inventory(tuple(whole))
    costs = conn.costs_money and any(action.what == "delete" for action in actions)
    return TeardownPlan(
        connection=conn.alias,
        actions=actions,
        kept=tuple(item for item in inventory.items if item not in whole),
        per_hour_before=inventory.per_hour,
        confirm=picked[0].name if picked and (costs or freed.per_hour > 0) else "",
        sentences=tuple(_summary(actions, freed)),
        currency=inventory.currency,
        frees=freed.words,
    )


def describe(item: Item, inventory: Inventory, jobs: Iterable[ActiveJob]) -> tuple[str, ...]:
    """Return what may change of an item and its parts until it is deleted, each with its name first."""
    facts = item.stamp.split("; ")
    for part in inventory.items:
        facts += [f"{part.short_name}'s-{fact}" for fact in part.stamp.split("; ") if part.parent == item.key]
    if item.kind == "compute":
        facts.append(f"runs {', '.join(job.title for job in _jobs_on(item, jobs)) or 'none'}")
    return tuple(facts)


def _jobs_on(item: Item, jobs: Iterable[ActiveJob]) -> list[ActiveJob]:
    return [job for job in jobs if item.kind == "compute" and item.name.lower() in job.computes]


def compare(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Return what has changed between two descriptions: "traffic demo 100 → blue 100"; when, where nothing else has."""
    old, new = (dict(fact.partition(" ")[::2] for fact in facts) for facts in (before, now))
    changes = {
        name: f"{name.replace('-', ' ')} {old.get(name, 'none')} → {new.get(name, 'none')}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    }
    named = [words for name, words in changes.items() if not name.endswith("changed")]
    return named or list(changes.values())


def find_obstacle(item: Item) -> str:
    """Return why an item cannot be deleted as it is now, a sentence; "" where it can."""
    if item.kind == "deployment" and item.traffic:
        return f"It gets {item.traffic}% of the traffic: send that elsewhere first, or delete the endpoint."
    if item.kind == "run" and item.state in ACTIVE_WORDS:
        return "It has not ended: cancel it first."
    if item.kind == "run" and item.bytes == 0:
        return "It has no files that are not a model's or data's."
    return "" if item.kind in ORDER else "It cannot be deleted."


def _plan(item: Item, with_files: bool, around: Surroundings, inventory: Inventory) -> Action:
    first = f"Ended first: {', '.join(item.under_way)}. " if item.under_way else ""
    what = "archive" if item.kind == "model" else "delete"
    lost = _LOST.get(item.kind, "")
    if item.kind == "compute":
        lost = _lose_compute(_jobs_on(item, around.jobs))
    elif item.kind == "endpoint":
        lost = _lose_endpoint(item, inventory)
    elif item.kind == "model":
        lost = _lose_model(item, with_files, inventory)
    seen = describe(item, inventory, around.jobs) if item.kind in _CHANGING and not item.under_way else ()
    others = tuple(_list_others(item, around, inventory))
    return Action(item, what, f"{first}{lost}", with_files and item.kind == "model", others, seen)


def _list_others(item: Item, around: Surroundings, inventory: Inventory) -> Iterable[str]:
    """Yield what is another's of what goes with an item: itself, its parts, the jobs that end with it.

    A run on a compute is among the jobs: it ends, and its files stay.
    """
    for each in (item, *(part for part in inventory.items if part.parent == item.key and part.kind != "run")):
        if not each.mine and each.owner.lower() not in around.me:
            yield f"{each.label}, {whose(each.owner)}"
    for job in _jobs_on(item, around.jobs):
        if job.owner.lower() not in around.me:
            yield f"run {job.title} on {item.name}, {whose(job.owner)}"


def whose(owner: str) -> str:
    """Return what is said of whose something is."""
    return f"which is {owner}'s" if owner else "whose owner is unknown"


def _lose_compute(jobs: Sequence[ActiveJob]) -> str:
    count = plural(len(jobs), "run")
    ends = "ends" if len(jobs) == 1 else "end"
    return f"{count} on it {ends}: {', '.join(job.title for job in jobs)}." if jobs else "No run uses it."


def _lose_endpoint(item: Item, inventory: Inventory) -> str:
    served = [part.short_name for part in inventory.items if part.parent == item.key]
    if not served:
        return "Callers get 404."
    verb = "goes" if len(served) == 1 else "go"
    return f"Deployment{'s' * (len(served) > 1)} {', '.join(served)} {verb} with it; callers get 404."


def _lose_model(item: Item, with_files: bool, inventory: Inventory) -> str:
    others, model = inventory.items, f"{item.name}:{item.version}"
    users = [other.name for other in others if other.kind == "endpoint" and model in other.parts]
    serving = f" Endpoint {users[0]} was made from it." if users else ""
    if not with_files:
        return f"It is hidden from lists; its files stay.{serving}"
    shared = [other.version for other in others if item.path and other.path == item.path and other.kind == "model"]
    if len(shared) > 1:
        serving += f" Versions {' and '.join(shared)} share the files: they go with the last of them."
    return f"Its files are deleted and cannot be brought back.{serving}"


def _summary(actions: tuple[Action, ...], freed: Inventory) -> Iterable[str]:
    if any(action.item.bills or action.item.kind == "compute" for action in actions):
        known = Price(freed.per_hour, freed.currency).words
        price = f"of {known} and a price that is unknown" if freed.unknown else f"of {known}"
        yield f"This ends billing {price if freed.per_hour or not freed.unknown else 'at an unknown price'}. " + (
            "It cannot be undone."
        )
    elif any(action.what == "delete" for action in actions):
        yield "This ends no billing by the hour. It cannot be undone."
    elif actions:
        yield "This hides models from lists. It ends no billing."
