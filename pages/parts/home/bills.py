"""What bills now, as rows: failed things first, jobs below the nodes they run on, and apart from them what rests."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from core.catalog.prices import not_a_bill
from core.teardown.inventory import NOT_COUNTED, Inventory, Item
from core.words import duration
from pages.parts.kit import words
from pages.parts.kit.links import link
from pages.parts.kit.summary import Summary

_SHOWN = 12


def draw_bills(summary: Summary) -> None:
    """Draw what bills now, whose it is and when it ends."""
    inventory, place = summary.inventory.value, summary.connection
    st.header("What bills now")
    if inventory is None or place is None:
        st.skeleton(44)
        return
    for problem in inventory.problems:
        st.caption(words.plain(problem))
    if not inventory.billing:
        unread = " and ".join(inventory.unread)
        st.text(f"What {unread} exist here is not known." if unread else "Nothing exists here that bills.")
    for item in inventory.billing[:_SHOWN]:
        _draw_bill(item, inventory.list_jobs_on(item))
    if (left := len(inventory.billing) - _SHOWN) > 0:
        link("teardown").draw(f"{left} more in Teardown", icon="more_horiz")
    if not place.costs_money:
        return
    _draw_standing(inventory)
    so_far = f"So far {inventory.cost.words}. " if inventory.billing else ""
    st.caption(f"{so_far}{not_a_bill(place.settings.price_factor)} {NOT_COUNTED}")


def _draw_bill(item: Item, jobs: Iterable[Item]) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            name = item.note if item.kind == "run" else item.name
            link("teardown", pick=item.parent or item.key).draw(words.plain(name), icon="payments")
            if item.state == "Failed":
                st.badge("failed: bills until deleted", icon=":material/error:", color="red")
            st.text(_describe(item), width="stretch")
        if item.price and item.per_hour is None and item.price.why:
            st.caption(words.plain(item.price.why))
        for job in jobs:
            st.text(f"Runs {job.note}: {_describe(job)}; its nodes are counted above.")


def _describe(item: Item) -> str:
    """Return "deployment · 33 s · $3.67/h · $0.03 so far · by ana@contoso.com · never deleted"."""
    since = duration(words.since(item.since)) if item.since else "since unknown"
    so_far = "cost unknown" if item.cost.unknown and not item.cost.amounts else f"{item.cost.words} so far"
    kind = item.compute or ("job" if item.kind == "run" else item.kind)
    return " · ".join((kind, since, item.hourly_words, so_far, item.whose, _end(item)))


def _end(item: Item) -> str:
    if item.delete_at_ignored:
        return f"never deleted: {item.delete_at_ignored}"
    if item.kind == "run":
        return "until it ends"
    return f"deleted {words.moment(item.delete_at)}" if item.delete_at else "never deleted"


def _draw_standing(inventory: Inventory) -> None:
    """Name what rests and still costs something; no price is known for that."""
    if inventory.standing:
        with st.expander(f"{words.plural(len(inventory.standing), 'compute')} at rest", icon=":material/bedtime:"):
            for item in inventory.standing:
                st.text(f"{item.name}: {item.note}, {item.whose}")
