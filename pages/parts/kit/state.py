"""The one object a browser session keeps. Nothing in it would be missed: identity is in the URL, truth is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from core.azureml.reader import Snapshot
from core.errors import TunedeckError
from core.launch.drafts import Draft


@dataclass
class Watch:
    """A reading that this page drew, so that the page can be drawn again when it changes."""

    read: Callable[[], Snapshot[Any]]
    drawn: Snapshot[Any]
    in_dialog: bool = False


@dataclass
class Ui:
    """What one browser session has open."""

    alias: str | None = None
    draft_id: str | None = None
    page: str = ""
    errors: dict[str, TunedeckError] = field(default_factory=dict)
    errors_drawn: set[str] = field(default_factory=set)
    open_dialog: str | None = None
    draw_dialog: Callable[[], None] | None = None
    """What draws it, as the page was drawn last; the frame does."""
    dialog_drawn: bool = False
    in_dialog: bool = False
    in_whole_run: bool = False
    tokens: dict[str, object] = field(default_factory=dict)
    last_views: dict[str, Any] = field(default_factory=dict)
    watched: dict[str, Watch] = field(default_factory=dict)
    in_live: bool = False
    age_drawn: bool = False
    """Whether the page says how old a reading is, which a newer one makes untrue even if it brings the same."""
    notifies: bool = False
    """Whether this browser shows notifications."""
    chats: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    """What the open page shows; forgotten when it is left."""
    notes: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    """What was drawn last, by name (pages.parts.kit.fields)."""
    shown: dict[str, Draft] = field(default_factory=dict)
    """The drafts as they were drawn last, with what was changed here since; other changes were made elsewhere."""


def ui() -> Ui:
    """Return the state of this browser session."""
    if "ui" not in st.session_state:
        st.session_state["ui"] = Ui()
    found: Ui = st.session_state["ui"]
    return found


def holds_still() -> bool:
    """Tell whether a dialog is open, which a whole run of the page would take away with what is typed in it.

    Streamlit 1.67 draws no dialog from the beginning of a run until the run has come to it.
    """
    return ui().dialog_drawn and ui().open_dialog is not None


def url_id(name: str, most: int = 200) -> str | None:
    """Return an id that the URL carries, such as `run` or `endpoint`, or None. most: characters of it."""
    value = st.query_params.get(name, "").strip()
    return value[:most] or None


def set_url_id(name: str, value: str | None) -> None:
    """Put an id into the URL, or take it out, without drawing the page again."""
    if value:
        if st.query_params.get(name) != value:
            st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
