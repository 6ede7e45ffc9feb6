"""The list of runs, the overview and a run's page by AppTest, on runs that train, queue, end and are cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import overview
from core.azureml.connection import Connection, connect
from core.azureml.local_process import ensure_local
from core.azureml.reader import Snapshot, reader_for
from core.errors import Unreachable
from core.local.faults import Faults
from core.operations import Launch, Ledger, OperationState, start_rename, start_runner
from core.runs.metrics import RunMetrics
from core.runs.states import JobState, Progress, Run
from core.teardown.inventory import Inventory
from pages.parts.kit.frame import tab_title
from pages.parts.kit.links import PAGES
from pages.parts.kit.summary import Summary
from pages.parts.tune.run_tiles import say_missing, say_no_measure
from tests.core.local.submitting import wait_for
from tests.fine_tuning_runs import cancel, start_run, start_training, trivial_workspace
from tests.local_server import LocalServer
from tests.pages.apps import buttons, open_app, run_until, table_of, texts
from tests.waiting import finish, wait_until

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


@pytest.fixture
def conn() -> Connection:
    return connect(ensure_local())


def open_page(page: str, **ids: str) -> AppTest:
    return open_app(page, at="local", **ids)


def links(app: AppTest) -> list[str]:
    return [one.label.replace("\\", "") for one in app.get("page_link")]


def losses(app: AppTest) -> dict[str, str]:
    """Return what the table says of each run's loss, by title and state."""
    return {f"{row['Run']} {row['State']['word']}": row["Train loss"] for row in table_of(app)}


def test_running_and_queued_are_counted_apart_and_the_run_that_trains_is_named(server: LocalServer) -> None:
    app = run_until(open_page("overview"), lambda app: "trains running" in links(app))
    assert "Runs · 1 running, 2 queued" in links(app)
    tile = next(one for one in app.metric if one.label == "Running")
    assert (tile.value, tile.delta) == ("1", "2 queued")
    assert "Next: Watch trains." in texts(app).replace("**", "")
    assert next(iter(losses(app))) == "trains Running"
    opened = run_until(open_page("runs", run="second"), lambda app: f"{TITLE} queued" in links(app))
    assert "Runs · 1 running, 2 queued" in links(opened)


def test_the_tab_names_the_open_run_else_the_one_that_trains() -> None:
    trains = Run("t", "brave-otter", JobState.RUNNING, progress=Progress(62, 100, None, 0.62, None))
    waits, ended = (
        Run("w", TITLE, JobState.QUEUED),
        Run("e", "old-fox", JobState.FAILED, progress=replace(trains.progress, step=9)),
    )
    nothing = Snapshot(None, None, None, None, False)
    summary = Summary(None, replace(nothing, value=[waits, trains, ended]), nothing, nothing, None, False)
    assert tab_title(PAGES["data"], summary) == "62% brave-otter"
    assert tab_title(PAGES["runs"], replace(summary, open_run=ended)) == "Failed old-fox"
    assert tab_title(PAGES["runs"], replace(summary, open_run=waits)) == f"Queued {TITLE}"
    assert tab_title(PAGES["runs"], replace(summary, runs=replace(nothing, value=[ended]))) == "Runs · Tunedeck"


def test_what_is_not_read_not_measured_and_not_there_yet_are_three_words() -> None:
    unread: Snapshot[RunMetrics] = Snapshot(None, None, None, None, True)
    read = replace(unread, value=RunMetrics("r"), read_at=datetime.now(UTC))
    waits, ended = (
        Run("r", TITLE, JobState.QUEUED),
        Run("r", TITLE, JobState.FAILED, created_at=datetime(2026, 11, 22, tzinfo=UTC)),
    )
    assert say_missing(waits, unread) == "…"
    assert say_missing(waits, replace(unread, error=Unreachable("No answer."))) == "not read"
    assert say_missing(waits, read) == "none yet"
    assert say_missing(ended, replace(read, phase=("Queued", False))) == "…", "read before its end"
    assert say_missing(ended, replace(read, phase=("Failed", True))) == "not measured"
    assert say_no_measure("loss", ended, "…") == "Reading the loss…"


def draw_few() -> None:
    from core.runs.checkpoints import Checkpoint
    from core.runs.states import JobState, Run
    from pages.parts.tune.checkpoints import draw_checkpoints

    few = Run(
        "a", "a", JobState.RUNNING, parameters={"save_total_limit": 2}, checkpoints=(Checkpoint(4), Checkpoint(8))
    )
    draw_checkpoints(few)


def test_a_run_says_why_it_has_few_checkpoints() -> None:
    said = AppTest.from_function(draw_few).run().caption[0].value
    assert said.endswith("Checkpoints kept is 2: earlier ones are deleted, but never the best.")


def test_active_runs_stand_first_also_where_fewer_ended_ones_are_listed(conn: Connection) -> None:
    """The one that trains is the oldest of them; a run that waits has not started."""
    runs = overview.read_runs(conn)
    assert [(run.name, run.started_at is None) for run in runs] == [
        ("trains", False),
        ("second", True),
        ("first", True),
    ]
    assert overview.strip(runs, [], Inventory()).run_words == "trains running"
    assert overview.strip(runs, [], Inventory(), open_run=runs[1]).run_words == f"{TITLE} queued"
    ended = replace(runs[1], state=JobState.COMPLETED)
    assert overview.strip([], [], Inventory(), open_run=ended).run_words == "No run", "as on every other page"


def test_an_ended_runs_loss_is_in_the_list_though_it_was_read_while_it_was_queued(server: LocalServer) -> None:
    app = run_until(open_page("runs"), lambda app: losses(app).get(f"{TITLE} Queued") == "none yet")
    cancel(server, "second")
    cancel(server, "trains")
    wait_for(server, "first", "Completed")
    run_until(app, lambda app: losses(app).get(f"{TITLE} Completed") == "1.33")
    run_until(app, lambda app: losses(app)[f"{TITLE} Cancelled"] == "not measured")


def test_a_stage_that_will_not_come_says_why(conn: Connection) -> None:
    never, cut, whole = (overview.read_run(conn, name).stages for name in ("second", "trains", "first"))
    assert [stage.state_word for stage in never] == ["Cancelled"] + ["Skipped"] * 6
    assert {stage.missed for stage in never[1:]} == {"The run was cancelled before it."}
    assert [stage.state_word for stage in cut[-3:]] == ["Cancelled", "Skipped", "Skipped"]
    assert [stage.state_word for stage in whole] == ["Completed"] * 6 + ["Skipped"]
    said = "There is no evaluation. The data has no test rows."
    app = run_until(open_page("runs", run="first", view="Evaluation"), lambda app: said in texts(app))
    assert "Evaluation · skipped" in [one.label for one in app.expander]
    assert not [one.label for one in app.expander if "waiting" in one.label]


def test_a_search_that_finds_nothing_is_not_a_list_of_no_runs(server: LocalServer) -> None:
    app = run_until(
        open_page("runs", q="nothing-is-called-so"), lambda app: "No run matches all of these." in texts(app)
    )
    assert "No runs yet" not in texts(app)


def test_a_search_that_was_cleared_stays_so_though_the_browser_had_reported_it_before_it_heard() -> None:
    app = open_page("runs")
    run_until(app, lambda app: bool(losses(app)))
    app.text_input(key="q").set_value("nothing has this").run()
    clear = next(button for label, button in buttons(app).items() if label.startswith("Clear search"))
    clear.click().run()
    assert losses(app)
    app.text_input(key="q").set_value("nothing has this").run()
    assert app.text_input(key="q").value == ""
    assert losses(app)


def test_a_list_that_cannot_be_read_is_not_a_list_of_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was empty when it was read last."""
    with trivial_workspace(tmp_path) as empty:
        monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
        app = run_until(open_page("runs"), lambda app: "No runs yet." in texts(app))
        Faults(empty.home).add("error", "GET jobs*", times=10_000)
        reader_for(connect(ensure_local())).drop()
        run_until(app, lambda app: "Failed" in texts(app))
        assert "No runs yet." not in texts(app)


def test_a_run_that_was_cancelled_before_it_was_sent_is_not_on_its_way(server: LocalServer) -> None:
    ledger = Ledger(server.home)
    begun = ledger.start("local", Launch("unsent"))
    fence = ledger.take_lease(1, 1.0, 60.0, holder_lives=False)
    assert fence
    ledger.save(replace(begun, state=OperationState.CANCELLED), fence)
    app = run_until(open_page("runs", run="unsent"), lambda app: "cancelled before it was sent" in texts(app))
    assert "on its way" not in texts(app)


def test_an_ended_run_is_renamed_on_its_page_and_listed_so(server: LocalServer) -> None:
    runner = start_runner(server.home)
    try:
        finish(start_rename("local", "first", "Tone of *voice*"))
    finally:
        runner.stopping.set()
        wait_until(lambda: not runner.alive)
    run_until(open_page("runs"), lambda app: any(shown.startswith("Tone of *voice* ") for shown in losses(app)))
    run_until(
        open_page("runs", run="first"), lambda app: [title.value for title in app.title] == ["Tone of \\*voice\\*"]
    )
