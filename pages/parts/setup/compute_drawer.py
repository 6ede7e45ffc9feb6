"""The drawer that creates a compute: size, price, quota and when it is deleted, beside the page that needs it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st

from core import operations
from core.catalog import compute as computing
from core.catalog.base_models import BaseModel
from core.catalog.compute import Quota, Size
from core.catalog.prices import Price
from core.errors import BadInput
from core.launch.drafts import Draft
from core.operations import Operation
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, close_dialog, drawer, open_dialog
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation

_KEY = "create-compute"
_NAME = r"[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]"
LIFETIMES = {"1 h": 1, "8 h": 8, "1 day": 24, "Never": None}


def look_for_new(draft: Draft) -> None:
    """Have the computes read anew once a creation has ended. Call it before they are read."""
    operation = _latest(draft)
    if operation and operation.finished and ui().notes.get("seen-created") != operation.id:
        ui().notes["seen-created"] = operation.id
        reads.forget(computing.list_computes)


def draw(draft: Draft, model: BaseModel, sizes: Sequence[Size], taken: Collection[str]) -> None:
    """Draw the button, the drawer while it is open, and how far the last creation is. taken: names that exist."""
    allowed = computing.list_allowed_sizes(sizes, model.finetune)
    usable = reads.read(computing.with_prices, tuple(allowed), max_age_s=3600.0).value or allowed
    reads.read(computing.list_quota, max_age_s=60.0)  # known by the time the drawer opens
    off = "" if usable else "This region has no size that the model permits."
    action("Create compute", open_dialog, _KEY, key="open-create-compute", icon="add", off=off)
    drawer(_KEY, "Create compute", lambda: _draw_form(draft, usable, taken), icon="memory")
    if operation := _latest(draft):
        live(
            lambda: _draw_progress(operation.id),
            key="creating",
            run_every=None if operation.finished else 2.0,
        )


def _latest(draft: Draft) -> Operation | None:
    """Return the creation that this session asked for and that was not yet followed by another."""
    asked = ui().notes.get("creating")
    found = operations.find_operation(str(asked)) if asked else None
    if found is None:
        active = operations.list_operations(draft.connection, active=True)
        found = next((operation for operation in active if operation.kind == "create_compute"), None)
    return found


def _draw_progress(operation_id: str) -> object:
    found = operations.find_operation(operation_id)
    if found is None:
        return None
    st.text(f"{'Created' if found.state == 'done' else 'Creating'} {found.subject}")
    draw_operation(found, key="create-compute")
    return found.state


def _draw_form(draft: Draft, usable: Sequence[Size], taken: Collection[str]) -> None:
    first = computing.suggest_size(usable, reads.read(computing.list_quota, max_age_s=60.0).value or ())
    st.text_input(
        "Name",
        value=_suggest(first, taken),
        key="compute-name",
        autocomplete="off",
        validate=(f"^{_NAME}$", "3 to 24 letters, digits, hyphens; letter first."),
    )
    names = [size.name for size in usable]
    picked = st.selectbox(
        "Size",
        names,
        index=names.index(first.name),
        format_func=lambda name: _describe(usable, name),
        key="compute-size",
    )
    size = next(found for found in usable if found.name == picked)
    with st.container(horizontal=True):
        maximum = st.number_input("Most nodes", min_value=1, max_value=16, value=1, key="compute-nodes")
        st.number_input("Idle minutes before it shrinks", 1, 240, 15, key="compute-idle")
    st.caption("Least nodes: 0. Without work it shrinks to nothing and costs nothing.")
    billed = _billed(draft)
    st.segmented_control(
        "Delete it after", list(LIFETIMES), default="8 h" if billed else "Never", required=True, key="compute-lifetime"
    )
    price = size.price
    draw_price(price, billed)
    problem = _quota_problem(size, int(maximum))
    label = "Create compute"
    if billed:
        most = price.times(int(maximum)).words
        label = f"Create on Azure, {most}"
        if not st.checkbox(words.plain(f"It costs up to {most} while it works."), key="compute-price"):
            problem = problem or "Tick the price first."
    action(
        label,
        _create,
        draft.connection,
        key="create-compute-now",
        type="primary",
        icon="add",
        off=problem,
        width="stretch",
    )
    action("Keep what is there", close_dialog, key="keep-computes", width="stretch")


def _create(alias: str) -> None:
    """Read the fields as they are at the click: the button was drawn before the last of them was left."""
    given = st.session_state
    name, hours = str(given["compute-name"]).strip(), LIFETIMES[given["compute-lifetime"]]
    if not re.fullmatch(_NAME, name):
        raise BadInput(f"'{name}' cannot be the name of a compute.", "3 to 24 letters, digits, hyphens; letter first.")
    delete_at = datetime.now(UTC) + timedelta(hours=hours) if hours else None
    operation = operations.start_create_compute(
        alias,
        name,
        given["compute-size"],
        max_nodes=int(given["compute-nodes"]),
        idle_s=int(given["compute-idle"]) * 60,
        delete_at=delete_at,
    )
    ui().notes["creating"] = operation.id
    close_dialog()


def _suggest(size: Size, taken: Collection[str]) -> str:
    stem = f"gpu-{size.gpus}" if size.gpus else f"cpu-{size.cores}"
    return next(name for name in (f"{stem}-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz") if name not in taken)


def _describe(usable: Sequence[Size], name: str) -> str:
    size = next(found for found in usable if found.name == name)
    gpus = words.plural(size.gpus, "GPU") if size.gpus else "no GPU"
    return f"{size.name} · {words.plural(size.cores, 'core')} · {size.memory_gib:g} GiB · {gpus} · {size.price.words}"


def _billed(draft: Draft) -> bool:
    found = reads.find_connection(draft.connection)
    return bool(found and found.costs_money)


def draw_price(price: Price, billed: bool) -> None:
    """Say what a node of this size costs."""
    if not billed:
        st.text("$0.00/h: this is your own machine.")
        return
    st.text(f"{price.words} for each node while it works. List price, not your bill.")


def _quota_problem(size: Size, nodes: int) -> str:
    """Draw the quota; return why it does not suffice, or nothing."""
    snapshot = reads.read(computing.list_quota, max_age_s=60.0)
    quota: Quota | None = computing.find_quota(snapshot.value, size) if snapshot.value else None
    if quota is None or quota.free is None:
        st.caption("Quota: not enforced here." if snapshot.has_value else "Reading the quota…")
        return ""
    needed = size.cores * nodes
    st.caption(words.plain(f"Quota for {quota.family}: needs {words.plural(needed, 'core')}, {quota.free} free."))
    return "" if needed <= quota.free else f"Quota: needs {needed} cores, {quota.free} free. Pick a smaller size."
