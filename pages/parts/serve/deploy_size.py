"""The size of the machine that answers: what may serve the model, what it costs, whether the quota suffices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import streamlit as st

from core.azureml.connection import Connection
from core.catalog import compute, quota
from core.catalog.compute import Size
from core.catalog.matrix import Offer
from core.catalog.quota import Claim
from core.runs.states import Run
from pages.parts.kit import reads, size_matrix, words
from pages.parts.kit.notices import draw_error, draw_loading, draw_warning

_SIZES_SHOWN = 12


def choose_size(conn: Connection, run: Run) -> Size | None:
    """Draw the sizes that can be had as radio buttons, the cheapest first, and the others with the reason."""
    serving = size_matrix.read_serving(conn, run.model, run.model_version)
    if not isinstance(serving, size_matrix.Serving):
        if serving:
            draw_error(serving, key="sizes")
        else:  # the first is preselected: it must not change when its price comes
            draw_loading("Reading sizes…", (64,))
        return None
    if conn.costs_money:
        st.caption(words.plain(serving.allowed.words))
    if serving.allowed.problem:
        draw_warning(serving.allowed.problem, serving.allowed.hint, key="serving-list")
    size = _draw_radio(serving.can_be_had[:_SIZES_SHOWN], conn.costs_money)
    if size is None:
        st.text("No size that may serve it has quota." if serving.offers else f"No size here may serve '{run.model}'.")
    _draw_refused(conn, run, serving)
    return size


def claim(size: Size, instances: int) -> Claim | None:
    """Return what a deployment needs of the quota, None while that is not known."""
    here, limits = reads.find_connection(), reads.read(quota.list_quota, max_age_s=60.0).value
    if here is None or limits is None:
        return None
    return quota.claim_deployment(limits, size, instances, reserved=here.costs_money)


def find_shortage(size: Size | None, instances: int) -> str:
    """Return why the quota does not suffice, "" where it does or is not known."""
    needed = claim(size, instances) if size and instances > 0 else None
    return f"Quota for {needed.words}" if needed and needed.fits is False else ""


def _draw_radio(offers: Sequence[Offer], billed: bool) -> Size | None:
    if not offers:
        return None
    by_name = {offer.size.name: offer for offer in offers}
    starts = size_matrix.read_starts() if billed else {}
    name = st.radio(
        "Size of the machine that answers",
        list(by_name),
        format_func=words.plain,
        captions=[words.plain(_describe(offer, starts, billed)) for offer in offers],
        key="deploy-size",
    )
    picked = by_name.get(name or "", offers[0])
    size_matrix.draw_unknown_price(picked.price)
    return picked.size


def _describe(offer: Offer, starts: Mapping[str, datetime], billed: bool) -> str:
    size = offer.size
    parts = [words.plural(size.cores, "core"), f"{size.memory_gib:.0f} GiB", offer.size.gpu_words, offer.price.words]
    return " · ".join((*parts, *(size_matrix.describe_chance(offer, starts) if billed else ())))


def _draw_refused(conn: Connection, run: Run, serving: size_matrix.Serving) -> None:
    listed = {offer.size.name for offer in serving.offers}
    why = {offer.size.name: offer.why_not for offer in serving.offers if offer.why_not}
    for size in serving.sizes:
        if size.name not in listed:
            refusal = compute.check_size(size.name, serving.allowed, run.model, "serve", size)
            why[size.name] = refusal or "It serves no online endpoint."
    if not why:
        return
    with st.expander(f"{words.plural(len(why), 'size')} cannot be used, why"):
        if conn.costs_money and size_matrix.is_short(serving.offers):
            size_matrix.draw_quota_link(conn)
        rows = [{"Size": name, "Why not": reason} for name, reason in list(why.items())[:40]]
        st.table(rows, hide_index=True, alt="Sizes that cannot be used, with the reason")
