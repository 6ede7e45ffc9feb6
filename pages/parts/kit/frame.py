"""What stands round every page: the menu, the strip at the bottom, the tab's title, and errors of a page's script."""

from __future__ import annotations

import gc
import sys
from functools import cache
from itertools import groupby

import streamlit as st
from streamlit.navigation.page import Page

from core import dataset as datasets
from core import operations, overview
from core.alerts.book import AlertBook
from core.azureml import connection as connections
from core.azureml import tags
from core.azureml.settings import LOCAL, find_settings, list_settings
from core.errors import TunedeckError
from core.launch import drafts
from core.overview import StripView
from pages.parts.kit import assets, reads, words
from pages.parts.kit.action import draw_open_dialog
from pages.parts.kit.clicks import let_clicks_win
from pages.parts.kit.elements.lost import say_when_lost
from pages.parts.kit.elements.mends import mend
from pages.parts.kit.elements.notifier import notify
from pages.parts.kit.guard import caught
from pages.parts.kit.links import PAGES, PageEntry, link
from pages.parts.kit.live import REST, begin_whole_run, live
from pages.parts.kit.notices import draw_empty, draw_error, draw_workspace_down
from pages.parts.kit.state import holds_still, set_url_id, ui, url_id
from pages.parts.kit.summary import Summary, read_summary

_DONE, _NEXT, _LATER = "check_circle", "radio_button_checked", "radio_button_unchecked"
_STRIP_WIDTH = 24
_PULSE_S = 0.5
_LATELY_S = 600.0  # what is older is no news to who opens a tab


def draw() -> None:
    """Draw the frame and the page inside it."""
    let_clicks_win()
    begin_whole_run()
    ui().in_whole_run = True
    try:
        _draw()
    finally:
        ui().in_whole_run = False


def _draw() -> None:
    _keep_modules(len(sys.modules) // 400)
    found = st.navigation(
        [
            st.Page(
                entry.script,
                title=entry.title,
                url_path=entry.name,
                default=entry.name == "overview",
            )
            for entry in PAGES.values()
        ],
        position="hidden",
    )
    page = next((entry for entry in PAGES.values() if entry.title == found.title), PAGES["overview"])
    st.set_page_config(page_title=f"{page.title} · Tunedeck", page_icon=str(assets.MARK), layout="wide")
    st.logo(assets.draw_name(light=st.context.theme.type != "dark"), icon_image=str(assets.MARK), size="large")
    with caught(draw_error):
        _begin(page)
        summary = read_summary()
        st.set_page_config(page_title=tab_title(page, summary))
        _draw_menu(summary)
        _draw_page(found, summary.runs.error if summary.runs.is_stale else None)
        with st.bottom, st.container(gap=None):  # what is not seen takes no room between
            mend()
            say_when_lost()
            live(_notify, key="notify", run_every=5.0 if ui().notifies else None, token=ui().notifies)
            live(
                lambda: _draw_strip(page),
                key="strip",
                run_every=2.0 if summary.moving else None,
                token=_menu_token(summary),
            )
        _pulse()


@cache
def _keep_modules(_imported: int) -> None:
    """Take what is imported out of garbage collection, again after a few hundred modules more: the SDK comes late.

    Streamlit collects all generations after each script run. With the SDK's classes in them that took two fifths of a
    core while a run ticked, from the trainer beside it.
    """
    gc.collect()
    gc.freeze()


def _draw_page(found: Page, why_stale: TunedeckError | None) -> None:
    """Run the page's script. Above it stands what an action left whose button is no longer there.

    In a place of its own: what is typed below, and the focus, are lost where something comes in before them.
    """
    above = st.container()
    with above:
        draw_workspace_down(why_stale)
    with caught(draw_error):
        if _is_known_place(found):
            found.run()
    with caught(draw_error):  # also where the page ended before its end
        draw_open_dialog()
    with above:
        for key in set(ui().errors) - ui().errors_drawn:
            draw_error(ui().errors[key], key=f"left-{key}")


def _is_known_place(found: Page) -> bool:
    """Say so where the address names a workspace that this machine does not know; Connect is where that is mended."""
    alias = ui().alias
    if not alias or find_settings(alias) is not None or found.url_path == "connect":
        return True
    st.title(found.title, anchor=False)
    draw_empty(f"There is no connection '{alias}' on this machine.", link("connect", at=None), "Go to Connect")
    known = _last_alias() or LOCAL
    link("overview", at=known).draw(f"Open {words.plain(_name_of(known))}", icon="swap_horiz")
    return False


def _name_of(alias: str) -> str:
    settings = find_settings(alias)
    return connections.connect(settings).title if settings else "Local"


def tab_title(page: PageEntry, summary: Summary) -> str:
    """Return the state as the browser's tab shows it: "62% brave-otter"."""
    run = summary.current_run
    return f"{overview.describe_shortly(run)} {run.title}" if run else f"{page.title} · Tunedeck"


def _begin(page: PageEntry) -> None:
    """Take identity from the URL, or put into it what this session or the last visit knows."""
    _start_runner()
    here = ui()
    here.watched.clear()
    here.errors_drawn.clear()
    here.age_drawn = False
    here.draw_dialog, here.dialog_drawn = None, False
    if here.page != page.name:
        here.page, here.open_dialog = page.name, None
        here.errors.clear()
        here.view.clear()
    alias = url_id("at") or here.alias or _last_alias()
    if alias != here.alias:
        here.alias, here.draft_id = alias, None
    here.draft_id = url_id("draft") or here.draft_id
    if (
        here.draft_id
        and not page.uses_draft
        and ((known := drafts.find_draft(here.draft_id)) is None or known.launched)
    ):
        here.draft_id = None  # what was started is done; the next set-up is another
    set_url_id("at", here.alias)
    if page.uses_draft:
        set_url_id("draft", here.draft_id)


def _last_alias() -> str | None:
    """Return the connection of the draft that was changed last, None for a newcomer."""
    known = [drafts.find_latest_draft(settings.alias, unfinished=False) for settings in list_settings()]
    found = [draft for draft in known if draft is not None]
    return max(found, key=lambda draft: draft.updated_at).connection if found else None


@st.cache_resource
def _start_runner() -> None:
    """Carry on what a killed dashboard left undone, and import the SDK before it is needed; once per process."""
    operations.start_runner()
    datasets.remove_old_given()
    reads.warm_up()


def _draw_menu(summary: Summary) -> None:
    _draw_switch()
    listed = [entry for entry in PAGES.values() if entry.in_menu]
    for section, entries in groupby(listed, key=lambda entry: entry.section):
        with st.sidebar.container(gap="xxsmall"):
            if section:
                st.markdown(f"**{section}**")
            for entry in entries:
                icon, after = _menu_state(entry, summary)
                link(entry.name).draw(entry.title + (f" · {after}" if after else ""), icon=icon, width="stretch")


def _draw_switch() -> None:
    """Draw which workspace this is, and behind it the others that this machine knows."""
    here = ui().alias
    with st.sidebar.popover(words.plain(_name_of(here) if here else "No workspace yet"), width="stretch"):
        for settings in list_settings():
            icon = _DONE if settings.alias == here else _LATER
            link("overview", at=settings.alias).draw(words.plain(_name_of(settings.alias)), icon=icon)
        link("connect", where="Azure").draw("Connect another workspace", icon="add")


def _menu_state(entry: PageEntry, summary: Summary) -> tuple[str, str]:
    """Return the icon of a page's state and the words after its name."""
    if entry.name in ("overview", "teardown", "activity"):
        return entry.icon, ""
    if entry.name == "runs" and summary.active_runs:
        return _NEXT, overview.describe_active(summary.active_runs)
    if entry.name == "chat" and summary.live_endpoints:
        return _NEXT, f"{len(summary.live_endpoints)} live"
    draft = summary.draft
    completed = any(run.completed for run in summary.runs.value or [])
    done = {
        "connect": summary.answers,
        "model": bool(draft and draft.model and draft.compute),
        "data": bool(draft and draft.dataset),
        "launch": bool(draft and draft.launched) or bool(summary.runs.value and not draft),
        "runs": completed,
        "deploy": bool(summary.endpoints.value),
        "chat": False,
    }
    if done[entry.name]:
        return _DONE, ""
    return (_NEXT if entry.name == next(name for name, is_done in done.items() if not is_done) else _LATER), ""


def _draw_strip(page: PageEntry) -> object:
    """Draw where this is, what runs and what is live, in three links of at most 24 characters."""
    summary = read_summary()
    view = summary.strip()
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        _draw_place(summary, view)
        if view and view.run:
            link("runs", run=view.run).draw(_short(view.run_words), icon="autorenew")
        elif view:
            st.caption("No run", width="content")
        if view and view.endpoint:
            link("chat", endpoint=view.endpoint).draw(_short(view.endpoint_words), icon="cloud_done")
        elif view:
            st.caption("No endpoint", width="content")
        if summary.faults:
            said = "; ".join(summary.faults)
            link("connect").draw(words.plural(len(summary.faults), "fault") + " on", icon="bug_report", help=said)
    st.set_page_config(page_title=tab_title(page, summary))
    return _menu_token(summary)


def _menu_token(summary: Summary) -> object:
    """Return what the menu stands on, which is not drawn again by itself."""
    active = overview.describe_active(summary.active_runs)
    return active, len(summary.live_endpoints), summary.moving, summary.answers


def _notify() -> bool:
    """Have the browser show what happened lately, where it may."""
    found = AlertBook().list_entries(limit=20) if ui().notifies else []
    lately = [each for each in found if words.since(each.at) < _LATELY_S and each.is_news]
    notify(
        tags.made_by(),
        [{"number": each.number, "text": words.visible(f"{each.place}: {each.alert.text}")} for each in lately],
        found[0].number if found else 0,
    )
    return ui().notifies


def _draw_place(summary: Summary, view: StripView | None) -> None:
    place = summary.connection
    if place is None:
        link("connect").draw("Not connected", icon="link_off")
    elif summary.runs.error is not None:
        link("connect").draw(_short(place.title, 12) + " · no answer", icon="sync_problem")
    elif not summary.runs.has_value:
        link("connect").draw("Connecting…", icon="hourglass_top")
    else:
        shown = _short(place.title, 16) + (f" · {view.billing_words}" if view else "")
        icon = "lan" if place.cloud.is_local else "cloud"
        link("teardown").draw(
            shown, icon=icon, help=words.plain(view.billing_help) if view and view.billing_help else None
        )


def _short(text: str, width: int = _STRIP_WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _pulse() -> None:
    """Draw the page again when a reading that it waits for brings something new, or when a failure ends."""
    waiting = [watch for watch in ui().watched.values() if reads.is_waiting(watch.drawn)]
    if not waiting:
        return
    soon = any(watch.drawn.error is None for watch in waiting)

    def look() -> object:
        now = [(watch.drawn, watch.read()) for watch in waiting if watch.in_dialog or not holds_still()]
        if any(reads.has_changed(before, after) for before, after in now):
            return True
        if len(now) < len(waiting) or any(reads.is_waiting(after) for _, after in now):
            return False  # what a dialog keeps from being drawn is looked at when it has gone
        return True if ui().age_drawn else REST

    live(look, key="pulse", run_every=_PULSE_S if soon else 2.0, token=False, in_dialog=True)
