"""axe-core on every page: light and dark, 1360 and 420 wide, empty and at work; and no page scrolls sideways.

The tiny model stands in for the real one: what is measured here is the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from core import compute, connection, dataset, drafts, operations, preflight
from tests.e2e.conftest import wait_until
from tests.pages.axe import list_serious
from tests.pages.conftest import Dashboard, settle
from tests.tiny_model import build_tiny_model

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
PAGES = ("overview", "connect", "model", "data", "launch", "runs", "deploy", "chat", "teardown", "activity")
WIDTHS = (1360, 420)


@pytest.fixture(scope="module")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base-models")
    build_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def made(dashboard: Dashboard, base_models: Path) -> Iterator[dict[str, str]]:
    """A completed run, an endpoint and a draft in the home of the dashboard; by their pages' ids."""
    before = dict(os.environ)
    os.environ |= {"TUNEDECK_HOME": str(dashboard.home), "TUNEDECK_BASE_MODELS": str(base_models)}
    conn = connection.connect(connection.ensure_local())
    choices = {
        "model": "tiny-chat", "model_version": "1", "compute": "this-machine", "dataset": dataset.load_sample().key,
        "parameters": {"max_steps": 6},
    }  # fmt: skip
    begun = operations.start_launch(preflight.plan_launch(conn, drafts.create_draft("local", **choices)))
    wait_until(lambda: operations.get_operation(begun.id).finished, "the run did not end", 120)
    size = compute.list_sizes(conn)[0].name
    served = operations.start_deploy("local", begun.subject, "tiny-support", "tiny-support-1", size, None)
    wait_until(lambda: operations.get_operation(served.id).finished, "the endpoint did not come", 120)
    draft = drafts.create_draft("local", **choices)
    yield {"run": begun.subject, "endpoint": served.subject, "draft": draft.id}
    os.environ.clear()
    os.environ |= before


def look_at(browser: Browser, url: str, scheme: str) -> list[object]:
    """Return what axe finds on a settled page, wide and narrow, and where it scrolls sideways."""
    context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    tab = context.new_page()
    tab.goto(url)
    tab.get_by_role("heading", level=1).first.wait_for()
    found: list[object] = []
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        rest(tab)
        found += [(width, *finding) for finding in list_serious(tab, scheme)]
        if tab.evaluate("() => document.documentElement.scrollWidth > innerWidth"):
            found.append((width, "scrolls sideways"))
    context.close()
    return found


def rest(tab: Page) -> None:
    """Wait until nothing is being read: axe passes by luck on an outline."""
    settle(tab)
    wait_until(lambda: tab.locator("[data-testid=stSkeleton]").count() == 0, f"{tab.url} goes on loading", 20)
    tab.wait_for_timeout(700)
    settle(tab)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_serious_on_an_empty_page(browser: Browser, dashboard: Dashboard, name: str, scheme: str) -> None:
    assert look_at(browser, f"{dashboard.url}/{name}?at=local", scheme) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "address",
    [
        "overview?at=local",
        "launch?at=local&draft={draft}",
        "launch?at=local&draft={draft}&settings=All",
        "runs?at=local",
        "runs?at=local&run={run}",
        "runs?at=local&run={run}&view=Logs",
        "runs?at=local&run={run}&view=Settings",
        "runs?at=local&run=no-such-run",
        "deploy?at=local&run={run}",
        "deploy?at=local&endpoint={endpoint}",
        "chat?at=local&endpoint={endpoint}",
        "chat?at=local&endpoint=never-there",
        "teardown?at=local&what=All",
        "activity?at=local",
    ],
)
def test_nothing_serious_on_a_page_at_work(
    browser: Browser, dashboard: Dashboard, made: dict[str, str], address: str, scheme: str
) -> None:
    assert look_at(browser, f"{dashboard.url}/{address.format(**made)}", scheme) == []
