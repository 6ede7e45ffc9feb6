"""A field that nobody touched writes nothing; what a person typed is kept, and two tabs do not undo each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from core.launch.drafts import Draft, create_draft, find_latest_draft, get_draft
from core.operations import list_operations
from tests.pages.conftest import Dashboard, settle
from tests.pages.kit.slow_network import slowed
from tests.pages.setup.test_setup_browser import click, expect_page
from tests.soak import Soak
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def ready(browser: Browser, dashboard: Dashboard) -> Draft:
    """A set-up that can be started, made by the three clicks."""
    with browser.new_page() as tab, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_HOME", str(dashboard.home))
        tab.goto(f"{dashboard.url}/connect")
        click(tab, "Use this workspace")
        expect_page(tab, "Model & compute")
        click(tab, "Use these")
        expect_page(tab, "Data")
        click(tab, "Use this data")
        expect_page(tab, "Launch")
        settle(tab)
        found = find_latest_draft("local")
    assert found is not None
    return found


@pytest.fixture
def draft(ready: Draft, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """A copy of that set-up for one test, which nobody has opened."""
    monkeypatch.setenv("TUNEDECK_HOME", str(dashboard.home))
    return create_draft(
        "local", model=ready.model, model_version=ready.model_version, compute=ready.compute, dataset=ready.dataset
    )


@contextmanager
def busy_processors(count: int = 2) -> Iterator[None]:
    """Keep the machine's processors busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait(10)


def open_launch(context: BrowserContext, url: str, draft: Draft) -> Page:
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(f"{url}/launch?at=local&draft={draft.id}", wait_until="commit")
    return tab


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_opening_launch_in_two_windows_changes_nothing(browser: Browser, dashboard: Dashboard, draft: Draft) -> None:
    """Some seconds a round: both windows behind a slow network, the processors busy, "All" clicked as soon as it is."""
    with (
        Soak("untouched-fields", quick=2, long=30, what="Launch opened twice at once, slow and loaded") as soak,
        slowed(dashboard.url, 0.05) as url,
        busy_processors(),
    ):
        for number, _ in soak.rounds():
            contexts = [browser.new_context(viewport={"width": 1360, "height": 900}) for _ in range(2)]
            try:
                tabs = [open_launch(context, url, draft) for context in contexts]
                for tab in tabs:
                    tab.get_by_text("All", exact=True).click()
                for tab in tabs:
                    expect(tab.get_by_role("spinbutton", name="Alpha")).to_be_visible()
                    expect(tab.get_by_role("button", name="Start run")).to_be_enabled()
                    expect(tab.get_by_role("button", name="Reset")).to_have_count(0)  # nothing is "yours"
            finally:
                for context in contexts:
                    context.close()
            now = get_draft(draft.id)
            assert (now.revision, dict(now.parameters)) == (draft.revision, dict(draft.parameters)), number
            soak.add("windows", 2)


def test_a_persons_first_edit_after_opening_is_kept(browser: Browser, dashboard: Dashboard, draft: Draft) -> None:
    """Typed the moment the field is there, through a slow network, in a field and in the next one at once."""
    with slowed(dashboard.url, 0.05) as url, browser.new_context() as context:
        tab = open_launch(context, url, draft)
        epochs = tab.get_by_role("spinbutton", name="Epochs")
        epochs.fill("7")
        rate = tab.get_by_role("textbox", name="Learning rate")
        rate.fill("3e-3")
        rate.press("Tab")
        expect(tab.get_by_role("button", name="Reset")).to_have_count(2)
        expect(tab.get_by_text("LoRA · 7 epochs", exact=False)).to_be_visible()
    kept = get_draft(draft.id).parameters
    assert {name: str(value) for name, value in kept.items()} == {"num_train_epochs": "7", "learning_rate": "3e-3"}


def test_the_name_typed_for_a_run_survives_a_reload_and_another_tab_sees_it(
    browser: Browser, dashboard: Dashboard, page: Page, draft: Draft
) -> None:
    page.goto(f"{dashboard.url}/launch?at=local&draft={draft.id}")
    name = page.get_by_role("textbox", name="Name", exact=True)
    expect(name).to_be_visible()
    settle(page)
    page.reload()
    expect(name).to_be_visible()
    assert get_draft(draft.id) == draft, "a field that nobody touched was written"
    with browser.new_context() as context:
        other = open_launch(context, dashboard.url, draft)
        expect(other.get_by_role("textbox", name="Name", exact=True)).to_have_value("")
        name.fill("nightly")
        name.press("Enter")
        wait_until(lambda: get_draft(draft.id).title == "nightly")
        note = other.get_by_role("textbox", name="Note", exact=True)
        note.fill("with a smaller rate")
        note.press("Enter")
        expect(other.get_by_text("Changed in another tab: Name is nightly")).to_be_visible()
        expect(other.get_by_role("textbox", name="Name", exact=True)).to_have_value("nightly")
    page.reload()
    expect(name).to_have_value("nightly")
    expect(page.get_by_role("textbox", name="Note", exact=True)).to_have_value("with a smaller rate")
    kept = get_draft(draft.id)
    assert (kept.title, kept.note) == ("nightly", "with a smaller rate")


def test_two_tabs_keep_each_others_fields_and_start_one_run(
    browser: Browser, dashboard: Dashboard, page: Page, draft: Draft
) -> None:
    page.goto(f"{dashboard.url}/launch?at=local&draft={draft.id}")
    expect(page.get_by_role("button", name="Start run")).to_be_enabled()
    with browser.new_context() as context:
        other = open_launch(context, dashboard.url, draft)
        expect(other.get_by_role("button", name="Start run")).to_be_enabled()
        page.get_by_role("spinbutton", name="Epochs").fill("5")
        page.get_by_role("spinbutton", name="Epochs").press("Tab")
        expect(page.get_by_role("button", name="Reset")).to_have_count(1)
        rate = other.get_by_role("textbox", name="Learning rate")
        rate.fill("4e-3")
        rate.press("Tab")
        both = {"num_train_epochs": "5", "learning_rate": "4e-3"}
        wait_until(lambda: {name: str(value) for name, value in get_draft(draft.id).parameters.items()} == both)
        # Where this tab has not seen the other's learning rate yet, its click starts nothing that it did not show.
        click(page, "Start run")
        wait_until(lambda: "run=" in page.url or page.get_by_text("Nothing was started").count())
        late = other
        if "run=" not in page.url:
            assert list_operations("local") == []
            expect(other.get_by_text("LoRA · 5 epochs", exact=False)).to_be_visible()
            settle(other)
            click(other, "Start run")
            expect(other).to_have_url(re.compile("run="))
            late = page
        (started,) = list_operations("local")
        sent = started.change.parameters
        assert (int(sent["num_train_epochs"]), float(sent["learning_rate"])) == (5, 0.004)
        with suppress(Error):  # it may have seen by itself that the run was started, and has no button then
            late.get_by_role("button", name="Start run").click(timeout=3_000)
        said = re.compile(f"This set-up was started as {started.change.label}")
        expect(late.get_by_text(said).first).to_be_visible()
        assert [each.id for each in list_operations("local")] == [started.id]
