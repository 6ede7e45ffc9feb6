"""The drawer that creates a compute: size, price, quota and when it is deleted, beside the page that needs it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st

from core import operations
from core.catalog import compute as computing
from core.catalog import quota as quotas
from core.catalog.base_models import BaseModel
from core.catalog.compute import Size
from core.catalog.matrix import Offer, list_absent, list_offers, suggest_offer
from core.catalog.prices import Price, not_a_bill
from core.errors import BadInput, Conflict
from core.launch.drafts import Draft
from core.operations import Operation
from core.teardown.caps import Wanted, to_agreed
from pages.parts.kit import reads, size_matrix, words
from pages.parts.kit.action import action, close_dialog, drawer, open_dialog
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation
from pages.parts.operate.caps import check_start
from pages.parts.operate.idle import HOURS, choose_hours

_KEY, _PICK = "create-compute", "compute-matrix"
_NAME = r"[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]"
LIFETIMES = {"1 h": 1, "8 h": 8, "1 day": 24, "Never": None}
_DEDICATED, _LOW = "Dedicated", "Low priority"


def look_for_new(draft: Draft) -> None:
    """Have the computes read anew once a creation has ended. Call it before they are read."""
    operation = _latest(draft)
    if operation and operation.finished and ui().notes.get("seen-created") != operation.id:
        ui().notes["seen-created"] = operation.id
        reads.forget(computing.list_computes)


def draw(draft: Draft, model: BaseModel, sizes: Sequence[Size], taken: Collection[str]) -> None:
    """Draw the button, the drawer while it is open, and how far the last creation is. taken: names that exist."""
    listed = [offer.size for offer in list_offers(sizes, model.finetune, (), model.name)]
    _read_prices(listed)  # known by the time the drawer opens
    reads.read(quotas.list_quota, max_age_s=60.0)
    permitted = computing.list_allowed_sizes(listed, model.finetune)
    off = "" if permitted else "This region has no size that the model permits."
    action("Create compute", open_dialog, _KEY, key="open-create-compute", icon="add", off=off)
    found = reads.find_connection(draft.connection)
    billed = bool(found and found.costs_money)
    drawer(_KEY, "Create compute", lambda: _draw_form(draft, model, listed, taken, billed), icon="memory", wide=billed)
    if operation := _latest(draft):
        every_s = None if operation.finished else 2.0
        live(lambda: _draw_progress(operation.id), key="creating", run_every=every_s)


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


def _read_prices(listed: Sequence[Size]) -> Sequence[Size]:
    return reads.read(computing.with_prices, tuple(listed), max_age_s=600.0).value or listed


def _draw_form(draft: Draft, model: BaseModel, listed: Sequence[Size], taken: Collection[str], billed: bool) -> None:
    priced = _read_prices(listed)
    low_priority = billed and _choose_low_priority()
    maximum, minimum = _choose_nodes(billed)
    limits = size_matrix.read_quota()
    if limits is None:
        return
    offers = list_offers(priced, model.finetune, limits, model.name, nodes=maximum, low_priority=low_priority)
    offer = size_matrix.choose(offers, _PICK) if billed else _choose_size(offers)
    if billed and (absent := list_absent(priced, model.finetune)):
        st.caption(words.plain(f"The model allows {', '.join(absent)} as well: this region does not list them."))
    st.text_input(
        "Name",
        value=_suggest(offers[0].size, taken),
        key="compute-name",
        autocomplete="off",
        validate=(f"^{_NAME}$", "3 to 24 letters, digits, hyphens; letter first."),
    )
    st.segmented_control(
        "Delete it after", list(LIFETIMES), default="8 h" if billed else "Never", required=True, key="compute-lifetime"
    )
    draw_price(offer.price, billed)
    _draw_button(draft, offers, offer, maximum, minimum, billed)


def _choose_low_priority() -> bool:
    chosen = st.segmented_control("Nodes", (_DEDICATED, _LOW), default=_DEDICATED, required=True, key="compute-tier")
    if chosen == _LOW:
        st.caption(
            "Azure takes such a node away whenever it needs it: the run waits for another, begins again, and may lose "
            "what it had learned. A job may stay on them for 7 days. An endpoint cannot use them."
        )
    return chosen == _LOW


def _choose_nodes(billed: bool) -> tuple[int, int]:
    """Return the most and the fewest nodes."""
    with st.container(horizontal=True):
        maximum = int(st.number_input("Most nodes", min_value=1, max_value=16, value=1, key="compute-nodes"))
        minimum = int(st.number_input("Fewest nodes", 0, maximum, 0, key="compute-least")) if billed else 0
        st.number_input("Idle minutes before it shrinks", 1, 240, 15, key="compute-idle")
    if minimum:
        choose_hours("Keep no node after so long without a job", key="compute-idle-hours")
    else:
        st.caption("Fewest nodes: 0. Without work it shrinks to nothing and costs nothing.")
    return maximum, minimum


def _choose_size(offers: Sequence[Offer]) -> Offer:
    by_name = {offer.size.name: offer for offer in offers}
    picked = st.selectbox(
        "Size",
        list(by_name),
        index=list(by_name).index(suggest_offer(offers).size.name),
        format_func=lambda name: _describe(by_name[name]),
        key="compute-size",
    )
    st.caption(words.plain(f"Quota for {by_name[picked].claim.words}"))
    return by_name[picked]


def _draw_button(draft: Draft, offers: Sequence[Offer], offer: Offer, maximum: int, minimum: int, billed: bool) -> None:
    problem, label = offer.why_not, "Create compute"
    if billed and (conn := reads.find_connection(draft.connection)):
        most = offer.price.times(maximum).words
        label = f"Create on Azure, {most}"
        said = f"It costs up to {most} while it works."
        if minimum:
            always = offer.price.times(minimum).words
            more = f", and up to {most} while it works" if minimum < maximum else ""
            said = f"It costs {always} at all times, with work or without{more}."
        wanted = Wanted(offer.price.times(maximum), at_once=offer.price.times(minimum) if minimum else Price(0.0))
        blocked, accepted = check_start(conn, wanted)
        problem, said = problem or blocked, " ".join((said, *accepted))
        if not st.checkbox(words.plain(said), key=f"compute-price-{said}"):  # a tick is of this price alone
            problem = problem or "Tick the price first."
    action(
        label,
        _create,
        draft.connection,
        [each.size.name for each in offers],
        to_agreed(offer.price.times(maximum)),
        minimum,
        key="create-compute-now",
        type="primary",
        icon="add",
        off=problem,
        width="stretch",
    )
    action("Keep what is there", close_dialog, key="keep-computes", width="stretch")


def _create(alias: str, names: Sequence[str], agreed: str, minimum: int) -> None:
    """Read the fields as they are at the click: the button was drawn before the last of them was left.

    agreed: the price that was ticked; what costs more than that is not created. minimum: nodes that were said to bill.
    """
    given = st.session_state
    if int(given.get("compute-least", 0)) > minimum:
        raise Conflict(
            f"Fewest nodes became {given['compute-least']} as you clicked: they bill without work too.",
            "Nothing was created. Read the price that is shown now, and tick it.",
        )
    name, hours = str(given["compute-name"]).strip(), LIFETIMES[given["compute-lifetime"]]
    if not re.fullmatch(_NAME, name):
        raise BadInput(f"'{name}' cannot be the name of a compute.", "3 to 24 letters, digits, hyphens; letter first.")
    delete_at = datetime.now(UTC) + timedelta(hours=hours) if hours else None
    operation = operations.start_create_compute(
        alias,
        name,
        given.get("compute-size") or size_matrix.find_pick(names, _PICK),
        min_nodes=int(given.get("compute-least", 0)),
        max_nodes=int(given["compute-nodes"]),
        idle_s=int(given["compute-idle"]) * 60,
        delete_at=delete_at,
        idle_hours=HOURS[given.get("compute-idle-hours") or "Keep it"],
        low_priority=given.get("compute-tier") == _LOW,
        agreed=agreed,
    )
    ui().notes["creating"] = operation.id
    close_dialog()


def _suggest(size: Size, taken: Collection[str]) -> str:
    stem = f"gpu-{size.gpus}" if size.gpus else f"cpu-{size.cores}"
    return next(name for name in (f"{stem}-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz") if name not in taken)


def _describe(offer: Offer) -> str:
    size = offer.size
    cores = words.plural(size.cores, "core")
    return f"{size.name} · {cores} · {size.memory_gib:g} GiB · {offer.size.gpu_words} · {offer.price.words}"


def draw_price(price: Price, billed: bool) -> None:
    """Say what a node of this size costs."""
    if not billed:
        st.text("$0.00/h: this is your own machine.")
        return
    st.text(f"{price.words} for each node while it works. {not_a_bill(price.factor)}")
