"""Overview, Connect, Model & compute and Data: empty, at work, and with a workspace that does not answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import connection, dataset, drafts
from core.connection import local_is_up
from core.home import Home
from core.local import control
from core.local.faults import Faults
from pages.parts.reads import find_work
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.pages.conftest import REPOSITORY, environment_of

PAGES = ("overview", "connect", "model", "data")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, base_models: Path) -> Iterator[Path]:
    """A local workspace with the tiny model; returns its home."""
    home = tmp_path_factory.mktemp("pages-home")
    environment = environment_of(home, base_models)
    with (home / "server.out").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "core.local", "serve"], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 60
    while not local_is_up(Home(home)):
        assert time.monotonic() < deadline, (home / "server.out").read_text()
        time.sleep(0.2)
    yield home
    server.send_signal(signal.SIGTERM)
    server.wait(15)


@pytest.fixture
def here(workspace: Path, base_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_HOME", str(workspace))
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(base_models))
    return workspace


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose address belongs to another program, which takes connections and says nothing."""
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "address.json").write_text(f'{{"port": {silent.getsockname()[1]}}}', encoding="utf-8")
        yield tmp_path
        # The page has a server started, which would have the port once it is free: it ends itself while it is taken.
        deadline = time.monotonic() + 60
        while (begun := find_work("start-local", str(tmp_path))) is not None and begun.loading:
            assert time.monotonic() < deadline, "the page goes on starting a server"
            time.sleep(0.05)
    assert not control.is_served(Home(tmp_path)), "a server is left behind"


def test_a_newcomer_sees_two_ways_in_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    app = open_app()
    assert {"Start on this machine", "Connect Azure"} == set(buttons(app))
    assert not app.exception


def test_set_up_pages_without_a_workspace_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    for name in ("model", "data"):
        app = open_app(name)
        assert "Choose a workspace first." in texts(app)
        assert not app.exception


def test_an_unknown_connection_in_the_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    assert "There is no connection 'elsewhere' on this machine." in texts(open_app(at="elsewhere"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_cannot_reach_the_workspace_still_draws_and_says_why(name: str, nowhere: Path) -> None:
    app = open_app(name, at="local")
    assert not app.exception
    if name != "data":  # the bundled sample needs no workspace
        run_until(app, lambda app: "does not answer" in texts(app) or "answers on 127.0.0.1" in texts(app))
        assert "Failed" in texts(app) or "Reading" in texts(app)


def test_an_empty_workspace_says_that_nothing_ran_and_how_to_start(here: Path) -> None:
    app = run_until(open_app(at="local"), lambda app: "Nothing has run here yet." in texts(app))
    assert "Nothing exists here that bills." in texts(app)
    assert [metric.label for metric in app.metric] == ["Running", "Live endpoints", "Billing now", "Next deletion"]
    assert app.metric[2].value == "$0.00/h"


def test_connect_shows_this_machine_and_who_we_are(here: Path) -> None:
    app = run_until(open_app("connect", at="local"), lambda app: "core" in texts(app) and len(app.expander) > 3)
    labels = " ".join(expander.label for expander in app.expander)
    assert "Workspace: local" in labels.replace("\\", "")
    assert "Use this workspace" in buttons(app)


def test_connect_refuses_a_subscription_that_is_none(here: Path) -> None:
    app = open_app("connect", at="local", where="Azure")
    app.text_input(key="azure-subscription").set_value("mine")
    app.text_input(key="azure-group").set_value("rg")
    app.text_input(key="azure-workspace").set_value("ml-dev")
    buttons(app)["Check access"].click()
    app.run()
    assert "'mine' is not a subscription id." in texts(app)
    assert not app.exception


def test_model_and_compute_are_chosen_at_once_and_saved(here: Path) -> None:
    app = run_until(open_app("model", at="local"), lambda app: "Eligible" in texts(app))
    draft = drafts.find_latest_draft("local")
    assert draft is not None
    assert (draft.model, draft.compute) == ("tiny-chat", "this-machine")
    assert not buttons(app)["Use these"].disabled
    phi = next(radio for radio in app.radio if "Phi-4" in radio.options)
    phi.set_value("Phi-4")
    app.run()
    assert buttons(app)["Use these"].disabled
    assert "Phi-4 cannot be trained here: it runs on Azure." in texts(app)
    reloaded = drafts.find_latest_draft("local")
    assert reloaded is not None
    assert reloaded.model == "Phi-4", "a reload must find the choice"


def test_an_unknown_draft_is_named_and_replaced(here: Path) -> None:
    assert "There is no draft 'gone'." in texts(open_app("data", at="local", draft="gone"))


def test_the_bundled_sample_is_counted_and_shown_as_conversations(here: Path) -> None:
    app = run_until(open_app("data", at="local"), lambda app: len(app.metric) == 4)
    assert [metric.label.split(",")[0] for metric in app.metric] == ["Train", "Test", "Tokens", "Cut rows"]
    assert int(app.metric[0].value) >= 300
    assert len(app.chat_message) >= 2
    assert not buttons(app)["Use this data"].disabled


def test_a_fault_that_was_switched_on_is_said_at_the_bottom_of_a_page(here: Path) -> None:
    def links(app: AppTest) -> list[str]:
        return [each.proto.label for each in app.get("page_link")]

    app = open_app(at="local")
    run_until(app, lambda app: "Local · $0.00/h" in links(app))
    assert "fault" not in " ".join(links(app))
    faults = Faults(Home(here))
    faults.add("error", "nothing/*")
    try:
        run_until(app, lambda app: "1 fault on" in links(app))
    finally:
        faults.clear()


def test_a_data_asset_of_the_workspace_is_fetched_and_checked(here: Path) -> None:
    conn = connection.connect(connection.ensure_local())
    lines = [
        f'{{"messages": [{{"role": "user", "content": "asset {n}"}}, {{"role": "assistant", "content": "yes {n}"}}]}}'
        for n in range(50)
    ]
    made = dataset.from_upload("from-asset.jsonl", "\n".join(lines).encode())
    dataset.register_data(conn, made, dataset.upload(conn, made))
    app = open_app("data", at="local")
    next(one for one in app.segmented_control if one.label.startswith("Where")).set_value("Data asset")
    app.run()
    run_until(app, lambda app: "Fetch and check" in buttons(app))
    assert any("from-asset-train 1 · 45 rows" in option for option in app.selectbox(key="asset").options)
    app.selectbox(key="asset").set_value("from-asset-train:1")
    app.run()
    buttons(app)["Fetch and check"].click()
    app.run()
    run_until(app, lambda app: "data asset from-asset-train:1" in texts(app))
    assert [app.metric[0].value, app.metric[1].value] == ["41", "4"], "its training rows are split anew"
    assert not app.exception
