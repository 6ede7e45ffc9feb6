"""The list of runs, the overview and a run's page by AppTest, on runs that train, queue, end and are cancelled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from core import connection
from core.operations.ledger import Ledger
from tests.fine_tuning_runs import cancel, start_run, start_training, trivial_workspace
from tests.local.submitting import wait_for
from tests.local_server import LocalServer
from tests.pages.apps import open_app, run_until, texts

TITLE = "calm-heron"  # of two runs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A local workspace with one run that trains and two that queue behind it."""
    with trivial_workspace(tmp_path_factory.mktemp("home")) as running:
        start_training(running, "trains")
        for name in ("first", "second"):
            start_run(running, name, TITLE)
            wait_for(running, name, "Queued")
        yield running


@pytest.fixture(autouse=True)
def home(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))
    connection.ensure_local()


def open_page(page: str, **ids: str) -> AppTest:
    return open_app(page, at="local", **ids)


def links(app: AppTest) -> list[str]:
    return [one.label.replace("\\", "") for one in app.get("page_link")]


def losses(app: AppTest) -> dict[str, str]:
    """Return what the table says of each run's loss, by title and state."""
    rows = app.dataframe[0].value if app.dataframe else None
    return {} if rows is None else {f"{row['Run']} {row['State']}": row["Train loss"] for _, row in rows.iterrows()}


def test_running_and_queued_are_counted_apart_and_the_run_that_trains_is_named(server: LocalServer) -> None:
    app = run_until(open_page("overview"), lambda app: "trains running" in links(app))
    assert "Runs · 1 running, 2 queued" in links(app)
    tile = next(one for one in app.metric if one.label == "Running")
    assert (tile.value, tile.delta) == ("1", "2 queued")
    assert "Next: Watch trains." in texts(app).replace("**", "")
    assert next(iter(losses(app))) == "trains Running"
    opened = run_until(open_page("runs", run="second"), lambda app: f"{TITLE} queued" in links(app))
    assert "Runs · 1 running, 2 queued" in links(opened)


def test_an_ended_runs_loss_is_in_the_list_though_it_was_read_while_it_was_queued(server: LocalServer) -> None:
    """And Compare draws two runs of one title apart, and names the one that has no loss."""
    app = run_until(open_page("runs"), lambda app: losses(app).get(f"{TITLE} Queued") == "none yet")
    cancel(server, "second")
    cancel(server, "trains")
    wait_for(server, "first", "Completed")
    run_until(app, lambda app: losses(app).get(f"{TITLE} Completed") == "1.33", timeout_s=15)
    assert losses(app)[f"{TITLE} Cancelled"] == "not measured"

    app.multiselect[0].set_value(["first", "second", "trains"]).run()
    run_until(app, lambda app: f"{TITLE} (second) is not drawn: it has logged no loss." in texts(app))
    shown = json.dumps([str(one.proto) for one in app.get("bidi_component")])
    assert f"{TITLE} (first)" in shown
    assert "trains" in shown


def test_a_search_that_finds_nothing_is_not_a_list_of_no_runs(server: LocalServer) -> None:
    app = run_until(open_page("runs", q="nothing-is-called-so"), lambda app: "No run matches." in texts(app))
    assert "No runs yet" not in texts(app)


def test_a_run_that_was_cancelled_before_it_was_sent_is_not_on_its_way(server: LocalServer) -> None:
    ledger = Ledger(server.home)
    begun = ledger.start("launch", "local", "unsent", [("submit", "Start the run")], {"title": "unsent"})
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    ledger.save(replace(begun, state="cancelled"), fence)
    app = run_until(open_page("runs", run="unsent"), lambda app: "cancelled before it was sent" in texts(app))
    assert "on its way" not in texts(app)
