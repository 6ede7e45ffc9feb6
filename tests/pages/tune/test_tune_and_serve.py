"""Launch, Runs, Deploy, Chat and Teardown by AppTest: empty, with a run that was really made, and failing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import dataset, operations
from core.azureml import connection, reader, tags
from core.azureml.local_process import ensure_local
from core.azureml.settings import make_settings, save_settings
from core.errors import TunedeckError
from core.home import Home
from core.launch import drafts
from core.launch.recipes import list_recipes
from core.launch.request import make_request
from core.local import processes
from core.local.faults import Faults
from core.operations.__main__ import main
from core.recipe import PARAMETERS
from core.runs import jobs
from core.runs.throughput import find_pace
from core.serving import endpoints, registered_models, request_counts
from core.serving.lineage import read_lineage
from core.teardown.due import find_timed, write_tags
from tests.chat_data import from_upload
from tests.core.engine.test_finetune import RUINOUS
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.pages.apps import buttons, open_app, run_until, table_of, texts
from tests.tiny_model import make_conversations
from tests.waiting import finish, wait_until

LAUNCH, RUNS, DEPLOY, CHAT, TEARDOWN, ACTIVITY = "launch", "runs", "deploy", "chat", "teardown", "activity"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, base_models: Path) -> Iterator[LocalServer]:
    """A local workspace whose home is this process's home too."""
    path = tmp_path_factory.mktemp("home")
    changed = {
        "TUNEDECK_HOME": str(path),
        "TUNEDECK_BASE_MODELS": str(base_models),
        "TUNEDECK_QUOTA_CORES": "16",
    }
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
        "local",
        model="tiny-chat",
        model_version="1",
        compute="this-machine",
        dataset=dataset.load_sample().key,
        parameters={"max_steps": 6},
    )


@pytest.fixture(scope="module")
def run(draft: drafts.Draft) -> str:
    """The name of a run of the tiny model that is completed and evaluated."""
    conn = connection.connect(ensure_local())
    operations.start_runner()
    begun = operations.start_launch(plan_launch(conn, drafts.create_draft("local", **choices(draft))))
    return finish(begun).subject


@pytest.fixture(scope="module")
def endpoint(run: str) -> str:
    begun = operations.start_deploy("local", run, "tiny-support", "tiny-support-1", "local.cpu1", None)
    return finish(begun).subject


def open_page(page: str, **ids: str) -> AppTest:
    return open_app(page, at="local", **ids)


def read_text(app: AppTest) -> str:
    """All that the page says, its tiles, buttons, links and expanders too."""
    more = [f"{tile.label} {tile.value}" for tile in app.metric]
    more += [str(one.value) for one in app.code]
    more += [one.label for kind in ("button", "expander", "checkbox") for one in app.get(kind)]
    more += [str(one.proto.label) for one in app.get("page_link")]  # type: ignore[attr-defined]
    return (texts(app) + "\n" + "\n".join(more)).replace("\\", "")


def says(text: str) -> Callable[[AppTest], bool]:
    return lambda app: text in read_text(app)


def choices(draft: drafts.Draft) -> dict[str, object]:
    return {name: getattr(draft, name) for name in ("model", "model_version", "compute", "dataset", "parameters")}


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (LAUNCH, "Choose a model first."),
        (RUNS, "No runs yet."),
        (DEPLOY, "No finished run yet."),
        (CHAT, "Nothing is live."),
        (TEARDOWN, "Nothing exists here that bills."),
        (ACTIVITY, "Nothing has been changed yet."),
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
    run_until(app, lambda app: [one.disabled for one in app.button if one.label == "Start run"] == [True])
    drafts.save_draft(drafts.get_draft(draft.id), parameters=draft.parameters)


@pytest.mark.parametrize("typed", ["model's own", "-1", ""])
def test_no_limit_is_said_in_words_and_typed_back_so(draft: drafts.Draft, typed: str) -> None:
    made = drafts.create_draft("local", **choices(draft) | {"parameters": {"max_seq_length": 64}})
    app = run_until(open_page(LAUNCH, draft=made.id), says("Total batch"))

    def longest() -> Any:
        return next(one for one in app.text_input if one.label.startswith("Longest conversation"))

    assert longest().value == "64"
    longest().set_value(typed).run()
    assert str(drafts.get_draft(made.id).parameters["max_seq_length"]) == "-1"
    assert longest().value == "model's own"


def test_the_name_note_and_tags_of_a_run_are_kept_in_its_draft_and_become_its_tags(draft: drafts.Draft) -> None:
    made = drafts.create_draft(
        "local", **choices(draft) | {"title": "a <b>", "note": "first try", "labels": "mlflow.x"}
    )
    app = run_until(open_page(LAUNCH, draft=made.id), says("The name has a character that is not shown as itself."))
    run_until(app, lambda app: "Start run" in buttons(app) and any(one.label == "Name" for one in app.text_input))
    assert buttons(app)["Start run"].disabled
    name = next(one for one in app.text_input if one.label == "Name")
    name.set_value(" nightly ").run()
    run_until(app, says("The tag 'mlflow.x' belongs to a program."))
    next(one for one in app.text_input if one.label == "Tags").set_value("team = boats, nightly").run()
    kept = drafts.get_draft(made.id)
    assert (kept.title, kept.note, kept.revision) == ("nightly", "first try", made.revision + 2)
    sent = make_request(plan_launch(connection.connect(ensure_local()), kept), kept.title).job_tags
    assert (sent[tags.TITLE], sent[tags.NOTE], sent["team"], sent["nightly"]) == ("nightly", "first try", "boats", "")
    assert drafts.copy_draft(kept).title == "", "two runs of one name could not be told apart"


@pytest.mark.parametrize("odd", ["many", 10**30, -(10**30), -5, 1e300], ids=str)
def test_an_odd_value_of_any_setting_is_named_on_the_page(draft: drafts.Draft, odd: str | float) -> None:
    parameters = {parameter.name: odd for parameter in PARAMETERS}
    made = drafts.create_draft("local", **choices(draft) | {"parameters": parameters})
    app = open_app(LAUNCH, at="local", draft=made.id, settings="All")
    run_until(app, lambda app: "Display name" in texts(app) and buttons(app)["Start run"].disabled)
    assert not app.exception
    assert "Epochs (num_train_epochs) is" in read_text(app)


def test_ready_is_said_only_once_all_is_checked(draft: drafts.Draft) -> None:
    rows = b"\n".join(json.dumps(row).encode() for row in make_conversations(31))
    made = drafts.create_draft("local", **choices(draft) | {"dataset": from_upload("uncounted", rows).key})
    app, seen = open_page(LAUNCH, draft=made.id), set()

    def is_ready(app: AppTest) -> bool:
        text = read_text(app).splitlines()
        seen.add("No row is cut" in read_text(app))
        assert ("Ready" in text) == ("Start run" in text and "No row is cut" in read_text(app))
        return "Ready" in text

    run_until(app, is_ready)
    assert seen == {False, True}


def test_a_check_that_fails_is_mended_by_its_button(draft: drafts.Draft) -> None:
    cut = drafts.create_draft("local", **choices(draft) | {"parameters": {**draft.parameters, "max_seq_length": 8}})
    app = run_until(open_page(LAUNCH, draft=cut.id), says("No answer of the train rows is left within 8 tokens."))
    assert buttons(app)["Start run"].disabled
    mend = next(button for label, button in buttons(app).items() if label.startswith("Allow "))
    run_until(mend.click().run(), says("No row is cut"))
    assert not buttons(app)["Start run"].disabled
    assert int(str(drafts.get_draft(cut.id).parameters["max_seq_length"])) > 8


def test_a_rate_that_is_likely_wrong_starts_only_after_a_tick(draft: drafts.Draft) -> None:
    high = drafts.create_draft("local", **choices(draft) | {"parameters": {"learning_rate": 0.5}})
    app = run_until(open_page(LAUNCH, draft=high.id), says("LoRA learns with 1e-6 to 0.01; this is 0.5."))
    buttons(app)["Start run"].click().run()
    assert "Learning rate: LoRA learns with 1e-6 to 0.01; this is 0.5." in read_text(app), "a tick in a question"
    assert drafts.get_draft(high.id).launched == ""


def test_a_long_run_offers_a_part_that_leads_back_to_the_whole(draft: drafts.Draft) -> None:
    long = drafts.create_draft("local", **choices(draft) | {"parameters": {"num_train_epochs": 1_000_000}})
    app = run_until(open_page(LAUNCH, draft=long.id), says("Try a part first"))
    buttons(app)["Try a part first"].click().run()
    made = drafts.find_latest_draft("local")
    assert made is not None
    assert made.whole == long.id
    assert int(str(made.parameters["num_train_epochs"])) < 1_000_000
    run_until(open_page(LAUNCH, draft=made.id), says("This is a part of a longer run, to try it first."))


def test_start_again_says_which_run_it_is_like_and_what_was_changed_since(run: str) -> None:
    app = run_until(open_page(LAUNCH, again=run), says("Nothing is started."))
    title = run.rsplit("-", 1)[0]
    run_until(app, says(f"Changed from {title} (0)"))
    made = drafts.find_latest_draft("local")
    assert made is not None
    assert made.again == run
    assert made.id in app.query_params["draft"]
    assert "again" not in app.query_params
    field = next(one for one in app.number_input if one.label == "Batch size")
    field.set_value(2).run()
    run_until(app, says(f"Changed from {title} (1)"))
    buttons(app)["Start from scratch"].click().run()
    scratch = drafts.find_latest_draft("local")
    assert scratch is not None
    assert (scratch.model, scratch.dataset, scratch.again) == ("", "", "")
    run_until(open_page(LAUNCH, draft=scratch.id), says("Set up as "))


def test_the_settings_keep_their_place_whatever_is_said_above_them(draft: drafts.Draft, run: str) -> None:
    """Streamlit 1.67 knows what has no key by its place: elsewhere it is drawn anew, without what is being typed."""
    made = drafts.create_draft("local", **choices(draft), again="forgotten")
    app = run_until(open_page(LAUNCH, draft=made.id), says("Total batch"))
    assert "Changed from" not in read_text(app)
    place = place_of(app.main, "Batch size")
    assert place
    next(one for one in app.text_input if one.label == "Tags").set_value("=").run()
    assert "'=' is not a tag." in read_text(app)
    assert place_of(app.main, "Batch size") == place, "under what is wrong with a tag"
    drafts.save_draft(drafts.get_draft(made.id), note="from another tab")
    assert "Changed in another tab" in read_text(app.run())
    assert place_of(app.main, "Batch size") == place, "under what another tab changed"
    like = drafts.create_draft("local", **choices(draft), again=run)
    app = run_until(open_page(LAUNCH, draft=like.id), says("Changed from "))
    assert place_of(app.main, "Batch size") == place, "under what is another than in the earlier run"


def place_of(block: Any, label: str) -> list[int]:
    """Return the way to a field, by the place in each block; [] where it is not in this one."""
    for place, each in block.children.items():
        if getattr(each, "label", None) == label:
            return [place]
        if way := place_of(each, label) if hasattr(each, "children") else []:
            return [place, *way]
    return []


def test_what_of_an_earlier_set_up_is_gone_is_named_and_the_rest_is_kept(draft: drafts.Draft, run: str) -> None:
    lost = {"compute": "old-gpu", "dataset": "0" * 64, "model": "left", "parameters": {"seed": 7}}
    made = drafts.create_draft("local", **choices(draft) | lost, again=run)
    app = run_until(open_page(LAUNCH, draft=made.id), says("The compute 'old-gpu' is no longer there."))
    text = run_until(app, says("The model left version 1 is no longer there.")) and read_text(app)
    assert "The data 'sample' is not on this machine." in text
    assert {"Choose data", "Choose a model", "Choose a compute"} <= set(text.splitlines())
    assert buttons(app)["Start run"].disabled
    assert drafts.get_draft(made.id).parameters == {"seed": 7}


def test_a_recipe_is_saved_renamed_and_brings_its_settings_into_another_set_up(draft: drafts.Draft) -> None:
    made = drafts.create_draft("local", **choices(draft) | {"parameters": {"lora_r": 4, "learning_rate": 1e-3}})
    app = run_until(open_page(LAUNCH, draft=made.id), says("Total batch"))
    buttons(app)["Recipes"].click().run()
    next(one for one in app.text_input if one.key == "recipe-name").set_value("ü :red[x]")
    buttons(app)["Save as a recipe"].click().run()
    assert "This set-up trains with just these settings." in read_text(app)
    other = drafts.create_draft("local", **choices(draft) | {"parameters": {"seed": 7}})
    app = run_until(open_page(LAUNCH, draft=other.id), says("Total batch"))
    buttons(app)["Recipes"].click().run()
    (changes,) = (each.value for each in app.table if "Then" in each.value)
    assert sorted(changes["Setting"]) == ["Learning rate", "Rank", "Seed"]
    assert drafts.get_draft(other.id) == other, "shown before anything is changed"
    buttons(app)["Use this recipe"].click().run()
    assert drafts.get_draft(other.id).parameters == {"lora_r": 4, "learning_rate": 1e-3}
    buttons(app)["Recipes"].click().run()
    buttons(app)["Delete"].click().run()
    assert list_recipes() == []
    buttons(app)["Undo"].click().run()
    assert [each.name for each in list_recipes()] == ["ü :red[x]"]
    (shown,) = (one for one in app.selectbox if one.label == "Recipe")
    next(one for one in app.text_input if one.label == "Name" and one.value == "ü :red[x]").set_value("tidy")
    buttons(app)["Rename"].click().run()
    (renamed,) = (one for one in app.selectbox if one.label == "Recipe")
    assert renamed.options == ["tidy"]
    assert renamed.id != shown.id, "a browser would go on showing the old name in the same field"


def test_a_run_that_pads_its_rows_tells_estimates_no_speed(draft: drafts.Draft, run: str) -> None:
    padded = {**draft.parameters, "pad_to_max_length": "true", "max_seq_length": 512}
    made = drafts.create_draft("local", **choices(draft) | {"parameters": padded})
    begun = finish(operations.start_launch(plan_launch(connection.connect(ensure_local()), made)))
    assert find_pace(run) is not None
    assert find_pace(begun.subject) is None


def test_a_run_keeps_what_was_checked_before_it(run: str) -> None:
    app = open_app(RUNS, at="local", run=run, view="Settings")
    run_until(app, says("Checked before the start"))
    assert "No row is cut" in read_text(app)


def test_the_log_of_a_run_that_ended_is_its_last_stages(run: str) -> None:
    app = run_until(open_app(RUNS, at="local", run=run, view="Logs"), says("Evaluation · "))
    assert app.selectbox(key="log-stage").options[:2] == ["The last stage", "Queued"]


def test_a_completed_run_shows_its_curves_its_stages_and_both_models_answers(run: str) -> None:
    app = run_until(open_page(RUNS, run=run), says("Answers to test questions"))
    text = read_text(app)
    assert "Deploy this model" in text
    for said in ("Train loss", "Eval loss", "Fine-tune", "Tuned loss", "Base model", "Expected"):
        assert said in text, said
    assert app.get("bidi_component")
    assert re.search(r"took .* s \(.* s of it evaluation\)", text)
    found = jobs.get_run(connection.connect(ensure_local()), run)
    assert found.evaluation
    assert found.whole_s == (found.seconds or 0) + (found.evaluation.seconds or 0)


def test_a_completed_run_can_be_taken_to_azure_with_its_data_and_settings(server: LocalServer, run: str) -> None:
    app = run_until(open_page(RUNS, run=run), says("Rehearsed here, ready for Azure"))
    assert "Connect Azure first" in [each.proto.label for each in app.get("page_link")]
    save_settings(make_settings("00000000-0000-0000-0000-000000000001", "rg-ml", "ml-dev"))
    try:
        run_until(open_page(RUNS, run=run), says("Take it to Azure · ml-dev"))
    finally:
        server.home.connections.unlink()


def test_a_failed_run_is_next_on_the_overview_until_its_page_was_opened(
    server: LocalServer, draft: drafts.Draft, run: str
) -> None:
    """Runs a job that fails: a few seconds."""
    conn = connection.connect(ensure_local())
    faults = Faults(server.home)
    faults.add("image-build")
    try:
        plan = plan_launch(conn, drafts.create_draft("local", **choices(draft)))
        begun = finish(operations.start_launch(plan))
    finally:
        faults.clear()
    failed = f"Next: {begun.change.label} failed."
    run_until(open_page("overview"), lambda app: failed in read_text(app).replace("**", ""))
    run_until(open_page(RUNS, run=begun.subject), says("the image of the run could not be built"))
    seen = run_until(open_page("overview"), lambda app: "Next:" in read_text(app))
    assert failed not in read_text(seen).replace("**", "")


def test_of_a_run_that_diverged_the_best_checkpoint_before_is_deployed_and_a_lower_rate_is_advised(
    server: LocalServer, draft: drafts.Draft
) -> None:
    """Runs a job and a deployment: a few seconds each."""
    conn = connection.connect(ensure_local())
    operations.start_runner()
    often = {"evaluation_strategy": "steps", "eval_steps": 1, "max_steps": 6}
    made = drafts.create_draft("local", **{**choices(draft), "parameters": RUINOUS | often})
    failed = jobs.get_run(conn, finish(operations.start_launch(plan_launch(conn, made))).subject)
    assert (failed.state_word, failed.deployable) == ("Failed", True)
    app = run_until(open_page(RUNS, run=failed.name), says(f"Deploy {failed.kept}"))
    assert "Retry with learning rate 0.01." in read_text(app), "the model's own"
    assert "training has diverged" in read_text(app)
    told = f"{failed.kept} of a run that is failed"
    run_until(open_page(DEPLOY, run=failed.name), lambda app: app.radio and told in app.radio[0].proto.captions[0])
    begun = operations.start_deploy(
        "local", failed.name, "kept-model", "kept", "local.cpu1", None, checkpoint=failed.kept
    )
    served = finish(begun).subject
    assert endpoints.get_endpoint(conn, served).live
    (model,) = registered_models.list_registered_models(conn, "kept-model")
    assert (model.run, model.tags[tags.CHECKPOINT]) == (failed.name, failed.kept)
    assert f"/{failed.name}-{failed.kept}/" in model.path
    conn.workspace.online_endpoints.begin_delete(served).result()


def test_an_unknown_run_is_a_sentence(run: str) -> None:
    assert run_until(open_page(RUNS, run="no-such-run"), says("There is no run 'no-such-run' in Local."))


def test_deploy_names_the_model_checks_the_endpoints_name_and_says_why_a_size_cannot_be_used(run: str) -> None:
    app = run_until(open_page(DEPLOY, run=run), says("The name is free."))
    field = next(one for one in app.text_input if one.label == "Endpoint name")
    field.set_value("My Bot").run()
    text = read_text(app)
    assert "'My Bot' cannot be an endpoint name: it has a space and a capital." in text
    assert "Use 'my-bot'." in text
    field.set_value("my-bot").run()
    next(one for one in app.text_input if one.label == "Name of the registered model").set_value("My Bot").run()
    assert "'My Bot' cannot be a model's name: it has a space." in read_text(app)
    assert next(one for one in app.button if one.key == "deploy").disabled


def test_deploy_takes_what_was_typed_just_before_the_click(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(
        _alias: str, _run: str, model: str, endpoint: str, *_: object, instances: int, settings: Any, **ends: object
    ) -> None:
        assert not any(ends[name] for name in ("idle_hours", "cap", "ends_at_cap"))
        asked.extend((model, endpoint, instances, settings))
        raise TunedeckError("Not in this test.")

    monkeypatch.setattr(operations, "start_deploy", refuse)
    app = run_until(open_page(DEPLOY, run=run), lambda app: any(one.key == "deploy" for one in app.button))
    app = run_until(app, lambda app: not next(one for one in app.button if one.key == "deploy").disabled)
    next(one for one in app.text_input if one.label == "Name of the registered model").set_value("my-model")
    next(one for one in app.text_input if one.label == "Endpoint name").set_value("my-bot")
    numbers = {one.label: one for one in app.number_input}
    assert numbers["Request time-out (s)"].value == 90
    assert "First probe after (s)" not in numbers, "the local workspace does not wait before its first probe"
    numbers["Request time-out (s)"].set_value(30)
    numbers["Instances"].set_value(2)
    next(one for one in app.button if one.key == "deploy").click().run()
    assert asked[:3] == ["my-model", "my-bot", 2]
    assert asked[3] == {
        "request_settings.request_timeout_ms": 30,
        "request_settings.max_concurrent_requests_per_instance": 8,
        "liveness_probe.period": 10,
        "liveness_probe.timeout": 2,
        "liveness_probe.failure_threshold": 30,
    }
    assert "needs 2 cores" in read_text(app)
    assert "Not in this test." in read_text(app)


def test_chat_streams_an_answer_keeps_it_and_never_shows_the_key(endpoint: str) -> None:
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    app.chat_input[0].set_value("When does the pier open?").run(timeout=60)
    text = read_text(app)
    assert "When does the pier open?" in [one.value for one in app.text]
    assert "token" in text
    assert "ENDPOINT_KEY" in text or "The key is not shown" in text


def test_a_chat_is_found_again_by_its_link_and_another_one_begins_empty(endpoint: str) -> None:
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    app.chat_input[0].set_value("Is there a ferry?").run(timeout=60)
    chat_id = str(app.query_params["chat"])
    answered = next(one.value for one in app.caption if "token" in str(one.value))
    again = run_until(open_page(CHAT, endpoint=endpoint, chat=chat_id), says("Is there a ferry?"))
    assert answered in [one.value for one in again.caption], "what the answer took is kept too"
    run_until(again, lambda app: any(one.key == "new-chat" for one in app.button))
    next(one for one in again.button if one.key == "new-chat").click().run()
    assert "Is there a ferry?" not in [one.value for one in again.text]
    assert "chat" not in again.query_params
    other = run_until(open_page(CHAT, endpoint=endpoint, chat="nobody"), says("There is no chat 'nobody' with"))
    assert "Is there a ferry?" not in [one.value for one in other.text]


def test_a_corrected_answer_waits_for_the_next_version_of_the_data(endpoint: str) -> None:
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    app.chat_input[0].set_value("Who hires out boats?").run(timeout=60)
    press(app, "open-correct-")
    run_until(app, lambda app: app.text_area and app.text_area[-1].label == "The answer that was wanted")
    app.text_area[-1].set_value(" ")
    press(app, "keep-correct-")
    assert "message 2 (assistant) is blank" in read_text(app)
    app.text_area[-1].set_value("The **boat hire**.")
    press(app, "keep-correct-")
    assert {"Waits for the next version of 'sample':", "The **boat hire**."} <= set(texts(app).split("\n"))
    chat = open_page(CHAT, endpoint=endpoint, chat=str(app.query_params["chat"]))
    assert "What you wrote in its place:" in texts(chat), "the chat keeps it"
    sample = dataset.load_sample()
    (edit,) = dataset.list_edits(sample.key)
    asked = {"role": "user", "content": "Who hires out boats?"}
    assert edit.row == {"messages": [asked, {"role": "assistant", "content": "The **boat hire**."}]}

    shown = run_until(open_page("data", data=sample.key), says("1 row added, not in this data yet"))
    press(shown, "make-copy")
    run_until(shown, lambda app: len(app.metric) == 4 and app.metric[0].value == f"{sample.rows + 1:,}")
    press(app, "open-correct-")
    assert "Waits for" not in read_text(app), "it is made"
    app.text_area[-1].set_value("Harbour Boats.")
    press(app, "keep-correct-")
    newest = dataset.find_latest(sample)
    assert (newest.rows, len(dataset.list_edits(newest.key))) == (sample.rows + 1, 1), "later ones come to the newest"

    elsewhere = sample.folder.rename(sample.folder.with_suffix(".elsewhere"))
    press(app, "open-correct-")
    assert "The data that this model was trained on is not on this machine" in read_text(app)
    elsewhere.rename(sample.folder)
    press(app, "new-chat")
    press(app, "random-row")
    press(app, "open-correct-")
    assert "This is a test question." in read_text(app)


def press(app: AppTest, key: str) -> None:
    """Click the button whose key begins so."""
    next(one for one in app.button if str(one.key).startswith(key)).click().run()


def test_a_test_question_stands_beside_the_true_answer_and_the_base_models(endpoint: str) -> None:
    app = run_until(
        open_page(CHAT, endpoint=endpoint), lambda app: any(str(one.key).startswith("try-") for one in app.button)
    )
    next(one for one in app.button if str(one.key).startswith("try-")).click().run(timeout=60)
    text = read_text(app)
    assert "Expected" in text
    assert "Base model, in the evaluation" in text


def test_two_endpoints_answer_the_same_question_side_by_side(run: str, endpoint: str) -> None:
    second = finish(operations.start_deploy("local", run, "tiny-support", "tiny-other", "local.cpu1", None)).subject
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: any(one.key == "also" for one in app.radio))
    next(one for one in app.radio if one.key == "also").set_value(second).run()
    app.chat_input[0].set_value("Who sails?").run(timeout=60)
    shown = [str(one.value).replace("\\", "") for one in app.markdown]
    assert [name for name in shown if name in (f"**{endpoint}**", f"**{second}**")] == [
        f"**{endpoint}**",
        f"**{second}**",
    ]
    assert len([one for one in app.caption if "token" in str(one.value)]) == 2
    delete_under_its_chat(second)


def delete_under_its_chat(endpoint: str) -> None:
    """Delete an endpoint elsewhere while its chat is open: what was said stays, and can be taken away."""
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    app.chat_input[0].set_value("Will this stay?").run(timeout=60)
    endpoints.begin_endpoint_deletion(connection.connect(ensure_local()), endpoint)
    run_until(app, says(f"Endpoint '{endpoint}' was deleted"))
    assert {"Your chat is kept. Export it, or deploy again.", "Will this stay?"} <= set(texts(app).split("\n"))
    assert app.chat_input[0].disabled
    assert [one.label for one in app.get("download_button")] == ["Export"]


def test_a_refused_key_is_named_and_a_key_changed_elsewhere_is_read_anew(server: LocalServer, endpoint: str) -> None:
    """A key with a blank at its end cannot be sent: every header is trimmed on its way."""
    app = run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)
    change_key(server, endpoint, "changed-elsewhere")
    app.chat_input[0].set_value("Still there?").run(timeout=60)
    assert "refused its key" not in read_text(app)
    change_key(server, endpoint, "cannot-be-sent ")
    app.chat_input[0].set_value("And now?").run(timeout=60)
    text = read_text(app)
    change_key(server, endpoint, "as-it-should-be")
    assert "The endpoint refused its key (401)." in text
    assert "Read the new key and send again." in text
    assert "And now?" in text
    next(one for one in app.button if one.key == "again").click().run(timeout=60)
    assert "refused its key" not in read_text(app)


def test_an_endpoint_without_traffic_says_so_and_gets_it_back_by_one_click(endpoint: str) -> None:
    conn = connection.connect(ensure_local())
    endpoints.begin_traffic(conn, endpoint, {"demo": 0})
    app = run_until(open_page(CHAT, endpoint=endpoint), says(f"{endpoint} is up but gets no traffic."))
    assert app.chat_input[0].disabled
    next(one for one in app.button if one.key == "traffic").click().run()
    run_until(app, lambda app: not app.chat_input[0].disabled)
    assert "Live" in texts(app)


def test_deploy_says_that_a_killed_container_was_started_again(server: LocalServer, endpoint: str) -> None:
    folder = server.home.deployments / endpoint / "demo"
    processes.kill(folder)
    app = run_until(open_page(DEPLOY, endpoint=endpoint), says("It was started again, 1 time so far."))
    assert "was killed (signal 9)" in read_text(app)
    run_until(open_page(CHAT, endpoint=endpoint), lambda app: app.chat_input and not app.chat_input[0].disabled)


def test_deploy_shows_what_the_endpoint_itself_counted(server: LocalServer, endpoint: str) -> None:
    conn = connection.connect(ensure_local())
    before = request_counts.read_requests(conn, endpoint).requests or 0
    asked = open_page(CHAT, endpoint=endpoint)
    run_until(asked, lambda app: not app.chat_input[0].disabled)
    asked.chat_input[0].set_value("When does the pier open?").run()
    found = request_counts.read_requests(conn, endpoint)
    assert found.requests == before + 1
    assert found.p50_ms is not None
    app = run_until(open_page(DEPLOY, endpoint=endpoint), says(f"Requests {found.requests}"))
    tiles = {tile.label: (tile.value, tile.delta) for tile in app.metric}
    assert tiles["Requests"] == (str(found.requests), "in 60 min")
    assert tiles["p50"][0].endswith(" ms")
    assert tiles["$/h"] == ("$0.00/h", "until you delete it")


def test_deploy_shows_where_its_model_comes_from_and_what_was_downloaded_is_still_true(
    run: str, endpoint: str, tmp_path: Path
) -> None:
    app = run_until(open_page(DEPLOY, endpoint=endpoint), says("tiny-support:"))
    text = read_text(app)
    for said in (run, "content hash: ", "base model: tiny-chat v1", "Maximum steps: 6", "created by: "):
        assert said in text, said
    assert not app.get("link_button"), "there is no studio of this machine"
    file = tmp_path / "lineage.json"
    file.write_text(read_lineage(connection.connect(ensure_local()), endpoint=endpoint).to_json(), encoding="utf-8")
    assert main(["verify", str(file)]) == 0


def test_deploy_says_why_requests_are_not_shown_and_keeps_the_rest(
    server: LocalServer, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_readers", {})  # as a dashboard that has read nothing yet
    faults = Faults(server.home)
    faults.add("error", "*/Microsoft.Insights/*", times=10_000)
    try:
        app = run_until(open_page(DEPLOY, endpoint=endpoint), says("Requests and p50 are not shown."))
    finally:
        faults.clear()
    assert {tile.label: tile.value for tile in app.metric} == {
        "Requests": "unknown",
        "p50": "unknown",
        "$/h": "$0.00/h",
    }


def test_the_delete_at_of_a_live_endpoint_is_changed_and_taken_away(endpoint: str) -> None:
    app = run_until(open_page(DEPLOY, endpoint=endpoint), says("no delete-at"))
    life = next(one for one in app.get("button_group") if one.key == "new-life")
    life.set_value("1 day").run()
    next(one for one in app.checkbox if one.key == "delete-at-strict").check().run()
    next(one for one in app.button if one.key == "set-delete-at").click().run()
    assert says("Delete it at ")(app)
    run_until(app, says("even if it is in use"))
    wait_until(lambda: operations.find_operation_for("local", endpoint, "delete_at").finished)  # it looks once more
    conn = connection.connect(ensure_local())
    assert endpoints.get_endpoint(conn, endpoint).delete_at is not None
    timed = find_timed(conn, "endpoint", endpoint)
    assert timed is not None
    assert timed.strict
    write_tags(conn, timed, {tags.DELETE_AT_OF: "another's"})
    run_until(app, says("never deleted: its delete-at was written for another resource"))
    next(one for one in app.get("button_group") if one.key == "new-life").set_value("Never").run()
    run_until(app, lambda app: not next(one for one in app.button if one.key == "set-delete-at").disabled)
    next(one for one in app.button if one.key == "set-delete-at").click().run()
    run_until(app, says("no delete-at"))
    assert endpoints.get_endpoint(conn, endpoint).delete_at is None


def test_activity_names_each_change_its_outcome_and_leads_to_what_it_is_about(endpoint: str) -> None:
    app = run_until(open_page(ACTIVITY), table_of)
    deployed = next(row for row in table_of(app) if row["What"] == f"Deploy {endpoint}")
    assert deployed["Outcome"] == "confirmed"
    change = operations.find_operation_for("local", endpoint, "deploy").id
    assert f"change={change}" in deployed["href"]
    app.query_params["change"] = change
    text = read_text(app.run())
    for step in ("Register", "Container", "Traffic"):
        assert step in text, step
    assert f"Open {endpoint}" in [one.label.replace("\\", "") for one in app.get("page_link")]


def change_key(server: LocalServer, endpoint: str, key: str) -> None:
    """Give the endpoint another key, as somebody else would."""
    body = {"keyType": "Primary", "keyValue": key}
    server.finish(server.request("POST", f"onlineEndpoints/{endpoint}/regenerateKeys", json=body))


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


@pytest.mark.parametrize("page", ["overview", TEARDOWN])
def test_what_bills_stays_shown_while_the_workspace_fails_to_tell(
    server: LocalServer, endpoint: str, page: str
) -> None:
    def shows_it_and_asked_thrice(app: AppTest) -> bool:
        assert endpoint in read_text(app)
        return faults.active()[0].left <= fault.left - 3

    app = run_until(open_page(page), says(endpoint))
    faults = Faults(server.home)
    fault = faults.add("unavailable", "onlineEndpoints*", times=10_000)
    try:
        run_until(app, shows_it_and_asked_thrice, timeout_s=120.0)
        assert endpoint in read_text(app.run())
    finally:
        faults.clear()


@pytest.mark.parametrize("script", [RUNS, DEPLOY, CHAT, TEARDOWN, LAUNCH])
def test_a_page_draws_without_an_answer_of_the_workspace(server: LocalServer, draft: drafts.Draft, script: str) -> None:
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
    assert took < 5, "a request would cost its time-out, which is 10 s"


@pytest.mark.slow
def test_several_values_are_priced_together_started_by_one_question_and_compared(draft: drafts.Draft) -> None:
    made = drafts.create_draft("local", **choices(draft))
    app = run_until(open_page(LAUNCH, draft=made.id), says("A run for each value"))
    pick = {one.label: one for one in (*app.selectbox, *app.text_input)}
    pick["Setting"].set_value("learning_rate")
    pick["Values of the setting"].set_value("1e-3, 0.5")
    run_until(app.run(), says("**2 runs**: "))
    assert "one after another, $0.00" in read_text(app)
    press(app, f"start-several-{made.id}")
    assert "LoRA learns with 1e-6 to 0.01; this is 0.5." in next(one.label for one in app.checkbox).replace("\\", "")
    next(iter(app.checkbox)).check()
    press(app, f"start-several-{made.id}-yes")
    launch = operations.Ledger().list_operations("local", kind="launch", limit=1)[0].change
    assert isinstance(launch, operations.Launch)
    begun = operations.list_group(operations.Ledger(), "local", launch.group)
    assert [each.change.label.partition(" ")[2] for each in begun] == ["0.001", "0.5"]
    app = open_page("compare", group=launch.group)
    run_until(app, lambda app: app.dataframe and [*app.dataframe[0].value["Learning rate"]] == ["0.001", "0.5"])
    press(app, "cancel-all")
    press(app, "cancel-all-yes")
    for each in begun:
        finish(each, "done", "cancelled")
