"""The whole way by keyboard alone, with the tiny model: what can be clicked can be reached with Tab and pressed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import Dashboard, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
WORKSPACE = "tests.core.local.trivial_server"  # the whole way with a real trainer and scorer is tests/e2e's
_NAME = """() => {
    const at = document.activeElement
    const said = at.matches('button, a, summary') ? at.innerText : at.getAttribute('placeholder')
    return at.getAttribute('aria-label') || said || ''
}"""
_SHOWS_FOCUS = """() => {
    const at = document.activeElement, style = getComputedStyle(at)
    if (at.matches('a')) return style.backgroundColor !== 'rgba(0, 0, 0, 0)'  // Streamlit's links get a ground
    return style.outlineStyle !== 'none' || style.boxShadow !== 'none'
}"""
FAR = 150  # more stops than any page has


def test_a_run_is_started_deployed_asked_and_deleted_by_keyboard_alone(page: Page, dashboard: Dashboard) -> None:
    """Half a minute: a run and a deploy are waited for. From Connect to Teardown, with what comes between."""
    page.goto(f"{dashboard.url}/connect")
    expect(page.get_by_role("button", name="Use this workspace")).to_be_visible()
    settle(page)
    page.keyboard.press("Tab")
    assert "Skip to main content" in page.evaluate(_NAME)
    page.keyboard.press("Enter")
    for name, then in (
        ("Use this workspace", "Model & compute"),
        ("Use these", "Data"),
        ("Use this data", "Launch"),
    ):
        press(page, name)
        expect(page.get_by_role("heading", level=1, name=then)).to_be_visible()
    write(page, "Name", "night-heron", then="Tab")
    write(page, "Search settings", "max_steps", then="Tab")
    write(page, "Maximum steps", "4", then="Tab")
    press(page, "Start run")
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    expect(page.get_by_role("heading", name="night-heron")).to_be_visible()
    rename(page, "day-heron")
    choose_next(page)
    press(page, "Deploy this model", timeout_ms=120_000)
    expect(page.get_by_role("heading", level=1, name="Deploy")).to_be_visible()
    press(page, "Deploy")
    press(page, "Chat with it", timeout_ms=120_000)
    expect(page.get_by_role("heading", level=1, name="Chat")).to_be_visible()
    write(page, "Message ", "When does the pier open?", then="Enter")
    expect(page.get_by_text(re.compile(r"ms to first token"))).to_be_visible()
    press(page, "Activity", role="link")
    choose_event(page)
    press(page, "Teardown", role="link")
    expect(page.get_by_role("heading", level=1, name="Teardown")).to_be_visible()
    delete_by_keyboard(page)


def rename(page: Page, title: str) -> None:
    """Open the form, write over the name, and save with Enter."""
    press(page, "Rename")
    page.get_by_role("textbox", name="Name").wait_for()
    write(page, "Name", title, then="Enter")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    page.keyboard.press("Escape")


def choose_next(page: Page) -> None:
    """Go to the next of the views with an arrow, and to the first of them with the other."""
    first = page.get_by_role("radiogroup", name="Show").get_by_role("radio", checked=True)
    name = first.inner_text()
    settle(page)
    move_to(page, name)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("view="))
    settle(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("radio", name=name)).to_be_checked()


def choose_event(page: Page) -> None:
    """Open what is told of, and take an event in with the space bar."""
    box = page.get_by_role("checkbox", name="A run completed")
    settle(page)
    move_to(page, "Events")
    page.keyboard.press("Enter")
    box.wait_for()
    move_to(page, "A run completed")
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    settle(page)


def delete_by_keyboard(page: Page) -> None:
    """In a dialog focus goes in, Esc and Enter delete nothing, and focus returns to the button that opened it."""
    opener = "Delete 1 resource…"
    dialog = page.get_by_role("dialog")
    press(page, opener)
    expect(dialog).to_be_visible()
    page.wait_for_function("() => document.activeElement.closest('[role=dialog]') !== null")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    settle(page)
    page.wait_for_function(f"() => document.activeElement.innerText.includes('{opener}')")
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    settle(page)
    move_to(page, "Keep them")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name=opener)).to_be_enabled()
    press(page, opener)
    expect(dialog).to_be_visible()
    press(page, "Delete 1 resource", inside="dialog")
    expect(page.get_by_text(re.compile(r"Gone .*endpoint .*checked twice"))).to_be_visible()


def press(page: Page, name: str, *, role: str = "button", inside: str = "", timeout_ms: int = 60_000) -> None:
    """Wait until a button or link can be used, go to it with Tab, and press Enter."""
    place = page.get_by_role("dialog") if inside else page
    found = place.get_by_role(role, name=name, exact=role == "link").first  # type: ignore[arg-type]
    expect(found).to_be_enabled(timeout=timeout_ms)
    settle(page)
    move_to(page, name)
    page.wait_for_function(_SHOWS_FOCUS)  # it comes with a transition
    page.keyboard.press("Enter")


def write(page: Page, name: str, text: str, *, then: str) -> None:
    """Go to a field with Tab, write over what it holds, and press a key."""
    settle(page)
    move_to(page, name)
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type(text)
    page.keyboard.press(then)


def move_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    passed = []
    for _ in range(FAR):
        page.keyboard.press("Tab")
        at = page.evaluate(_NAME)
        passed.append(at)
        if name in at and "Help for" not in at:
            return
    raise AssertionError(f"Tab does not reach '{name}': {passed}")
