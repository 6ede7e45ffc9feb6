"""The matrix of sizes as a table to sort and to pick from: price, GPUs, quota, and why not. Azure's only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import streamlit as st

from core import operations, overview
from core.azureml.connection import Connection
from core.catalog import compute as computing
from core.catalog import quota as quotas
from core.catalog import serving_sizes
from core.catalog.allow_list import AllowList
from core.catalog.compute import Size
from core.catalog.matrix import Offer, list_serving_offers
from core.catalog.prices import Price, not_a_bill
from core.catalog.quota import Quota
from core.errors import TunedeckError
from pages.parts.kit import reads, words
from pages.parts.kit.state import ui


@dataclass(frozen=True)
class Serving:
    """What may serve a model here. sizes: all of the region; offers: those that may, the cheapest with quota first."""

    sizes: Sequence[Size]
    allowed: AllowList
    offers: Sequence[Offer]

    @property
    def can_be_had(self) -> list[Offer]:
        """Return those that no quota speaks against."""
        return [offer for offer in self.offers if not offer.why_not]


def read_serving(conn: Connection, model: str, version: str) -> Serving | TunedeckError | None:
    """Return the sizes that may serve a model with price and quota, why that is not known, or None while it is read."""
    sizes = reads.read(computing.list_sizes, max_age_s=300.0)
    found = reads.read(serving_sizes.read_serving_list, model, version or "latest", max_age_s=300.0)
    if sizes.value is None or found.value is None:
        return sizes.error or found.error
    listed = computing.list_allowed_sizes(sizes.value, found.value, online=True)
    prices = reads.read(computing.with_prices, tuple(listed), max_age_s=600.0)
    limits = reads.read(quotas.list_quota, max_age_s=60.0)
    if any(one.value is None and one.error is None for one in (prices, limits)):
        return None
    offers = list_serving_offers(prices.value or listed, found.value, limits.value or (), billed=conn.costs_money)
    return Serving(sizes.value, found.value, offers)


def read_quota() -> Sequence[Quota] | None:
    """Return the limits, None while they are read for the first time; says so then, and where they cannot be read."""
    snapshot = reads.read(quotas.list_quota, max_age_s=60.0)
    if snapshot.value is None and snapshot.error:
        st.caption(words.plain(f"The quota could not be read: {snapshot.error.message}"))
        return ()
    if snapshot.value is None:
        st.caption("Reading the quota…")
    return snapshot.value


def choose(offers: Sequence[Offer], name: str) -> Offer:
    """Draw the table and return the picked row, at first the first. name: under which the pick is remembered."""
    names = [offer.size.name for offer in offers]
    picked = find_pick(names, name)
    key = f"{name}-{hashlib.sha256(repr(names).encode()).hexdigest()[:8]}"  # another order is another table
    options = {
        "on_select": lambda: _pick(names, name, key),
        "selection_mode": "single-row-required",
        "selection_default": {"selection": {"rows": [names.index(picked)]}},
        "key": key,
    }
    draw_table(offers, **options)
    offer = offers[names.index(picked)]
    _draw_offer(offer, read_starts().get(picked.lower()))
    if is_short(offers) and (conn := reads.find_connection()):
        draw_quota_link(conn)
    return offer


def is_short(offers: Sequence[Offer]) -> bool:
    """Tell whether more quota would help."""
    return any(offer.claim.fits is not True for offer in offers)


def draw_quota_link(conn: Connection) -> None:
    """Draw where more quota is asked for on Azure."""
    st.markdown(f":material/open_in_new: [Ask Azure for more quota]({quotas.request_url(conn)})")


def draw_unknown_price(price: Price) -> None:
    """Say why a price is not known."""
    if price.per_hour is None and price.why:
        st.caption(words.plain(f"Price unknown. {price.why}"))


def describe_chance(offer: Offer, starts: Mapping[str, datetime]) -> tuple[str, str]:
    """Return what speaks for it that a machine will come: the quota, and that one came."""
    started = starts.get(offer.size.name.lower())
    seen = f"last started here {words.moment(started)}" if started else "not started here yet"
    return "quota free" if offer.claim.fits else "quota unknown", seen


def draw_table(offers: Sequence[Offer], **options: Any) -> None:
    """Draw the sizes as a table to sort. options: of `st.dataframe`."""
    starts = read_starts()
    st.dataframe(
        [_to_row(offer, starts) for offer in offers],
        hide_index=True,
        column_config=_columns(offers),
        placeholder="unknown",
        alt="; ".join(f"{offer.size.name}: {offer.price.words}, {offer.why_not or 'can be had'}" for offer in offers),
        **options,
    )


def find_pick(names: Sequence[str], name: str) -> str:
    """Return the size that was picked in the table, the first where none of these was."""
    picked = str(ui().notes.get(name, ""))
    return picked if picked in names else names[0]


def _pick(names: Sequence[str], name: str, key: str) -> None:
    if rows := st.session_state[key]["selection"]["rows"]:
        ui().notes[name] = names[rows[0]]


def _to_row(offer: Offer, starts: Mapping[str, datetime]) -> dict[str, Any]:
    started = starts.get(offer.size.name.lower())
    return {
        "Size": offer.size.name,
        "Per hour": offer.price.per_hour,
        "Usable": offer.usable,
        "GPUs": offer.size.gpu_words,
        "Cores": offer.claim.needed,
        "Free": offer.claim.free,
        "GiB": offer.size.memory_gib,
        "Last started here": words.moment(started) if started else "never",
        "Why not": offer.why_not,
    }


def _columns(offers: Sequence[Offer]) -> dict[str, Any]:
    price = next((offer.price for offer in offers if offer.price.per_hour is not None), Price(0.0))
    mark = "$" if price.currency == "USD" else f"{price.currency} "
    return {
        "Per hour": st.column_config.NumberColumn(
            format=f"{mark}%.2f", help=f"Of one machine. {not_a_bill(price.factor)}"
        ),
        "Cores": st.column_config.NumberColumn(help="That all of them need together, with the reserve for upgrades."),
        "Free": st.column_config.NumberColumn(help="Cores left under the limit that binds."),
        "GiB": st.column_config.NumberColumn(help="Memory of a machine."),
    }


def _draw_offer(offer: Offer, started: datetime | None) -> None:
    """Say of the picked row what its numbers stand for."""
    st.text(f"{offer.size.name} · {offer.size.gpu_words}")
    st.caption(words.plain(f"Quota for {offer.claim.words}"))
    seen = f"last started here on {words.moment(started)}" if started else "none of this size has started here yet"
    st.caption(words.plain(f"Quota is not capacity: {seen}."))
    draw_unknown_price(offer.price)


def read_starts() -> Mapping[str, datetime]:
    """Return when a machine of each size last came, as far as this home knows."""
    runs = reads.read(overview.read_runs, max_age_s=60.0).value or ()
    computes = reads.read(computing.list_computes, max_age_s=60.0).value or ()
    return operations.list_starts(runs, computes, operations.list_operations(ui().alias))
