"""A stand-in for the tests of a module, and an operator at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.azureml.connection import Connection
from core.home import Home
from core.local import control
from tests.azure.directory import Directory
from tests.azure.login import TENANT, Login
from tests.azure.stand_in import StandIn, running_stand_in


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in whose trainer and scorer are a few lines long."""
    with running_stand_in(tmp_path_factory.mktemp("azure"), module="tests.core.local.trivial_server") as running:
        yield running


@pytest.fixture
def azure(quick: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The same, as it was begun: signed in, and nothing refused; this process is an operator's, with a new home."""
    quick = replace(quick, home=Home(tmp_path / "operator").create())
    for name, value in quick.environment.items():
        monkeypatch.setenv(name, value)
    quick.rules.clear()
    quick.az(state="signed in", tenant=TENANT)
    quick.azure.login, quick.azure.directory = Login(), Directory()
    quick.azure.identity_opens_storage = True
    yield quick
    control.stop(quick.home)  # a page may have started the local workspace of this home


@pytest.fixture
def conn(azure: StandIn) -> Connection:
    """A connection that has not signed in yet."""
    return Connection(azure.settings(), azure.home)
