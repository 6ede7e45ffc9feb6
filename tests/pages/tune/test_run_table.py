"""The one table of runs in a browser: opened and ticked by mouse and keyboard, its filters in the address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.core.local.submitting import wait_for
from tests.fine_tuning_runs import start_run, start_training, trivial_workspace
from tests.local_server import LocalServer
from tests.pages.axe import list_serious
from tests.pages.conftest import ONLY_LOOPBACK, settle, start_app

pytestmark = pytest.mark.browser
HOSTILE = "*b* <img src=x onerror=alert(1)> :red[x]"
FOCUSED = """() => {
    let at = document.activeElement
    while (at.shadowRoot) at = at.shadowRoot.activeElement
    return at.getAttribute('aria-label') || at.innerText
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A workspace with two runs that have ended and one that trains."""
    with trivial_workspace(tmp_path_factory.mktemp("home")) as running:
        for name, title in (("first", "calm-heron"), ("second", HOSTILE)):
            start_run(running, name, title)
            wait_for(running, name, "Completed")
        start_training(running, "trains")
        yield running


@pytest.fixture(scope="module")
def address(server: LocalServer) -> Iterator[str]:
    app, url = start_app(server.home.path, os.environ | ONLY_LOOPBACK | {"TUNEDECK_HOME": str(server.home.path)})
    yield url
    app.end()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    yield context.new_page()
    context.close()


def rows(page: Page) -> Locator:
    return page.locator("tbody th")


def open_list(page: Page, address: str, query: str = "") -> None:
    page.goto(f"{address}/runs?at=local{query}")
    expect(rows(page).first).to_be_visible()
    settle(page)


def tick(page: Page, *titles: str) -> None:
    for number, title in enumerate(titles, 1):
        page.get_by_role("checkbox", name=f"Tick {title}").check()
        expect(page.get_by_text(f"{number} ticked", exact=True)).to_be_visible()


def test_a_click_on_a_row_opens_it_and_back_leads_to_the_same_rows(page: Page, address: str) -> None:
    """Filters, order and columns are in the address; a name is text whatever it holds."""
    open_list(page, address)
    assert rows(page).all_inner_texts() == ["trains", HOSTILE, "calm-heron"]
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile(r"sort=Run"))
    page.get_by_label("Search runs").fill("tiny")
    page.wait_for_url(re.compile(r"q=tiny"))
    page.get_by_role("button", name="Completed").click()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])
    page.get_by_role("row", name="calm-heron").get_by_text("Completed").click()
    expect(page.get_by_role("heading", level=1, name="calm-heron")).to_be_visible()
    page.go_back()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])
    page.reload()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])
    expect(page.get_by_label("Search runs")).to_have_value("tiny")
    page.get_by_label("Search runs").fill("tiny-nothing")
    page.get_by_role("button", name=re.compile("Clear search: 2 runs")).click()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])


def test_two_ticked_runs_are_compared_and_a_live_table_keeps_ticks_and_focus(page: Page, address: str) -> None:
    open_list(page, address)
    loss = page.get_by_role("row", name="trains").locator("td.number").first
    tick(page, "calm-heron")
    expect(page.get_by_text("Compare takes 2 to 6 runs.")).to_be_visible()
    tick_second = page.get_by_role("checkbox", name="Tick trains")
    tick_second.check()
    tick_second.focus()
    before = loss.inner_text()
    expect(loss).not_to_have_text(before)
    assert page.evaluate(FOCUSED) == "Tick trains"
    expect(page.get_by_text("2 ticked", exact=True)).to_be_visible()
    assert list_serious(page) == []
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile(r"/compare\?.*runs=first(,|%2C)trains"))


def test_a_run_is_ticked_and_opened_by_keyboard_alone(page: Page, address: str) -> None:
    open_list(page, address)
    for key, focused in (("Tab", "Tick calm-heron"), ("Space", "Tick calm-heron"), ("Tab", "calm-heron")):
        if key == "Tab" and focused.startswith("Tick"):
            page.get_by_role("link", name=HOSTILE).focus()
        page.keyboard.press(key)
        assert page.evaluate(FOCUSED) == focused
    expect(page.get_by_text("1 ticked", exact=True)).to_be_visible()
    assert page.evaluate(FOCUSED) == "calm-heron"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="calm-heron")).to_be_visible()


def test_a_ticked_run_is_started_again_and_what_its_tags_lack_is_asked_for(page: Page, address: str) -> None:
    open_list(page, address)
    tick(page, HOSTILE)
    page.get_by_role("button", name="Start again…").click()
    page.wait_for_url(re.compile(r"/launch\?"))
    expect(page.get_by_text(re.compile(re.escape(f"Set up as {HOSTILE} of ")))).to_be_visible()
    expect(page.get_by_text(re.compile("Choose .* first"))).to_be_visible()
    page.wait_for_url(re.compile("draft="))
    assert "again=" not in page.url
    address_of_draft = page.url
    page.reload()
    expect(page.get_by_text(re.compile(re.escape(f"Set up as {HOSTILE} of ")))).to_be_visible()
    assert page.url == address_of_draft


def test_a_narrow_table_is_whole(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    for place in ("runs", ""):
        page.goto(f"{address}/{place}?at=local")
        expect(rows(page).first).to_be_visible()
        assert page.locator(".box").evaluate("box => box.scrollWidth <= box.clientWidth")


def test_ticked_runs_are_tagged_and_archived_and_an_undo_brings_them_back(page: Page, address: str) -> None:
    open_list(page, address, "&state=Completed")
    tick(page, "calm-heron", HOSTILE)
    page.get_by_role("button", name="Tags").click()
    page.get_by_label("Add a tag").fill("for=ana")
    page.get_by_label("Add a tag").press("Enter")
    expect(page.get_by_text("Tag 2 runs: confirmed")).to_be_visible()
    page.get_by_role("button", name="Archive", exact=True).click()
    page.get_by_role("button", name=re.compile("Clear state")).wait_for()  # of what is left none has completed
    page.get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])
    page.goto(f"{address}/runs?at=local&tag=for%3Dana&archived=true")
    page.get_by_role("button", name="Show the others").click()
    expect(rows(page)).to_have_text([HOSTILE, "calm-heron"])
