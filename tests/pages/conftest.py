"""A dashboard to click through: a local workspace and `streamlit run app.py`, with a home of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.home import REPOSITORY, Home
from core.launcher import run_script_once
from core.local import control
from tests.waiting import wait_until

expect.set_options(timeout=60_000)  # the tests assert what is seen in the end; how soon is for the benchmarks
ONLY_LOOPBACK = {"HF_HUB_OFFLINE": "1", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}


@dataclass
class Program:
    """A subprocess whose output is kept for the failure report."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments,
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def tail(self, size: int = 4000) -> str:
        return self.log.read_bytes()[-size:].decode("utf-8", "replace") if self.log.exists() else ""


@dataclass
class Dashboard:
    """A running dashboard and its local workspace."""

    home: Path
    url: str
    server: Program
    app: Program
    faults: list[str] = field(default_factory=list)

    def stop_server(self) -> None:
        """Freeze the local workspace: it takes connections and never answers."""
        self.server.send(signal.SIGSTOP)

    def wake_server(self) -> None:
        self.server.send(signal.SIGCONT)

    def report(self) -> str:
        return "\n".join(f"--- {program.name}\n{program.tail()}" for program in (self.server, self.app))


@pytest.fixture(scope="session")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base models with the tiny one in it, shared by the homes of this test run."""
    from tests.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("base-models")
    build_tiny_model(folder)
    return folder


def environment_of(home: Path, base_models: Path, quota_cores: int | None = 16) -> dict[str, str]:
    return (
        os.environ
        | ONLY_LOOPBACK
        | {
            "TUNEDECK_HOME": str(home),
            "TUNEDECK_BASE_MODELS": str(base_models),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(REPOSITORY),
            "TUNEDECK_QUOTA_CORES": str(quota_cores or ""),
        }
    )


def launch(
    home: Path, base_models: Path, quota_cores: int | None = 16, workspace_module: str = "core.local"
) -> Dashboard:
    """Start a local workspace and a dashboard on free ports; both answer when this returns, and a page was drawn."""
    home.mkdir(parents=True, exist_ok=True)
    environment = environment_of(home, base_models, quota_cores)
    command = [sys.executable, "-m", workspace_module, "serve"]
    server = Program("local workspace", command, environment, home / "server.out")
    server.start()
    app, url = start_app(home, environment)
    dashboard = Dashboard(home, url, server, app)
    wait_until((home / "server.json").exists, dashboard.report)
    return dashboard


def start_app(home: Path, environment: dict[str, str]) -> tuple[Program, str]:
    """Start a dashboard on a free port; it answers when this returns, and a page was drawn. Return its address too."""
    port = free_port()
    app = Program(
        "dashboard",
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true"],
        environment,
        home / "dashboard.out",
    )
    url = f"http://127.0.0.1:{port}"
    app.start()
    wait_until(lambda: answers(f"{url}/_stcore/health"), app.tail)
    run_script_once(port, time.monotonic() + 60)  # as `make run` does
    return app, url


@pytest.fixture(scope="module")
def dashboard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base_models: Path
) -> Iterator[Dashboard]:
    """One dashboard for the tests of a module, with its own home; the module may name a WORKSPACE of its own."""
    module = getattr(request.module, "WORKSPACE", "core.local")
    found = launch(tmp_path_factory.mktemp("home"), base_models, workspace_module=module)
    yield found
    stop(found)


def stop(dashboard: Dashboard) -> None:
    """End a dashboard and everything of its home."""
    dashboard.app.end()
    dashboard.server.end()
    control.stop(Home(dashboard.home))  # a test may have had another server started from a page


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh tab; when the test fails, a picture and the logs are left beside the home."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(60_000)
    tab = context.new_page()
    yield tab
    if request.session.testsfailed:
        with suppress(Exception):
            tab.screenshot(path=str(dashboard.home / f"{request.node.name[:60]}.png"), full_page=True)
        print(dashboard.report())
    context.close()


def settle(tab: Page) -> None:
    """Wait until the page's script rests: what is asserted next is what the operator sees."""
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    tab.wait_for_timeout(150)


def open_from_menu(tab: Page, name: str) -> float:
    """Click a link of the menu, once; returns the seconds until the page's title stands there."""
    started = time.monotonic()
    tab.get_by_test_id("stSidebar").get_by_role("link", name=name).click()
    tab.get_by_role("heading", name=name, level=1).wait_for()
    settle(tab)
    return time.monotonic() - started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False
