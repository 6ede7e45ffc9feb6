"""What all tests share: an environment of their own, entered before anything is imported that could read the shell's,
and one real browser. Playwright drives one at a time in a process, so nothing else starts it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

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


# Seconds that the longest files take on two cores; the others take about OTHERS_S.
LONGEST = {
    "e2e/test_pages": 198,
    "tune/test_tune_and_serve": 143,
    "e2e/test_whole_way": 103,
    "setup/test_setup_browser": 72,
    "e2e/test_typing": 70,
    "operations/test_operations": 53,
    "kit/test_fields": 49,
    "kit/test_keyboard": 45,
    "kit/test_frame": 44,
    "tune/test_run_table": 39,
    "azure/test_sizes": 37,
    "setup/test_setup_pages": 36,
    "local/test_endpoints": 31,
    "data/test_data_page": 30,
    "azure/test_caps": 29,
    "azure/test_walk": 27,
    "azure/test_connect_page": 27,
    "contract/test_lesson": 25,
    "azure/test_sweep": 25,
    "azure/test_panic": 24,
    "azure/test_runs": 23,
    "tune/test_again": 22,
    "operations/test_kill": 22,
    "data/test_data_browser": 20,
    "local/test_runner": 19,
    "azure/test_idle": 18,
    "azure/test_refusals": 18,
    "engine/test_finetune": 18,
    "azure/test_deploy_failures": 18,
    "teardown/test_gone": 17,
    "azure/test_model_page": 17,
    "local/test_serving": 16,
    "local/test_kill": 15,
    "engine/test_against_transformers": 15,
    "kit/test_alone": 14,
    "azure/test_causes": 13,
    "azure/test_policy_tags": 13,
    "dataset/test_sources": 13,
    "azure/test_registries": 13,
    "runs/test_index": 12,
    "core/test_home_fixture": 12,
    "local/test_flow_kill": 12,
    "azure/test_teardown": 11,
    "dataset/test_hub": 11,
    "azure/test_receipts": 11,
    "tune/test_compare": 10,
    "launch/test_ready": 10,
    "contract/test_rules": 10,
    "operations/test_faults": 10,
    "launch/test_launches": 9,
    "dataset/test_fuzz": 9,
    "tune/test_run_list": 9,
    "contract/test_operations": 8,
    "azure/test_serving": 8,
    "azure/test_costs": 8,
    "engine/test_score": 8,
    "engine/test_architectures": 8,
    "azure/test_identities": 7,
    "model/test_model_process": 7,
    "core/test_launcher": 7,
    "azure/test_verify": 7,
    "contract/test_faults": 7,
    "model/test_model_view": 7,
    "azureml/test_connection": 7,
    "local/test_nodes": 7,
    "local/test_add_model": 7,
}
OTHERS_S = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in the order in which the workers take them.

    Those with a browser keep the processors busy, the others wait a lot: as long as there are both, about one worker
    has the former. Of either the longest come first, so that at the end no worker waits long for another.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    seconds = {path: next((LONGEST[name] for name in LONGEST if name in str(path)), OTHERS_S) for path in files}
    longest_first = sorted(files, key=lambda path: -seconds[path])
    busy = [path for path in longest_first if any(item.get_closest_marker("browser") for item in files[path])]
    waiting = [path for path in longest_first if path not in busy]
    items.clear()
    ahead_s = 0
    while busy or waiting:
        take = busy if busy and (ahead_s <= 0 or not waiting) else waiting
        path = take.pop(0)
        ahead_s += seconds[path] if take is busy else -seconds[path]
        items += files[path]


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
