"""What only a browser does: the clipboard, and a chart that is lower where the window is narrow."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.pages.conftest import Dashboard, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow]


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
