"""A run that ticks leaves the operator alone: letters, focus, an open popover, the chart's zoom and clicks stay.

The run is of a model that is tiny to load and whose steps take about as long as a real one's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import SLOW, click, go_to_launch, set_number
from tests.pages.conftest import Dashboard, open_from_menu, settle
from tests.tiny_model import build_tiny_model
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
CLICKS = 60 if os.environ.get("TUNEDECK_SOAK") else 8
TEXT = "the quick brown fox jumps over the lazy dog"


@pytest.fixture(scope="module")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(models, hidden=512, layers=8)
    return models


def test_typing_zooming_an_open_popover_and_clicks_survive_a_run_that_ticks_and_cancel_ends_it(
    page: Page, dashboard: Dashboard
) -> None:
    go_to_launch(page, dashboard)
    set_number(page, "max_steps", "Maximum steps", "100000")
    click(page, "Start run")
    page.locator(".js-plotly-plot[aria-label^=Train]").first.wait_for(timeout=SLOW)
    page.get_by_text("Logs", exact=True).click()
    search = page.get_by_placeholder("error, loss …")
    search.wait_for()
    settle(page)
    page.evaluate("() => { document.querySelector('.js-plotly-plot[aria-label^=Train]').dataset.mark = 'first' }")
    zoomed = zoom(page)

    before = count_points(page)
    search.click()
    page.keyboard.type(TEXT, delay=5_000 / len(TEXT))
    assert search.input_value() == TEXT
    assert page.evaluate("() => document.activeElement.getAttribute('placeholder')") == "error, loss …"
    assert count_points(page) > before, "the run did not tick while the operator typed"
    mark = page.evaluate("() => document.querySelector('.js-plotly-plot[aria-label^=Train]').dataset.mark")
    assert mark == "first", "the chart was replaced"
    assert read_range(page) == zoomed, "the chart lost its zoom"

    page.get_by_role("button", name="Options").click()
    inside = page.get_by_text("Logarithmic loss")
    expect(inside).to_be_visible()
    at = count_points(page)
    wait_until(lambda: count_points(page) > at + 3, "a run that goes on", timeout_s=SLOW / 1000)
    expect(inside).to_be_visible()
    page.keyboard.press("Escape")

    for number in range(CLICKS):  # each while timers of the page that is left still fire
        open_from_menu(page, ("Launch", "Runs", "Data", "Overview")[number % 4])
    page.get_by_role("link", name=re.compile(r"\d+%")).click()
    click(page, "Cancel run")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Logged metrics stay")
    dialog.evaluate("found => { found.dataset.mark = 'first' }")
    at = count_points(page)
    wait_until(lambda: count_points(page) > at + 3, "a run that goes on", timeout_s=SLOW / 1000)
    assert dialog.evaluate("found => found.dataset.mark") == "first", "the question was closed and opened"
    dialog.get_by_role("button", name="Cancel run").click()
    expect(page.locator(".st-key-run-head")).to_contain_text("Cancelled")
    expect(page.locator(".js-plotly-plot[aria-label^=Train]").first).to_be_visible()


def zoom(page: Page) -> list[float]:
    """Drag over a part of the chart, again where the page moved under it; returns the range that is then shown."""
    wait_until(lambda: count_points(page) > 3, "a run that begins", timeout_s=SLOW / 1000)
    ground = page.locator(".nsewdrag").first
    for _ in range(5):
        ground.scroll_into_view_if_needed()  # the click on Logs may have moved it out of the window
        box = ground.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.8, steps=8)
        page.mouse.up()
        page.wait_for_timeout(400)
        if not page.evaluate(
            "() => document.querySelector('.js-plotly-plot[aria-label^=Train]')._fullLayout.xaxis.autorange"
        ):
            return read_range(page)
    raise AssertionError("five drags did not zoom the chart")


def read_range(page: Page) -> list[float]:
    found: list[float] = page.evaluate(
        "() => document.querySelector('.js-plotly-plot[aria-label^=Train]').layout.xaxis.range"
    )
    return [round(value, 3) for value in found]


def count_points(page: Page) -> int:
    """Return how many steps the chart says it shows."""
    said = page.locator("[aria-label^='Train loss']").first.get_attribute("aria-label") or ""
    found = re.search(r"(\d+) steps?", said)
    return int(found[1]) if found else 0
