"""What only a browser shows of pages, empty and at work: axe-core on every one, light and dark, 1360 and 420 wide; none
scrolls sideways, at 320 neither; the clipboard; a chart that is lower where the window is narrow; that who looks at a
page changes nothing, and that links to the open page hold.

One file, because the run and the endpoint that are looked at take long to make; the tiny model stands in for the real
one, since what is measured is the page. axe looks at each page wide in one theme and narrow in the other, the themes
taking turns from page to page; `make soak` looks at all four.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import product
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from core.alerts.book import AlertBook
from core.alerts.events import Alert
from core.home import Home
from pages.parts.kit.look import DARK, LIGHT
from tests.core.alerts.listener import listening
from tests.pages.axe import list_serious
from tests.pages.conftest import Dashboard, open_from_menu, settle
from tests.soak import is_soak
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Scheme = Literal["light", "dark"]
Look = tuple[Scheme, int]
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
WIDE, NARROW, NARROWEST = 1360, 420, 320
MOST_BYTES = 70_000  # that a visit of a run takes once the browser has Plotly: the page once, about 47 kB
_TOO_WIDE = "() => document.documentElement.scrollWidth > innerWidth"
_KEPT = (
    "() => performance.getEntriesByType('resource').filter(one => one.name.includes('/plotly-'))"
    ".map(one => one.transferSize === 0)"
)
_HELD = """() => [...document.querySelectorAll("input, textarea")]
  .map((each) => [each.getAttribute("aria-label"), each.type, each.checked, each.value])"""
_LINKS_HERE = """() => [...document.querySelectorAll("[data-testid=stMain] a[data-testid=stPageLink-NavLink]")]
  .filter((link) => link.checkVisibility()).map((link) => link.getAttribute("href"))
  .filter((href) => href.split("?")[0] === location.pathname.slice(1))
  .filter((href) => "?" + href.split("?")[1] !== location.search)"""
_SHOWN = "getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme"
EMPTY = (
    "?at=local",
    "connect?at=local",
    "connect?at=local&where=Azure",
    "model?at=local",
    "data?at=local",
    "launch?at=local",
    "runs?at=local",
    "compare?at=local",
    "deploy?at=local",
    "chat?at=local",
    "teardown?at=local",
    "activity?at=local",
)
AT_WORK = (
    "?at=local",
    "model?at=local&draft={draft}",
    "data?at=local&draft={draft}",
    "launch?at=local&draft={draft}",
    "launch?at=local&draft={draft}&settings=All",
    "runs?at=local",
    "runs?at=local&run={run}",
    "runs?at=local&run={run}&view=Logs",
    "runs?at=local&run={run}&view=Settings",
    "runs?at=local&run=no-such-run",
    "compare?at=local&runs={run},no-such-run",
    "deploy?at=local&run={run}",
    "deploy?at=local&endpoint={endpoint}",
    "chat?at=local&endpoint={endpoint}",
    "chat?at=local&endpoint={endpoint}&chat={chat}",
    "chat?at=local&endpoint=never-there",
    "teardown?at=local&what=All",
    "activity?at=local",
)

FAILED = (
    "?at=local",
    "data?at=local&draft={wrong}",
    "launch?at=local&draft={wrong}",
    "runs?at=local",
    "runs?at=local&run={failed}",
    "runs?at=local&run={failed}&view=Logs",
    "compare?at=local&runs={run},{failed}",
    "deploy?at=local&endpoint={broken}",
    "chat?at=local&endpoint={broken}",
    "teardown?at=local",
    "activity?at=local&change={change}",
)
OPENED = tuple(dict.fromkeys(address for address in (*EMPTY, *AT_WORK, *FAILED) if "never" not in address))
WITH_LINKS_HERE = ("runs?at=local&run={run}&view=Logs", "deploy?at=local&endpoint={endpoint}")
WITH_FIELDS = ("launch?at=local&draft={draft}&settings=All", "deploy?at=local&endpoint={endpoint}")
IN_SOAK = (pytest.mark.soak, pytest.mark.skipif(not is_soak(), reason="minutes: `make soak`"))


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all pages, so that Streamlit's own files are fetched once."""
    context = browser.new_context()
    context.set_default_timeout(60_000)
    outside: set[str] = set()
    context.on("request", lambda asked: is_here(asked.url) or outside.add(asked.url))
    yield context.new_page()
    context.close()
    assert outside == set()  # no page asks another host for anything


@pytest.mark.parametrize("number", range(len(EMPTY)), ids=EMPTY)
def test_nothing_serious_on_an_empty_page(tab: Page, tiny: Dashboard, number: int) -> None:
    assert look_at(tab, f"{tiny.url}/{EMPTY[number]}", choose_looks(number)) == []


@pytest.mark.parametrize("number", range(len(AT_WORK)), ids=AT_WORK)
def test_nothing_serious_on_a_page_at_work(tab: Page, tiny: Dashboard, made: dict[str, str], number: int) -> None:
    assert look_at(tab, f"{tiny.url}/{AT_WORK[number].format(**made)}", choose_looks(number)) == []


@pytest.mark.parametrize(
    "number", [pytest.param(at, marks=() if at in (4, 7) else IN_SOAK) for at in range(len(FAILED))], ids=FAILED
)
def test_nothing_serious_on_a_page_of_what_failed(
    tab: Page, tiny: Dashboard, failed: dict[str, str], number: int
) -> None:
    assert look_at(tab, f"{tiny.url}/{FAILED[number].format(**failed)}", choose_looks(number)) == []


@pytest.mark.parametrize("address", [pytest.param(each, marks=IN_SOAK) for each in OPENED])
def test_nothing_serious_in_what_a_page_opens(tab: Page, tiny: Dashboard, failed: dict[str, str], address: str) -> None:
    """Every expander at once, then every popover, one after another."""
    tab.set_viewport_size({"width": WIDE, "height": 900})
    tab.goto(f"{tiny.url}/{address.format(**failed)}")
    tab.get_by_role("heading", level=1).first.wait_for()
    rest(tab)
    closed = tab.locator("[data-testid=stExpander] details:not([open]) > summary")
    while closed.count():
        closed.first.click()
        rest(tab)
    found = list_in_both(tab)
    for button in tab.locator("[data-testid=stPopoverButton]").all():
        name = button.inner_text()
        button.click()
        tab.locator("[data-testid=stPopoverBody]").wait_for()
        found += [(name, *finding) for finding in list_in_both(tab)]
        tab.keyboard.press("Escape")
        expect(tab.locator("[data-testid=stPopoverBody]")).to_have_count(0)
    assert found == []


@pytest.mark.parametrize(
    "address", [pytest.param(each, marks=() if each in WITH_LINKS_HERE else IN_SOAK) for each in OPENED]
)
def test_each_link_to_the_page_that_is_open_holds(
    tab: Page, tiny: Dashboard, failed: dict[str, str], address: str
) -> None:
    """At the next run of the page, too, and the way back leads from it to where it was clicked."""
    tab.set_viewport_size({"width": WIDE, "height": 900})
    tab.goto(f"{tiny.url}/{address.format(**failed)}")
    tab.get_by_role("heading", level=1).first.wait_for()
    rest(tab)
    before, lost = tab.url, []
    for href in sorted(set(tab.evaluate(_LINKS_HERE))):
        tab.locator(f'[data-testid=stMain] a[href="{href}"]').first.click()
        rest(tab)
        tab.keyboard.press("r")  # Streamlit's own key to run the page again
        rest(tab)
        wanted, shown = (set(parse_qsl(urlsplit(each).query)) for each in (href, tab.url))
        lost += [(href, tab.url)] if wanted - shown else []
        tab.go_back()
        rest(tab)
        lost += [(href, "back", tab.url)] if tab.url != before else []
    assert lost == []


@pytest.mark.parametrize(
    "address", [pytest.param(each, marks=() if each in WITH_FIELDS else IN_SOAK) for each in OPENED]
)
def test_who_looks_at_a_page_and_reloads_it_changes_nothing(
    tab: Page, tiny: Dashboard, failed: dict[str, str], address: str
) -> None:
    def look() -> tuple[str, object, list[tuple[object, ...]]]:
        tab.get_by_role("heading", level=1).first.wait_for()
        rest(tab)
        return tab.url, tab.evaluate(_HELD), list_kept(Home(tiny.home))

    tab.set_viewport_size({"width": WIDE, "height": 900})
    tab.goto(f"{tiny.url}/{address.format(**failed)}")
    before = look()
    tab.keyboard.press("r")  # Streamlit's own key to run the page again
    assert look() == before
    tab.reload()
    assert look() == before


def list_kept(home: Home) -> list[tuple[object, ...]]:
    """Return all that the dashboard keeps, but for who carries out what is asked for, and what is seen to bill."""
    with closing(sqlite3.connect(home.ledger_db)) as ledger:
        named = ledger.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
        names = [name for (name,) in named if name not in {"lease", "rates"}]
        rows = [(name, *row) for name in names for row in ledger.execute(f"select * from {name}")]
    return rows + [(path.name, path.read_text(encoding="utf-8")) for path in sorted(home.path.glob("*.json"))]


def list_in_both(tab: Page) -> list[tuple[str, ...]]:
    """Return what axe finds in the light and in the dark."""
    found: list[tuple[str, ...]] = []
    for scheme in SCHEMES:
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function(f"() => {_SHOWN} === '{scheme}'")
        found += [(scheme, *finding) for finding in list_lasting(tab)]
    return found


def test_an_answer_is_copied_as_it_was_written(browser: Browser, tiny: Dashboard, made: dict[str, str]) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(f"{tiny.url}/chat?at=local&endpoint={made['endpoint']}&chat={made['chat']}")
    button = tab.get_by_role("button", name="Copy").first
    button.click()
    expect(tab.get_by_role("button", name="Copied")).to_be_visible()
    answer = tab.locator("[data-testid=stChatMessage]").nth(1).locator("[data-testid=stText]").first.inner_text()
    assert tab.evaluate("() => navigator.clipboard.readText()").strip() == answer.strip()
    context.close()


def test_a_question_half_typed_is_there_again_until_it_is_sent(
    browser: Browser, tiny: Dashboard, made: dict[str, str]
) -> None:
    tab = browser.new_page()
    tab.goto(f"{tiny.url}/chat?at=local&endpoint={made['endpoint']}")
    field = tab.get_by_label(f"Message {made['endpoint']}")
    field.fill("half a quest")
    open_from_menu(tab, "Activity")
    open_from_menu(tab, "Chat")
    expect(field).to_have_value("half a quest")
    tab.reload()
    expect(field).to_have_value("half a quest")
    field.press("Enter")
    expect(tab.get_by_role("button", name="Ask again")).to_be_visible()
    open_from_menu(tab, "Activity")
    open_from_menu(tab, "Chat")
    expect(tab.get_by_role("button", name="Ask again")).to_be_visible()
    expect(field).to_have_value("")
    tab.close()


def test_a_chart_is_lower_in_a_narrow_window_and_follows_it(
    browser: Browser, tiny: Dashboard, made: dict[str, str]
) -> None:
    tab = browser.new_page(viewport={"width": 420, "height": 900})
    tab.goto(f"{tiny.url}/runs?at=local&run={made['run']}")
    chart = tab.locator(".tunedeck-chart.js-plotly-plot").first
    chart.wait_for()
    settle(tab)
    for width, height in ((420, 260), (1360, 340), (420, 260)):
        tab.set_viewport_size({"width": width, "height": 900})
        expect(chart).to_have_css("height", f"{height}px")
        expect(chart.locator(".main-svg").first).to_have_css("height", f"{height}px")
    tab.close()


def test_charts_take_the_colours_of_a_new_theme_and_have_no_bar_on_a_touch_screen(
    browser: Browser, tiny: Dashboard, made: dict[str, str]
) -> None:
    context = browser.new_context(has_touch=True, is_mobile=True, color_scheme="light")
    tab = context.new_page()
    tab.goto(f"{tiny.url}/runs?at=local&run={made['run']}")
    charts = tab.locator(".tunedeck-chart.js-plotly-plot")
    expect(charts).to_have_count(2)  # the loss, the timeline
    settle(tab)
    for scheme, look in (("dark", DARK), ("light", LIGHT)):
        tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for chart in charts.all():
            tick = chart.locator(".xtick text").first
            expect(tick).to_have_css("fill", f"rgb{tuple(bytes.fromhex(look.quiet[1:]))}")
    expect(tab.locator(".modebar")).to_have_count(0)
    context.close()


def test_a_second_visit_of_a_run_sends_little(browser: Browser, tiny: Dashboard, made: dict[str, str]) -> None:
    context = browser.new_context()
    visits = [visit(context.new_page(), f"{tiny.url}/runs?at=local&run={made['run']}") for _ in range(4)]
    context.close()
    assert [library for _, library in visits] == [[False], *[[True]] * 3]  # fetched by the first, kept by the browser
    assert min(received for received, _ in visits[1:]) < MOST_BYTES  # one on a busy machine may bring news


def visit(tab: Page, url: str) -> tuple[int, list[bool]]:
    """Open a run in a tab; return the bytes of its websocket, and of each fetch of Plotly whether it was a kept one."""
    received: list[int] = []
    tab.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    tab.goto(url)
    tab.locator(".tunedeck-chart.js-plotly-plot").first.wait_for()
    settle(tab)
    return sum(received), tab.evaluate(_KEPT)


def is_here(url: str) -> bool:
    """Tell whether a request stays on this machine; one for data: has no host at all."""
    return urlsplit(url).hostname in {None, "127.0.0.1"}


def choose_looks(number: int) -> list[Look]:
    """Return in which theme and how wide the page with this number is looked at."""
    if os.environ.get("TUNEDECK_SOAK"):
        return list(product(SCHEMES, (WIDE, NARROW)))
    return [(SCHEMES[number % 2], WIDE), (SCHEMES[1 - number % 2], NARROW)]


def look_at(tab: Page, url: str, looks: list[Look]) -> list[object]:
    """Return what axe finds on a settled page in each look, where it scrolls sideways, and whether a part failed."""
    found: list[object] = []
    for turn, (scheme, width) in enumerate(looks):
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size({"width": width, "height": 900})
        if turn == 0:
            tab.goto(url)
            tab.get_by_role("heading", level=1).first.wait_for()
        tab.wait_for_function(f"() => {_SHOWN} === '{scheme}'")
        found += [(scheme, width, *finding) for finding in list_lasting(tab)]
        if tab.evaluate(_TOO_WIDE):
            found.append((scheme, width, "scrolls sideways"))
        if tab.get_by_text("Tunedeck has a fault").count():
            found.append((scheme, width, "a part of the page failed"))
    tab.set_viewport_size({"width": NARROWEST, "height": 900})
    settle(tab)
    if tab.evaluate(_TOO_WIDE):
        found.append((NARROWEST, "scrolls sideways"))
    return found


def list_lasting(tab: Page) -> list[tuple[str, str, str]]:
    """Return what axe finds serious each of three times: a part that is drawn anew while axe looks is dimmed."""
    found: list[tuple[str, str, str]] = []
    for _ in range(3):
        rest(tab)
        found = list_serious(tab)
        if not found:
            break
    return found


def rest(tab: Page) -> None:
    """Wait until nothing is being read: axe passes by luck on an outline."""
    settle(tab)
    with suppress(PlaywrightTimeout):  # what Streamlit dims; axe looks three times where it stays
        tab.wait_for_function("() => !document.querySelector('[data-stale=true]')", timeout=3_000)
    wait_until(lambda: tab.locator("[data-testid=stSkeleton]").count() == 0, f"{tab.url} without skeletons")
    settle(tab)


_COUNTED = """
window.Notification = class {
  static permission = "default";
  static async requestPermission() {
    localStorage.setItem("allowed", "yes");
    return (Notification.permission = "granted");
  }
  constructor(_title, { body }) {
    localStorage.setItem("shown", JSON.stringify([...JSON.parse(localStorage.getItem("shown") || "[]"), body]));
  }
};
if (localStorage.getItem("allowed")) Notification.permission = "granted";
"""


def test_a_browser_asks_once_and_shows_each_alert_once_over_all_its_tabs(browser: Browser, tiny: Dashboard) -> None:
    """A headless browser has no notifications: a class of the same shape counts what would be shown."""
    context = browser.new_context()
    context.add_init_script(_COUNTED)
    first, second = context.new_page(), context.new_page()
    first.goto(f"{tiny.url}/activity?at=local")
    button = first.get_by_role("button", name="Notify me in this browser")
    button.focus()
    first.keyboard.press("Enter")
    expect(first.get_by_role("button", name="Show one")).to_be_visible()
    second.goto(f"{tiny.url}/data?at=local")
    for tab in (first, second):  # a tab that never looked takes what there is for old
        tab.wait_for_function("() => Object.keys(localStorage).some(key => key.startsWith('tunedeck.alerts'))")
    alert = Alert("local", "run_failed", "brave-otter", "brave-otter failed.", secrets.token_hex(4))
    AlertBook(Home(tiny.home)).note(alert)
    shown = "() => JSON.parse(localStorage.getItem('shown'))"
    wait_until(lambda: len(first.evaluate(shown)) > 1, lambda: tiny.report()[-3000:])
    second.reload()
    second.get_by_role("heading", level=1).first.wait_for()
    settle(second)
    assert first.evaluate(shown) == ["Alerts look like this.", "local: brave-otter failed."]
    context.close()


def test_a_webhook_is_saved_tried_and_never_shown_again(browser: Browser, tiny: Dashboard) -> None:
    tab = browser.new_page()
    with listening() as webhook:
        tab.goto(f"{tiny.url}/activity?at=local")
        tab.get_by_text("Webhook", exact=True).click()
        tab.get_by_label("Address", exact=True).fill(webhook.url)
        tab.get_by_role("button", name="Save").click()
        expect(tab.get_by_text("127.0.0.1 leads into a private network.")).to_be_visible()
        tab.get_by_text("Inside my network", exact=True).click()
        tab.get_by_role("button", name="Save").click()
        tab.get_by_role("button", name="Send a test message").click()
        expect(tab.get_by_text("It was taken. See whether it arrived.")).to_be_visible()
        assert "This is a test." in webhook.bodies[0]["text"]
    webhook.answers = []
    tab.get_by_role("button", name="Send a test message").click()
    expect(tab.get_by_text("it cannot be reached")).to_be_visible()
    assert "the-secret-part" not in tab.content()
    tab.get_by_role("button", name="Remove").click()
    expect(tab.get_by_label("Address", exact=True)).to_have_value("")
    tab.close()
