"""The comparison of runs by AppTest, on runs that ended, train and are not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from tests.core.local.submitting import wait_for
from tests.fine_tuning_runs import cancel, start_run, start_training, trivial_workspace
from tests.local_server import LocalServer
from tests.pages.apps import open_app, run_until, texts


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A local workspace with two runs that ended and one that trains."""
    with trivial_workspace(tmp_path_factory.mktemp("home")) as running:
        for name, steps in (("short", 3), ("long", 9)):
            start_run(running, name, steps=steps)
            wait_for(running, name, "Completed")
        start_training(running, "trains")
        yield running


@pytest.fixture(autouse=True)
def home(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(server.home.path))


def test_runs_stand_side_by_side_and_one_that_is_not_there_keeps_none_back(server: LocalServer) -> None:
    app = open_app("compare", at="local", runs="long,gone,short,long", base="short")

    def is_read(app: AppTest) -> bool:
        told = app.dataframe[0].value if len(app.dataframe) == 2 else None
        return told is not None and "9 (6 more)" in told["long"].values and "being read" not in told["short"].values

    run_until(app, is_read)
    assert "There is no run 'gone' in Local." in texts(app)
    outcome, settings = (table.value for table in app.dataframe)
    assert list(outcome.columns) == ["", "long", "short"]
    by_label = {row[""]: row for _, row in outcome.iterrows()}
    assert by_label["Steps"]["short"] == "3"
    assert by_label["Eval loss"]["short"] == "not measured"
    assert settings.to_dict("records") == [{"": "Maximum steps", "long": "9", "short": "3"}]
    chart = app.get("bidi_component")[0].proto.json if app.get("bidi_component") else ""
    assert "short" in str(chart)


def test_the_baseline_that_the_address_names_stays_it_where_another_run_is_read_sooner(server: LocalServer) -> None:
    def is_read(app: AppTest, *names: str) -> bool:
        return bool(app.selectbox) and app.selectbox[0].options == list(names)

    run_until(open_app("compare", at="local", runs="long,trains"), lambda app: is_read(app, "long", "trains"))
    app = open_app("compare", at="local", runs="long,again", base="again")
    assert is_read(app, "long")
    assert app.query_params["base"] == "again"
    start_run(server, "again", steps=2)
    run_until(app, lambda app: is_read(app, "long", "again"))
    assert app.selectbox[0].value == "again"
    app.selectbox[0].set_value("long").run()
    assert app.query_params["base"] == "long"


def test_a_run_that_trains_is_compared_as_it_goes_and_rests_at_its_end(server: LocalServer) -> None:
    app = open_app("compare", at="local", runs="short,trains", metric="Eval loss")
    run_until(app, lambda app: "trains: not drawn, no eval loss yet." in texts(app))
    cancel(server, "trains")
    assert run_until(app, lambda app: "short, trains: not drawn, it has logged no eval loss." in texts(app))


@pytest.mark.parametrize("asked", ["", "short"])
def test_a_comparison_of_fewer_than_two_says_where_runs_are_chosen(server: LocalServer, asked: str) -> None:
    assert run_until(open_app("compare", at="local", runs=asked), lambda app: "Choose two to six runs" in texts(app))
