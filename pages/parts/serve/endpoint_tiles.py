"""The tiles of an endpoint that answers: requests and median latency as it counted them, and what it costs an hour."""

from __future__ import annotations

import streamlit as st

from core.azureml.reader import Snapshot
from core.catalog import compute
from core.catalog.prices import Price, total_per_hour
from core.serving import request_counts
from core.serving.endpoints import EndpointView
from core.serving.request_counts import MINUTES, RequestCount
from core.teardown.due import as_timed
from pages.parts.kit import reads, words
from pages.parts.kit.live import live
from pages.parts.kit.tiles import draw_tile

_EVERY_S = 10.0


def draw_tiles(endpoint: EndpointView) -> None:
    """Draw the tiles and keep them new."""
    _read(endpoint)  # outside the live part, so that the first answer is drawn when it comes
    reads.read(compute.list_sizes, max_age_s=300.0)

    def draw() -> object:
        found = _read(endpoint)
        rate = _find_rate(endpoint)
        with st.grid(3, min_column_width=160):
            _draw_requests(found)
            _draw_latency(found)
            obeyed = endpoint.delete_at if not as_timed("endpoint", endpoint).verdict.ignored else None
            until = f"until {words.moment(obeyed)}" if obeyed else "until you delete it"
            draw_tile("$/h", rate, until)
        if found.error is not None and not found.has_value:
            st.caption(words.plain(f"Requests and p50 are not shown. {found.error.message} {found.error.hint}"))
        elif found.value and found.value.why:
            st.caption(words.plain(found.value.why))
        else:
            st.caption("Counted at the endpoint, not by this page; Azure tells it some minutes late.")
        return found.has_value

    live(draw, key="endpoint-tiles", run_every=_EVERY_S)


def _read(endpoint: EndpointView) -> Snapshot[RequestCount]:
    deployments = tuple(each.name for each in endpoint.deployments)
    return reads.read(request_counts.read_requests, endpoint.name, deployments, max_age_s=_EVERY_S - 1)


def _draw_requests(found: Snapshot[RequestCount]) -> None:
    count = found.value.requests if found.value else None
    shown = words.number(count) if count is not None else _unread(found)
    draw_tile("Requests", shown, f"in {found.value.minutes if found.value else MINUTES} min")


def _draw_latency(found: Snapshot[RequestCount]) -> None:
    value, note = _unread(found), None
    if found.value is not None and found.value.requests is not None:
        value = words.milliseconds(found.value.p50_ms) if found.value.p50_ms is not None else "none yet"
        note = f"in the minute {found.value.at:%H:%M} UTC" if found.value.at else None
    draw_tile("p50", value, note, help="Half of the requests of that minute were answered within this time.")


def _unread(found: Snapshot[RequestCount]) -> str:
    return "unknown" if found.error is not None or found.has_value else "…"


def _find_rate(endpoint: EndpointView) -> str:
    """Return what all deployments cost an hour at list price."""
    found = [
        (reads.read(compute.size_price, one.size, max_age_s=3600.0), one.instances) for one in endpoint.deployments
    ]
    if any(price.loading and not price.has_value for price, _ in found):
        return "…"
    total, unknown = total_per_hour([(price.value or Price(None)).times(instances) for price, instances in found])
    if not unknown:
        return total.words
    return f"{total.words} + {unknown} unknown" if total.per_hour else "price unknown"
