"""What all tests share: an environment of their own, entered before anything is imported that could read the shell's,
and one real browser. Playwright drives one at a time in a process, so nothing else starts it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress

import pytest

from tests import environment

_HOME = environment.enter()

from playwright.sync_api import Browser, Error, Page, sync_playwright  # noqa: E402

from tests.waiting import wait_until  # noqa: E402

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)  # a browser may write into it to the last


# The files that take longest begin first: at the end each worker has a short one, and none waits for the other.
LONGEST = (
    "e2e/test_whole_way",
    "tune/test_tune_and_serve",
    "e2e/test_pages",
    "e2e/test_typing",
    "setup/test_setup_browser",
    "azure/test_pages",
    "tune/test_again",
    "azure/test_walk",
    "kit/test_keyboard",
    "setup/test_setup_pages",
    "operations/test_kill",
    "operations/test_operations",
    "contract/test_lesson",
    "tune/test_run_table",
    "azure/test_caps",
    "azure/test_panic",
    "azure/test_runs",
    "azure/test_sweep",
    "local/test_runner",
    "kit/test_frame",
    "local/test_endpoints",
    "kit/test_fields",
    "azure/test_teardown",
    "engine/test_against_transformers",
    "local/test_flow_kill",
    "dataset/test_hub",
    "local/test_kill",
    "engine/test_finetune",
    "runs/test_index",
    "azure/test_deploy_failures",
    "azure/test_model_page",
    "azure/test_idle",
    "azure/test_receipts",
    "azure/test_costs",
    "azure/test_sizes",
    "teardown/test_gone",
    "launch/test_launches",
    "operations/test_machine",
    "engine/test_score",
    "dataset/test_planted",
    "azure/test_causes",
    "azure/test_refusals",
    "azure/test_policy_tags",
    "operations/test_faults",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files before the others, the order of which stays."""
    items.sort(key=lambda item: next((at for at, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what a page shows into the report of a test that failed on it."""
    report = yield
    page: Page | None = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        with suppress(Error):  # a browser that has ended
            report.sections.append(("page", f"{page.url}\n{page.locator('body').aria_snapshot()}"))
    return report


def find_chromium() -> str:
    """Return the browser: $CHROMIUM, else one on the PATH. A missing browser is a failure, not a skip."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail("No Chromium: set CHROMIUM, or run `apt-get install chromium`.", pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def same_environment_after_a_module() -> Iterator[None]:
    """Undo what fixtures of a module left in the environment; no runner of its homes goes on in the next one."""
    yield from _restore_environment()
    if known := sys.modules.get("core.operations.runner"):
        for runner in known._runners.values():
            runner.stopping.set()
            wait_until(lambda runner=runner: not runner.alive)


@pytest.fixture(autouse=True)
def same_environment_after_a_test() -> Iterator[None]:
    """Undo what a program that was run in this process set: the trainer, say, lets nothing ask Hugging Face."""
    yield from _restore_environment()


def _restore_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    for name in (os.environ.keys() | before.keys()) - {"PYTEST_CURRENT_TEST"}:
        if name not in before:
            del os.environ[name]
        elif os.environ.get(name) != before[name]:
            os.environ[name] = before[name]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        yield found
        found.close()
