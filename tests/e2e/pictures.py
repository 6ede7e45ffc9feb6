"""Take the README's pictures anew: `make pictures` walks the whole way with the real base model, in some minutes.

Everything on them was measured or answered while they were taken; docs/pictures is what it writes.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from core import home
from tests.e2e.conftest import SLOW, click, go_to_launch, heading
from tests.pages.conftest import REPOSITORY, Dashboard, launch, settle, stop

FOLDER = REPOSITORY / "docs" / "pictures"
SIZE = {"width": 1360, "height": 900}
QUESTIONS = ("When does the pier open?", "What is the cat called?")


def main() -> None:
    """Walk, and write a picture of each page; all of them or none."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        taken = Path(folder) / "pictures"
        browser = driver.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        dashboard = launch(Path(folder) / "home", home.Home(home.default_path()).base_models, quota_cores=None)
        try:
            tab = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
            tab.set_default_timeout(60_000)
            _walk(tab, dashboard, taken)
        finally:
            stop(dashboard)
            browser.close()
        shutil.copytree(taken, FOLDER, dirs_exist_ok=True)


def _walk(tab: Page, dashboard: Dashboard, taken: Path) -> None:
    go_to_launch(tab, dashboard)
    _take(tab, taken, "launch")
    draft = tab.url.partition("?")[2]
    for page in ("model", "data"):
        tab.goto(f"{dashboard.url}/{page}?{draft}")
        _take(tab, taken, page)
    tab.goto(f"{dashboard.url}/launch?{draft}")
    click(tab, "Start run", timeout_ms=SLOW)
    expect(tab.locator(".st-key-run-head")).to_contain_text("Completed", timeout=3 * SLOW)
    expect(tab.get_by_text("Answers to test questions")).to_be_visible(timeout=SLOW)
    _take(tab, taken, "runs")
    click(tab, "Deploy this model")
    heading(tab, "Deploy")
    click(tab, "Deploy", timeout_ms=SLOW)
    tab.wait_for_url(re.compile(r"/deploy\?.*endpoint="))
    endpoint = tab.url.partition("?")[2]
    click(tab, "Chat with it", timeout_ms=SLOW)
    for number, question in enumerate(QUESTIONS, 1):
        box = tab.get_by_placeholder("Message ")
        box.fill(question)
        box.press("Enter")
        expect(tab.get_by_text("ms to first token")).to_have_count(number, timeout=SLOW)
        settle(tab)
    _take(tab, taken, "chat")
    for page, query in {
        "deploy": endpoint,
        "connect": "at=local",
        "teardown": "at=local",
        "activity": "at=local",
    }.items():
        tab.goto(f"{dashboard.url}/{page}?{query}")
        _take(tab, taken, page)
    tab.goto(f"{dashboard.url}/?at=local")
    _take(tab, taken, "overview")


def _take(tab: Page, folder: Path, name: str) -> None:
    settle(tab)
    tab.wait_for_timeout(2_000)  # what is read in the background comes, and what moves has come to rest
    settle(tab)
    tab.mouse.move(SIZE["width"] - 20, SIZE["height"] // 2)  # where nothing tells more when it is pointed at
    tab.screenshot(path=folder / f"{name}.png")
    print(f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
