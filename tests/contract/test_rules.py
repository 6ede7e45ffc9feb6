"""What the service refuses and the SDK does not see: sent by the real SDK, refused by the local workspace in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core import cloud as clouds
from core.connection import connect, local_settings
from core.errors import QuotaExceeded
from core.home import Home
from core.local.blobs import CONTAINER
from core.local.machine import probe
from core.service_errors import translate
from tests import tiny_model
from tests.contract.sdk import make_clients
from tests.local.submitting import command_body, wait
from tests.local_server import LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")

DATASTORE = "azureml://datastores/workspaceblobstore/paths/"
CORES = probe().cores


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    tiny_model.build_tiny_model(base_models)
    home = Home(tmp_path_factory.mktemp("home"))
    running = LocalServer(home, {"TUNEDECK_BASE_MODELS": str(base_models)}, module="tests.local.trivial_server")
    try:
        running.start()
        container = home.blobs / CONTAINER
        (container / "rows.jsonl").write_text("{}\n", encoding="utf-8")
        (container / "models/good").mkdir(parents=True)
        (container / "models/good/config.json").write_text("{}", encoding="utf-8")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def clients(server: LocalServer) -> Iterator[tuple[Any, Any]]:
    with clouds.using(clouds.local_cloud(server.home)):
        yield make_clients(server)


@pytest.fixture(scope="module")
def workspace(clients: tuple[Any, Any]) -> Any:
    return clients[0]


@pytest.fixture(scope="module")
def component(clients: tuple[Any, Any]) -> Any:
    return clients[1].components.get("chat_completion_pipeline", label="latest")


def refused(call: Any) -> Any:
    """Return what the SDK raises."""
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError) as caught:
        call()
    return caught.value


def submit(workspace: Any, component: Any, name: str, **changes: Any) -> Any:
    """Submit the pipeline as the lesson does; a change of None leaves an input out."""
    from azure.ai.ml import Input
    from azure.ai.ml.dsl import pipeline

    given: dict[str, Any] = {
        "mlflow_model_path": f"azureml://registries/azureml/models/{tiny_model.NAME}/versions/{tiny_model.VERSION}",
        "train_file_path": Input(type="uri_file", path=f"{DATASTORE}rows.jsonl"),
        "number_of_gpu_to_use_finetuning": 0,
        **dict.fromkeys(("compute_model_import", "compute_preprocess", "compute_finetune"), "this-machine"),
        **changes,
    }

    @pipeline(name="rules")
    def create() -> dict[str, Any]:
        node = component(**{key: value for key, value in given.items() if value is not None})
        return {"trained_model": node.outputs.mlflow_model_folder}

    job = create()
    job.name = name
    return workspace.jobs.create_or_update(job, experiment_name="rules")


# What is sent instead of the good value -> what the refusal says
BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"lr_scheduler_type": "bogus"}, "lr_scheduler_type must be one of linear, cosine"),
    ({"precision": "4"}, "precision must be one of 32, 16, not '4'."),
    ({"num_train_epochs": 0}, "num_train_epochs must be at least 1, not 0."),
    ({"per_device_train_batch_size": 10**30}, "per_device_train_batch_size must be a whole number"),
    ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'."),
    ({"mlflow_model_path": None}, "mlflow_model_path is needed"),
    ({"train_file_path": None}, "train_file_path is needed"),
    ({"compute_finetune": "nowhere"}, "names the compute 'nowhere', which does not exist."),
    ({"compute_preprocess": "nowhere"}, "compute_preprocess names the compute 'nowhere', which does not exist."),
    ({"number_of_gpu_to_use_finetuning": 99}, "number_of_gpu_to_use_finetuning must be 0 or 1"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_INPUTS, ids=[", ".join(one[0]) for one in BAD_INPUTS])
def test_a_job_the_service_would_refuse_is_refused_and_leaves_nothing(
    workspace: Any, component: Any, changes: dict[str, Any], said: str
) -> None:
    error = refused(lambda: submit(workspace, component, "never", **changes))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert said in error.message
    assert refused(lambda: workspace.jobs.get("never")).status_code == 404


def test_a_size_outside_the_models_allow_list_does_not_train_it(
    workspace: Any, component: Any, server: LocalServer
) -> None:
    from azure.ai.ml.entities import AmlCompute

    base_models = Path(server.environment["TUNEDECK_BASE_MODELS"])
    folder = base_models / "picky" / tiny_model.VERSION
    shutil.copytree(base_models / tiny_model.NAME / tiny_model.VERSION, folder)
    described = json.loads((folder / "tunedeck.json").read_text(encoding="utf-8"))
    described["name"] = "picky"
    described["tags"]["finetune_compute_allow_list"] = "['Standard_NC24ads_A100_v4']"
    (folder / "tunedeck.json").write_text(json.dumps(described), encoding="utf-8")
    workspace.compute.begin_create_or_update(AmlCompute(name="small", size="local.cpu1")).result()
    error = refused(
        lambda: submit(
            workspace,
            component,
            "never",
            mlflow_model_path=f"azureml://registries/azureml/models/picky/versions/{tiny_model.VERSION}",
            compute_finetune="small",
        )
    )
    assert "compute_finetune has the size local.cpu1, which is not in the model's allow-list" in error.message
    error = refused(
        lambda: submit(workspace, component, "never", number_of_gpu_to_use_finetuning=1, compute_finetune="small")
    )
    assert "number_of_gpu_to_use_finetuning is 1, but a node of size local.cpu1 has 0 GPUs." in error.message
    workspace.compute.begin_delete("small").wait()


def test_a_compute_in_use_is_not_deleted(workspace: Any, server: LocalServer) -> None:
    command = command_body("--steps 1000")
    assert server.request("PUT", "jobs/busy", json=command).status_code == 201
    error = refused(lambda: workspace.compute.begin_delete("this-machine"))
    assert (error.status_code, error.error.code) == (409, "ComputeInUse")
    assert "busy" in error.message
    workspace.jobs.begin_cancel("busy").wait()
    wait(lambda: workspace.jobs.get("busy").status == "Canceled")


def test_no_more_cores_are_kept_than_the_location_has_however_they_are_asked_for(
    workspace: Any, server: LocalServer
) -> None:
    from azure.ai.ml.entities import AmlCompute
    from azure.core.exceptions import HttpResponseError

    def keep(number: int) -> str:
        cluster = AmlCompute(name=f"keep-{number}", size="local.cpu1", min_instances=1, max_instances=1)
        poller = workspace.compute.begin_create_or_update(cluster)
        with suppress(HttpResponseError):  # the refusal itself is another test's
            poller.wait()
        return workspace.compute.get(cluster.name).provisioning_state

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(keep, range(CORES + 2)))
    assert sorted(states) == ["Failed"] * 2 + ["Succeeded"] * CORES
    used = {vars(usage)["name"]["value"]: vars(usage)["currentValue"] for usage in workspace.compute.list_usage()}
    assert used["localCPUFamily"] == CORES
    kept = next(f"keep-{number}" for number, state in enumerate(states) if state == "Succeeded")
    more = {"properties": {"properties": {"scaleSettings": {"minNodeCount": 2, "maxNodeCount": 2}}}}
    answer = server.request("PATCH", f"computes/{kept}", json=more)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ClusterMinNodesExceedCoreQuota")
    for number in range(CORES + 2):
        workspace.compute.begin_delete(f"keep-{number}").wait()


def make_endpoint(workspace: Any, name: str, **fields: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    asked = ManagedOnlineEndpoint(name=name, auth_mode="key", **fields)
    return workspace.online_endpoints.begin_create_or_update(asked)


def deploy(workspace: Any, endpoint: str, name: str, model: str) -> Any:
    from azure.ai.ml.entities import ManagedOnlineDeployment

    asked = ManagedOnlineDeployment(
        name=name, endpoint_name=endpoint, model=model, instance_type="local.cpu1", instance_count=1
    )
    return workspace.online_deployments.begin_create_or_update(asked)


def test_an_endpoint_is_held_to_names_traffic_quota_and_its_model_stays(workspace: Any, server: LocalServer) -> None:
    """One test for all, because each scorer is a process that has to start."""
    from azure.ai.ml.entities import Model

    for bad in ("1st-letter", "ends-with-", "under_score", "xy", "x" * 33):
        assert server.request("PUT", f"onlineEndpoints/{bad}", json={}).status_code == 400, bad
    make_endpoint(workspace, "shop").wait()
    answer = server.request("PUT", "onlineEndpoints/SHOP", json={})  # the SDK would send it in small letters
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "Conflict")
    assert "taken by the endpoint 'shop'" in answer.json()["error"]["message"]
    error = refused(lambda: make_endpoint(workspace, "shop", traffic={"nobody": 100}))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert "'nobody'" in error.message

    model = workspace.models.create_or_update(Model(name="good", path=f"{DATASTORE}models/good", type="custom_model"))
    for number in range(CORES):
        deploy(workspace, "shop", f"blue-{number}", model.id)
    error = refused(lambda: deploy(workspace, "shop", "one-more", model.id))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert error.error.details[0].code == "InferencingClientCreateDeploymentFailed"
    assert f"Current usage/limit: {CORES}/{CORES}. Additional needed: 1" in error.message
    said = translate(error, connect(local_settings(), home=server.home).place, "create", "deployment 'one-more'")
    assert type(said) is QuotaExceeded
    assert said.message == f"Quota for local.cpu1: needs 1 cores, 0 free of {CORES}."
    used = {vars(usage)["name"]["value"]: vars(usage)["currentValue"] for usage in workspace.compute.list_usage()}
    assert used["Total Online Endpoint vCPUs"] == CORES
    assert refused(lambda: workspace.online_deployments.get("one-more", "shop")).status_code == 404

    answer = server.request("DELETE", "models/good/versions/1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ModelInUse")
    assert "shop/blue-0" in answer.json()["error"]["message"]
    wait(lambda: workspace.online_deployments.get("blue-0", "shop").provisioning_state == "Succeeded")
    make_endpoint(workspace, "shop", traffic={"blue-0": 100}).wait()
    error = refused(lambda: workspace.online_deployments.begin_delete("blue-0", "shop"))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert "receives traffic" in error.message
    workspace.online_endpoints.begin_delete("shop").wait()
    assert server.request("DELETE", "models/good/versions/1").status_code == 200


def test_the_quota_can_be_raised_by_whoever_runs_the_server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_QUOTA_CORES", "7")
    assert (probe().quota, probe().cores) == (7, CORES)
    monkeypatch.setenv("TUNEDECK_QUOTA_CORES", "many")
    assert probe().quota == CORES
