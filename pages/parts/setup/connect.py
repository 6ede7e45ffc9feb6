"""The pieces of Connect: this machine, an Azure workspace and the proof of access to it, workspaces used before."""

from __future__ import annotations

import streamlit as st

from core.azureml import connection as connections
from core.azureml.access import NEEDED, AccessLine
from core.azureml.addresses import AZURE, Cloud
from core.azureml.connection import Connection
from core.azureml.places import Listed
from core.azureml.settings import (
    LOCAL,
    Settings,
    find_settings,
    list_settings,
    make_settings,
    parse_config_json,
    save_settings,
)
from core.errors import BadInput
from core.launch import drafts
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_error, draw_warning, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.kit.steps import draw_steps
from pages.parts.setup import access, accounts, choices
from pages.parts.setup.account import draw_account, typed_tenant
from pages.parts.setup.workspace_choices import draw_workspace_choices

_UUID = r"^\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\s*$"
_FIELDS = ("subscription", "group", "workspace", "tenant", "cloud")


def draw_local() -> None:
    """Draw the card of this machine and who the workspace says we are."""
    ui().view.pop("filled in", None)  # Streamlit drops what fields hold that are not drawn
    facts = reads.read(Connection.facts, max_age_s=30.0, alias=LOCAL)
    with st.container(border=True):
        st.header("This machine")
        if ready(facts, "Looking for a local workspace…", (24,), key="local"):
            st.text(facts.value.machine or "Ready")
        st.markdown("Free. Trains and serves for real. No account.")
        _draw_use(LOCAL, "Use this workspace")
    if facts.value is not None:
        _draw_facts(facts.value)


def draw_azure() -> None:
    """Draw who acts, the form, and the proof of access once it was asked for."""
    known = find_settings(url_id("ws") or "")
    _fill_in(known)
    checked = ui().notes.get("checked") or (known.alias if known else None)
    check = access.find(checked) if checked else None
    cloud, has_list = draw_account(check.settings if check else known, _pick)
    off = "" if cloud else "Read the cloud's addresses first."
    with st.expander("The workspace by its ids", expanded=not has_list), st.form("azure", border=False):
        st.text_input(
            "Subscription id",
            key="azure-subscription",
            validate=(_UUID, "Use the 36 characters of the subscription's id."),
        )
        left, right = st.columns(2)
        left.text_input("Resource group", key="azure-group")
        right.text_input("Workspace", key="azure-workspace")
        key = "check-access"
        action("Check access", _check_form, cloud, key=key, type="primary", icon="key", off=off, in_form=True)
    with st.expander("Upload config.json instead"):
        uploaded = st.file_uploader("The workspace's config.json", type="json", max_upload_size=1)
        off = off or ("" if uploaded else "Choose the file first.")
        label, given = "Check access with this file", (uploaded, cloud)
        action(label, _check_file, *given, key="check-file", icon="upload_file", off=off)
    if check:
        st.header(words.plain(f"Access to {check.settings.workspace_name}"))
        done = reads.find_work("access", check.settings.alias)
        live(lambda: _draw_check(check), key="access", run_every=0.7 if done and done.loading else None)
        if done and done.error:
            draw_error(done.error, key="access")
        if done and done.has_value and done.value:
            _draw_outcome(check)


def _fill_in(known: Settings | None) -> None:
    """Fill in the form for the workspace of the link, once for each; what was checked before is another one."""
    if known and ui().view.get("filled in") != known.alias:
        ui().view["filled in"] = known.alias
        ui().notes.pop("checked", None)
        ids = (known.subscription_id, known.resource_group, known.workspace_name)
        for name, value in zip(_FIELDS, (*ids, known.tenant_id or "", known.cloud.name), strict=True):
            st.session_state[f"azure-{name}"] = value


def _pick(listed: Listed, cloud: Cloud) -> None:
    """Fill in the form with a workspace of the list, and check it."""
    ids = (listed.subscription.id, listed.resource_group, listed.name)
    for name, value in zip(_FIELDS, ids, strict=False):
        st.session_state[f"azure-{name}"] = value
    _check_form(cloud)


def draw_known() -> None:
    """Draw the workspaces used before."""
    others = [settings for settings in list_settings() if settings.kind == "azure"]
    if not others:
        return
    st.header("Used before")
    for settings in others:
        cloud = "" if settings.cloud == AZURE else f" ({settings.cloud.title})"
        title = f"Azure · {settings.workspace_name} in {settings.resource_group}{cloud}"
        link("connect", ws=settings.alias).draw(words.plain(title), icon="cloud")


def _draw_use(alias: str, label: str) -> None:
    """Draw the primary button; a switch away from an unfinished draft is asked about."""
    here = ui()
    draft = drafts.find_draft(here.draft_id) if here.draft_id else None
    confirm = None
    if draft and not draft.launched and draft.connection != alias and (draft.model or draft.dataset):
        to, of = _title(alias), _title(draft.connection)
        confirm = Confirm(
            f"Switch to {to}?",
            f"Switch to {to}",
            f"Keep {of}",
            icon="swap_horiz",
            lines=(f"Your runs in {of} keep going. The draft stays with {of}.",),
        )
    action(
        label,
        choices.begin,
        alias,
        key=f"use-{alias}",
        type="primary",
        icon="arrow_forward",
        confirm=confirm,
    )


def _draw_facts(facts: connections.WorkspaceFacts) -> None:
    st.header("Access")
    lines = [("Workspace", facts.name), ("Signed in as", facts.user), ("Region", facts.region)]
    if facts.tenant:
        lines.append(("Tenant", facts.tenant))
    if facts.token_valid_until:
        lines.append(("Token valid until", words.moment(facts.token_valid_until)))
    draw_steps(((f"{title}: {value}", "ok", "", None) for title, value in lines), key="facts")


def _check_form(cloud: Cloud) -> None:
    subscription, group, workspace = (str(st.session_state[f"azure-{name}"]) for name in _FIELDS[:3])
    tenant = typed_tenant()
    account = accounts.find(cloud, tenant)
    seen_in = account.listing.tenant if account else ""
    _check(make_settings(subscription, group, workspace, tenant or seen_in, cloud))


def _check_file(uploaded: object, cloud: Cloud) -> None:
    if uploaded is None:
        raise BadInput("No file was chosen.", "Choose the workspace's config.json.")
    _check(parse_config_json(uploaded.getvalue(), cloud))  # type: ignore[attr-defined]


def _check(settings: Settings) -> None:
    """Check access as whoever signed in above, else as whom this machine has."""
    ui().notes["checked"] = ui().view["filled in"] = settings.alias
    set_url_id("ws", settings.alias)  # so that a link to another one, or back, changes the address
    account = accounts.find(settings.cloud, typed_tenant())
    access.start(settings, account.credential if account and account.signed_in else None)


def _draw_check(check: access.AccessCheck) -> object:
    """Draw the lines so far; the token tells when the work has ended."""
    known = list(check.lines)
    if known and known[0].title == "Sign-in" and known[0].state == "ok":
        st.text(known.pop(0).detail)  # for whom all below was answered
    lines = [(*_words_of(line), None) for line in known]
    busy = _is_busy(check)
    if busy:
        lines.append(("Checking", "running", "", None))
    draw_steps(lines, key="access")
    if said := [f"{line.title}\n{line.service}" for line in list(check.lines) if line.service]:
        with st.expander("Details"):
            st.code("\n\n".join(said), language=None, wrap_lines=True)
    return busy


def _is_busy(check: access.AccessCheck) -> bool:
    done = reads.find_work("access", check.settings.alias)
    return done is not None and done.loading


def _words_of(line: AccessLine) -> tuple[str, str, str]:
    """Return a step's title, state and text; of a failure, or with an address that would be a link, all is inside."""
    if line.state != "failed" and "@" not in line.detail:
        return f"{line.title}: {line.detail}", line.state, line.hint
    state = "warning" if line.state == "failed" and line.title not in NEEDED else line.state
    return line.title, state, "\n".join(text for text in (line.detail, line.hint) if text)


def _draw_outcome(check: access.AccessCheck) -> None:
    settings = check.settings
    if find_settings(settings.alias) != settings:
        save_settings(settings)
    facts = reads.read(Connection.facts, max_age_s=60.0, alias=settings.alias)
    if facts.value is not None:
        st.caption(words.plain(f"{facts.value.region} · tenant {facts.value.tenant}"))
    if lacking := [line.title.lower() for line in check.lines if line.state == "failed"]:
        draw_warning(f"You can use this workspace, but not for everything: {', '.join(lacking)}.", key="lacking")
    _draw_use(settings.alias, "Use this workspace")
    draw_workspace_choices(settings.alias)


def _title(alias: str) -> str:
    settings = find_settings(alias)
    return "Local" if alias == LOCAL or settings is None else f"Azure · {settings.workspace_name}"
