"""Begin a set-up, and keep each of its choices the moment it is made."""

from __future__ import annotations

from typing import NoReturn

from core import connection as connections
from core import drafts
from core.drafts import Draft
from core.errors import NotFound
from pages.parts import reads
from pages.parts.links import Link, link
from pages.parts.notices import draw_empty, draw_warning, end_page
from pages.parts.state import set_url_id, ui


def begin(alias: str) -> Link:
    """Take up the unfinished draft of this connection, or begin one; returns the link to its first page."""
    if connections.find_settings(alias) is None:
        raise NotFound(f"There is no connection '{alias}' on this machine.", "Enter the workspace below.")
    draft = drafts.find_latest_draft(alias) or drafts.create_draft(alias)
    ui().alias, ui().draft_id = alias, draft.id
    reads.find_connection(alias)
    return link("model")


def begin_anew(alias: str) -> Link:
    """Begin another draft, whatever else is unfinished."""
    ui().alias, ui().draft_id = alias, drafts.create_draft(alias).id
    return link("model")


def draw_or_get_draft() -> Draft:
    """Return the draft that the URL names, begun here where there is none; says what is missing and ends the page."""
    here = ui()
    if not here.alias or connections.find_settings(here.alias) is None:
        _no_workspace()
    draft = drafts.find_draft(here.draft_id) if here.draft_id else None
    if draft is None:
        if here.draft_id:
            here.notes["lost-draft"] = (here.page, here.draft_id)
        draft = drafts.find_latest_draft(here.alias) or drafts.create_draft(here.alias)
        here.draft_id = draft.id
        set_url_id("draft", draft.id)
    page, lost = here.notes.get("lost-draft", ("", ""))
    if page == here.page and lost != draft.id:
        draw_warning(f"There is no draft '{lost}'. This is the one you changed last.")
    return draft


def save(draft: Draft, **choices: object) -> Draft:
    """Save what differs, and only then."""
    if all(getattr(draft, name) == value for name, value in choices.items()):
        return draft
    return drafts.save_draft(draft, **choices)


def _no_workspace() -> NoReturn:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()
