"""Jobs on real processes: states, metrics, cancel, failure, queue, outputs; and what a PUT is refused for."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from core.engine import component
from core.engine.disk import RESERVE_BYTES, DiskReserve
from core.home import Home
from core.local import machine, processes
from core.local.blobs import CONTAINER, DATASTORE
from core.local.jobs import runs, steps
from core.local.jobs.job import COMMAND_STEP, PipelinePlan, RunState, Status
from core.local.jobs.runner import Runner
from core.local.model_registry import ModelRegistry
from core.local.routes import compute, jobs
from core.local.store import Document, Store
from core.local.wire import answers
from core.local.wire.auth import Gatekeeper
from core.local.wire.errors import WireError
from core.local.workspace import Workspace
from tests.core.local.submitting import (
    command_body,
    details_of,
    job_of,
    metric_of,
    pipeline_body,
    submit,
    wait_for,
)
from tests.local_server import LocalServer
from tests.waiting import wait_until

SERVER = "tests.core.local.trivial_server"
TRAIN = f"azureml://datastores/{DATASTORE}/paths/train.jsonl"
STEP = Path(__file__).with_name("trivial_step.py")


# Commands, over HTTP


def test_a_command_passes_through_its_states_and_leaves_metrics_progress_log_and_output(
    local_server: LocalServer,
) -> None:
    body = command_body("--steps 6 --output ${{outputs.result}}", outputs={"result": {"jobOutputType": "uri_folder"}})
    assert submit(local_server, "whole", body)["status"] == "NotStarted"
    wait_for(local_server, "whole", "Running")
    job = wait_for(local_server, "whole")
    assert job["status"] == "Completed"
    assert [step for step, _ in metric_of(local_server, "whole")] == [1, 2, 3, 4, 5, 6]
    assert job["properties"]["tunedeck.progress.step"] == job["properties"]["tunedeck.progress.total_steps"] == "6"
    assert job["outputs"]["result"]["uri"] == f"azureml://datastores/{DATASTORE}/paths/azureml/whole/result/"
    assert (local_server.home.blobs / CONTAINER / "azureml/whole/result/steps_done").read_text() == "6"
    assert "?" in job["services"]["Studio"]["endpoint"]
    details = details_of(local_server, "whole")
    assert details["startTimeUtc"] < details["endTimeUtc"]
    log = requests.get(details["logFiles"]["user_logs/std_log.txt"], timeout=10)
    assert log.text.startswith("trains in")
    end = requests.get(details["logFiles"]["user_logs/std_log.txt"], headers={"Range": "bytes=-8"}, timeout=10)
    assert (end.status_code, end.text) == (206, log.text[-8:])


def test_a_metric_can_be_read_within_a_second_of_being_measured(local_server: LocalServer) -> None:
    submit(local_server, "prompt", command_body("--steps 60 --pause 0.05"))
    wait_for(local_server, "prompt", "Running")
    path = "/api/2.0/mlflow/metrics/get-history?run_id=prompt&metric_key=loss&max_results=25000"
    ages = []
    for _ in range(15):
        rows = local_server.request("GET", path).json()["metrics"]
        ages += [time.time() - rows[-1]["timestamp"] / 1000] if rows else []
        time.sleep(0.05)
    assert ages
    assert statistics.median(ages) < 1.0, ages  # a busy machine may hold some looks up
    local_server.request("POST", "jobs/prompt/cancel")


def test_cancel_stops_the_trainer_and_keeps_the_metrics_so_far(local_server: LocalServer) -> None:
    submit(local_server, "stopped", command_body("--steps 5000"))
    wait_until(lambda: len(metric_of(local_server, "stopped")) > 3)
    assert local_server.request("POST", "jobs/stopped/cancel").status_code == 200
    assert wait_for(local_server, "stopped")["status"] == "Canceled"
    assert not processes.is_alive(local_server.home.runs / "stopped" / COMMAND_STEP)
    assert len(metric_of(local_server, "stopped")) > 3
    assert local_server.request("POST", "jobs/stopped/cancel").status_code == 200


def test_cancel_ends_a_trainer_that_does_not_listen_also_when_the_clock_was_set_back(local_server: LocalServer) -> None:
    """Waits out the grace; to a clock set back by an hour, the cancel was asked for in an hour."""
    submit(local_server, "deaf", command_body("--steps 5000 --deaf"))
    wait_until(lambda: metric_of(local_server, "deaf"))
    local_server.request("POST", "jobs/deaf/cancel")
    store = Store(local_server.home.workspace_db)
    wait_until(lambda: store.require("job", "deaf")["steps"][0]["stop_asked_at"])
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    def set_back(job: Document) -> Document:
        job["steps"][0]["stop_asked_at"] = in_an_hour
        return job

    store.update("job", "deaf", set_back)
    assert wait_for(local_server, "deaf", seconds=15)["status"] == "Canceled"


@pytest.mark.parametrize(
    ("crash", "words"),
    [
        ("exit", ["failed with exit status 3", "ValueError: the last line of the log"]),
        ("kill", ["was killed (signal 9)", "memory ran out"]),
        ("disk", ["the disk is full", "No space left on device"]),
        ("told", ["The learning rate was too high. Lower it."]),
    ],
)
def test_a_crash_makes_the_job_failed_with_a_reason(local_server: LocalServer, crash: str, words: list[str]) -> None:
    submit(local_server, f"crash-{crash}", command_body(f"--steps 2 --crash {crash}"))
    assert wait_for(local_server, f"crash-{crash}")["status"] == "Failed"
    message = details_of(local_server, f"crash-{crash}")["error"]["error"]["message"]
    assert all(each in message for each in words), message
    assert len(metric_of(local_server, f"crash-{crash}")) == 2


def test_a_second_job_waits_for_the_node_of_the_first(local_server: LocalServer) -> None:
    submit(local_server, "first", command_body("--steps 5000"))
    submit(local_server, "second", command_body("--steps 1"))
    wait_for(local_server, "first", "Running")
    wait_for(local_server, "second", "Queued")
    looked = len(metric_of(local_server, "first"))
    wait_until(lambda: len(metric_of(local_server, "first")) > looked, "another look of the runner at both")
    assert job_of(local_server, "second")["status"] == "Queued"
    assert local_server.request("DELETE", "computes/this-machine").status_code == 409
    local_server.request("POST", "jobs/first/cancel")
    assert wait_for(local_server, "second")["status"] == "Completed"


def test_a_cluster_is_steady_since_the_last_job_on_it_began_or_ended(local_server: LocalServer) -> None:
    def steady_since() -> str:
        found = local_server.request("GET", "computes/this-machine").json()["properties"]["properties"]
        return str(found["allocationStateTransitionTime"])

    before = steady_since()
    submit(local_server, "scales", command_body("--steps 1"))
    begun = steady_since()
    wait_for(local_server, "scales")

    assert before < begun < steady_since()
    assert steady_since()[:23] == details_of(local_server, "scales")["endTimeUtc"][:23]


def test_a_queued_job_can_be_canceled_and_never_starts(local_server: LocalServer) -> None:
    submit(local_server, "ahead", command_body("--steps 5000"))
    submit(local_server, "waits", command_body())
    wait_for(local_server, "waits", "Queued")
    local_server.request("POST", "jobs/waits/cancel")
    assert wait_for(local_server, "waits")["status"] == "Canceled"
    assert not (local_server.home.runs / "waits" / COMMAND_STEP).exists()
    local_server.request("POST", "jobs/ahead/cancel")


def test_the_same_put_again_answers_the_job_that_is_there(local_server: LocalServer) -> None:
    body = command_body("--steps 1 --pause 0")
    assert local_server.request("PUT", "jobs/once", json=body).status_code == 201
    wait_for(local_server, "once")
    again = local_server.request("PUT", "jobs/once", json=body)
    assert (again.status_code, again.json()["properties"]["status"]) == (200, "Completed")
    assert len(metric_of(local_server, "once")) == 1
    other = local_server.request("PUT", "jobs/once", json=command_body("--steps 2"))
    assert (other.status_code, other.json()["error"]["code"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bogus": 1}, "properties.bogus is not a field"),
        ({"jobType": "Sweep"}, "jobType must be Pipeline or Command"),
        ({"command": " "}, "command is needed"),
        ({"command": "x ${{inputs.nothing}}"}, "uses ${{inputs.nothing}}, which the job does not declare"),
        ({"computeId": "elsewhere"}, "the compute 'elsewhere', which does not exist"),
        ({"computeId": None}, "no serverless compute"),
        ({"codeId": "x"}, "codeId is not done"),
        ({"resources": {"instanceCount": 2}}, "resources.instanceCount must be 1"),
        ({"inputs": {"a": {"uri": "azureml:x", "odd": 1}}}, "inputs.a.odd is not a field"),
        ({"inputs": {"a": {"uri": "azureml://datastores/workspaceblobstore/paths/no"}}}, "a names"),
        ({"outputs": {"../x": {}}}, "cannot be used as an output's name"),
    ],
)
def test_a_command_that_cannot_be_honoured_is_a_400_that_names_it(
    local_server: LocalServer, change: dict[str, Any], words: str
) -> None:
    body = command_body()
    body["properties"].update(change)
    response = local_server.request("PUT", "jobs/refused", json=body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
    assert local_server.request("GET", "jobs/refused").status_code == 404


def test_a_run_is_renamed_tagged_and_hidden_through_the_history(local_server: LocalServer) -> None:
    submit(local_server, "renamed", command_body("--steps 1"))
    path = f"/history/v1.0{answers.workspace_id()}/experiments/any%20name/runs/renamed"
    local_server.request("PATCH", path, json={"displayName": "new name", "tags": {"x": "y"}})
    job = job_of(local_server, "renamed")
    assert (job["displayName"], job["tags"]) == ("new name", {"kept": "yes", "x": "y"})
    local_server.request("PATCH", path, json={"hidden": True})
    assert "renamed" not in [each["name"] for each in local_server.request("GET", "jobs").json()["value"]]
    shown = local_server.request("GET", "jobs?listViewType=ArchivedOnly").json()["value"]
    assert [each["name"] for each in shown] == ["renamed"]


def test_the_outputs_of_a_run_are_told_as_assets_that_lead_to_the_datastore(local_server: LocalServer) -> None:
    body = command_body("--steps 1 --output ${{outputs.result}}", outputs={"result": {"jobOutputType": "uri_folder"}})
    submit(local_server, "told", body)
    history = f"/history/v1.0{answers.workspace_id()}"
    outputs = local_server.request("POST", f"{history}/rundata", json={"runId": "told"}).json()["runMetadata"][
        "outputs"
    ]
    assert outputs["result"]["type"] == "uri_folder"
    path = f"/data/v1.0{answers.workspace_id()}/dataversion/batchGetResolvedUris"
    asked = outputs["result"]["assetId"]
    found = local_server.request("POST", path, json={"values": [asked]}).json()["values"]
    assert found[asked]["uri"].endswith(f"/datastores/{DATASTORE}/paths/azureml/told/result/")


def test_a_log_link_without_its_signature_is_refused(local_server: LocalServer) -> None:
    submit(local_server, "signed", command_body("--steps 1"))
    wait_for(local_server, "signed")
    link = details_of(local_server, "signed")["logFiles"]["user_logs/std_log.txt"]
    assert requests.get(link.partition("?")[0], timeout=10).status_code == 401
    assert requests.get(link.replace("std_log", "other"), timeout=10).status_code == 401


# Pipelines, on a runner in this process whose programs are a few lines


@pytest.fixture(scope="module")
def here() -> machine.Machine:
    return machine.Machine(cores=2, memory_gib=8.0)


@pytest.fixture
def workspace(tmp_path: Path, here: machine.Machine) -> Iterator[Workspace]:
    home = Home(tmp_path / "home").create()
    folder = home.base_models / "tiny" / "1"
    folder.mkdir(parents=True)
    tags = {"finetune_compute_allow_list": "['Local.CPU2']"}
    (folder / "tunedeck.json").write_text(json.dumps({"name": "tiny", "version": "1", "tags": tags}))
    (folder / "model.safetensors").write_bytes(b"base" * 1000)
    made = Workspace(
        home=home,
        store=Store(home.workspace_db),
        machine=here,
        registry=ModelRegistry(home.base_models, here),
        gatekeeper=Gatekeeper("s", 1),
        url="http://x",
    )
    compute.prepare(made)
    (home.blobs / CONTAINER / "train.jsonl").write_text("{}\n")
    made.runner = Runner(made, lambda name: [sys.executable, str(STEP), name])
    made.runner.start()
    yield made
    made.runner.stop()
    for _, job in made.runs.list_jobs():
        for step in job.steps if not job.finished else ():
            processes.stop(made.runs.step_folder(job.name, step), 0.1)


def ended(workspace: Workspace, name: str) -> Document:
    return wait_until(
        lambda: (job := workspace.store.require("job", name)) and Status(job["run"]["status"]).finished and job
    )


def test_a_pipeline_runs_its_five_steps_and_places_one_copy_of_the_model(workspace: Workspace) -> None:
    jobs.submit(workspace, "pipe", pipeline_body(TRAIN, max_steps="4"))
    job = ended(workspace, "pipe")
    assert job["run"]["status"] == "Completed", job
    assert [(step["id"], step["name"], step["run"]["status"]) for step in job["steps"]] == [
        (f"pipe_{number}", step.name, "Completed") for number, step in enumerate(component.STEPS, 1)
    ]
    starts = [step["run"]["started_at"] for step in job["steps"]]
    assert starts == sorted(starts)
    for run_id in ("pipe", "pipe_4"):
        assert [point.step for point in workspace.store.read_metrics(run_id, "loss")] == [1, 2, 3, 4]
        assert workspace.runs.get(run_id).read_progress()["tunedeck.progress.step"] == "4"
    placed = workspace.home.blobs / CONTAINER / "azureml/pipe/trained_model"
    assert (placed / "MLmodel").is_file()
    weights = placed / "model" / "model.safetensors"
    assert weights.stat().st_nlink == 1
    left = [path.parent.name for path in workspace.home.runs.rglob("*.safetensors")]
    assert sorted(left) == ["checkpoint-2", "checkpoint-4"], "the steps keep no weights of their own"


def test_equal_weights_of_two_runs_are_one_file_and_outlive_each_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SHARED_FROM_BYTES", 1000)
    outputs = workspace.home.blobs / CONTAINER / "azureml"
    files = [outputs / name / "trained_model" / "model" / "model.safetensors" for name in ("one", "two", "three")]
    for name in ("one", "two"):
        jobs.submit(workspace, name, pipeline_body(TRAIN, max_steps="1"))
        assert ended(workspace, name)["run"]["status"] == "Completed"
    assert files[0].samefile(files[1])
    assert files[0].stat().st_nlink == 2
    assert files[0].stat().st_mode & 0o222 == 0
    shutil.rmtree(outputs / "one")
    jobs.submit(workspace, "three", pipeline_body(TRAIN, max_steps="1"))
    ended(workspace, "three")
    assert files[1].read_bytes() == files[2].read_bytes() == b"weights" * 1000


def test_a_step_that_fails_fails_the_pipeline_and_what_comes_after_never_starts(workspace: Workspace) -> None:
    jobs.submit(workspace, "broken", pipeline_body(TRAIN, max_steps="2", seed="13"))
    job = ended(workspace, "broken")
    assert [step["run"]["status"] for step in job["steps"]] == ["Completed"] * 3 + ["Failed", "NotStarted"]
    assert job["run"]["error"] == job["steps"][3]["run"]["error"]
    assert "Fine-tune failed with exit status 1.\n\nLast log lines:" in job["run"]["error"]["message"]
    assert "RuntimeError: loss is nan" in job["run"]["error"]["message"]


def kill_attempt(workspace: Workspace, name: str, number: int) -> None:
    """End the fine-tuning with its shim, as the end of the machine does, once attempt `number` measures."""
    folder = workspace.home.runs / name / "chat_completion_finetune"
    wait_until(lambda: processes._read_json(folder / "process.json").get("attempt") == number)
    before = len(workspace.store.read_metrics(name, "loss"))
    wait_until(lambda: len(workspace.store.read_metrics(name, "loss")) > before + 2)
    record = processes._read_json(folder / "process.json")
    for which in ("", "child_"):
        processes._signal(record[f"{which}pid"], record[f"{which}start_time"], signal.SIGKILL)


def test_a_trainer_that_died_with_its_machine_is_started_again_and_no_step_is_measured_twice(
    workspace: Workspace,
) -> None:
    jobs.submit(workspace, "again", pipeline_body(TRAIN, max_steps="60"))
    kill_attempt(workspace, "again", 1)
    job = ended(workspace, "again")
    assert job["run"]["status"] == "Completed", job
    assert job["steps"][3]["attempt"] == 2
    assert [point.step for point in workspace.store.read_metrics("again", "loss")] == list(range(1, 61))
    told = (workspace.home.runs / "again" / runs.EVENTS_NAME).read_text()
    assert "killed together with its supervisor, or this machine restarted. It is started again and goes on" in told


def test_a_trainer_that_dies_again_and_again_without_a_checkpoint_fails_with_the_reason(workspace: Workspace) -> None:
    jobs.submit(workspace, "doomed", pipeline_body(TRAIN, max_steps="900"))
    for number in range(1, steps.DEATHS_WITHOUT_GAIN + 1):
        kill_attempt(workspace, "doomed", number)
    job = ended(workspace, "doomed")
    assert job["run"]["status"] == "Failed"
    assert "killed together with its supervisor, or this machine restarted" in job["run"]["error"]["message"]


@pytest.mark.parametrize(
    ("literals", "words"),
    [
        ({"colour": "red"}, "colour is not an input of chat_completion_pipeline."),
        ({"num_train_epochs": "0"}, "num_train_epochs is 0; the least is 1."),
        ({"num_train_epochs": "two"}, "num_train_epochs is 'two'; it takes a whole number."),
        ({"lr_scheduler_type": "bogus"}, "lr_scheduler_type is 'bogus'; it takes linear, cosine"),
        ({"apply_deepspeed": "true"}, "apply_deepspeed is true; this machine takes only false: DeepSpeed spreads"),
        (
            {"number_of_gpu_to_use_finetuning": "1"},
            "number_of_gpu_to_use_finetuning is 1, but a node of size local.cpu2",
        ),
    ],
)
def test_an_input_the_component_does_not_take_is_a_400_that_names_it(
    workspace: Workspace, literals: dict[str, str], words: str
) -> None:
    with pytest.raises(WireError, match=words.replace("(", r"\(")) as caught:
        jobs.submit(workspace, "bad", pipeline_body(TRAIN, **literals))
    assert caught.value.status == 400


def test_models_and_computes_that_do_not_fit_are_refused_by_name(workspace: Workspace) -> None:
    cases = {
        "Phi-4/versions/8": "runs on Azure",
        "none/versions/1": "which the registry does not have",
    }
    for model, words in cases.items():
        with pytest.raises(WireError, match=words):
            jobs.submit(workspace, "bad", pipeline_body(TRAIN, model))
    with pytest.raises(WireError, match="train_file_path names"):
        jobs.submit(workspace, "bad", pipeline_body(TRAIN.replace("train.", "other.")))
    workspace.store.put(
        "compute", "small", {**workspace.store.require("compute", "this-machine"), "size": "local.cpu1"}
    )
    body = pipeline_body(TRAIN)
    body["properties"]["jobs"]["ft"]["inputs"]["compute_finetune"]["value"] = "small"
    with pytest.raises(WireError, match="not in the model's allow-list"):
        jobs.submit(workspace, "bad", body)


def test_an_input_bound_to_the_pipeline_is_followed(workspace: Workspace) -> None:
    body = pipeline_body(TRAIN)
    body["properties"]["inputs"] = {"epochs": {"jobInputType": "literal", "value": "2"}}
    body["properties"]["jobs"]["ft"]["inputs"]["num_train_epochs"] = {"value": "${{parent.inputs.epochs}}"}
    job = jobs.submit(workspace, "bound", body)
    assert job is not None
    assert isinstance(job.plan, PipelinePlan)
    assert job.plan.parameters["num_train_epochs"] == "2"


def test_every_status_has_mlflows_word_and_follows_from_another() -> None:
    words = {"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"}
    reached = {following for status in Status for following in status.following}
    for status in Status:
        assert status.mlflow in words
        assert status is Status.NOT_STARTED or status in reached
        assert status.finished == (status in ("Completed", "Failed", "Canceled"))
    with pytest.raises(ValueError, match="does not go from Completed to Running"):
        RunState("run", status=Status.COMPLETED).moved(Status.RUNNING)


def test_the_reserve_gives_way_to_a_full_disk_only(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path / "reserve")
    reserve.take()
    reserve.give_way(OSError(errno.EACCES, "no"))
    assert (tmp_path / "reserve").stat().st_size == RESERVE_BYTES
    reserve.give_way(sqlite3.OperationalError("database or disk is full"))
    assert not (tmp_path / "reserve").exists()
