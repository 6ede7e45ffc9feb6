"""The teardown page's pieces: what exists as rows to tick, the question before deleting, the steps and the receipts."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.azureml.connection import Connection
from core.azureml.reader import Snapshot
from core.catalog.prices import not_a_bill
from core.operations import Operation
from core.operations.teardown import Teardown
from core.teardown import plan as teardown
from core.teardown.inventory import Inventory
from core.teardown.plan import TeardownPlan
from core.teardown.receipts import Receipt
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action, open_dialog
from pages.parts.kit.links import Link, link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_warning
from pages.parts.kit.state import ui, url_id
from pages.parts.kit.steps import draw_operation
from pages.parts.kit.tiles import draw_tile
from pages.parts.operate.receipts import draw_receipt
from pages.parts.operate.tree import Picks

_QUESTION = "delete"  # the dialog, and the plan it asks about


def find_picked() -> tuple[str, ...]:
    """Return the keys of what a link asks for, or of what is asked about again."""
    pick = url_id("pick")
    return (pick,) if pick else ui().view.get("picked", ())


def find_plan(conn: Connection, inventory: Inventory, picks: Picks) -> Snapshot[TeardownPlan] | None:
    """Say what deleting what is ticked means, as it is shown; None where nothing is ticked.

    While the question stands it is the plan that was asked about: what changes meanwhile is refused, not slipped in.
    """
    asked: Snapshot[TeardownPlan] | None = ui().view.get(_QUESTION)
    if ui().open_dialog == _QUESTION and asked is not None and asked.value is not None:
        return asked
    if not picks.keys:
        return None
    busy = any(key.startswith("compute:") for key in picks.keys)
    around = reads.read(teardown.read_surroundings, busy, max_age_s=10.0)
    plan = teardown.make_plan(conn, inventory, picks.keys, picks.files, around.value) if around.value else None
    ui().view[_QUESTION] = found = Snapshot(plan, around.read_at, around.error, around.age_s, around.loading)
    return found


def draw_tiles(conn: Connection, inventory: Inventory) -> None:
    """Draw what bills now and what it came to."""
    with st.grid(3, min_column_width=160):
        draw_tile("Billing now", inventory.words)
        draw_tile("So far", inventory.cost.words)
        draw_tile("Resources", len(inventory.items), f"{len(inventory.billing)} can bill")
    if conn.costs_money:
        st.caption(not_a_bill(conn.settings.price_factor))
    for problem in inventory.problems:
        draw_warning(problem)


def draw_button(snapshot: Snapshot[TeardownPlan] | None, count: int) -> None:
    """Draw what it frees and the one button; the question names everything."""
    label = f"Delete {words.plural(count, 'resource')}…" if count else "Delete…"
    plan = snapshot.value if snapshot else None
    off = "Tick what is to go." if not count else "" if plan else "Reading what it would mean…"
    if snapshot is not None and snapshot.error is not None and plan is None:
        off = snapshot.error.message
    if plan:
        st.text(f"Frees {plan.frees}", width="content")
    action(
        label,
        delete,
        plan,
        key=_QUESTION,
        type="primary",
        icon="delete_forever",
        off=off,
        confirm=_question(plan, count) if plan else None,
        then=lambda begun: link("teardown", operation=begun.id),
    )


def _question(plan: TeardownPlan, count: int) -> Confirm:
    what = words.plural(count, "resource")
    lines = [*plan.sentences, *(f"{act.item.label}: {act.consequence}" for act in plan.actions)]
    if plan.kept:
        lines.append("Kept: " + ", ".join(item.label for item in plan.kept[:6]) + _more(len(plan.kept) - 6))
    return Confirm(
        title=f"Delete {what}?",
        yes=f"Delete {what}",
        keep="Keep them",
        lines=tuple(lines),
        ticks=plan.others,
        type_name=plan.confirm,
        icon="delete_forever",
    )


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def delete(plan: TeardownPlan, typed: str = "") -> Operation:
    """Record the teardown, each of another's things ticked; raises BadInput unless the plan's name was typed."""
    begun = operations.start_teardown(plan, typed, plan.others)
    ui().view.pop("picked", None)
    reads.forget(operations.list_everything)
    return begun


def _is_newer(inventory: Inventory | None, operation: Operation) -> bool:
    """Say whether an inventory was read after the operation's last step, so that it no longer shows what is gone."""
    read_at = inventory.read_at if inventory else None
    return bool(read_at and operation.updated_at and read_at > operation.updated_at)


def draw_operation_of(operation_id: str, inventory: Inventory | None) -> None:
    """Draw a teardown under way or done: its steps, then when each thing was seen to be gone."""
    operation = operations.find_operation(operation_id)
    if operation is None:
        draw_empty(f"There is no deletion '{operation_id}' here.", link("activity"), "See all changes")
        return
    st.header(
        "Deleting" if not operation.finished else "Deleted" if operation.state == "done" else "Not deleted",
        anchor=False,
    )

    def draw() -> object:
        now = operations.get_operation(operation.id)
        draw_operation(now, key="teardown")
        if not now.finished:
            st.caption("You may close this page. The teardown goes on while Tunedeck runs.")
        newer = _is_newer(reads.read(operations.list_everything, max_age_s=2.0).value, now)
        return (now.state, newer, _list_receipts(now))

    newer = _is_newer(inventory, operation)
    rests = operation.finished and newer
    live(
        draw,
        key="teardown",
        run_every=None if rests else 1.0,
        token=(operation.state, newer, _list_receipts(operation)),
    )
    if operation.state == "failed" and operation.facts.get("changed"):
        action("Look again", _ask_again, operation, key="look-again", type="primary", icon="refresh")
    elif operation.state == "failed":
        action("Try again", operations.retry_operation, operation.id, key="retry-teardown", icon="refresh")
    for receipt in _list_receipts(operation):
        draw_receipt(receipt)


def _list_receipts(operation: Operation) -> list[Receipt]:
    """Return the receipts of a deletion, or of those by which everything goes."""
    own = {operation.id, *operation.facts.get("parts", {}).values()}
    return [receipt for receipt in operations.list_receipts(ui().alias) if receipt.operation in own]


def _ask_again(operation: Operation) -> Link:
    """Tick the same things, as they are now, and ask about them anew."""
    change = operation.change
    reads.forget(operations.list_everything)
    ui().view.pop(_QUESTION, None)
    ui().view["picked"] = tuple(item.key for item in change.items) if isinstance(change, Teardown) else ()
    open_dialog(_QUESTION)
    return link("teardown")


def draw_stays(inventory: Inventory) -> None:
    """Draw what occupies space and bills nothing by the hour."""
    kept = [item for item in inventory.items if item.bytes and not item.bills]
    if not kept:
        return
    total = sum(item.bytes or 0 for item in kept)
    label = f"Files: {words.size(total)} in {words.plural(len(kept), 'thing')}"
    with st.expander(label, icon=":material/folder:"):
        rows = [
            {"Kind": item.kind, "Name": item.label, "Size": words.size(item.bytes or 0), "Where": item.path}
            for item in sorted(kept, key=lambda item: -(item.bytes or 0))
        ]
        st.dataframe(rows, hide_index=True, alt=f"{len(rows)} things with files, {words.size(total)} together")
