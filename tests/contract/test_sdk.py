"""What the SDK makes of the local workspace's answers, call by call: its parsing, paging, polling and errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.azureml import cloud as clouds
from core.engine import component
from core.local.addresses import long_uri
from core.local.blobs import ARTIFACT_DATASTORE, CONTAINER
from core.local.machine import probe
from tests.contract.sdk import make_clients
from tests.local_server import LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")

PHI = "Phi-3-mini-4k-instruct"
SHORT = "azureml://datastores/workspaceblobstore/paths/"


@pytest.fixture(scope="module")
def clients(local_server: LocalServer) -> Iterator[tuple[Any, Any]]:
    with clouds.using(clouds.local_cloud(local_server.home)):
        yield make_clients(local_server)


@pytest.fixture
def workspace(clients: tuple[Any, Any]) -> Any:
    return clients[0]


@pytest.fixture
def registry(clients: tuple[Any, Any]) -> Any:
    return clients[1]


def refused(call: Any) -> tuple[str, int, str]:
    """Return the SDK's class for the refusal of a call, its status and its code."""
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError) as caught:
        call()
    error = caught.value.error
    return type(caught.value).__name__, caught.value.status_code, error.code if error else ""


def test_the_workspace_is_found_by_every_way_the_sdk_has(workspace: Any, local_server: LocalServer) -> None:
    found = workspace.workspaces.get("local")
    assert (found.name, found.location, found.mlflow_tracking_uri) == ("local", "local", local_server.url)
    assert [each.name for each in workspace.workspaces.list()] == ["local"]
    assert [each.name for each in workspace.workspaces.list(scope="subscription")] == ["local"]
    missing = refused(lambda: workspace.workspaces.get("lokal"))
    assert missing == ("ResourceNotFoundError", 404, "ResourceNotFound")


def test_registry_models_are_listed_and_read(registry: Any) -> None:
    from azure.ai.ml.constants import ListViewType

    assert PHI not in [model.name for model in registry.models.list()]
    assert PHI in [model.name for model in registry.models.list(list_view_type=ListViewType.ALL)]
    newest = registry.models.get(PHI, label="latest")
    assert newest.id == f"azureml://registries/azureml/models/{PHI}/versions/15"
    assert newest.tags["license"] == "MIT"
    assert newest.properties["finetune-min-sku-spec"] == "24|1|220|64"
    assert registry.models.get(PHI, version="15").id == newest.id
    assert [model.version for model in registry.models.list(PHI)] == ["15"]
    assert refused(lambda: registry.models.get(PHI, version="16"))[:2] == ("ResourceNotFoundError", 404)
    assert refused(lambda: registry.models.get("nothing", label="latest"))[:2] == ("HttpResponseError", 404)


def test_the_component_has_all_inputs_with_their_defaults(registry: Any) -> None:
    found = registry.components.get(component.NAME, label="latest")
    assert found.version == component.VERSION
    assert set(found.inputs) == {each.name for each in component.INPUTS}
    assert found.inputs["learning_rate"].default in (2e-05, "2e-05")
    assert found.inputs["lr_scheduler_type"].enum == list(component.BY_NAME["lr_scheduler_type"].enum or ())
    assert not found.inputs["task_name"].optional
    assert [each.name for each in registry.components.list()] == [component.NAME]


def test_sizes_and_quota_are_this_machines(workspace: Any) -> None:
    sizes = {size.name: vars(size) for size in workspace.compute.list_sizes()}
    assert set(sizes) == {size.name for size in probe().sizes}
    assert {name: fields["vCPUs"] for name, fields in sizes.items()} == {
        size.name: size.cores for size in probe().sizes
    }
    usages = [vars(usage) for usage in workspace.compute.list_usage()]
    assert usages[0]["limit"] == probe().cores


def test_a_compute_lives_through_the_sdk(workspace: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    def cluster(name: str, **fields: Any) -> AmlCompute:
        return AmlCompute(name=name, **{"size": "Local.CPU1", "min_instances": 0, "max_instances": 2, **fields})

    asked = cluster("gpu-1", idle_time_before_scale_down=120, tags={"tunedeck.delete_at": "2026-01-01T00:00:00Z"})
    made = workspace.compute.begin_create_or_update(asked).result()
    assert (made.provisioning_state, made.size) == ("Succeeded", "LOCAL.CPU1")
    found = workspace.compute.get("gpu-1")
    assert (found.min_instances, found.max_instances, found.idle_time_before_scale_down) == (0, 2, 120.0)
    assert found.tags == {"tunedeck.delete_at": "2026-01-01T00:00:00Z"}
    assert {each.name for each in workspace.compute.list()} == {"gpu-1", "this-machine"}
    bad_size = refused(lambda: workspace.compute.begin_create_or_update(cluster("gpu-2", size="Standard_NC6")))
    assert bad_size == ("HttpResponseError", 400, "InvalidPropertyValue")
    greedy = workspace.compute.begin_create_or_update(cluster("gpu-3", min_instances=999, max_instances=999))
    assert refused(greedy.result)[2] == "ClusterMinNodesExceedCoreQuota"
    assert workspace.compute.get("gpu-3").provisioning_state == "Failed"
    for name in ("gpu-1", "gpu-3"):
        workspace.compute.begin_delete(name).result()
        assert refused(lambda name=name: workspace.compute.get(name))[:2] == ("ResourceNotFoundError", 404)


def test_polling_keeps_to_the_servers_pace(workspace: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    began = time.monotonic()
    workspace.compute.begin_create_or_update(AmlCompute(name="quick", size="local.cpu1")).result()
    workspace.compute.begin_delete("quick").result()
    assert time.monotonic() - began < 30, "the SDK's own pace is 30 s"


def test_the_default_datastore_comes_with_a_secret(workspace: Any) -> None:
    store = workspace.datastores.get_default(include_secrets=True)
    assert (store.account_name, store.container_name, store.protocol) == ("localstore", CONTAINER, "http")
    assert store.credentials.sas_token.startswith("?sv=")
    assert workspace.datastores.get(store.name).id == store.id
    assert [each.name for each in workspace.datastores.list()] == [store.name, ARTIFACT_DATASTORE]


def test_data_assets_live_through_the_sdk(workspace: Any) -> None:
    from azure.ai.ml.entities import Data

    first = workspace.data.create_or_update(Data(name="train", type="uri_file", path=SHORT + "a", tags={"k": "v"}))
    second = workspace.data.create_or_update(Data(name="train", type="uri_file", path=SHORT + "b"))
    assert (first.version, second.version) == ("1", "2")
    newest = workspace.data.get("train", label="latest")
    assert (newest.version, newest.path) == ("2", SHORT + "b")
    taken = Data(name="train", version="1", type="uri_file", path=SHORT + "c")
    assert refused(lambda: workspace.data.create_or_update(taken)) == ("ResourceExistsError", 409, "Conflict")
    workspace.data.archive("train", version="1")
    assert [each.version for each in workspace.data.list("train")] == ["2"]
    workspace.data.archive("train")
    assert list(workspace.data.list()) == []
    workspace.data.restore("train")
    assert [each.name for each in workspace.data.list()] == ["train"]
    assert refused(lambda: workspace.data.get("nothing", version="1"))[:2] == ("ResourceNotFoundError", 404)


def test_models_live_through_the_sdk(workspace: Any, local_server: LocalServer) -> None:
    from azure.ai.ml.entities import Model

    folder = local_server.home.blobs / CONTAINER / "azureml/some_job/trained_model"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    path = SHORT + "azureml/some_job/trained_model/"
    asked = Model(name="tuned", path=path, type="mlflow_model", description="d", tags={"k": "v"})
    made = workspace.models.create_or_update(asked)
    assert (made.version, made.path) == ("1", long_uri("azureml/some_job/trained_model/"))
    found = workspace.models.get("tuned", label="latest")
    assert (found.id, found.tags, found.description, found.type) == (made.id, {"k": "v"}, "d", "mlflow_model")
    no_job = Model(name="tuned", version="9", path="azureml://jobs/nobody/outputs/trained_model", type="mlflow_model")
    assert refused(lambda: workspace.models.create_or_update(no_job)) == ("HttpResponseError", 400, "UserError")
    workspace.models.archive("tuned", version="1")
    assert list(workspace.models.list("tuned")) == []
    workspace.models.restore("tuned", version="1")
    workspace.models.archive("tuned")
    assert list(workspace.models.list()) == []
    workspace.models.restore("tuned")
    assert [each.name for each in workspace.models.list()] == ["tuned"]
