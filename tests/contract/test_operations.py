"""The operations of the SDK that the lesson does not use, against real processes; and every answer's form.

The last test looks at all that was answered before it: run it with its module.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.azureml import cloud as clouds
from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID
from core.local.wire.answers import REGISTRY_RESOURCE_GROUP, workspace_id
from tests.contract import coverage
from tests.contract.answers import Answers, differences_from
from tests.contract.fields import NOT_SENT, UNKNOWN_TO_THE_SDK, as_sets
from tests.contract.sdk import make_clients
from tests.core.local.submitting import TRAINER, pipeline_body
from tests.local_server import LocalServer
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = "azureml://datastores/workspaceblobstore/paths/"
ENVIRONMENT = "azureml://registries/azureml/environments/this-machine/versions/1"
REQUESTS = 400
WIRE = Path(__file__).resolve().parents[1] / "data/wire"
ENDPOINT = "split-in-two"


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def clients(light_server: LocalServer, answers: Answers) -> Iterator[tuple[Any, Any]]:
    with clouds.using(clouds.local_cloud(light_server.home)):
        yield make_clients(light_server, answers.policy())


@pytest.fixture
def workspace(clients: tuple[Any, Any]) -> Any:
    return clients[0]


@pytest.fixture
def registry(clients: tuple[Any, Any]) -> Any:
    return clients[1]


def status_of(call: Any) -> int:
    """Return the status with which a call is refused."""
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError) as caught:
        call()
    return int(caught.value.status_code or 0)


# Assets


def test_components_are_created_listed_read_and_archived(workspace: Any) -> None:
    from azure.ai.ml.entities import CommandComponent

    for version, text in (("1", "echo one"), ("2", "echo two")):
        component = CommandComponent(
            name="say", version=version, command=text, environment=ENVIRONMENT, tags={"k": version}, description="d"
        )
        made = workspace.components.create_or_update(component)
        assert (made.name, made.version, made.command) == ("say", version, text)
    assert workspace.components.get("say", version="1").command == "echo one"
    assert workspace.components.get("say", label="latest").version == "2"
    assert [each.version for each in workspace.components.list("say")] == ["2", "1"]
    assert [each.name for each in workspace.components.list()] == ["say"]
    workspace.components.archive("say", version="2")
    assert [each.version for each in workspace.components.list("say")] == ["1"]
    workspace.components.restore("say", version="2")
    workspace.components.archive("say")
    assert list(workspace.components.list()) == []
    workspace.components.restore("say")
    changed = CommandComponent(name="say", version="1", command="echo three", environment=ENVIRONMENT)
    assert status_of(lambda: workspace.components.create_or_update(changed)) == 409
    assert status_of(lambda: workspace.components.get("say", version="9")) == 404


def test_the_environment_names_the_libraries_of_this_machine(workspace: Any, registry: Any) -> None:
    for client in (workspace, registry):
        assert [each.name for each in client.environments.list()] == ["this-machine"]
        assert [each.version for each in client.environments.list("this-machine")] == ["1"]
        found = client.environments.get("this-machine", version="1")
        assert found.conda_file["dependencies"][0] == f"python={sys.version.split()[0]}"
        assert any(pin.startswith("torch==") for pin in found.conda_file["dependencies"][2]["pip"])
        assert client.environments.get("this-machine", label="latest").id == found.id
        assert status_of(lambda client=client: client.environments.get("another", version="1")) == 404


def test_the_registry_has_components_and_no_data(workspace: Any, registry: Any) -> None:
    name = next(iter(registry.components.list())).name
    version = next(iter(registry.components.list(name))).version
    assert registry.components.get(name, version=version).id == registry.components.get(name, label="latest").id
    assert list(registry.data.list()) == []
    assert status_of(lambda: registry.data.get("nothing", version="1")) == 404
    assert [each.name for each in workspace.registries.list(scope="subscription")] == ["azureml"]
    assert list(workspace.registries.list()) == []
    assert status_of(lambda: workspace.registries.get("azureml")) == 404, "it lies in another resource group"


def test_versions_come_in_the_order_and_with_the_tags_that_are_asked_for(
    workspace: Any, light_server: LocalServer
) -> None:
    from azure.ai.ml.entities import Data

    for version, colour in (("1", "red"), ("2", "blue"), ("3", "red")):
        tags = {"colour": colour, f"v{version}": "yes"}
        asset = Data(name="ordered", version=version, type="uri_file", path=SHORT + version, tags=tags)
        workspace.data.create_or_update(asset)

    def versions(query: str) -> list[str]:
        answer = light_server.request("GET", f"data/ordered/versions?{query}")
        assert answer.status_code == 200, answer.text
        return [each["name"] for each in answer.json()["value"]]

    assert versions("$orderBy=createdtime asc") == ["1", "2", "3"]
    assert versions("$orderBy=createdtime desc&$top=1") == ["3"]
    workspace.data.archive("ordered", version="1")
    workspace.data.restore("ordered", version="1")
    assert versions("$orderBy=modifiedtime desc") == ["1", "3", "2"]
    assert versions("$tags=colour=red") == ["3", "1"]
    assert versions("$tags=colour=red,v1") == ["1"]
    assert versions("$tags=size") == []
    assert light_server.request("GET", "data/ordered/versions?$orderBy=size desc").status_code == 400
    first = light_server.request("GET", "data/ordered/versions?$top=2&$tags=colour").json()
    assert [each["name"] for each in first["value"]] == ["3", "2"]
    rest = light_server.request("GET", first["nextLink"].removeprefix(light_server.url)).json()
    assert [each["name"] for each in rest["value"]] == ["1"]
    assert "nextLink" not in rest


# Computes, jobs, the workspace


def test_a_compute_tells_its_nodes_and_scales_anew(workspace: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    made = workspace.compute.begin_create_or_update(AmlCompute(name="two", size="local.cpu1", min_instances=1)).result()
    assert (made.size, made.min_instances) == ("LOCAL.CPU1", 1)
    made.max_instances = 2
    assert workspace.compute.begin_update(made).result().max_instances == 2
    # The SDK leaves the names as they came: `node_state` is empty on Azure, too.
    assert [vars(each)["nodeState"] for each in workspace.compute.list_nodes("two")] == ["idle"]
    assert {each.name for each in workspace.compute.list()} == {"two", "this-machine"}
    workspace.compute.begin_delete("two").result()


def test_the_workspace_gives_its_key_its_storage_and_its_sizes(workspace: Any, registry: Any) -> None:
    assert workspace.workspaces.get_keys("local").user_storage_key
    assert workspace.workspaces.get("local").name == "local"
    assert workspace.datastores.get("workspaceblobstore").name == workspace.datastores.get_default().name
    assert "local.cpu1" in [each.name.lower() for each in workspace.compute.list_sizes()]
    assert list(workspace.compute.list_usage())
    name = next(iter(registry.models.list(list_view_type="All"))).name
    assert registry.models.get(name, label="latest").name == name


def test_jobs_are_renamed_tagged_found_hidden_and_cancelled(workspace: Any, light_server: LocalServer) -> None:
    from azure.ai.ml import command

    def submit(arguments: str, **tags: str) -> Any:
        job = command(
            command=f"{sys.executable} {TRAINER} {arguments}",
            environment=ENVIRONMENT,
            compute="this-machine",
            experiment_name="tries",
            tags=tags,
        )
        return workspace.jobs.create_or_update(job)

    job = submit("--steps 2", colour="red")
    assert (job.status, job.tags) == ("NotStarted", {"colour": "red"})
    workspace.jobs.stream(job.name)
    assert workspace.jobs.get(job.name).status == "Completed"
    found = workspace.jobs.update(job.name, display_name="another name", tags={"size": "small"}, description="why")
    assert (found.display_name, found.tags) == ("another name", {"colour": "red", "size": "small"})
    assert found.description == "why"
    assert workspace.jobs.show_services(job.name) is None
    found = workspace.jobs.get(job.name)
    assert (found.display_name, found.tags["size"]) == ("another name", "small")

    slow = submit("--steps 500 --pause 0.1", colour="blue")
    wait_until(lambda: workspace.jobs.get(slow.name).status == "Running")
    workspace.jobs.begin_cancel(slow.name).result()
    wait_until(lambda: workspace.jobs.get(slow.name).status == "Canceled")

    def names(query: str) -> list[str]:
        return [each["name"] for each in light_server.request("GET", f"jobs?{query}").json()["value"]]

    assert names("tag=colour=red") == [job.name]
    assert names("tag=colour") == [slow.name, job.name]
    assert names("properties=_azureml.ClusterName=this-machine&jobType=Command") == [slow.name, job.name]
    assert names("scheduled=true") == []
    history, scope = workspace.jobs._runs_operations._operation, workspace.jobs._operation_scope
    where = (scope.subscription_id, scope.resource_group_name, "local")
    lost = {"tagsToModify": {}, "tagsToDelete": ["colour", "no"]}
    left = history.modify_or_delete_tags_by_experiment_name(*where, "tries", job.name, lost)
    assert history.modify_or_delete_tags_by_experiment_id(*where, left.experiment_id, job.name, lost).tags == left.tags
    assert left.tags == {"size": "small"}
    workspace.jobs.archive(job.name)
    assert [each.name for each in workspace.jobs.list()] == [slow.name]
    workspace.jobs.restore(job.name)
    assert [each.name for each in workspace.jobs.list()] == [slow.name, job.name]


def test_a_pipeline_tells_its_steps(workspace: Any, light_server: LocalServer, answers: Answers) -> None:
    """The request is the lesson's own, sent without the SDK, which needs a third of a second to make it."""
    sent = light_server.request("PUT", "jobs/pipe", json=pipeline_body(f"{SHORT}train.jsonl", max_steps="2"))
    assert sent.status_code == 201, sent.text
    answers.bodies.append(("PUT", "/jobs/pipe", 201, sent.json()))
    wait_until(lambda: workspace.jobs.get("pipe").status == "Completed")
    children = list(workspace.jobs.list(parent_job_name="pipe"))
    assert [each.name for each in children] == [f"pipe_{number}" for number in range(1, 6)]
    assert {each.status for each in children} == {"Completed"}
    assert workspace.jobs.get("pipe_4").display_name == "chat_completion_finetune"
    assert workspace.jobs.get("pipe").outputs["trained_model"].path.endswith("azureml/pipe/trained_model/")


# Endpoints


def deploy(workspace: Any, name: str, folder: str, **options: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineDeployment, Model

    model = Model(name=folder, version="1", path=f"{SHORT}models/{folder}/", type="mlflow_model")
    model = workspace.models.create_or_update(model)
    asked = ManagedOnlineDeployment(
        name=name, endpoint_name=ENDPOINT, model=model.id, instance_type="Local.CPU1", instance_count=1, **options
    )
    return workspace.online_deployments.begin_create_or_update(asked).result()


def ask(endpoint: Any, key: str) -> requests.Response:
    return requests.post(endpoint.scoring_uri, json={}, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def set_traffic(workspace: Any, traffic: dict[str, int], mirror: dict[str, int] | None = None) -> Any:
    endpoint = workspace.online_endpoints.get(ENDPOINT)
    endpoint.traffic, endpoint.mirror_traffic = traffic, mirror or {}
    return workspace.online_endpoints.begin_create_or_update(endpoint).result()


def test_two_deployments_share_the_traffic_and_one_can_mirror_it(workspace: Any, tmp_path: Path) -> None:
    """Takes some seconds: 400 requests are split 90 to 10. Outside of 18..65 of 400 falls one run in 100,000."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    empty_request = tmp_path / "request.json"
    empty_request.write_text("{}", encoding="utf-8")
    workspace.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=ENDPOINT, tags={"t": "1"})).result()
    for name, folder in (("blue", "good"), ("green", "other")):
        assert deploy(workspace, name, folder).provisioning_state == "Succeeded"
    endpoint = set_traffic(workspace, {"blue": 90, "green": 10})
    key = workspace.online_endpoints.get_keys(ENDPOINT).primary_key
    answered = Counter(ask(endpoint, key).headers["azureml-model-deployment"] for _ in range(REQUESTS))
    assert sum(answered.values()) == REQUESTS
    assert 18 <= answered["green"] <= 65, answered

    told = workspace.online_endpoints.invoke(ENDPOINT, request_file=str(empty_request), deployment_name="green")
    assert "models/other" in told

    # The rules of traffic and of its mirror
    assert status_of(lambda: set_traffic(workspace, {"blue": 80, "green": 10})) == 400
    assert status_of(lambda: set_traffic(workspace, {"red": 100})) == 400
    for mirror in ({"green": 60}, {"blue": 10}, {"red": 10}):
        assert status_of(lambda mirror=mirror: set_traffic(workspace, {"blue": 100, "green": 0}, mirror)) == 400
    mirrored = set_traffic(workspace, {"blue": 100, "green": 0}, {"green": 50})
    assert mirrored.mirror_traffic == {"green": 50}

    def seen(name: str) -> int:
        return workspace.online_deployments.get_logs(name, ENDPOINT, lines=5000).count("POST /score")

    before = seen("green")
    assert {ask(endpoint, key).headers["azureml-model-deployment"] for _ in range(60)} == {"blue"}
    wait_until(lambda: seen("green") - before >= 10)  # of 60 at one half: fewer once in 10,000,000 runs
    assert seen("green") - before < 55
    busy = status_of(lambda: workspace.online_deployments.begin_delete("green", ENDPOINT).result())
    assert busy == 400, "it is mirrored to"


def test_a_deployment_gets_instances_a_time_limit_and_its_logs_are_read(workspace: Any) -> None:
    deployment = workspace.online_deployments.get("blue", ENDPOINT)
    key = workspace.online_endpoints.get_keys(ENDPOINT).primary_key
    endpoint = workspace.online_endpoints.get(ENDPOINT)
    first = ask(endpoint, key).json()
    deployment.request_settings.request_timeout_ms = 9_000
    changed = workspace.online_deployments.begin_create_or_update(deployment).result()
    assert changed.request_settings.request_timeout_ms == 9_000
    assert ask(endpoint, key).json()["pid"] == first["pid"], "a time limit needs no other scorer"
    changed.instance_count = 2
    poller = workspace.online_deployments.begin_create_or_update(changed)
    assert workspace.online_deployments.get("blue", ENDPOINT).provisioning_state == "Updating"
    wait_until(lambda: poller.status() != "InProgress", "its first poll")  # until then it is azure-core's own word
    assert poller.status() == "Updating", "what the service says while it goes on, where computes say InProgress"
    assert poller.result().instance_count == 2
    second = ask(endpoint, key).json()
    assert (second["instances"], second["pid"] != first["pid"]) == (2, True)
    assert "loads" in workspace.online_deployments.get_logs("blue", ENDPOINT, lines=100)
    logs = workspace.online_deployments.get_logs("blue", ENDPOINT, lines=5, container_type="storage-initializer")
    assert "bytes" in logs


def test_a_new_key_replaces_the_old_one(workspace: Any) -> None:
    endpoint = workspace.online_endpoints.get(ENDPOINT)
    old = workspace.online_endpoints.get_keys(ENDPOINT)
    workspace.online_endpoints.begin_regenerate_keys(ENDPOINT, key_type="primary").result()
    new = workspace.online_endpoints.get_keys(ENDPOINT)
    assert (old.secondary_key, old.primary_key != new.primary_key) == (new.secondary_key, True)
    assert [ask(endpoint, key).status_code for key in (old.primary_key, new.primary_key)] == [401, 200]


def test_endpoints_are_filtered_ordered_and_tagged(workspace: Any, light_server: LocalServer) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    time.sleep(0.01)
    workspace.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="a-second-one")).result()

    def names(query: str) -> list[str]:
        return [each["name"] for each in light_server.request("GET", f"onlineEndpoints?{query}").json()["value"]]

    assert names("orderBy=CreatedTimeAsc") == [ENDPOINT, "a-second-one"]
    assert names("orderBy=CreatedTimeDesc&count=1") == ["a-second-one"]
    assert names("tags=t=1") == [ENDPOINT]
    assert names("name=a-second-one") == ["a-second-one"]
    assert names("computeType=Kubernetes") == []
    patched = light_server.request("PATCH", "onlineEndpoints/a-second-one", json={"tags": {"t": "1"}})
    assert patched.json()["tags"] == {"t": "1"}
    assert len(names("tags=t=1")) == 2
    assert light_server.request("PATCH", "onlineEndpoints/a-second-one", json={"sku": {}}).status_code == 400
    deployments = f"onlineEndpoints/{ENDPOINT}/deployments"
    assert light_server.request("PATCH", f"{deployments}/blue", json={"tags": {"k": "v"}}).json()["tags"] == {"k": "v"}
    listed = light_server.request("GET", f"{deployments}?$orderBy=createdtime asc&$top=1").json()
    assert [each["name"] for each in listed["value"]] == ["blue"]
    assert {each.name for each in workspace.online_deployments.list(ENDPOINT)} == {"blue", "green"}
    assert {each.name for each in workspace.online_endpoints.list()} == {ENDPOINT, "a-second-one"}
    set_traffic(workspace, {"blue": 100})
    workspace.online_deployments.begin_delete("green", ENDPOINT).result()
    workspace.online_endpoints.begin_delete("a-second-one").result()
    assert status_of(lambda: workspace.online_endpoints.get("a-second-one")) == 404


def test_the_sdk_knows_every_field_and_gets_what_it_reads(answers: Answers) -> None:
    unknown, absent = answers.differences()
    assert unknown == as_sets(UNKNOWN_TO_THE_SDK)
    assert absent == as_sets(NOT_SENT)


SAMPLES = [
    # file, sample, method, end of the path, status, and what in it is free
    ("workspace", "get", "GET", "/workspaces/local", 200, ()),
    ("compute", "put", "PUT", "/computes/two", 201, ()),
    ("compute", "get", "GET", "/computes/two", 200, ()),
    ("datastore", "get", "GET", "/datastores/workspaceblobstore", 200, ()),
    ("online_endpoint", "put", "PUT", f"/onlineEndpoints/{ENDPOINT}", 201, ()),
    ("online_endpoint", "poll done", "GET", "/mfeOperationsStatus/[0-9a-f]+", 200, ()),
    ("online_deployment", "put", "PUT", "/deployments/blue", 201, ()),
    ("online_deployment", "get succeeded", "GET", "/deployments/blue", 200, ()),
    ("job", "put", "PUT", "/jobs/pipe", 201, ()),
    ("job", "error", "PUT", f"/onlineEndpoints/{ENDPOINT}", 400, ()),
    ("registry_model", "get", "GET", "/registries/azureml/models/[^/]+/versions/[^/]+", 200, ()),
    ("registry_discovery", "get", "GET", "/discovery", 200, ()),
    ("run", "child", "GET", "/runs/pipe/children", 200, ("properties",)),
    ("usage", "one", "GET", "/usages", 200, ()),
    ("vm_size", "one", "GET", "/vmSizes", 200, ()),
]


@pytest.mark.parametrize(("file", "name", "method", "ending", "status", "free"), SAMPLES)
def test_answers_have_the_keys_and_types_of_the_service(
    answers: Answers, file: str, name: str, method: str, ending: str, status: int, free: tuple[str, ...]
) -> None:
    sample = json.loads((WIRE / f"{file}.json").read_text(encoding="utf-8"))["answers"][name]
    answer = answers.find(method, ending, status)
    assert differences_from(sample, answer.get("value", [answer])[0], set(free)) == []


def test_what_is_not_done_says_so(light_server: LocalServer) -> None:
    unknown = [each for asked in coverage.read_requests().values() for each in asked if not coverage.is_routed(each)]
    assert len(unknown) > 5
    for each in unknown:
        method, path = each.split(" ")
        path = path.replace("{ws}", workspace_id()).replace("{subscription}", SUBSCRIPTION_ID)
        path = path.replace("{group}", RESOURCE_GROUP if "registries" not in path else REGISTRY_RESOURCE_GROUP)
        path = path.replace("registries/{name}", "registries/azureml").replace("{name}", "x").replace("{version}", "1")
        answer = light_server.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NotImplemented"), each
