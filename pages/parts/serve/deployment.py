"""One deploy on a page: its steps, the container's log, and what it became."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.azureml.connection import Connection
from core.errors import NotFound
from core.operations import Operation
from core.serving import endpoints
from core.serving.deploy_failures import describe_billing, explain_state
from core.serving.endpoints import EndpointView
from core.teardown import inventory
from core.teardown.plan import TeardownPlan, plan_teardown
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action, link_button
from pages.parts.kit.lineage import draw_lineage
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, draw_warning, ready
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation
from pages.parts.operate.caps import draw_cap
from pages.parts.operate.idle import draw_when_idle_of
from pages.parts.serve.delete_at import describe_end, draw_delete_at
from pages.parts.serve.deploy_settings import draw_redeploy
from pages.parts.serve.endpoint_tiles import draw_tiles

_LOG_HEIGHT, _LOG_LINES = 240, 200


def draw_deploy(name: str) -> None:
    """Draw the endpoint with this name: how it is being made, or how it stands."""
    operation = operations.find_operation_for(ui().alias or "", name, "deploy")
    snapshot = reads.read(endpoints.get_endpoint, name, max_age_s=2.0)
    if operation is None and isinstance(snapshot.error, NotFound):
        draw_empty(f"There is no endpoint '{name}' here.", link("deploy"), "Deploy a model")
        return
    if operation is None and not ready(snapshot, "Reading the endpoint…", (56, 160), key="endpoint"):
        return
    endpoint: EndpointView | None = snapshot.value
    if isinstance(snapshot.error, NotFound) and operation is not None and operation.state == "done":
        draw_empty(f"Endpoint '{name}' was deleted.", link("deploy"), "Deploy again")
        return
    _draw_head(name, endpoint)
    live(lambda: _read_changes(name), key="changes", run_every=2.0)
    if endpoint is not None:
        _draw_facts(endpoint)
        if endpoint.deployments:
            draw_tiles(endpoint)
        draw_restarts(endpoint)
        with st.container(horizontal=True):
            draw_delete_at(endpoint)
            draw_when_idle_of(name)
            said = draw_cap(endpoint)
        if said:
            draw_warning(said, key="cap")
    if operation is not None:
        _draw_steps(operation, endpoint)
    conn = reads.find_connection()
    if conn is not None and (operation is None or operation.finished):
        _draw_failure(conn, name, endpoint, operation)
        if endpoint is not None:
            draw_redeploy(conn, endpoint)
            draw_lineage(endpoint=name)
    with st.expander("Container log", expanded=operation is not None and not operation.finished, key="container-log"):
        live(lambda: _draw_log(name), key="container", run_every=2.0 if operation and not operation.finished else None)


def _read_changes(name: str) -> object:
    """What the page's upper part stands on: drawn again when a container was restarted or the delete-at changed."""
    found: EndpointView | None = reads.read(endpoints.get_endpoint, name, max_age_s=2.0).value
    if found is None:
        return None
    restarts = tuple((one.restarts, one.restarting) for one in found.deployments)
    changing = operations.find_operation_for(ui().alias or "", name, "delete_at")
    return (describe_end(found), restarts, changing.state if changing else "", found.state_word)


def _draw_head(name: str, endpoint: EndpointView | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(words.plain(name), anchor=False, width="content")
        if endpoint is not None:
            draw_endpoint_badge(endpoint)
        st.space("stretch")
        if endpoint is not None and endpoint.live:
            link_button("Chat with it", link("chat", endpoint=name), key="chat", type="primary", icon="chat")
        link("deploy").draw("Deploy another", icon="add")


def draw_endpoint_badge(endpoint: EndpointView) -> None:
    """Draw an endpoint's state as word, icon and colour."""
    looks = {
        "Live": ("cloud_done", "green"),
        "Failed": ("error", "red"),
        "No traffic": ("cloud_off", "orange"),
        "Deleting": ("delete_forever", "orange"),
    }
    icon, colour = looks.get(endpoint.state_word, ("hourglass_top", "gray"))
    st.badge(endpoint.state_word, icon=f":material/{icon}:", color=colour)  # type: ignore[arg-type]


def _draw_facts(endpoint: EndpointView) -> None:
    first = endpoint.deployments[0] if endpoint.deployments else None
    facts = [first.size if first else ""]
    facts.append(describe_end(endpoint))
    facts.append(f"model {endpoint.model}" if endpoint.model else "")
    st.caption(words.plain(" · ".join(filter(None, facts))))


def draw_restarts(endpoint: EndpointView) -> None:
    """Say when a container ended by itself and was started again."""
    for one in endpoint.deployments:
        if not (one.restarts or one.restarting):
            continue
        ended = one.last_exit or f"The container of '{one.name}' ended."
        again = f"It was started again, {words.plural(one.restarts, 'time')} so far."
        last = f" Last at {words.moment(one.restarted_at)}." if one.restarted_at else ""
        said = "It is being started again." if one.restarting else again + last
        draw_warning(f"{ended} {said} The log says more.", key=f"restarts-{one.name}")


def _draw_steps(operation: Operation, endpoint: EndpointView | None) -> None:
    st.header("Steps", anchor=False)

    def draw() -> object:
        now = operations.get_operation(operation.id)
        draw_operation(now, key="deploy")
        if not now.finished:
            st.caption("You may close this page. The deploy goes on while Tunedeck runs.")
        return (now.state, _state_of(reads.read(endpoints.get_endpoint, operation.subject, max_age_s=2.0).value))

    rests = operation.finished and (operation.state != "done" or _state_of(endpoint) == "Live")
    live(draw, key="deploy", run_every=None if rests else 1.0, token=(operation.state, _state_of(endpoint)))


def _draw_failure(conn: Connection, name: str, endpoint: EndpointView | None, operation: Operation | None) -> None:
    """Say what of a failed deployment bills, and draw the ways on; why, where no operation here has said it above."""
    retry = operation.id if operation is not None and operation.state == "failed" else ""
    if not retry and _state_of(endpoint) != "Failed":
        return
    if not retry and (found := reads.read(explain_state, name, max_age_s=60.0).value):
        draw_error(found, key="state")
    st.text(describe_billing(conn, endpoint))
    with st.container(horizontal=True):
        if retry:
            again = operations.retry_operation
            action("Try again", again, retry, key="retry-deploy", icon="refresh", type="primary")
        if endpoint is not None:
            _draw_ending(name)


def _draw_ending(name: str) -> None:
    """Draw the button that ends what a failed deploy bills."""
    plan = reads.read(_plan_end, name, max_age_s=10.0).value
    question = Confirm(
        title="Delete this endpoint?",
        yes="Delete it",
        keep="Keep it",
        lines=plan.sentences if plan else (),
        type_name=plan.confirm if plan else "",
        icon="delete_forever",
    )
    action(
        f"Delete this endpoint, {words.plain(plan.frees)}" if plan else "Delete this endpoint",
        _end,
        plan,
        key="end-deploy",
        icon="delete_forever",
        off="" if plan else "Reading what it would mean…",
        confirm=question,
        then=lambda begun: link("teardown", operation=begun.id),
    )


def _plan_end(conn: Connection, name: str) -> TeardownPlan:
    return plan_teardown(conn, inventory.list_billing(conn), [f"endpoint:{name}"])


def _end(plan: TeardownPlan, typed: str = "") -> Operation:
    begun = operations.start_teardown(plan, typed)
    reads.forget(operations.list_everything)
    return begun


def _state_of(endpoint: EndpointView | None) -> str:
    return endpoint.state_word if endpoint is not None else ""


def _draw_log(name: str) -> object:
    snapshot = reads.read(endpoints.read_deployment_log, name, max_age_s=2.0)
    if snapshot.value is None:
        st.text("No log yet. The container has not begun." if not snapshot.loading else "Reading the log…")
        return None
    log = snapshot.value or reads.read(endpoints.read_deployment_log, name, _LOG_LINES, True, max_age_s=2.0).value
    with st.container(height=_LOG_HEIGHT, autoscroll=True):
        st.code(log or "The container has not written anything yet.", language=None, wrap_lines=True)
    return None
