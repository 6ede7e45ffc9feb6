"""The first box of Connect on Azure: which cloud, who acts there, and the workspaces they see, to choose from."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import streamlit as st

from core.azureml.addresses import AZURE, CLOUDS, Cloud, metadata_url
from core.azureml.places import Listed, Listing, ask_cloud
from core.azureml.settings import Settings, list_settings
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, draw_error_of, on_change
from pages.parts.kit.elements.copy_button import draw_copy
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error
from pages.parts.kit.state import ui
from pages.parts.setup import accounts
from pages.parts.setup.accounts import Account

_ANOTHER = "another"
_NO_CODES = "Your company's policy refuses device codes (AADSTS53003, 53000 or 50005). Sign in with the browser."
Pick = Callable[[Listed, Cloud], None]


def draw_account(again: Settings | None, pick: Pick) -> tuple[Cloud | None, bool]:
    """Draw the box; return the cloud, and whether there are workspaces to pick from.

    again: what is checked anew once somebody has signed in.
    """
    with st.container(border=True):
        st.header("Your account")
        left, right = st.columns(2)
        with left:
            cloud = _draw_cloud()
        right.text_input("Tenant id, where you use several", key="azure-tenant")
        tenant = typed_tenant()
        unread = "" if cloud else "Read the cloud's addresses first."
        no_codes = _NO_CODES if cloud and accounts.code_refused(cloud, tenant) else ""
        buttons: tuple[tuple[str, str, accounts.Method, str], ...] = (
            ("Find my workspaces", "search", "", unread),
            ("Sign in with the browser", "login", "browser", unread),
            ("Sign in with a code", "pin", "device_code", unread or no_codes),
        )
        with st.container(horizontal=True):
            for label, icon, method, off in buttons:
                key = f"sign-in-{method or 'machine'}"
                action(label, _start, cloud, method, again, key=key, icon=icon, off=off)
        account = accounts.find(cloud, tenant) if cloud else None
        return cloud, account is not None and _draw_found(account, pick)


def typed_tenant() -> str:
    """Return the tenant that stands in its field, also where the page was not drawn since it was typed."""
    return str(st.session_state.get("azure-tenant", "")).strip()


def _start(cloud: Cloud, method: accounts.Method, again: Settings | None) -> None:
    accounts.start(cloud, typed_tenant(), method, again if again and again.cloud == cloud else None)


def _draw_cloud() -> Cloud | None:
    """Draw which cloud it is; the address of one that is not known is asked what it is first."""
    own = [settings.cloud for settings in list_settings() if settings.cloud.is_custom]
    known: dict[str, Cloud] = {cloud.name: cloud for cloud in (*CLOUDS.values(), *own, *ui().notes.get("clouds", ()))}
    names = [*known, _ANOTHER]
    if read := ui().notes.pop("cloud", ""):
        st.session_state["azure-cloud"] = read
    chosen: str = st.selectbox(
        "Cloud",
        names,
        format_func=lambda name: known[name].title if name in known else "Another, by the address of its metadata",
        key="azure-cloud",
    )
    if chosen in known:
        cloud = known[chosen]
        if cloud != AZURE:
            st.text(f"Signs in at {urlsplit(cloud.login).netloc}, works at {cloud.host}.")
        return cloud
    address = st.text_input(
        "Address of its metadata", key="azure-metadata", placeholder="https://management.contoso.example"
    )
    action("Read its addresses", _read_cloud, key="read-cloud", icon="travel_explore")
    asked = reads.find_work("cloud", address)
    if asked and asked.loading:
        st.caption("Reading…")
        reads.watch(f"cloud:{address}", lambda: reads.find_work("cloud", address) or reads.LOADING)
    elif asked and asked.error:
        draw_error(asked.error, key="cloud")
    elif asked and asked.value:
        ui().notes.setdefault("clouds", []).append(asked.value)
        ui().notes["cloud"] = asked.value.name
        reads.end_work("cloud", address)
        st.rerun()
    return None


def _read_cloud() -> None:
    address = str(st.session_state["azure-metadata"])
    metadata_url(address)  # raises BadInput for what is none
    reads.end_work("cloud", address)
    reads.run_once("cloud", address, lambda: ask_cloud(address))


def _draw_found(account: Account, pick: Pick) -> bool:
    work = account.work
    live(lambda: _draw_progress(account), key="account", run_every=0.7 if work.loading else None)
    if work.error:
        draw_error(work.error, key="account")
    return work.has_value and _draw_choice(account, pick)


def _draw_progress(account: Account) -> object:
    """Draw who acts and how far the list is; before that the code, which is typed elsewhere while it stands here."""
    listing, work = account.listing, account.work
    if account.signed_in:
        st.text(f"{listing.account} by {listing.source}, tenant {listing.tenant}.")
        if work.loading:
            st.caption(f"Looking through {words.plural(len(listing.subscriptions), 'subscription')}…")
            st.progress(listing.lists_read / max(1, listing.lists))
    elif work.loading and account.code:
        st.text(f"Type this code on the page that opens. It ends {words.moment(account.code.expires_at)}.")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.code(account.code.code, language=None, width=160)
            draw_copy(account.code.code, key="copy-code")
            st.link_button("Open the sign-in page", account.code.url, icon=":material/open_in_new:")
    elif work.loading and account.method == "browser":
        st.text(
            "Sign in in the window that opens on the machine of this dashboard. "
            f"It is waited for until {words.clock(account.waited_until)}."
        )
    elif work.loading:
        st.caption("Asking the identities of this machine…")
    return work.loading, account.signed_in


def _draw_choice(account: Account, pick: Pick) -> bool:
    listing, key = account.listing, "azure-listed"

    def picked() -> None:
        if chosen := st.session_state[key]:
            pick(chosen, account.cloud)

    usable = sorted((each for each in listing.resources if not each.kind.advice), key=_label)
    if usable:
        st.selectbox(
            f"Your workspaces ({len(usable)})",
            usable,
            None,
            format_func=_label,
            placeholder="Search by name, group, region or subscription",
            key=key,
            **on_change(key, picked),
        )
        draw_error_of(key)
    else:
        draw_empty(f"No workspace was found in {words.plural(len(listing.subscriptions), 'subscription')}.")
    _draw_rest(listing)
    return bool(usable)


def _draw_rest(listing: Listing) -> None:
    """Draw what nothing can be trained in, and what is not in the list."""
    if others := sorted((each for each in listing.resources if each.kind.advice), key=_label):
        with st.expander(f"{words.plural(len(others), 'resource')} cannot run this pipeline, and why"):
            rows = [
                {"Name": words.plain(_label(each)), "Why, and what to do": words.plain(each.kind.advice)}
                for each in others
            ]
            st.table(rows, hide_index=True, alt=f"{len(rows)} resources that cannot be used, with the reason")
    if listing.problems:
        with st.expander(f"{words.plural(len(listing.problems), 'list')} could not be read"):
            for problem in listing.problems:
                st.text(str(problem))
    if listing.other_tenants:
        there = ", ".join(listing.other_tenants)
        st.caption(words.plain(f"Your account is known elsewhere too: {there}. Fill in a tenant's id to look there."))


def _label(each: Listed) -> str:
    kind = "" if each.kind.words == "Workspace" else f" · {each.kind.words}"
    return f"{each.name}{kind} · {each.resource_group} · {each.region} · {each.subscription.name}"
