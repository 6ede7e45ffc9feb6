"""The frame in a real browser: pages stay usable when the workspace stops answering, and say so."""

from __future__ import annotations

import json
import os
import signal
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import Dashboard, open_from_menu, settle
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


def open_page(page: Page, dashboard: Dashboard, path: str, heading: str) -> None:
    page.goto(f"{dashboard.url}{path}")
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    settle(page)


def test_a_deep_link_opens_its_page_and_no_dialog(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard, "/connect?at=local", "Connect")
    expect(page.get_by_text("No account.")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_switch_above_the_menu_opens_another_workspace(page: Page, dashboard: Dashboard) -> None:
    other = {"alias": "ml-dev", "kind": "azure", "subscription_id": str(UUID(int=7)), "resource_group": "group"}
    known = dashboard.home / "connections.json"
    known.write_text(json.dumps({"connections": [{**other, "workspace_name": "ml-dev"}]}), encoding="utf-8")
    try:
        open_page(page, dashboard, "/connect?at=local", "Connect")
        page.get_by_test_id("stSidebar").get_by_role("button", name="Local").click()
        page.get_by_test_id("stPopoverBody").get_by_role("link", name="Azure · ml-dev").click()
        expect(page).to_have_url(f"{dashboard.url}/?at=ml-dev")
    finally:
        known.unlink()


def test_a_link_to_the_page_that_is_open_is_in_its_address_and_holds_at_the_next_click(
    page: Page, dashboard: Dashboard
) -> None:
    open_page(page, dashboard, "/connect?at=local", "Connect")
    page.get_by_test_id("stSidebar").get_by_role("button", name="Local").click()
    page.get_by_test_id("stPopoverBody").get_by_role("link", name="Connect another workspace").click()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Check access", exact=True).click()
    expect(page.get_by_text("is not a subscription id.")).to_be_visible()
    expect(page).to_have_url(f"{dashboard.url}/connect?at=local&where=Azure")
    page.reload()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()


def test_back_from_a_run_that_is_not_there_the_list_stays_at_the_next_click(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard, "/runs?at=local&run=gone-owl", "Runs")
    page.get_by_role("link", name="See all runs").click()
    expect(page).to_have_url(f"{dashboard.url}/runs?at=local")
    expect(page.get_by_role("link", name="Archived runs")).to_be_visible()
    settle(page)
    page.keyboard.press("r")  # Streamlit's own key to run the page again
    settle(page)
    expect(page.get_by_role("link", name="Archived runs")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("There is no run 'gone-owl' in Local.")).to_be_visible()


def test_a_newcomer_starts_with_one_click_and_a_reload_keeps_the_draft(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard, "/", "Overview")
    page.get_by_role("button", name="Start on this machine").click()
    expect(page.get_by_role("heading", name="Model & compute", level=1)).to_be_visible()
    expect(page.get_by_role("radio", name="tiny-chat")).to_be_checked()
    expect(page.get_by_text("Eligible")).to_be_visible()
    address = page.url
    assert "at=local" in address
    assert "draft=" in address
    page.reload()
    expect(page.get_by_role("radio", name="this-machine")).to_be_checked()
    assert page.url == address


def misses_the_answer(page: Page) -> bool:
    """Type a letter more, for which the page is drawn again, until it says that nobody answers."""
    page.keyboard.type("x")
    settle(page)
    return page.get_by_text("What you see was read before.").is_visible()


def test_pages_stay_usable_while_the_workspace_is_stopped_and_recover(page: Page, dashboard: Dashboard) -> None:
    """Takes half a minute: three reads must time out before a view is called stale."""
    open_page(page, dashboard, "/model?at=local", "Model & compute")
    expect(page.get_by_text("Eligible")).to_be_visible()
    dashboard.stop_server()
    try:
        times = [open_from_menu(page, name) for name in ("Data", "Connect", "Model & compute")]
        assert max(times) < 8.0, f"a page waited for the stopped workspace, which a read gives up after 10 s: {times}"
        expect(page.get_by_role("radio", name="tiny-chat")).to_be_checked()
        search = page.get_by_label("Search models")
        search.press_sequentially("phi", delay=60)
        expect(search).to_have_value("phi")
        expect(search).to_be_focused()
        expect(page.get_by_text("no answer")).to_be_visible()
    finally:
        dashboard.wake_server()
    expect(page.get_by_text("no answer")).to_have_count(0)


def test_a_killed_workspace_is_named_and_started_again_from_the_page(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard, "/model?at=local", "Model & compute")
    expect(page.get_by_text("Eligible")).to_be_visible()
    search = page.get_by_label("Search models")
    search.press_sequentially("tiny")
    expect(page.get_by_text("Local · $0.00/h")).to_be_visible()
    assert dashboard.server.process is not None
    os.kill(dashboard.server.process.pid, signal.SIGKILL)
    dashboard.server.process.wait(5)
    wait_until(lambda: misses_the_answer(page), "a page that found nobody", every_s=0.5)
    expect(search).to_be_focused()
    page.get_by_role("button", name="Start the local workspace").first.click(timeout=60_000)
    expect(page.get_by_text("Local · $0.00/h")).to_be_visible()
