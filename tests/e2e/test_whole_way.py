"""The whole way as an operator clicks it, with the real base model: it takes about three minutes on two cores."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import SLOW, click, go_to_launch, heading, set_number
from tests.pages.conftest import Dashboard, open_from_menu, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = "12"


def test_an_operator_clicks_from_an_empty_home_to_an_empty_bill(page: Page, dashboard: Dashboard) -> None:
    go_to_launch(page, dashboard)
    set_number(page, "max_steps", "Maximum steps", STEPS)
    expect(page.get_by_role("button", name="Start run")).to_be_enabled()
    click(page, "Start run")

    page.wait_for_url(re.compile(r"/runs\?.*run="))
    chart = page.locator(".js-plotly-plot").first
    chart.wait_for(timeout=SLOW)
    watch_the_loss_fall(page)
    base, tuned = read_first_answers(page)
    assert base != tuned, "the tuned model says what the base model says"

    click(page, "Deploy this model")
    heading(page, "Deploy")
    click(page, "Deploy")
    page.wait_for_url(re.compile(r"/deploy\?.*endpoint="))
    name = parse_qs(urlsplit(page.url).query)["endpoint"][0]
    click(page, "Chat with it", timeout_ms=SLOW)

    heading(page, "Chat")
    answer = ask(page, "When does the pier open?")
    assert answer

    open_from_menu(page, "Teardown")
    expect(page.get_by_role("checkbox", name=name)).to_be_checked()
    click(page, "Delete 1 resource…")
    page.get_by_role("dialog").get_by_role("button", name="Delete 1 resource").click()
    expect(page.get_by_text(re.compile(rf"Gone .*{name}.*checked twice"))).to_be_visible()
    page.goto(f"{dashboard.url}/chat?at=local&endpoint={name}")
    expect(page.get_by_text(f"Endpoint '{name}' was deleted", exact=False)).to_be_visible()


def watch_the_loss_fall(page: Page) -> None:
    """Wait for the end of the run and its evaluation, and read what the chart says to those who do not see it."""
    expect(page.locator(".st-key-run-head")).to_contain_text("Completed", timeout=SLOW)
    expect(page.get_by_text("Answers to test questions")).to_be_visible(timeout=SLOW)
    settle(page)
    said = page.locator("[aria-label^='Train loss fell from']").first.get_attribute("aria-label")
    found = re.search(r"from ([\d.]+) to ([\d.]+) over (\d+) steps", said or "")
    assert found, said
    assert float(found[2]) < float(found[1])
    assert found[3] == STEPS


def read_first_answers(page: Page) -> tuple[str, str]:
    """Return what base and tuned model said to the first test question shown."""
    first = page.locator(".st-key-answer-0")
    first.wait_for()
    base, tuned = (first.locator("[data-testid=stColumn]").nth(number).inner_text() for number in (0, 1))
    return base.removeprefix("Base model"), tuned.removeprefix("Tuned model")


def ask(page: Page, question: str) -> str:
    """Send a question and return the answer, once its timing stands beneath it."""
    box = page.get_by_placeholder(re.compile("^Message "))
    box.fill(question)
    box.press("Enter")
    expect(page.get_by_text(re.compile(r"ms to first token"))).to_be_visible()
    settle(page)
    return page.locator("[data-testid=stChatMessage]").last.locator("[data-testid=stText]").first.inner_text().strip()
