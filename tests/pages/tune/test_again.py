"""The second run, in a real browser: two clicks from the end of the first."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from core.launch.drafts import get_draft, save_draft
from core.operations import Launch, list_operations
from tests.pages.conftest import Dashboard, settle
from tests.pages.kit.test_fields import click, expect_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]
WORKSPACE = "tests.core.local.trivial_server"  # the whole way with a real trainer and scorer is tests/e2e's


def list_launches() -> list[Launch]:
    """Return the runs that were started, the newest first."""
    return [each.change for each in list_operations("local") if isinstance(each.change, Launch)]


def test_a_second_run_is_recorded_two_clicks_after_the_first_ended(
    page: Page, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute: a run is waited for."""
    monkeypatch.setenv("TUNEDECK_HOME", str(dashboard.home))
    page.goto(f"{dashboard.url}/connect")
    click(page, "Use this workspace")
    click(page, "Use these")
    click(page, "Use this data")
    expect_page(page, "Launch")
    settle(page)
    draft = re.search(r"draft=(\w+)", page.url)
    assert draft is not None
    save_draft(get_draft(draft[1]), parameters={"max_steps": 2, "logging_steps": 1})
    page.reload()
    click(page, "Start run")
    page.wait_for_url(re.compile("run="))
    expect(page.locator(".st-key-run-head").get_by_text("Completed")).to_be_visible(timeout=120_000)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Launch").click()
    (first,) = list_launches()
    expect(page.get_by_text(f"Set up as {first.label} of")).to_be_visible()
    expect(page.get_by_text(f"Changed from {first.label} (0)")).to_be_visible()
    click(page, "Start run")
    page.wait_for_url(re.compile("run="))
    second, _ = list_launches()
    assert second.subject != first.subject
    assert second.parameters == first.parameters
