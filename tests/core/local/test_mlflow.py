"""The stock mlflow-skinny client logs to the local workspace and reads from it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from core.local.wire.answers import workspace_id
from tests.core.local.submitting import command_body, submit, wait_for
from tests.local_server import LocalServer

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module", params=["", f"/mlflow/v2.0{workspace_id()}"], ids=["short", "long"])
def client(request: pytest.FixtureRequest, local_server: LocalServer) -> Iterator[MlflowClient]:
    """Importing mlflow takes two seconds or three."""
    before = dict(os.environ)
    os.environ.update(MLFLOW_TRACKING_TOKEN=local_server.token, MLFLOW_DISABLE_TELEMETRY="true", NO_PROXY="127.0.0.1")
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    from mlflow import MlflowClient

    yield MlflowClient(tracking_uri=local_server.url + request.param)
    os.environ.clear()
    os.environ.update(before)


def experiment_of(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def test_a_client_logs_a_run_and_reads_it_back(client: MlflowClient) -> None:
    from mlflow.entities import Metric, Param, RunTag

    experiment = experiment_of(client, "by hand")
    run_id = client.create_run(experiment, run_name="brave-otter", tags={"kind": "test"}).info.run_id
    client.log_metric(run_id, "loss", 2.5, step=1)
    client.log_metric(run_id, "broken", math.nan, step=1)
    metrics = [Metric("loss", 2.0 / step, 1_700_000_000_000 + step, step) for step in range(2, 5)]
    client.log_batch(run_id, metrics=metrics, params=[Param("optim", "adamw")], tags=[RunTag("note", "x")])
    client.log_param(run_id, "rank", 8)
    client.set_tag(run_id, "later", "y")
    client.delete_tag(run_id, "note")
    client.set_terminated(run_id)

    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "brave-otter")
    assert run.info.end_time >= run.info.start_time
    assert run.data.metrics["loss"] == 0.5
    assert math.isnan(run.data.metrics["broken"])
    assert run.data.params == {"optim": "adamw", "rank": "8"}
    assert {"kind": "test", "later": "y"}.items() <= run.data.tags.items()
    assert "note" not in run.data.tags
    history = client.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.0), (3, 2 / 3), (4, 0.5)]


def test_a_nested_run_has_the_root_of_its_parent(client: MlflowClient) -> None:
    experiment = experiment_of(client, "nested")
    top = client.create_run(experiment)
    middle = client.create_run(experiment, tags={"mlflow.parentRunId": top.info.run_id})
    inner = client.create_run(experiment, tags={"mlflow.parentRunId": middle.info.run_id})
    client.create_run(experiment)
    found = client.search_runs([experiment], f"tags.mlflow.rootRunId = '{top.info.run_id}'")
    assert {run.info.run_id for run in found} == {run.info.run_id for run in (top, middle, inner)}


def test_a_parameter_keeps_its_first_value(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "rank", 8)
    client.log_param(run_id, "rank", 8)
    with pytest.raises(MlflowException, match="rank"):
        client.log_param(run_id, "rank", 16)


def test_runs_are_searched_by_metric_parameter_tag_and_name(client: MlflowClient) -> None:
    experiment = client.create_experiment(f"searched {len(client.tracking_uri)}")
    for number in range(4):
        run_id = client.create_run(
            experiment, run_name=f"run-{number}", tags={"team": "a" if number < 3 else "b"}
        ).info.run_id
        client.log_metric(run_id, "loss", 4.0 - number)
    found = client.search_runs([experiment], "metrics.loss < 4 and tags.team = 'a'", order_by=["metrics.loss ASC"])
    assert [run.info.run_name for run in found[:2]] == ["run-2", "run-1"]
    named = client.search_runs([experiment], "attributes.run_name LIKE 'run-3%'")
    assert {run.info.run_name for run in named} == {"run-3"}
    page = client.search_runs([experiment], max_results=3)
    assert len(page) == 3
    assert page.token
    client.delete_run(found[0].info.run_id)
    left = client.search_runs([experiment], "metrics.loss < 4 and tags.team = 'a'")
    assert found[0].info.run_id not in [run.info.run_id for run in left]
    client.restore_run(found[0].info.run_id)


def test_a_filter_that_is_not_understood_is_refused(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="is not understood"):
        client.search_runs(["0"], "metrics.loss < 4 or tags.a = 'b'")


def test_what_is_not_there_is_said_in_mlflows_words(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    assert client.get_experiment_by_name("nowhere") is None
    with pytest.raises(MlflowException) as caught:
        client.get_run("nowhere")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    name = "twice"
    experiment_of(client, name)
    with pytest.raises(MlflowException) as caught:
        client.create_experiment(name)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_jobs_run_is_read_and_logged_to_like_any_other(client: MlflowClient, local_server: LocalServer) -> None:
    name = "job-" + ("long" if "subscriptions" in client.tracking_uri else "short")
    submit(local_server, name, command_body("--steps 30 --pause 0.001"))
    wait_for(local_server, name)
    run = client.get_run(name)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 4.0 / 30)
    assert run.data.tags["tunedeck.progress.step"] == "30"
    assert run.data.tags["kept"] == "yes"
    client.set_tag(name, "seen", "yes")
    assert local_server.request("GET", f"jobs/{name}").json()["properties"]["tags"]["seen"] == "yes"
    assert client.list_artifacts(name) == []
    assert client.get_experiment(run.info.experiment_id).name == "try"


def test_a_history_is_read_in_pages_that_lose_and_repeat_nothing(
    client: MlflowClient, local_server: LocalServer
) -> None:
    run_id = client.create_run("0").info.run_id
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric("loss", step, step, step) for step in range(25)])
    steps, token = [], ""
    while True:
        address = (
            f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=loss&max_results=10&page_token={token}"
        )
        answer = local_server.request("GET", address).json()
        steps += [row["step"] for row in answer["metrics"]]
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert steps == list(range(25))


def test_files_are_logged_listed_and_read(client: MlflowClient, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    run_id = client.create_run("0").info.run_id
    client.log_text(run_id, "hello", "notes/first.txt")
    client.log_dict(run_id, {"a": 1}, "config.json")
    assert [(each.path, each.is_dir) for each in client.list_artifacts(run_id)] == [
        ("config.json", False),
        ("notes", True),
    ]
    assert [(each.path, each.file_size) for each in client.list_artifacts(run_id, "notes")] == [("notes/first.txt", 5)]
    assert Path(client.download_artifacts(run_id, "notes/first.txt", str(tmp_path))).read_text() == "hello"
    with pytest.raises(MlflowException):
        client.log_text(run_id, "x", "../../outside.txt")


def test_the_fluent_api_works_too(client: MlflowClient) -> None:
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)
    mlflow.set_experiment("fluent")
    with mlflow.start_run(run_name="fluent-run") as run:
        mlflow.log_metrics({"loss": 1.0, "eval_loss": 2.0}, step=3)
        mlflow.log_params({"a": 1})
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 1.0, "eval_loss": 2.0}


def test_tracking_needs_the_token(local_server: LocalServer) -> None:
    answer = requests.get(f"{local_server.url}/api/2.0/mlflow/runs/get?run_id=x", timeout=10)
    assert answer.status_code == 401
