"""Everything that exists in a workspace and everything that is being made in it, for a teardown that misses nothing."""

from __future__ import annotations

from dataclasses import replace

from core.azureml.connection import Connection
from core.operations.create_compute import CreateCompute
from core.operations.deploy import Deploy
from core.operations.ledger import Ledger
from core.teardown.inventory import Inventory, Item, list_inventory


def list_everything(conn: Connection) -> Inventory:
    """Return the inventory with what operations under way change or will make; raises as `list_inventory` does.

    The ledger is read first: what is made between the two readings is then in both, and not in neither.
    """
    under_way = Ledger(conn.home).list_operations(conn.alias, active=True, limit=10_000)
    found = list_inventory(conn)
    items = {(item.kind, item.name.lower()): item for item in found.items if item.kind in ("endpoint", "compute")}
    for operation in reversed(under_way):
        change = operation.change
        if change.writes is None:
            continue
        item = items.get(change.writes)
        if item is None and isinstance(change, Deploy | CreateCompute):
            # It bills nothing yet.
            item = Item(
                change.writes[0],
                change.subject,
                state="Not made yet",
                delete_at=change.delete_at,
                mine=True,
            )
        if item is not None:
            items[change.writes] = replace(item, under_way=(*item.under_way, operation.title))
    standing = [items.pop((item.kind, item.name.lower()), item) for item in found.items]
    return replace(found, items=(*items.values(), *standing))
