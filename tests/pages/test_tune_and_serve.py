"""Launch, Runs, Deploy, Chat and Teardown by AppTest: empty, with a run that was really made, and failing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import connection, dataset, drafts, operations, preflight
from core.home import Home
from core.operations import Operation
from tests.local_server import LocalServer
from tests.pages.apps import open_app, run_until, texts

LAUNCH, RUNS, DEPLOY, CHAT, TEARDOWN = "launch", "runs", "deploy", "chat", "teardown"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, base_models: Path) -> Iterator[LocalServer]:
    """A local workspace whose home is this process's home too."""
    path = tmp_path_factory.mktemp("home")
    changed = {"TUNEDECK_HOME": str(path), "TUNEDECK_BASE_MODELS": str(base_models)}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    started = LocalServer(Home(path), changed).start()
    yield started
    started.stop()
    shutil.rmtree(path, ignore_errors=True)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def draft(server: LocalServer) -> drafts.Draft:
    return drafts.create_draft(
        "local", model="tiny-chat", model_version="1", compute="this-machine", dataset=dataset.load_sample().key,
        parameters={"max_steps": 6},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(draft: drafts.Draft) -> str:
    """The name of a run of the tiny model that is completed and evaluated."""
    conn = connection.connect(connection.ensure_local())
    operations.start_runner()
    begun = operations.start_launch(preflight.plan_launch(conn, drafts.create_draft("local", **choices(draft))))
    return wait_for(begun).subject


@pytest.fixture(scope="module")
def endpoint(run: str) -> str:
    begun = operations.start_deploy("local", run, "tiny-support", "tiny-support-1", "local.cpu1", None)
    return wait_for(begun).subject


def open_page(page: str, **ids: str) -> AppTest:
    return open_app(page, at="local", **ids)


def read_text(app: AppTest) -> str:
    """All that the page says, its tiles, buttons and expanders too."""
    more = [f"{tile.label} {tile.value}" for tile in app.metric]
    more += [str(one.value) for one in app.code]
    more += [one.label for kind in ("button", "expander") for one in app.get(kind)]
    return (texts(app) + "\n" + "\n".join(more)).replace("\\", "")


def says(text: str) -> Callable[[AppTest], bool]:
    return lambda app: text in read_text(app)


def choices(draft: drafts.Draft) -> dict[str, object]:
    return {name: getattr(draft, name) for name in ("model", "model_version", "compute", "dataset", "parameters")}


def wait_for(begun: Operation, timeout_s: float = 120.0) -> Operation:
    deadline = time.monotonic() + timeout_s
    while not (now := operations.get_operation(begun.id)).finished:
        assert time.monotonic() < deadline, now
        time.sleep(0.2)
    assert now.state == "done", now.error
    return now


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (LAUNCH, "Choose a model first."),
        (RUNS, "No runs yet."),
        (DEPLOY, "No finished run yet."),
        (CHAT, "Nothing is live."),
        (TEARDOWN, "Nothing exists here that bills."),
    ],
)
def test_a_page_with_nothing_to_show_says_what_comes_first(server: LocalServer, script: str, sentence: str) -> None:
    assert run_until(open_page(script), says(sentence))


def test_launch_shows_each_value_with_its_origin_and_the_lessons_name(draft: drafts.Draft) -> None:
    app = run_until(open_page(LAUNCH, draft=draft.id), says("Total batch"))
    run_until(app, says("tiny-chat-"))
    text = read_text(app)
    assert "Start run" in text
    assert "yours" in text
    assert "component" in text
    assert "6 steps in all" in text


def test_an_edit_is_saved_in_the_draft_and_a_reset_takes_it_back(draft: drafts.Draft) -> None:
    app = run_until(open_page(LAUNCH, draft=draft.id), lambda app: len(app.number_input) > 0)
    field = next(one for one in app.number_input if one.label == "Batch size")
    was = field.value
    field.set_value(7).run()
    assert drafts.get_draft(draft.id).parameters["per_device_train_batch_size"] == 7
    run_until(app, says("Total batch 7"))
    next(one for one in app.button if one.key == "reset-per_device_train_batch_size").click().run()
    assert "per_device_train_batch_size" not in drafts.get_draft(draft.id).parameters
    assert next(one for one in app.number_input if one.label == "Batch size").value == was


def test_a_wrong_value_is_named_and_turns_the_start_off(draft: drafts.Draft) -> None:
    app = run_until(open_page(LAUNCH, draft=draft.id), lambda app: len(app.text_input) > 1)
    field = next(one for one in app.text_input if one.label == "Learning rate")
    field.set_value("fast").run()
    run_until(app, says("it takes a number"))
    run_until(app, lambda app: [one.disabled for one in app.button if one.key == "start"] == [True])
    drafts.save_draft(drafts.get_draft(draft.id), parameters=draft.parameters)


def test_a_completed_run_shows_its_curves_its_stages_and_both_models_answers(run: str) -> None:
    app = run_until(open_page(RUNS, run=run), says("Answers to test questions"))
    text = read_text(app)
    assert "Deploy this model" in text
    for said in ("Train loss", "Eval loss", "Fine-tune", "Tuned loss", "Base model", "Expected"):
        assert said in text, said
    assert app.get("bidi_component")


def test_the_list_opens_a_run_and_an_unknown_run_is_a_sentence(run: str) -> None:
    app = run_until(open_page(RUNS), lambda app: len(app.radio) > 0)
    assert run in app.radio[0].options or app.radio[0].options
    run_until(open_page(RUNS, run="no-such-run"), says("There is no run 'no-such-run' in Local."))


def test_deploy_names_the_model_checks_the_endpoints_name_and_says_why_a_size_cannot_be_used(run: str) -> None:
    app = run_until(open_page(DEPLOY, run=run), says("The name is free."))
    field = next(one for one in app.text_input if one.label == "Endpoint name")
    field.set_value("My Bot").run()
    text = read_text(app)
    assert "'My Bot' cannot be an endpoint name: it has a space and a capital." in text
    assert "Use 'my-bot'." in text
    assert next(one for one in app.button if one.key == "deploy").disabled


def test_chat_streams_an_answer_keeps_it_and_never_shows_the_key(endpoint: str) -> None:
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    app.chat_input[0].set_value("When does the pier open?").run(timeout=60)
    text = read_text(app)
    assert "When does the pier open?" in [one.value for one in app.text]
    assert "token" in text
    assert "ENDPOINT_KEY" in text or "The key is not shown" in text


def test_chat_says_that_an_endpoint_is_gone_and_keeps_the_page(server: LocalServer) -> None:
    app = run_until(open_page(CHAT, endpoint="never-there"), says("Endpoint 'never-there' was deleted"))
    assert app.chat_input[0].disabled


def test_teardown_lists_what_can_bill_ticked_and_names_it_before_it_deletes(endpoint: str) -> None:
    app = run_until(open_page(TEARDOWN), says("Delete 1 resource…"))
    box = next(one for one in app.checkbox if endpoint in one.label.replace("\\", ""))
    assert box.value is True
    run_until(app, lambda app: not next(one for one in app.button if one.key == "delete").disabled)
    box.uncheck().run()
    assert "Tick what is to go." in read_text(app)


@pytest.mark.parametrize("script", [RUNS, DEPLOY, CHAT, TEARDOWN, LAUNCH])
def test_a_page_draws_in_half_a_second_while_the_workspace_does_not_answer(
    server: LocalServer, draft: drafts.Draft, script: str
) -> None:
    ids = {"draft": draft.id} if script == LAUNCH else {}
    open_page(script, **ids)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        app = open_page(script, **ids)
        took = time.monotonic() - began
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert not app.exception
    assert took < 2.0, "AppTest and the first import cost up to a second; a request would cost its time-out"
