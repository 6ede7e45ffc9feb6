"""All pages on Azure, as an operator clicks them: what costs says so on its button, and is asked about once more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE
from tests.azure.login import TENANT
from tests.azure.stand_in import SIZE, StandIn, running_stand_in
from tests.e2e.conftest import SLOW, click, heading, set_number
from tests.pages.conftest import ONLY_LOOPBACK, Program, open_from_menu, page, settle, start_app
from tests.soak import is_soak

__all__ = ["page"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(
        not is_soak(), reason="a minute and a half on 2 cores: make soak TESTS=tests/azure/test_pages.py"
    ),
    pytest.mark.timeout(900),
]
PRICE = "$3.67/h"


@dataclass
class AzureDashboard:
    """A dashboard whose Azure is the stand-in."""

    home: Path
    url: str
    app: Program
    azure: StandIn

    def report(self) -> str:
        asked = "\n".join(map(str, self.azure.rules.asked()[-20:]))
        return f"--- dashboard\n{self.app.tail()}\n--- asked of Azure\n{asked}\n{self.azure.workspace.log()}"


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[AzureDashboard]:
    with running_stand_in(tmp_path) as azure, azure.hurried():
        app, url = start_app(azure.home.path, os.environ | ONLY_LOOPBACK | azure.environment)
        yield AzureDashboard(azure.home.path, url, app, azure)
        app.end()


def test_an_operator_clicks_from_connect_to_an_empty_bill_with_the_price_on_each_button(
    page: Page, dashboard: AzureDashboard
) -> None:
    """Takes a minute and a half: the tiny model is trained and served for real."""
    connect(page, dashboard.url)
    pick(page)
    click(page, "Use this data", timeout_ms=SLOW)
    start_run(page)
    endpoint = deploy(page)
    ask(page, dashboard.azure, endpoint)
    tear_down(page, endpoint)


def connect(page: Page, url: str) -> None:
    page.goto(f"{url}/connect?where=Azure")
    fields = {"Subscription id": SUBSCRIPTION, "Resource group": GROUP, "Workspace": WORKSPACE, "Tenant id": TENANT}
    for label, value in fields.items():
        page.get_by_role("textbox", name=label, exact=label != "Tenant id").fill(value)
    click(page, "Check access")
    click(page, "Use this workspace", timeout_ms=SLOW)
    heading(page, "Model & compute")
    expect(page.get_by_text("Azure · ml-dev · $0.00/h")).to_be_visible()


def pick(page: Page) -> None:
    page.get_by_label("Search models").fill("tiny")
    page.get_by_text("tiny-chat", exact=True).first.click()
    click(page, "Create compute", timeout_ms=SLOW)
    drawer = dialog(page)
    expect(drawer).to_contain_text(f"{PRICE} for each node while it works. List price, not your bill.")
    create = drawer.get_by_role("button", name=f"Create on Azure, {PRICE}")
    expect(create).to_be_disabled()
    drawer.get_by_text(f"It costs up to {PRICE} while it works.").click()
    expect(create).to_be_enabled()
    create.click()
    expect(page.get_by_text(re.compile(rf"{SIZE} · 24 cores · 1 GPU · ready · \{PRICE}"))).to_be_visible(timeout=SLOW)
    click(page, "Use these", timeout_ms=SLOW)
    heading(page, "Data")


def start_run(page: Page) -> None:
    heading(page, "Launch")
    set_number(page, "max_steps", "Maximum steps", "6")
    start = page.get_by_role("button", name=re.compile(r"Start run on Azure, \$[\d.]+ to \$[\d.]+"))
    expect(start).to_be_enabled(timeout=SLOW)
    start.click()
    asked = dialog(page)
    expect(asked).to_contain_text("Start a run that costs money?")
    expect(asked).to_contain_text(f"({SIZE}), {PRICE}.")
    for tick in asked.get_by_role("checkbox").all():
        tick.check(force=True)
    confirm = asked.get_by_role("button", name="Start run on Azure")
    expect(confirm).to_be_enabled()
    confirm.click()
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    head = page.locator(".st-key-run-head")
    expect(head).to_contain_text("Completed", timeout=SLOW)
    expect(page.get_by_text("machine time")).to_be_visible()


def deploy(page: Page) -> str:
    """Deploy the run; return the endpoint's name."""
    click(page, "Deploy this model", timeout_ms=SLOW)
    heading(page, "Deploy")
    click(page, f"Deploy on Azure, {PRICE}", timeout_ms=SLOW)
    asked = dialog(page)
    expect(asked).to_contain_text("Deploy an endpoint that costs money?")
    expect(asked).to_contain_text(f"on {SIZE}, {PRICE}.")
    asked.get_by_role("button", name=f"Deploy on Azure, {PRICE}").click()
    page.wait_for_url(re.compile(r"/deploy\?.*endpoint="))
    click(page, "Chat with it", timeout_ms=SLOW)
    found = re.search(r"endpoint=([\w-]+)", page.url)
    assert found, page.url
    return found[1]


def ask(page: Page, azure: StandIn, endpoint: str) -> None:
    """Ask while the container is not ready yet: the page says so, with a clock, until the answer comes."""
    heading(page, "Chat")
    azure.rules.add(f"POST https://{endpoint}", 503, headers={"Retry-After": "2"}, times=3)
    box = page.get_by_placeholder(re.compile("^Message "))
    box.fill("When does the pier open?")
    box.press("Enter")
    expect(page.get_by_text(re.compile(r"Waking up… \d"))).to_be_visible()
    expect(page.get_by_text(re.compile("ms to first token"))).to_be_visible(timeout=SLOW)


def tear_down(page: Page, endpoint: str) -> None:
    open_from_menu(page, "Overview")
    expect(page.get_by_text("List price, not your bill.")).to_be_visible()
    open_from_menu(page, "Teardown")
    expect(page.get_by_role("checkbox", name=endpoint)).to_be_checked()
    expect(page.get_by_text("Billing now")).to_be_visible()
    click(page, "Delete 1 resource…", timeout_ms=SLOW)
    asked = dialog(page)
    expect(asked).to_contain_text(f"This ends billing of {PRICE}. It cannot be undone.")
    asked.get_by_role("textbox").fill(endpoint)
    asked.get_by_role("button", name="Delete 1 resource").click()
    expect(page.get_by_text(re.compile(rf"Gone .*{endpoint}.*checked twice"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("Azure · ml-dev · $0.00/h")).to_be_visible(timeout=SLOW)


def dialog(page: Page) -> Locator:
    """Return the dialogue that is open, once it is drawn."""
    found = page.get_by_role("dialog")
    found.wait_for()
    settle(page)
    return found
