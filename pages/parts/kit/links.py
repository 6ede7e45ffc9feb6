"""The table of pages, and the only builder of links: each carries the connection it was made in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlencode

import streamlit as st

from pages.parts.kit.state import ui


@dataclass(frozen=True)
class PageEntry:
    """One page: where its script is, its heading in the menu and its address."""

    name: str
    script: str
    title: str
    section: str
    icon: str
    uses_draft: bool = False
    in_menu: bool = True


PAGES = {
    entry.name: entry
    for entry in (
        PageEntry("overview", "pages/home/overview.py", "Overview", "", "dashboard"),
        PageEntry("connect", "pages/setup/connect.py", "Connect", "1 Set up", "lan"),
        PageEntry("model", "pages/setup/model.py", "Model & compute", "1 Set up", "deployed_code", uses_draft=True),
        PageEntry("data", "pages/setup/data.py", "Data", "1 Set up", "forum", uses_draft=True),
        PageEntry("launch", "pages/tune/launch.py", "Launch", "2 Tune", "rocket_launch", uses_draft=True),
        PageEntry("runs", "pages/tune/runs.py", "Runs", "2 Tune", "monitoring"),
        PageEntry("compare", "pages/tune/compare.py", "Compare", "2 Tune", "compare_arrows", in_menu=False),
        PageEntry("deploy", "pages/serve/deploy.py", "Deploy", "3 Serve", "cloud_upload"),
        PageEntry("chat", "pages/serve/chat.py", "Chat", "3 Serve", "chat"),
        PageEntry("teardown", "pages/operate/teardown.py", "Teardown", "Operate", "delete_sweep"),
        PageEntry("activity", "pages/operate/activity.py", "Activity", "Operate", "history"),
    )
}


@dataclass(frozen=True)
class Link:
    """A page with what it shows."""

    page: PageEntry
    ids: dict[str, str]

    @property
    def address(self) -> str:
        """Its address, for a link in what is not drawn by Streamlit; all pages stand side by side."""
        return f"{self.page.name}?{urlencode(self.ids)}"

    def draw(self, label: str, *, icon: str = "", width: str = "content", help: str | None = None) -> None:
        """Draw it as a link."""
        st.page_link(
            self.page.script,
            label=label,
            icon=f":material/{icon}:" if icon else None,
            query_params=self.ids,
            width=width,  # type: ignore[arg-type]
            help=help,
        )

    def go(self) -> NoReturn:
        """Open the page now."""
        st.switch_page(self.page.script, query_params=self.ids)


def link(page: str, **ids: str | int | None) -> Link:
    """Return the link to a page of PAGES that shows `run=`, `endpoint=`, `draft=`, …; unset ids are left out."""
    entry = PAGES[page]
    here = ui()
    known: dict[str, str | int | None] = {"at": here.alias}
    if entry.uses_draft:
        known["draft"] = here.draft_id
    known.update(ids)
    return Link(entry, {name: str(value) for name, value in known.items() if value not in (None, "")})
