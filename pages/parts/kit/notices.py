"""How a page says that something failed, is empty, is being read or is old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

import streamlit as st

from core.azureml.reader import Snapshot
from core.azureml.settings import LOCAL
from core.errors import LocalWorkspaceDown, SignInFailed, TunedeckError
from pages.parts.kit import reads, words
from pages.parts.kit.guard import run_callback
from pages.parts.kit.links import link
from pages.parts.kit.state import ui

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Snapshot[T]):
    """A snapshot that has a value; for the type checker alone."""

    value: T


def draw_error(error: TunedeckError, *, key: str = "") -> None:
    """Draw what happened, what to do and where, and the details folded."""
    with st.container(border=True, key=f"error-{key}" if key else None, gap="xsmall"):
        st.badge("Failed", icon=":material/error:", color="red")
        st.markdown(f"**{words.plain(error.message)}**")
        if error.hint:
            draw_hint(error.hint)
        if isinstance(error, LocalWorkspaceDown):
            _draw_start_button(key)
        if isinstance(error, SignInFailed) and ui().alias != LOCAL and ui().page != "connect":
            link("connect", ws=ui().alias).draw("Go to Connect", icon="key")
        if error.detail:
            with st.expander("Details"):
                st.code(error.detail, language=None, wrap_lines=True)


def draw_hint(hint: str, *, small: bool = False) -> None:
    """Draw a hint; what stands between backticks is shown as code, nothing else of it is Markdown."""
    pieces = hint.split("`")
    text = "".join(f"`{piece}`" if odd % 2 else words.plain(piece) for odd, piece in enumerate(pieces))
    st.markdown(f":small[{text}]" if small else text)


def draw_warning(message: str, hint: str = "", detail: str = "", *, key: str = "") -> None:
    """Draw a warning that blocks nothing; what it was read from is folded."""
    with st.container(border=True, key=f"warning-{key}" if key else None, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge("Note", icon=":material/info:", color="orange")
            st.markdown(words.plain(f"{message} {hint}".strip()), width="stretch")
        if detail:
            with st.expander("Details"):
                st.code(detail, language=None, wrap_lines=True)


def draw_empty(message: str, link: Any = None, label: str = "") -> None:
    """Draw that there is nothing yet, and the way on."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.text(message, width="stretch")
        if link is not None:
            link.draw(label, icon="arrow_forward")


def draw_loading(message: str, heights: tuple[int, ...] = (56, 56, 56)) -> None:
    """Draw the outline of what is being read; what the local workspace is asked waits until it is up."""
    starting = reads.starting_local() if ui().alias in (None, LOCAL) else None
    st.caption("Starting the workspace on this machine…" if starting and starting.loading else message)
    for height in heights:
        st.skeleton(height)


def draw_age(snapshot: Snapshot[Any]) -> None:
    """Draw how old a reading is; "Stale" where three tries in a row failed."""
    ui().age_drawn = True
    if not snapshot.is_stale:
        st.caption(words.age(snapshot.age_s))
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge("Stale", icon=":material/sync_problem:", color="orange")
        st.caption(words.plain(f"{words.age(snapshot.age_s)}. {snapshot.error.message if snapshot.error else ''}"))


def ready(
    snapshot: Snapshot[T], message: str, heights: tuple[int, ...] = (56, 56, 56), *, key: str = ""
) -> TypeGuard[Loaded[T]]:
    """Draw what stands in the way of a value: still being read, or an error with no value yet. True: use the value.

    A value whose newest reading failed is used, and said to be old.
    """
    if snapshot.has_value:
        if snapshot.is_stale:
            draw_age(snapshot)
        return True
    if snapshot.error is not None:
        draw_error(snapshot.error, key=key)
    else:
        draw_loading(message, heights)
    return False


def draw_workspace_down(error: TunedeckError | None) -> None:
    """Draw, above what a page still shows, that the local workspace is down and the button that starts it."""
    if isinstance(error, LocalWorkspaceDown):
        with st.container(border=True, horizontal=True, vertical_alignment="center", key="workspace-down"):
            st.badge("Stale", icon=":material/sync_problem:", color="orange")
            st.markdown(f"{words.plain(error.message)} What you see was read before.", width="stretch")
            _draw_start_button("frame")


def _draw_start_button(key: str) -> None:
    """Offer to start the local workspace."""
    starting = reads.starting_local()
    if starting is not None and starting.loading:
        st.caption("Starting the local workspace…")
        return
    key = f"start-local-{key}"
    st.button(
        "Start the local workspace",
        on_click=run_callback,
        args=(key, reads.start_local),
        key=key,
        icon=":material/play_arrow:",
    )
