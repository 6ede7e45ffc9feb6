"""The fields of a deployment beside its size: how many instances, how requests are taken and the container probed."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from core import operations
from core.azureml import tags
from core.azureml.connection import Connection
from core.catalog import compute
from core.catalog.compute import Size
from core.catalog.prices import Price
from core.operations import Operation
from core.serving.deployment_settings import (
    MOST_INSTANCES,
    PARTS,
    READINESS,
    Setting,
    describe_patience,
    find_default,
    list_settings,
)
from core.serving.endpoints import EndpointView
from core.teardown.caps import Wanted, to_agreed
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.state import ui
from pages.parts.operate.caps import check_start, find_reached
from pages.parts.serve.deploy_size import claim, find_shortage

_ORIGINS = {
    "lesson": "the lesson's value",
    "service": "what Azure takes where nothing is sent",
    "this machine": "what suits the server here, which answers many at once",
    "runs now": "the value that runs now",
    "yours": "changed here",
}


def draw_instances(size: Size | None, *, key: str, running: int = 1, standing: int = 0) -> int:
    """Draw how many machines answer, with the price of all and the quota of those that do not stand yet."""
    count = int(
        st.number_input(
            "Instances",
            1,
            MOST_INSTANCES,
            min(running, MOST_INSTANCES),
            key=f"{key}-instances",
            width=160,
            help="Each is a machine of this size with a container of its own; requests are spread over them.",
        )
    )
    if size is None:
        return count
    if count > 1:
        st.caption(words.plain(f"{count} × {size.price.words} = {size.price.times(count).words}"))
    if count > standing and (needed := claim(size, count - standing)):
        mark = ":material/error: " if needed.fits is False else ""
        st.caption(mark + words.plain(f"Quota for {needed.words}"))
    return count


def draw_settings(*, key: str, local: bool, running: Mapping[str, int] | None = None, where: str = "") -> None:
    """Draw the settings folded under one heading, each with its origin. running: what a deployment has now."""
    shown = list_settings(local=local)
    starts = {setting: find_default(setting, running or {}, where, local=local) for setting in shown}
    with st.expander("Requests and probes", key=f"{key}-settings"):
        st.caption(
            "After each field: where its value comes from. " + "; ".join(f"{k}: {v}" for k, v in _ORIGINS.items()) + "."
        )
        for part, title in PARTS.items():
            rows = [setting for setting in shown if setting.part == part]
            if rows:
                st.markdown(f"**{title}**")
                with st.grid(2, min_column_width=240, gap="small"):
                    for setting in rows:
                        _draw_field(setting, key, *starts[setting])
        if any(setting.part == READINESS for setting in shown):
            st.caption(words.plain(describe_patience(read_settings(key=key, local=local))))


def read_settings(*, key: str, local: bool) -> dict[str, int]:
    """Return what the fields hold now."""
    drawn = {setting.name: ui().fields[f"{key}-{setting.name}"] for setting in list_settings(local=local)}
    return {name: int(st.session_state[field.key]) for name, field in drawn.items()}


def read_instances(*, key: str) -> int:
    """Return how many instances the field holds now."""
    return int(st.session_state[f"{key}-instances"])


def draw_redeploy(conn: Connection, endpoint: EndpointView) -> None:
    """Draw the settings that run now, and the button that deploys to this endpoint anew with what they became."""
    deployment, local = endpoint.deployment, conn.cloud.is_local
    if deployment is None or not (endpoint.model and endpoint.tags.get(tags.OPERATION)):
        return
    key = f"again-{endpoint.name}-{deployment.tags.get(tags.OPERATION, '')}"
    st.header("Settings", anchor=False)
    size = compute.find_size(reads.read(compute.list_sizes, max_age_s=300.0).value or (), deployment.size)
    if size and (priced := reads.read(compute.with_prices, (size,), max_age_s=600.0).value):
        size = priced[0]
    count = draw_instances(size, key=key, running=deployment.instances, standing=deployment.instances)
    draw_settings(key=key, local=local, running=deployment.settings)
    started = {
        setting.name: find_default(setting, deployment.settings, local=local)[0]
        for setting in list_settings(local=local)
    }
    same = count == deployment.instances and read_settings(key=key, local=local) == started
    price = size.price.times(count) if size else Price(None)
    cost = price.words
    blocked, ticks = check_start(conn, Wanted(price, replaces=f"endpoint:{endpoint.name}"))
    problem = find_shortage(size, count - deployment.instances) or blocked or find_reached(endpoint)
    action(
        f"Deploy again on Azure, {words.plain(cost)}" if conn.costs_money else "Deploy again",
        _redeploy,
        endpoint,
        deployment.size,
        local,
        key,
        price,
        key="redeploy",
        icon="refresh",
        off="Nothing was changed." if same and deployment.up else problem,
        confirm=Confirm(
            title="Deploy to this endpoint anew?",
            yes=f"Deploy again, {words.plain(cost)}",
            keep="Keep it as it is",
            lines=(f"{endpoint.name} on {count} × {deployment.size}, {cost}.",),
            ticks=ticks,
            icon="refresh",
        )
        if conn.costs_money
        else None,
    )


def _redeploy(endpoint: EndpointView, size: str, local: bool, key: str, price: Price) -> Operation:
    begun = operations.start_redeploy(
        ui().alias or "",
        endpoint,
        size,
        read_instances(key=key),
        read_settings(key=key, local=local),
        agreed=to_agreed(price),
    )
    reads.forget(operations.list_everything)
    return begun


def _draw_field(setting: Setting, key: str, start: int, origin: str) -> None:
    """Draw a setting, which begins anew where its start becomes another, unless it was changed here."""
    name = f"{key}-{setting.name}"
    field = fields.place(name, ui().view.get(name, start))
    options = fields.follow(field, setting.label, _change, name)
    help = f"{setting.help} `{setting.name}`"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        value = st.number_input(setting.label, 1, setting.most, field.value, help=help, **options)
        st.caption(words.plain(origin if value == start else "yours"), width="content")


def _change(value: int, name: str) -> None:
    ui().view[name] = value
