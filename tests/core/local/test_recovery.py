"""A server takes up what the one before it was killed in the middle of: deletions with files, and operations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from core.home import Home
from core.local.blobs import CONTAINER
from core.local.endpoints.resources import Deployment
from core.local.jobs import recovery
from core.local.provisioned import ProvisioningState
from core.local.store import Store
from core.local.wire import answers
from tests.core.local.test_assets import make_files, model
from tests.local_server import LocalServer
from tests.waiting import wait_until

URI = "azureml://datastores/workspaceblobstore/paths/"


def test_a_deletion_with_files_that_a_kill_cut_short_is_finished(own_server: LocalServer) -> None:
    for name in ("doomed", "kept"):
        make_files(own_server, f"models/{name}")
        answer = own_server.request("PUT", f"models/{name}/versions/1", json=model(f"{URI}models/{name}"))
        assert answer.status_code == 201, answer.text
    own_server.kill()
    folder = own_server.home.blobs / CONTAINER / "models"
    recovery.begin_deletion(Store(own_server.home.workspace_db), "model", "doomed/1", folder / "doomed")
    own_server.start()
    assert own_server.request("GET", "models/doomed/versions/1").status_code == 404
    assert own_server.request("GET", "models/kept/versions/1").status_code == 200
    assert [each.name for each in folder.iterdir()] == ["kept"]
    assert Store(own_server.home.workspace_db).list(recovery.DELETION) == []


@pytest.mark.parametrize(
    ("state", "is_latest", "becomes"),
    [
        ("Succeeded", True, "Succeeded"),
        ("Failed", True, "Failed"),
        ("Succeeded", False, "Canceled"),
        ("Deleting", False, "Canceled"),
        (None, True, "Canceled"),
        ("Creating", True, "InProgress"),
    ],
)
def test_an_operation_that_nobody_works_on_ends_as_its_resource_stands(
    tmp_path_factory: pytest.TempPathFactory, state: str | None, is_latest: bool, becomes: str
) -> None:
    store = Store(tmp_path_factory.mktemp("home") / "workspace.db")
    deployment = Deployment(endpoint="clerk", name="blue", error="It did not load.")
    operation = answers.start_operation(store, deployment.arm_id)
    if state:
        latest = operation if is_latest else "another"
        replace(deployment, state=ProvisioningState(state), operation=latest).put(store)
    ended = recovery.settle_operation(store, operation)
    assert (ended.status, ended.error is None) == (becomes, becomes in ("Succeeded", "InProgress"))


@pytest.mark.parametrize("stops", [False, True], ids=["in one life", "over a kill"])
def test_no_write_is_in_progress_for_ever_once_another_took_its_place(
    tmp_path: Path, stops: bool, request: pytest.FixtureRequest
) -> None:
    """With Azure's manners nothing becomes ready before the clock is put forward: each first write is in the way."""
    server = LocalServer(Home(tmp_path), {"TUNEDECK_PROFILE": "azure"}, module="tests.core.local.trivial_server")
    request.addfinalizer(server.stop)
    server.start()
    (server.home.blobs / CONTAINER / "good").mkdir()
    (server.home.blobs / CONTAINER / "good/config.json").write_text("{}")
    size = "Standard_NC24ads_A100_v4"
    compute = {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": size}}}
    scorer = {"properties": {"model": f"{URI}good", "instanceType": size}}
    endpoint = {"properties": {"authMode": "Key", "traffic": {}}}

    def put(path: str, body: dict[str, Any]) -> requests.Response:
        answer = server.request("PUT", path, json=body)
        assert answer.status_code == 201, answer.text
        return answer

    server.finish(put("onlineEndpoints/shop", endpoint))
    demo, other = (f"onlineEndpoints/shop/deployments/{name}" for name in ("demo", "other"))
    first = [put("computes/gpu", compute), put(demo, scorer)]
    last = [put("computes/gpu", compute), put(demo, scorer)]
    first += [put("computes/gone", compute), put(other, scorer)]
    gone = [server.request("DELETE", path) for path in ("computes/gone", other)]
    gone.append(server.request("DELETE", other))
    if stops:
        server.kill()
        server.start()
    for answer in first:
        ended = server.finish(answer)
        assert (ended["status"], ended["error"]["code"]) == ("Canceled", "OperationCanceled")
        assert "before this one was done" in ended["error"]["message"]
    begun = [answer for answer in gone if answer.status_code != 204]  # the second may find it gone already
    assert [server.finish(answer)["status"] for answer in begun] == ["Succeeded"] * len(begun)
    assert len(begun) >= 2
    server.request("PUT", "/profile/clock", json={"advanceSeconds": 900})
    assert [server.finish(answer)["status"] for answer in last] == ["Succeeded"] * 2
    last = [put(demo, scorer | {"tags": {"a": "b"}}), put(demo, scorer | {"sku": {"capacity": 1}, "tags": {}})]
    dropped = put(demo, {"properties": {**scorer["properties"], "environmentVariables": {"A": "b"}}})
    server.finish(server.request("DELETE", "onlineEndpoints/shop"))
    assert [server.finish(answer)["status"] for answer in [*last, dropped]] == ["Succeeded", "Succeeded", "Canceled"]


def test_whoever_polls_an_operation_across_a_kill_sees_its_end(own_server: LocalServer) -> None:
    body = {"location": "local", "properties": {"authMode": "Key", "traffic": {}}}
    asked = own_server.request("PUT", "onlineEndpoints/polled", json=body)
    own_server.kill()
    store = Store(own_server.home.workspace_db)
    operation = asked.headers["Azure-AsyncOperation"].rpartition("/")[2].partition("?")[0]
    store.update("operation", operation, lambda each: {**each, "status": "InProgress"})
    store.update("endpoint", "polled", lambda each: {**each, "state": "Succeeded"})
    own_server.start()
    assert own_server.finish(asked)["status"] == "Succeeded"
    deleted = own_server.request("DELETE", "onlineEndpoints/polled")
    own_server.kill()
    own_server.start()
    assert own_server.finish(deleted)["status"] == "Succeeded"
    wait_until(lambda: own_server.request("GET", "onlineEndpoints/polled").status_code == 404)
