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

from core.azureml import cloud as clouds
from core.azureml.connection import connect
from core.azureml.service_errors import translate
from core.azureml.settings import local_settings
from core.errors import QuotaExceeded
from core.home import Home
from core.local.blobs import CONTAINER
from core.local.machine import probe
from core.local.wire.answers import REGISTRY_PATH, REGISTRY_RESOURCE_GROUP, SUBSCRIPTION_ID
from tests import tiny_model
from tests.contract.sdk import make_clients
from tests.core.local.submitting import command_body
from tests.local_server import LocalServer
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore")

DATASTORE = "azureml://datastores/workspaceblobstore/paths/"
CORES = probe().cores
THIS_MACHINE = "azureml://registries/azureml/environments/this-machine/versions/1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    tiny_model.build_tiny_model(base_models)
    home = Home(tmp_path_factory.mktemp("home"))
    running = LocalServer(home, {"TUNEDECK_BASE_MODELS": str(base_models)}, module="tests.core.local.trivial_server")
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
    ({"lr_scheduler_type": "bogus"}, "lr_scheduler_type is 'bogus'; it takes linear, cosine"),
    ({"precision": "4"}, "precision is '4'; it takes 32 or 16."),
    ({"num_train_epochs": 0}, "num_train_epochs is 0; the least is 1."),
    ({"per_device_train_batch_size": 10**30}, "it takes a whole number"),
    ({"learning_rate": "fast"}, "learning_rate is 'fast'; it takes a number."),
    ({"mlflow_model_path": None}, "mlflow_model_path is needed"),
    ({"train_file_path": None}, "train_file_path is needed"),
    ({"compute_finetune": "nowhere"}, "names the compute 'nowhere', which does not exist."),
    ({"compute_preprocess": "nowhere"}, "compute_preprocess names the compute 'nowhere', which does not exist."),
    ({"number_of_gpu_to_use_finetuning": 99}, "number_of_gpu_to_use_finetuning is 99; it takes 0 or 1"),
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
    wait_until(lambda: workspace.jobs.get("busy").status == "Canceled")


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
    wait_until(lambda: workspace.online_deployments.get("blue-0", "shop").provisioning_state == "Succeeded")
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


def test_a_cluster_is_not_started_stopped_or_signed_in_to(workspace: Any) -> None:
    computes = workspace.compute
    for ask in (computes.begin_start, computes.begin_stop, computes.begin_restart):
        error = refused(lambda ask=ask: ask("this-machine").wait())
        assert (error.status_code, error.error.code) == (400, "InvalidComputeType")
        assert "'this-machine' is a cluster" in error.message
        assert refused(lambda ask=ask: ask("nowhere").wait()).status_code == 404
    assert refused(lambda: computes.enable_sso(name="this-machine")).status_code == 400


def test_a_job_is_deleted_once_it_is_over_and_its_outputs_stay(workspace: Any, server: LocalServer) -> None:
    body = command_body("--steps 1000 --pause 0.01 --output ${{outputs.result}}")
    body["properties"]["outputs"] = {"result": {"jobOutputType": "uri_folder"}}
    assert server.request("PUT", "jobs/old", json=body).status_code == 201
    error = refused(lambda: workspace.jobs.begin_delete("old"))
    assert (error.status_code, error.error.code) == (409, "Conflict")
    wait_until(lambda: workspace.jobs.get("old").status == "Running")
    history = "/api/2.0/mlflow/metrics/get-history?run_id=old&metric_key=loss"
    wait_until(lambda: server.request("GET", history).json()["metrics"])
    workspace.jobs.begin_cancel("old").wait()
    wait_until(lambda: workspace.jobs.get("old").status == "Canceled")
    output = server.home.blobs / CONTAINER / "azureml/old/result"
    output.mkdir(parents=True, exist_ok=True)
    (output / "kept.txt").write_text("kept", encoding="utf-8")
    workspace.jobs.begin_delete("old").wait()
    assert refused(lambda: workspace.jobs.get("old")).status_code == 404
    assert server.request("GET", history).status_code == 404
    assert not (server.home.runs / "old").exists()
    assert (output / "kept.txt").exists()
    assert server.request("DELETE", "jobs/old").status_code == 204
    assert server.request("PUT", "jobs/old", json=command_body("--steps 1")).status_code == 201
    wait_until(lambda: workspace.jobs.get("old").status == "Completed")
    assert len(server.request("GET", history).json()["metrics"]) == 1, "nothing of the one before"
    workspace.jobs.begin_delete("old").wait()


def test_a_copy_of_the_component_in_the_workspace_trains_and_another_component_is_refused(
    clients: tuple[Any, Any], workspace: Any, component: Any
) -> None:
    from azure.ai.ml.entities import CommandComponent

    copied = workspace.components.create_or_update(component)
    assert "/workspaces/local/components/chat_completion_pipeline/" in copied.id
    submit(workspace, workspace.components.get(copied.name, version=copied.version), "of-a-copy", max_steps=2)
    wait_until(lambda: workspace.jobs.get("of-a-copy").status == "Completed")

    original = clients[1].components.get(component.name, version=component.version)
    original.name, original.version = "with_another_default", "1"
    original.inputs["num_train_epochs"].default = 7
    changed = workspace.components.create_or_update(original)
    error = refused(lambda: submit(workspace, changed, "never"))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert "whose input 'num_train_epochs' is not the original's" in error.message

    say = CommandComponent(name="say", version="1", command="echo hi", environment=THIS_MACHINE)
    made = workspace.components.create_or_update(say)
    from azure.ai.ml.dsl import pipeline

    @pipeline(name="says", default_compute="this-machine")
    def create() -> None:
        made()

    error = refused(lambda: workspace.jobs.create_or_update(create()))
    assert (error.status_code, error.error.code) == (400, "BadRequest")
    assert "names the component 'say' version '1', which is a command component" in error.message


def test_an_environment_is_kept_and_nothing_here_runs_in_an_image(workspace: Any, server: LocalServer) -> None:
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment, ManagedOnlineDeployment

    def image(**fields: Any) -> Environment:
        return Environment(name="mine", image="registry/image:1", conda_file={"dependencies": ["pip"]}, **fields)

    made = workspace.environments.create_or_update(image(tags={"k": "v"}, description="d"))
    assert (made.version, made.image, made.tags, made.description) == ("1", "registry/image:1", {"k": "v"}, "d")
    assert workspace.environments.get("mine", label="latest").conda_file == {"dependencies": ["pip"]}
    assert workspace.environments.create_or_update(image()).version == "1", "the same again is the same version"
    other = workspace.environments.create_or_update(Environment(name="mine", image="registry/image:2"))
    assert (other.version, [each.version for each in workspace.environments.list("mine")]) == ("2", ["2", "1"])
    assert [each.name for each in workspace.environments.list()] == ["this-machine", "mine"]
    workspace.environments.archive("mine", version="1")
    assert [each.version for each in workspace.environments.list("mine")] == ["2"]
    workspace.environments.restore("mine", version="1")
    workspace.environments.archive("mine")
    assert [each.name for each in workspace.environments.list()] == ["this-machine"]
    workspace.environments.restore("mine")

    job = command(command="echo hi", environment="azureml:mine:2", compute="this-machine")
    assert "environmentId names the environment 'mine'" in refused(lambda: workspace.jobs.create_or_update(job)).message
    unnamed = command(command="echo hi", environment=Environment(image="registry/image:3"), compute="this-machine")
    assert "which is an image" in refused(lambda: workspace.jobs.create_or_update(unnamed)).message
    own = command(command="echo hi", environment="azureml:this-machine:1", compute="this-machine")
    assert workspace.jobs.create_or_update(own).status == "NotStarted"
    answer = server.request("PUT", "environments/this-machine/versions/1", json={"properties": {"image": "x"}})
    assert (answer.status_code, "own Python" in answer.json()["error"]["message"]) == (400, True)
    answer = server.request("PUT", "environments/empty/versions/1", json={"properties": {"description": "x"}})
    assert "needs an image or a build context" in answer.json()["error"]["message"]
    make_endpoint(workspace, "images").wait()
    deployment = ManagedOnlineDeployment(
        name="blue", endpoint_name="images", instance_type="local.cpu1", instance_count=1, environment="azureml:mine:2"
    )
    asked = workspace.online_deployments.begin_create_or_update
    assert "environmentId is not used here" in refused(lambda: asked(deployment)).message
    workspace.online_endpoints.begin_delete("images").wait()


def test_nothing_is_shared_to_the_registry_for_it_is_read_only(server: LocalServer) -> None:
    """Without the SDK: over http it sends no token with this request."""
    path = REGISTRY_PATH.format(subscription=SUBSCRIPTION_ID, group=REGISTRY_RESOURCE_GROUP, registry="azureml")
    answer = server.request("POST", f"{path}/import", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert "read only" in answer.json()["error"]["message"]
