"""The whole way by keyboard alone, with the tiny model: what can be clicked can be reached with Tab and pressed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import Dashboard, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
_NAME = """() => {
    const at = document.activeElement
    const said = at.matches('button, a') ? at.innerText : at.getAttribute('placeholder')
    return at.getAttribute('aria-label') || said || ''
}"""
_SHOWS_FOCUS = """() => {
    const at = document.activeElement, style = getComputedStyle(at)
    if (at.matches('a')) return style.backgroundColor !== 'rgba(0, 0, 0, 0)'  // Streamlit's links get a ground
    return style.outlineStyle !== 'none' || style.boxShadow !== 'none'
}"""
FAR = 150  # more stops than any page has


def test_a_run_is_started_deployed_asked_and_deleted_by_keyboard_alone(page: Page, dashboard: Dashboard) -> None:
    """Takes a minute: a run and a deploy are waited for."""
    page.goto(dashboard.url)
    expect(page.get_by_role("button", name="Start on this machine")).to_be_visible()
    settle(page)
    page.keyboard.press("Tab")
    assert "Skip to main content" in page.evaluate(_NAME)
    for name, then in (
        ("Start on this machine", "Model & compute"),
        ("Use these", "Data"),
        ("Use this data", "Launch"),
    ):
        press(page, name)
        expect(page.get_by_role("heading", level=1, name=then)).to_be_visible()
    press(page, "Start run")
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    press(page, "Deploy this model", timeout_ms=120_000)
    expect(page.get_by_role("heading", level=1, name="Deploy")).to_be_visible()
    press(page, "Deploy")
    press(page, "Chat with it", timeout_ms=120_000)
    expect(page.get_by_role("heading", level=1, name="Chat")).to_be_visible()
    settle(page)
    move_to(page, "Message ")
    page.keyboard.type("When does the pier open?")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"ms to first token"))).to_be_visible(timeout=60_000)
    press(page, "Teardown", role="link")
    expect(page.get_by_role("heading", level=1, name="Teardown")).to_be_visible()
    delete_by_keyboard(page)


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
    expect(page.get_by_text(re.compile(r"Gone .*endpoint .*checked twice"))).to_be_visible(timeout=60_000)


def press(page: Page, name: str, *, role: str = "button", inside: str = "", timeout_ms: int = 60_000) -> None:
    """Wait until a button or link can be used, go to it with Tab, and press Enter."""
    place = page.get_by_role("dialog") if inside else page
    found = place.get_by_role(role, name=name, exact=role == "link").first  # type: ignore[arg-type]
    expect(found).to_be_enabled(timeout=timeout_ms)
    settle(page)
    move_to(page, name)
    page.wait_for_function(_SHOWS_FOCUS)  # it comes with a transition
    page.keyboard.press("Enter")


def move_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    passed = []
    for _ in range(FAR):
        page.keyboard.press("Tab")
        at = page.evaluate(_NAME)
        passed.append(at)
        if name in at:
            return
    raise AssertionError(f"Tab does not reach '{name}': {passed}")
