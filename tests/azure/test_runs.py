"""A run on Azure as it is watched, and as its lineage tells it to every Tunedeck.

Its measures lie with the step that trains, and what is read of them is little.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import Model
from streamlit.testing.v1 import AppTest

from core.azureml import tags
from core.azureml.connection import Connection
from core.errors import BadInput
from core.home import Home
from core.local.blobs import CONTAINER
from core.operations import get_operation, start_cancel, start_launch, start_rename
from core.operations.__main__ import main
from core.overview import describe_progress, read_run
from core.runs import index, jobs
from core.runs.history import list_steps
from core.runs.logs import read_log
from core.runs.metrics import read_metrics
from core.runs.states import FINE_TUNE, QUEUED, STAGES
from core.runs.throughput import find_pace
from core.serving.lineage import Kind, Look, Piece, parse_lineage, read_lineage
from core.serving.registered_models import archive_model, register_model
from tests.azure.serving import ENDPOINT, MODEL, register, serve_model
from tests.azure.stand_in import SIZE, StandIn, running_stand_in
from tests.azure.walking import Walk, walking
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Walk, str]]:
    """An operator, and the name of a run of four steps that has completed there."""
    with (
        running_stand_in(tmp_path_factory.mktemp("azure"), module="tests.core.local.trivial_server") as azure,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in azure.environment.items():
            patch.setenv(name, value)
        with walking(azure) as walk:
            walk.ensure_compute()
            run = start_launch(walk.plan()).subject
            with azure.hurried():
                wait_until(lambda: find_pace(run))  # the evaluation after it is nothing to these tests
            yield walk, run


@pytest.fixture
def walk(ended: tuple[Walk, str]) -> Walk:
    return ended[0]


@pytest.fixture
def run(ended: tuple[Walk, str]) -> str:
    return ended[1]


def anew(azure: StandIn) -> Connection:
    """Return a connection of a process that has read nothing yet."""
    return Connection(azure.settings(), azure.home)


def test_a_run_whose_step_alone_measures_has_its_curve_and_its_last_step(walk: Walk, run: str) -> None:
    root = walk.azure.workspace.request("GET", f"/api/2.0/mlflow/runs/get?run_id={run}").json()
    assert root["run"]["data"]["metrics"] == []
    found = jobs.get_run(walk.conn, run)
    assert found.progress is not None
    assert (found.progress.step, found.progress.total_steps, found.progress.fraction) == (4, 4, 1.0)
    assert describe_progress(found) == "Step 4 of 4."
    (trainer,) = [step.run_id for step in list_steps(walk.conn, run) if step.component == FINE_TUNE]
    loss = read_metrics(anew(walk.azure), run).get("loss")
    assert (loss.steps, loss.sources) == ([1, 2, 3, 4], (trainer,))


def test_a_second_look_at_the_measures_asks_two_runs_and_no_history(walk: Walk, run: str) -> None:
    conn = anew(walk.azure)
    first = read_metrics(conn, run)
    before = len(walk.azure.rules)
    assert read_metrics(conn, run) == first
    asked = [each.url.partition("?")[0].rsplit("/", 2)[1:] for each in walk.azure.rules.asked("/mlflow/", since=before)]
    assert asked == [["runs", "get"]] * 2


def test_each_step_has_its_own_log(walk: Walk, run: str) -> None:
    found = jobs.get_run(walk.conn, run)
    begun = {stage.name: stage for stage in found.stages if stage.job and stage.name in STAGES}
    assert len(begun) == 5
    for stage in begun.values():
        assert read_log(walk.conn, stage.job).text, stage.title
    assert "finetune with" in read_log(walk.conn, begun[FINE_TUNE].job).text


def test_a_run_that_logs_no_tokens_teaches_its_speed_by_rows_and_time(walk: Walk, run: str) -> None:
    pace = find_pace(run)
    assert pace is not None
    assert pace.tokens_per_s > 0
    assert set(pace.stages) >= {QUEUED, *STAGES}


# Lineage


@pytest.fixture(scope="module")
def served(ended: tuple[Walk, str]) -> tuple[Walk, str]:
    """The run's model, registered and served as `shop`."""
    walk, run = ended
    model = register_model(walk.conn, jobs.get_run(walk.conn, run), "kettle-model", "1")
    serve_model(walk, f"azureml:{model.name}:{model.version}", {tags.REGISTERED_MODEL: "kettle-model:1", tags.RUN: run})
    return walk, run


@pytest.fixture
def kept(served: tuple[Walk, str], tmp_path: Path) -> Path:
    """The lineage of the endpoint, as it was downloaded before a test changes something."""
    file = tmp_path / "lineage.json"
    file.write_text(read_lineage(served[0].conn, endpoint=ENDPOINT).to_json(), encoding="utf-8")
    return file


def add(file: Path, piece: Piece | None, without: str = "") -> None:
    """Write one more piece into a lineage, and take those of a kind out."""
    assert piece is not None
    document = json.loads(file.read_text(encoding="utf-8"))
    document["pieces"] = [each for each in document["pieces"] if each["kind"] != without] + [asdict(piece)]
    file.write_text(json.dumps(document), encoding="utf-8")


def verify(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Return the exit status and what was said of each piece."""
    capsys.readouterr()
    status = main(["verify", str(file)])
    said = capsys.readouterr()
    return status, dict(line.split("  ", 1) for line in (said.out or said.err).splitlines())


def test_an_endpoint_is_followed_back_to_its_data_and_a_run_forward_to_its_endpoint(
    served: tuple[Walk, str],
) -> None:
    walk, run = served
    lineage = read_lineage(walk.conn, endpoint=ENDPOINT)
    assert [each.title for each in lineage.pieces] == [
        "kettle-train:1",
        "kettle-test:1",
        run,
        run,
        "kettle-model:1",
        ENDPOINT,
    ]
    assert lineage.doubts == []
    (data, _), (recipe,), (job,), (model,), (endpoint,) = map(lineage.of, Kind)
    assert data.facts["content hash"] == job.facts["data hash in tags"]
    assert json.loads(recipe.facts["settings"])["max_steps"] == 4
    assert "/models/" in recipe.facts["base model"]
    assert (job.facts["compute"], job.facts["created by"], model.facts["job"]) == ("gpu", "ada@contoso.com", run)
    assert sum(each.bytes for each in model.files.values()) == model.bytes > 7000
    assert endpoint.facts["demo: size"] == f"1 × {SIZE}"
    assert replace(read_lineage(walk.conn, run=run), read_at="") == replace(lineage, read_at="")
    key = walk.conn.workspace.online_endpoints.get_keys(ENDPOINT).primary_key
    assert key not in lineage.to_json()


def test_another_home_reads_the_same_and_finds_a_kept_file_still_true(
    served: tuple[Walk, str],
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    walk, run = served
    elsewhere = Home(tmp_path / "elsewhere").create()
    monkeypatch.setenv("TUNEDECK_HOME", str(elsewhere.path))
    there = read_lineage(Connection(walk.azure.settings(), elsewhere), run=run)
    assert there.pieces == parse_lineage(json.loads(kept.read_text(encoding="utf-8"))).pieces
    assert verify(kept, capsys) == (
        0,
        {
            "data kettle-train:1": "same",
            "data kettle-test:1": "same",
            f"recipe {run}": "same",
            f"job {run}": "same",
            "model kettle-model:1": "same",
            f"endpoint {ENDPOINT}": "same",
            "content of the data": "same",
        },
    )


def test_a_model_that_is_archived_or_registered_again_with_other_files_is_found_changed(
    served: tuple[Walk, str], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, run = served
    again = register_model(walk.conn, jobs.get_run(walk.conn, run), "again", "1")
    add(kept, Look(walk.conn).read(Kind.MODEL, "again", "1"))  # a list would tell of it only after a while
    archive_model(walk.conn, "again", "1")
    status, said = verify(kept, capsys)
    assert (status, said["model again:1"]) == (1, "changed: state active → archived")
    walk.conn.http("DELETE", f"{again.id}?api-version=2024-10-01")
    assert verify(kept, capsys)[1]["model again:1"] == "gone"
    other = walk.azure.workspace.home.blobs / CONTAINER / "other"
    other.mkdir()
    (other / "MLmodel").write_text("{}", encoding="utf-8")
    path = "azureml://datastores/workspaceblobstore/paths/other"
    walk.conn.workspace.models.create_or_update(Model(name="again", version="1", path=path, type="mlflow_model"))
    status, said = verify(kept, capsys)
    assert "; file other/MLmodel is new" in said["model again:1"]
    assert f"job {run} → nothing" in said["model again:1"]
    assert said["model kettle-model:1"] == "same"


def test_what_tags_claim_is_doubted_shown_as_text_and_never_followed(
    served: tuple[Walk, str], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, run = served
    model = walk.conn.workspace.models.get("kettle-model", version="1")
    model.tags = {**model.tags, tags.RUN: "<img src=x>\x1b[2J", tags.DATASET_KEY: "0" * 64}
    walk.conn.workspace.models.create_or_update(model)
    lineage = read_lineage(walk.conn, endpoint=ENDPOINT)
    assert lineage.of(Kind.JOB)[0].name == run
    assert "kettle-model:1" in [model.title for model in read_lineage(walk.conn, run=run).of(Kind.MODEL)]
    assert [doubt.partition(" is ")[2].partition(";")[0] for doubt in lineage.doubts] == [
        "<img src=x>\x1b[2J",
        "0" * 64,
    ]
    assert Look(walk.conn).read(Kind.JOB, "<img src=x>") is Look(walk.conn).read(Kind.JOB, "..") is None
    app = run_until(open_app("runs", at=walk.conn.alias, run=run), lambda app: "Lineage" in texts(app))
    run_until(app, lambda app: "The tags of model kettle-model:1 say that its job is <img src=x>" in texts(app))
    assert "<img src=x>␛[2J" in "".join(each.value for each in app.text)
    status, said = verify(kept, capsys)
    assert status == 1
    assert f"run in tags {run} → <img src=x>␛[2J" in said["model kettle-model:1"]


def test_data_written_over_in_place_has_another_content(
    served: tuple[Walk, str], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, _ = served
    (path, *_) = read_lineage(walk.conn, endpoint=ENDPOINT).of(Kind.DATA)[0].files
    file = walk.azure.workspace.home.blobs / CONTAINER / path
    content = file.read_bytes()
    file.write_bytes(content.replace(b"a", b"b"))
    status, said = verify(kept, capsys)
    file.write_bytes(content)
    assert status == 1
    assert said["content of the data"].startswith("changed: sha256 ")
    assert said["data kettle-train:1"] == f"changed: file {path} was written again"


def test_pieces_that_are_true_and_do_not_belong_together_are_no_lineage(
    served: tuple[Walk, str], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, _ = served
    register(walk)
    add(kept, Look(walk.conn).read(Kind.MODEL, MODEL, "1"), without="model")
    status, said = verify(kept, capsys)
    assert status == 1
    assert said[f"model {MODEL}:1"] == said[f"endpoint {ENDPOINT}"] == "changed: it does not belong to this chain"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "tunedeck.lineage/1"}', '{"schema": "other/1"}'])
def test_a_file_that_is_no_lineage_is_refused_loudly(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8")
    assert main(["verify", str(file), "--at", walk.conn.alias]) == 1
    assert capsys.readouterr().err


def test_a_run_that_waits_says_what_its_cluster_says(walk: Walk) -> None:
    started = start_launch(walk.plan(max_steps=5))
    wait_until(lambda: jobs.find_job(walk.conn, started.subject) is not None)
    waiting = read_run(anew(walk.azure), started.subject)
    assert (waiting.state_word, waiting.stages[0].note) == (
        "Queued",
        "gpu is starting a node: 0 of at most 1 there.",
    )
    step = {
        "runId": "step",
        "name": "ft_nlp_common_validation",
        "status": "Queued",
        "createdUtc": "2026-01-01T00:00:00Z",
    }
    told = {"value": [{**step, "warnings": [{"source": "s", "message": "No node yet: 2 jobs are before it."}]}]}
    walk.azure.rules.add(f"{started.subject}/children", 200, body=json.dumps(told))
    stages = read_run(anew(walk.azure), started.subject).stages
    assert stages[1].note == "Azure says: No node yet: 2 jobs are before it."
    walk.finish(start_cancel(walk.conn.alias, started.subject))
    wait_until(lambda: get_operation(started.id).finished)


def test_a_name_and_a_note_given_later_are_everybodys(walk: Walk, run: str) -> None:
    """By whoever reads it first, by whoever had read it at its end before, and in the list; the job keeps its own."""
    before, looker = jobs.get_run(walk.conn, run), anew(walk.azure)
    assert jobs.get_run(looker, run).title == before.title
    renamed = walk.finish(start_rename(walk.conn.alias, run, " Support, *second* ", "Rate too high"))
    assert renamed.steps[0].detail == f"'Support, *second*', before '{before.title}'"
    for conn in (walk.conn, looker, anew(walk.azure)):
        seen = jobs.get_run(conn, run)
        assert (seen.title, seen.tags[tags.NOTE]) == ("Support, *second*", "Rate too high")
        assert (seen.name, seen.display_name) == (run, before.display_name)
        assert [each.title for each in index.list_runs(conn) if each.name == run] == [seen.title]


def test_of_two_names_at_once_the_last_stands_and_says_what_it_replaced(walk: Walk, run: str) -> None:
    both = [start_rename(walk.conn.alias, run, title) for title in ("first", "second")]
    first, second = (walk.finish(each).steps[0].detail for each in both)
    assert first.startswith("'first', before ")
    assert second == "'second', before 'first'"
    assert jobs.get_run(walk.conn, run).title == "second"


def test_a_run_is_named_at_its_start_and_anew_while_it_goes_on(walk: Walk) -> None:
    name = start_launch(walk.plan(max_steps=100_000, title="Long one: try 2")).subject
    assert re.fullmatch(r"[a-z]+-[a-z]+-[0-9a-f]{8}", name)
    with walk.azure.hurried():
        wait_until(lambda: jobs.has_job(walk.conn, name))
    assert jobs.get_run(walk.conn, name).title == "Long one: try 2"
    walk.finish(start_rename(walk.conn.alias, name, "Long one"))
    assert (now := jobs.get_run(walk.conn, name)).title == "Long one"
    assert not now.finished
    walk.finish(start_cancel(walk.conn.alias, name))


@pytest.mark.parametrize(
    ("title", "note", "said"),
    [
        (" ", "", "A run needs a name."),
        ("x" * 300, "", "The name has 300 characters."),
        ("<b>x</b>", "", "The name has a character that is not shown as itself."),
        ("two\nlines", "", "The name has a character that is not shown as itself."),
        ("x", "y" * 257, "The note has 257 characters."),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_recorded(title: str, note: str, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        start_rename("azure", "any", title, note)


def test_a_run_that_is_gone_meanwhile_is_not_renamed(walk: Walk) -> None:
    error = walk.finish(start_rename(walk.conn.alias, "gone", "x"), "failed").error
    assert error is not None
    assert error.message == "There is no run 'gone' any more."


def test_a_run_is_renamed_on_its_page(walk: Walk, run: str) -> None:
    app = run_until(open_app("runs", run=run), lambda app: bool(fields_of(app)))
    title, note = fields_of(app)
    title.set_value("From the page")
    note.set_value("<b>bold</b> $x$ **no**")
    next(button for button in app.button if button.label == "Save").click()
    app = run_until(app, lambda app: [each.value for each in app.title] == ["From the page"])
    assert "<b>bold</b> $x$ **no**" in [each.value for each in app.text]


def fields_of(app: AppTest) -> list[Any]:
    return [each for each in app.text_input if each.label in ("Name", "Note")]


def test_what_this_machine_alone_can_do_is_not_shown(walk: Walk, run: str) -> None:
    app = run_until(open_app("runs", at=walk.conn.alias, run=run), lambda app: "Deploy this model" in buttons(app))
    alone = ("Stop and keep the best", "Resume", "More epochs", "Add a model", "Fetch")
    assert not [label for label in buttons(app) if label.startswith(alone)]
    assert not any("Checkpoints" in str(group.proto) for group in app.get("button_group"))
    assert any("Logs" in str(group.proto) for group in app.get("button_group"))
    model = run_until(open_app("model", at=walk.conn.alias), lambda app: "**tiny-chat**" in texts(app))
    assert not [label for label in buttons(model) if label.startswith(alone)]
