"""A dashboard with no workspace behind it, and a page with no dashboard behind it: each is said in our own words."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.home import Home
from core.local import control
from core.locks import held
from tests.pages.conftest import Program, answers, environment_of, start_app
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture
def alone(tmp_path: Path, base_models: Path) -> Iterator[tuple[Program, str]]:
    """A dashboard of a home in which nothing else was ever started, and its address."""
    app, url = start_app(tmp_path, environment_of(tmp_path, base_models))
    yield app, url
    app.end()
    control.stop(Home(tmp_path))


def test_connect_starts_the_workspace_and_a_lost_dashboard_is_named(
    browser: Browser, alone: tuple[Program, str], tmp_path: Path
) -> None:
    app, url = alone
    page: Page = browser.new_page()
    with held(tmp_path / "starting.lock"):  # as if it took long to start
        page.goto(f"{url}/connect")
        expect(page.get_by_text("Starting the workspace on this machine…")).to_be_visible()
        page.get_by_role("button", name="Use this workspace").click()
        expect(page.get_by_role("heading", name="Model & compute", level=1)).to_be_visible()
    expect(page.get_by_role("radio", name="tiny-chat")).to_be_visible()
    assert page.request.get(f"{url}/_stcore/host-config").json()["blockErrorDialogs"] is True
    said = page.get_by_text("The dashboard does not answer.")
    expect(said).to_be_hidden()
    app.send(signal.SIGKILL)
    expect(said).to_be_visible()
    app.start()
    wait_until(lambda: answers(f"{url}/_stcore/health"), app.tail)
    expect(said).to_be_hidden()
    page.close()
