"""Begin a set-up, and keep each of its choices the moment it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import streamlit as st

from core import operations
from core.azureml.settings import find_settings
from core.errors import NotFound
from core.launch import drafts
from core.launch.drafts import Draft
from pages.parts.kit import reads
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import Link, link
from pages.parts.kit.notices import draw_empty, draw_warning
from pages.parts.kit.state import set_url_id, ui


def begin(alias: str) -> Link:
    """Take up the unfinished draft of this connection, or begin one; returns the link to its first page."""
    if find_settings(alias) is None:
        raise NotFound(f"There is no connection '{alias}' on this machine.", "Enter the workspace below.")
    draft = find_next(alias) or drafts.create_draft(alias)
    ui().alias, ui().draft_id = alias, draft.id
    reads.find_connection(alias)
    return link("model")


def draw_or_get_draft() -> Draft:
    """Return the draft that the URL names, begun here where there is none; says what is missing and ends the page."""
    here = ui()
    if not here.alias or find_settings(here.alias) is None:
        _no_workspace()
    draft = drafts.find_draft(here.draft_id) if here.draft_id else None
    if draft is None:
        if here.draft_id:
            here.notes["lost-draft"] = (here.page, here.draft_id)
        draft = take(find_next(here.alias) or drafts.create_draft(here.alias))
    with st.container():  # of their own, as in `frame._draw_page`: they come and go
        page, lost = here.notes.get("lost-draft", ("", ""))
        if page == here.page and lost != draft.id:
            draw_warning(f"There is no draft '{lost}'. This is the one you changed last.")
        _draw_news(draft)
    return draft


def find_next(alias: str) -> Draft | None:
    """Return the set-up that was changed last; where it was started, one of its own that is like it."""
    draft = drafts.find_latest_draft(alias, unfinished=False)
    started = operations.find_operation(draft.launched) if draft and draft.launched else None
    return drafts.copy_draft(draft, again=started.subject) if draft and started else draft


def take(draft: Draft) -> Draft:
    """Have this session, and its address, go on with a draft."""
    ui().draft_id = draft.id
    set_url_id("draft", draft.id)
    return draft


def get_shown(draft_id: str) -> Draft:
    """Return a draft as this session shows it, with what was changed here since; raises NotFound."""
    return ui().shown.get(draft_id) or drafts.get_draft(draft_id)


def find_news(draft_id: str) -> str:
    """Return what another tab made of a draft since this one showed it, "" for nothing."""
    return _describe_news(drafts.list_differences(get_shown(draft_id), drafts.get_draft(draft_id)))


def find_last_news(draft_id: str) -> int:
    """Return the revision in which this session last saw that another tab had changed a draft, 0 for never."""
    return int(ui().notes.get(f"news-of-{draft_id}", 0))


def save(draft_id: str, **choices: object) -> Draft:
    """Save what was changed here of a draft; raises Conflict where another tab changed the same to something else."""
    shown = get_shown(draft_id)
    ui().notes.pop("news", None)
    if all(getattr(shown, name) == value for name, value in choices.items()):
        return shown
    saved = drafts.save_draft(shown, **choices)
    mine = replace(shown, launched="", **choices)  # type: ignore[arg-type]
    ui().shown[draft_id] = mine if drafts.list_differences(mine, saved) else saved
    return saved


def _draw_news(draft: Draft) -> None:
    """Say what another tab changed since this one last showed the draft, until something is changed or left here."""
    here = ui()
    before = here.shown.get(draft.id, draft)
    here.shown[draft.id] = draft
    if news := _describe_news(drafts.list_differences(before, draft)):
        here.notes["news"], here.notes[f"news-of-{draft.id}"] = (here.page, draft.id, news), draft.revision
    page, of, said = here.notes.get("news", ("", "", ""))
    if (page, of) == (here.page, draft.id):
        draw_warning(said, key="news")


def _describe_news(differences: list[str]) -> str:
    return f"Changed in another tab: {'; '.join(differences)}." if differences else ""


def _no_workspace() -> NoReturn:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()
