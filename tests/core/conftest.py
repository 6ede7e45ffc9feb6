from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.home import Home
from tests.local_server import LocalServer, running_server
from tests.tiny_model import build_tiny_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of this test, empty and served by nobody."""
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home").create()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One real local workspace for the tests of a module, with a tiny model to train."""
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    with running_server(tmp_path_factory.mktemp("served"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


@pytest.fixture
def conn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """The connection to that workspace; its home is this process's home."""
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    return connect(local_settings(), home=server.home)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show the server's log below the failure of a test that used one."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, LocalServer):
                report.sections.append((f"log of {name}", value.log()))
