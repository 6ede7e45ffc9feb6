"""What stands round a chat: which endpoint, beside which other, how words are drawn, and why none is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from core import operations, overview
from core.serving import endpoints, transcripts
from core.serving.chat import Sampling
from core.serving.endpoints import EndpointView
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action, draw_download
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.serve.chat_state import Chat, begin_new
from pages.parts.serve.deployment import draw_endpoint_badge

_ALONE = "Nothing"
_EARLIER = 12


@dataclass(frozen=True)
class Choices:
    """What stands in the head. beside: another live endpoint that is asked the same."""

    sampling: Sampling
    system: str
    beside: EndpointView | None


def find_first_endpoint() -> str:
    """Return the newest endpoint that answers and put it into the URL; says what is missing and ends the page."""
    snapshot = reads.read(endpoints.list_endpoints, max_age_s=3.0)
    found: Sequence[EndpointView] = snapshot.value or ()
    if not found:
        st.title("Chat", anchor=False)
        if ready(snapshot, "Looking for endpoints…", (56, 56), key="endpoints"):
            draw_empty("Nothing is live.", link("deploy"), "Deploy a model")
        end_page()
    name = next((endpoint.name for endpoint in found if endpoint.live), found[0].name)
    set_url_id("endpoint", name)
    return name


def draw_head(name: str, endpoint: EndpointView | None) -> Choices:
    """Draw the title, which endpoint and beside which, its state, and how words are drawn."""
    known: Sequence[EndpointView] = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    names = list(dict.fromkeys([name, *(one.name for one in known)]))
    field = fields.place("chat-endpoint", name, names)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title("Chat", anchor=False, width="content")
        st.selectbox(
            "Endpoint",
            names,
            field.index or 0,
            label_visibility="collapsed",
            width=260,
            **fields.follow(field, "Endpoint", _pick_endpoint),
        )
        if endpoint is not None:
            draw_endpoint_badge(endpoint)
        st.space("stretch")
        beside = _choose_beside([one for one in known if one.live and one.name != name])
        sampling, system = draw_sampling()
    return Choices(sampling, system, beside)


def _pick_endpoint(name: str) -> None:
    """Talk to another endpoint: the talk that is open is the other's."""
    set_url_id("chat", None)
    set_url_id("endpoint", name)


def _choose_beside(others: Sequence[EndpointView]) -> EndpointView | None:
    """Draw which other endpoint answers the same questions; nothing where there is no other."""
    if not others:
        return None
    with st.popover("Side by side", icon=":material/compare_arrows:", key="beside"):
        by_name = {one.name: one for one in others}
        chosen = st.radio(
            "Also ask",
            [_ALONE, *by_name],
            format_func=words.plain,
            key="also",
            captions=["", *(words.plain(one.model) for one in others)],
            bind="query-params",
        )
    return by_name.get(chosen or "")


def draw_deleted(name: str, history: Chat) -> None:
    """Say that the endpoint went away under the page; what was said stays."""
    with st.container(border=True, gap="small", key="deleted"):
        st.badge("Deleted", icon=":material/cloud_off:", color="orange")
        st.text(overview.describe_deletion(ui().alias or "", name))
        st.text("Your chat is kept. Export it, or deploy again." if history.turns else "Deploy again to talk to it.")
        link("deploy").draw("Deploy again", icon="cloud_upload")


def draw_not_live(endpoint: EndpointView) -> None:
    """Say why an endpoint does not answer, and the way to change that."""
    up = [one for one in endpoint.deployments if one.up]
    with st.container(border=True, gap="small", key="not-live"):
        if up:
            st.text(f"{endpoint.name} is up but gets no traffic.")
            target = up[0].name
            action(
                f"Send 100% to {words.plain(target)}",
                operations.start_set_traffic,
                ui().alias or "",
                endpoint.name,
                {target: 100},
                key="traffic",
                icon="alt_route",
                type="primary",
            )
        else:
            st.text(f"{endpoint.name} does not answer yet: {endpoint.state_word.lower()}.")
            link("deploy", endpoint=endpoint.name).draw("See how far it is", icon="arrow_forward")

    def look() -> object:
        found = reads.read(endpoints.get_endpoint, endpoint.name, max_age_s=2.0).value
        return found.live if found else None

    live(look, key="wait-live", run_every=2.0)


def draw_keeping(history: Chat) -> None:
    """Draw what can be done with what was said: take it away, begin anew, open an earlier chat."""
    earlier = [
        one
        for one in transcripts.list_transcripts(ui().alias or "", history.endpoint, _EARLIER)
        if one.id != history.id and one.turns
    ]
    with st.container(horizontal=True, gap="small", key="keeping"):
        if history.turns:
            draw_download("Export", history.to_json(), f"chat-{history.endpoint}.json", key="export", type="tertiary")
            action("New chat", _begin_new, history.endpoint, key="new-chat", icon="add_comment", type="tertiary")
        if earlier:
            with st.popover("Earlier chats", icon=":material/history:", type="tertiary", key="earlier"):
                for one in earlier:
                    first = str(one.turns[0].get("question", ""))[:60]
                    label = f"{words.moment(one.updated_at)} · {words.plural(len(one.turns), 'question')} · {first}"
                    link("chat", endpoint=history.endpoint, chat=one.id).draw(words.plain(label))


def _begin_new(endpoint: str) -> None:
    begin_new(endpoint)
    set_url_id("chat", None)


def draw_unknown_chat(history: Chat) -> None:
    """Say that the chat of the link is not kept here, and put the one that is shown into the URL."""
    wanted = url_id("chat")
    if wanted and wanted != history.id and not history.turns:
        st.text(f"There is no chat '{wanted}' with {history.endpoint} here.")
        return
    set_url_id("chat", history.id if history.turns else None)


def draw_sampling() -> tuple[Sampling, str]:
    """Draw how words are drawn; returns it with the system prompt."""
    with st.popover("Sampling", icon=":material/tune:", key="sampling"):
        temperature = st.slider(
            "Temperature",
            0.0,
            2.0,
            0.6,
            0.1,
            key="temperature",
            persist_state="session",
            help="0 takes the likeliest word each time.",
        )
        top_p = st.slider(
            "Top p",
            0.05,
            1.0,
            0.9,
            0.05,
            key="top-p",
            persist_state="session",
            help="Draws only from the likeliest words that together reach this share.",
        )
        longest = st.number_input("Max tokens", 1, 2048, 200, 50, key="max-tokens", persist_state="session")
        system = st.text_area(
            "System prompt", key="system", persist_state="session", height=90, placeholder="Empty: none is sent"
        )
    return Sampling(temperature, top_p, int(longest or 200)), (system or "").strip()
