"""A dashboard with the real base model on a home of its own, and the clicks that every whole-way test begins with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from core import home
from tests.pages.conftest import Dashboard, dashboard, page, settle

__all__ = ["dashboard", "page"]

BASE_MODEL = "SmolLM2-135M-Instruct"
QUICK = 10_000
SLOW = 300_000


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of the real base model, which `make base-model` fetched."""
    found = home.Home(home.default_path()).base_models
    if not list(found.glob(f"{BASE_MODEL}/*/tunedeck.json")):
        pytest.fail(f"No base model in {found}: run `make base-model`.", pytrace=False)
    return found


@pytest.fixture(scope="module")
def base_models(real_models: Path) -> Path:
    """The real models, in the place of the tiny one that other browser tests use."""
    return real_models


def click(tab: Page, name: str, *, timeout_ms: int = QUICK) -> None:
    """Click a button by its words once it can be clicked."""
    button = tab.get_by_role("button", name=name, exact=False).first
    expect(button).to_be_enabled(timeout=timeout_ms)
    button.click()


def go_to_launch(tab: Page, here: Dashboard) -> None:
    """Click from a fresh home to the Launch page, with everything as it is preselected."""
    tab.goto(here.url)
    click(tab, "Start on this machine")
    click(tab, "Use these", timeout_ms=60_000)
    click(tab, "Use this data", timeout_ms=60_000)
    heading(tab, "Launch")
    expect(tab.get_by_role("button", name="Start run")).to_be_enabled(timeout=60_000)


def set_number(tab: Page, search: str, label: str, value: str) -> None:
    """Find a setting by its name and put a number into it."""
    field = tab.get_by_placeholder("Search settings")
    field.fill(search)
    number = tab.get_by_role("spinbutton", name=label)
    number.wait_for()
    number.fill(value)
    number.press("Tab")
    expect(number).to_have_value(value)
    settle(tab)


def heading(tab: Page, text: str) -> Locator:
    """Wait for the page's title."""
    found = tab.get_by_role("heading", level=1, name=text)
    found.wait_for()
    return found


def wait_until(check: Callable[[], bool], message: str, timeout_s: float = 60.0) -> None:
    """Wait for something that no locator can say."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(message)
        time.sleep(0.2)
