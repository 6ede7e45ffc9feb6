"""What deleting things would mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from core.azureml.connection import Connection
from core.catalog.prices import Price
from core.runs.jobs import list_runs
from core.runs.states import Run
from core.teardown.inventory import DELETABLE, Inventory, Item


@dataclass(frozen=True)
class Action:
    """One thing to be done."""

    item: Item
    what: str
    """ "delete" or "archive"."""
    consequence: str
    """One sentence."""
    deletes_files: bool = False


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

    @property
    def frees(self) -> str:
        """What ends to bill: "$3.67/h", "$3.67/h + 1 unknown" or "price unknown"."""
        return Inventory(tuple(action.item for action in self.actions)).words


def plan_teardown(
    conn: Connection, inventory: Inventory, picks: Collection[str], delete_files: Collection[str] = ()
) -> TeardownPlan:
    """Say what deleting these items means. picks: item keys. delete_files: keys of models whose files go too."""
    picked = [item for item in inventory.items if item.key in picks and item.deletable]
    picked.sort(key=lambda item: DELETABLE.index(item.kind))  # endpoints first: they stand on the models
    runs = list_runs(conn, 20) if any(item.kind == "compute" for item in picked) else []
    actions = tuple(_plan(item, item.key in delete_files, runs, inventory) for item in picked)
    freed = Inventory(tuple(picked))
    costs = conn.costs_money and any(action.what == "delete" for action in actions)
    return TeardownPlan(
        connection=conn.alias,
        actions=actions,
        kept=tuple(item for item in inventory.items if item not in picked),
        per_hour_before=inventory.per_hour,
        confirm=picked[0].name if picked and (costs or freed.per_hour > 0) else "",
        sentences=tuple(_summary(actions, freed)),
        currency=inventory.currency,
    )


def _plan(item: Item, with_files: bool, runs: Iterable[Run], inventory: Inventory) -> Action:
    if item.kind == "model":
        others, model = inventory.items, f"{item.name}:{item.version}"
        users = [other.name for other in others if other.kind == "endpoint" and model in other.parts]
        serving = f" Endpoint {users[0]} was made from it." if users else ""
        if with_files:
            shared = [
                other.version for other in others if item.path and other.path == item.path and other.kind == "model"
            ]
            if len(shared) > 1:
                serving += f" Versions {' and '.join(shared)} share the files: they go with the last of them."
            return Action(item, "archive", f"Its files are deleted and cannot be brought back.{serving}", True)
        return Action(item, "archive", f"It is hidden from lists; its files stay.{serving}")
    first = f"Ended first: {', '.join(item.under_way)}. " if item.under_way else ""
    if item.kind == "compute":
        waiting = [run.title for run in runs if run.compute == item.name and not run.finished]
        count = f"{len(waiting)} run{'s' if len(waiting) > 1 else ''}"
        ends = f"{count} on it ends: {', '.join(waiting)}." if waiting else "No run uses it."
        return Action(item, "delete", f"{first}{ends}")
    served = ", ".join(part for part in item.parts if ":" not in part)
    goes = f"Deployment {served} goes with it; callers get 404." if served else "Callers get 404."
    return Action(item, "delete", f"{first}{goes}")


def _summary(actions: tuple[Action, ...], freed: Inventory) -> Iterable[str]:
    if any(action.what == "delete" for action in actions):
        known = Price(freed.per_hour, freed.currency).words
        price = f"of {known} and a price that is unknown" if freed.unknown else f"of {known}"
        yield f"This ends billing {price if freed.per_hour or not freed.unknown else 'at an unknown price'}. " + (
            "It cannot be undone."
        )
    elif actions:
        yield "This hides models from lists. It ends no billing."
