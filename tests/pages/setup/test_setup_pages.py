"""Overview, Connect, Model & compute and Data: empty, at work, and with a workspace that does not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import dataset, operations
from core.azureml import access, connection
from core.azureml.access import AccessLine
from core.azureml.connection import Connection
from core.azureml.local_process import ensure_local
from core.azureml.settings import make_settings, save_settings
from core.errors import NotFound
from core.home import Home
from core.launch import drafts
from core.local import control
from core.local.faults import Faults
from core.operations import Operation, OperationState, Step, StepState
from core.operations.create_compute import CreateCompute
from core.operations.records import Failure
from pages.parts.kit.reads import find_work
from tests.chat_data import from_upload
from tests.local_server import running_server
from tests.no_identity import no_identity
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.pages.conftest import environment_of
from tests.tiny_model import build_tiny_model
from tests.waiting import wait_until

__all__ = ["no_identity"]

PAGES = ("overview", "connect", "model", "data")
CUT = "['local.cpu1', 'local.c"


@pytest.fixture(scope="module")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, one whose tags are cut off, and one that may be trained on no size of this machine."""
    folder = tmp_path_factory.mktemp("base-models")
    build_tiny_model(folder)
    tags = {"finetune_compute_allow_list": CUT, "model_specific_defaults": '{"lora_r": 8'}
    build_tiny_model(folder, name="tiny-cut", tags=tags)
    build_tiny_model(folder, name="tiny-far", tags={"finetune_compute_allow_list": "['Standard_NC24ads_A100_v4']"})
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, base_models: Path) -> Iterator[Path]:
    """A local workspace with the tiny model; returns its home."""
    home = tmp_path_factory.mktemp("pages-home")
    with running_server(home, **environment_of(home, base_models)):
        yield home


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
        wait_until(lambda: not is_starting(tmp_path), "the page gives up starting a server")
    assert not control.is_served(Home(tmp_path)), "a server is left behind"


def is_starting(home: Path) -> bool:
    begun = find_work("start-local", str(home))
    return begun is not None and begun.loading


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
    for name in ("overview", "runs", "deploy", "chat", "teardown", "activity", "model"):
        app = open_app(name, at="elsewhere")
        assert "There is no connection 'elsewhere' on this machine." in texts(app), name
        assert {"Go to Connect", "Open Local"} <= {each.proto.label for each in app.get("page_link")}, name
        assert not app.exception


def test_pages_that_cannot_reach_the_workspace_still_draw_and_say_why(nowhere: Path) -> None:
    """About 20 s: what they read ends with a time-out, for all of them at once."""
    opened = {name: open_app(name, at="local") for name in PAGES}
    for name, app in opened.items():
        assert not app.exception, name
        if name != "data":  # the bundled sample needs no workspace
            run_until(app, lambda app: "does not answer" in texts(app) or "answers on 127.0.0.1" in texts(app))
            assert "Failed" in texts(app) or "Reading" in texts(app), name


@pytest.mark.usefixtures("no_identity")
def test_a_page_that_azure_refused_leads_to_the_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    settings = make_settings("11111111-2222-3333-4444-555555555555", "rg-ml", "ml-dev")
    save_settings(settings)
    app = run_until(open_app("runs", at=settings.alias), lambda app: "No sign-in for Azure was found" in texts(app))
    assert "Go to Connect" in {each.proto.label for each in app.get("page_link")}


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


def check_access_with(lines: list[AccessLine], monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Fill Connect's form and have the check say these lines, as Azure would."""

    def check(_settings: object, *, on_line: Callable[[AccessLine], None], **_: object) -> object:
        for line in lines:
            on_line(line)
        return lines

    def refuse(_conn: Connection) -> None:
        raise NotFound("There is no Azure here.")

    monkeypatch.setattr(access, "check_access", check)
    monkeypatch.setattr(Connection, "facts", refuse)
    app = open_app("connect", at="local", where="Azure")
    app.text_input(key="azure-subscription").set_value("00000000-0000-0000-0000-000000000001")
    app.text_input(key="azure-group").set_value("rg-ml")
    app.text_input(key="azure-workspace").set_value("ml-dev")
    buttons(app)["Check access"].click()
    app.run()
    return run_until(app, lambda app: any(lines[-1].title in one.label for one in app.expander))


def test_a_role_that_does_not_allow_everything_still_opens_the_workspace(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        AccessLine("Sign-in", "ok"),
        AccessLine("Workspace", "ok"),
        AccessLine("Create compute", "failed", "Your role does not."),
    ]
    app = run_until(check_access_with(lines, monkeypatch), lambda app: "Use this workspace" in buttons(app))
    assert "You can use this workspace, but not for everything: create compute." in texts(app)
    assert {"Sign in with the browser", "Sign in with a code"} <= set(buttons(app)), "also where an identity works"


def test_a_workspace_that_is_not_found_is_named_with_the_nearest_and_the_form_keeps_what_was_typed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Workspace 'ml-dev' was not found in resource group 'rg-ml'."
    lines = [AccessLine("Workspace", "failed", said, "Check the name. Did you mean 'ml-development'?", "status 404")]
    app = run_until(check_access_with(lines, monkeypatch), lambda app: "Sign in with a code" in buttons(app))
    assert said in texts(app)
    assert "Did you mean 'ml-development'?" in texts(app)
    assert "status 404" in [block.value.splitlines()[-1] for block in app.code]
    assert "Use this workspace" not in buttons(app)
    assert app.text_input(key="azure-workspace").value == "ml-dev"


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


def test_an_unknown_deletion_resource_or_change_in_the_address_is_named(here: Path) -> None:
    app = run_until(open_app("teardown", at="local", operation="gone", pick="endpoint:gone"), lambda app: app.metric)
    assert "There is no deletion 'gone' here." in texts(app)
    assert "'endpoint:gone' does not exist here, or not any more." in texts(app)
    assert "By month" not in {header.value for header in app.header}, "nothing costs money here"
    operations.start_cancel("local", "no-such-run")
    assert "There is no change 'gone' here." in texts(open_app("activity", at="local", change="gone"))


def choose_model(name: str) -> AppTest:
    app = run_until(open_app("model", at="local"), lambda app: any(name in radio.options for radio in app.radio))
    next(radio for radio in app.radio if name in radio.options).set_value(name)
    return app.run()


def test_a_tag_that_is_cut_off_is_named_with_what_is_used_instead_and_the_tag_folded(here: Path) -> None:
    app = run_until(choose_model("tiny-cut"), lambda app: "could not be read" in texts(app))
    assert f"The allow-list of 'tiny-cut' could not be read: \"{CUT}\" is cut off." in texts(app)
    assert "The deny-list is used instead. Check the GPU memory yourself." in texts(app)
    assert "The defaults of 'tiny-cut' could not be read" in texts(app)
    assert any(CUT in block.value for block in app.code)
    assert not buttons(app)["Use these"].disabled
    choose_model("tiny-chat")


def test_a_compute_outside_the_allow_list_is_listed_with_reason_and_way_out(here: Path) -> None:
    app = run_until(choose_model("tiny-far"), lambda app: "No compute here can train this model." in texts(app))
    row = app.table[0].value.iloc[0]
    assert "tiny-far" in row["Why not"].replace("\\", "")
    assert row["What to do"]
    assert buttons(app)["Use these"].disabled
    assert "'this-machine' cannot train tiny-far." in texts(app)
    choose_model("tiny-chat")


def test_a_compute_that_could_not_be_created_says_why(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("create", "Ask for the compute", StepState.FAILED)
    failed = Operation(
        "op", "local", CreateCompute("gpu-far"), OperationState.FAILED, (step,), error=Failure("No quota is left.")
    )
    monkeypatch.setattr(operations, "find_operation", lambda _: failed)
    app = open_app("model", at="local")
    app.session_state["ui"].notes["creating"] = failed.id
    run_until(app, lambda app: "Ask for the compute · failed" in [step.label for step in app.expander])
    assert "No quota is left." in texts(app)


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
    conn = connection.connect(ensure_local())
    lines = [
        f'{{"messages": [{{"role": "user", "content": "asset {n}"}}, {{"role": "assistant", "content": "yes {n}"}}]}}'
        for n in range(50)
    ]
    made = from_upload("from-asset.jsonl", "\n".join(lines).encode())
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
