"""Everything that exists in a workspace and everything that is being made in it, for a teardown that misses nothing."""

from __future__ import annotations

from dataclasses import replace

from core.azureml import tags
from core.azureml.connection import Connection
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.turns import written_by
from core.teardown.inventory import Inventory, Item, list_inventory

_MAKING = ("deploy", "create_compute")


def list_everything(conn: Connection) -> Inventory:
    """Return the inventory with what operations under way change or will make; raises as `list_inventory` does.

    The ledger is read first: what is made between the two readings is then in both, and not in neither.
    """
    under_way = Ledger(conn.home).list_operations(conn.alias, active=True, limit=10_000)
    found = list_inventory(conn)
    items = {(item.kind, item.name.lower()): item for item in found.items if item.kind in ("endpoint", "compute")}
    for operation in reversed(under_way):
        thing = written_by(operation)
        if thing is None:
            continue
        item = items.get(thing)
        if item is None and operation.kind in _MAKING:
            item = _to_come(operation, thing[0])
        if item is not None:
            items[thing] = replace(item, under_way=(*item.under_way, operation.title))
    standing = [items.pop((item.kind, item.name.lower()), item) for item in found.items]
    return replace(found, items=(*items.values(), *standing))


def _to_come(operation: Operation, kind: str) -> Item:
    """Return what an operation is about to make; it bills nothing yet."""
    return Item(
        kind,
        operation.subject,
        state="Not made yet",
        delete_at=tags.parse_time(operation.arguments.get("delete_at")),
        created_here=True,
    )
