"""What is idle on this machine ends by itself where that was chosen, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.azureml.connection import connect
from core.azureml.local_process import local_settings
from core.home import Home
from core.operations import start_runner, start_set_idle
from core.operations.ledger import Ledger
from core.operations.sweep import sweep
from core.serving import endpoints
from core.teardown.idle import Use, list_idle
from tests.core.local.test_endpoints import deploy, serve
from tests.idle_past import ALIVE, ask, make_old, measure
from tests.local_server import LocalServer
from tests.waiting import finish, wait_until


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    yield from serve(tmp_path_factory.mktemp("home"))


def test_an_endpoint_without_a_request_is_deleted_once_that_is_chosen(
    served: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(served.home.path))
    conn, ledger = connect(local_settings(), home=served.home), Ledger(Home(served.home.path))
    for name in ("forgotten", "wanted"):
        deploy(served, name)
        measure(served.home, f"deployments/{name}/demo", **ALIVE)
        ask(served.home, name, ())
    make_old(served.home)
    assert [each.words for each in list_idle(conn)] == [
        f"{name} had no request for 1 d. Deleting it frees what it holds of this machine."
        for name in ("wanted", "forgotten")
    ]
    assert sweep(ledger, conn, []) == []
    runner = start_runner(served.home)
    try:
        finish(start_set_idle("local", "endpoint", "forgotten", 4))
        (swept,) = sweep(ledger, conn, [])
        assert swept.operation is not None
        assert finish(swept.operation).facts["receipt"]
    finally:
        runner.stopping.set()
        wait_until(lambda: not runner.alive)
    assert endpoints.find_endpoint(conn, "forgotten") is None
    (kept,) = list_idle(conn)
    assert (kept.timed.name, kept.use) == ("wanted", Use.IDLE)
