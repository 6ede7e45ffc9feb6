from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_server import LocalServer, running_server


@pytest.fixture(scope="module")
def local_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """One server for the tests of a module; what it runs is SERVER of that module, the local workspace by default."""
    with running_server(tmp_path_factory.mktemp("home"), _module(request)) as server:
        yield server


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A server for one test, to be killed or filled."""
    with running_server(tmp_path_factory.mktemp("home"), _module(request)) as server:
        yield server


def _module(request: pytest.FixtureRequest) -> str:
    return getattr(request.module, "SERVER", "core.local")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show the server's log below the failure of a test that used one."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, LocalServer):
                report.sections.append((f"log of {name}", value.log()))
