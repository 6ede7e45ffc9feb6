"""The dashboard's own client code against a workspace with Azure's manners: `serve --profile azure`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.polling import check_write, start_write
from core.azureml.settings import local_settings
from core.catalog import base_models, compute
from core.catalog.kept import Wanted
from core.catalog.quota import find_quota, list_quota
from core.errors import NotFound, QuotaExceeded, SignInFailed
from core.home import Home
from core.local.blobs import CONTAINER
from core.serving import endpoints
from tests.catalogue import find_all, find_models
from tests.local_server import LocalServer
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore")

ALLOWED = "Standard_NC24ads_A100_v4"


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    home = Home(tmp_path_factory.mktemp("region"))
    running = LocalServer(home, {"TUNEDECK_PROFILE": "azure"}, module="tests.core.local.trivial_server")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def conn(azure: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("TUNEDECK_HOME", str(azure.home.path))
    return connect(local_settings(), home=azure.home)


def advance(server: LocalServer, seconds: float) -> None:
    answer = server.request("PUT", "/profile/clock", json={"advanceSeconds": seconds})
    assert answer.status_code == 200, answer.text


def test_models_are_found_that_can_be_tuned(conn: Connection) -> None:
    found = find_all(conn, wanted=Wanted(tunable=True))
    assert found.matches > 8
    assert all(entry.model and entry.model.finetunable for entry in found.entries)
    assert [model.name for model in find_models(conn, "phi-3 mini 4k")] == ["Phi-3-mini-4k-instruct"]
    assert find_models(conn, "no such model") == []


def test_both_publications_of_a_model_read_the_same(conn: Connection) -> None:
    before = base_models.get_base_model(conn, "Phi-3-mini-4k-instruct", "15")
    after = base_models.get_base_model(conn, "Phi-3-mini-4k-instruct")
    assert (before.finetune.source, after.finetune.source, after.version) == ("tag", "metadata", "16")
    assert before.finetune.sizes is not None
    assert after.finetune.sizes is not None
    assert set(before.finetune.sizes) == set(after.finetune.sizes)
    assert (before.task, before.licence, before.publisher) == (after.task, after.licence, after.publisher)
    assert before.context_length == after.context_length == 4096
    assert {
        key: float(value) if key.startswith("learning") else str(value) for key, value in before.defaults.items()
    } == {key: float(value) if key.startswith("learning") else str(value) for key, value in after.defaults.items()}
    assert before.finetunable
    assert after.finetunable
    inference_only = base_models.get_base_model(conn, "Phi-3-vision-128k-instruct")
    assert not inference_only.finetunable


def test_gpu_sizes_come_with_the_quota_of_their_family(conn: Connection) -> None:
    sizes = compute.list_sizes(conn)
    size = compute.find_size(sizes, ALLOWED)
    assert size is not None
    assert (size.cores, size.gpus, size.supports_online) == (24, 1, True)
    quotas = list_quota(conn)
    quota = find_quota(quotas, size)
    assert quota is not None
    assert (quota.limit, quota.used) == (48, 0)
    none_left = compute.find_size(sizes, "Standard_ND96amsr_A100_v4")
    assert none_left is not None
    found = find_quota(quotas, none_left)
    assert found is not None
    assert found.free == 0
    model = base_models.get_base_model(conn, "Phi-3-mini-4k-instruct", "15")
    assert ALLOWED in [each.name for each in compute.list_allowed_sizes(sizes, model.finetune)]


def test_what_is_not_there_is_said_though_the_answer_is_empty(conn: Connection, azure: LocalServer) -> None:
    answer = azure.request("GET", "onlineEndpoints/nobody")
    assert (answer.status_code, answer.content) == (404, b"")
    with pytest.raises(NotFound) as caught:
        compute.get_compute(conn, "nobody")
    assert caught.value.message == "Compute 'nobody' was not found in workspace 'local'."
    assert endpoints.find_endpoint(conn, "nobody") is None
    with pytest.raises(NotFound):
        base_models.get_base_model(conn, "nobody")
    assert endpoints.read_deployment_log(conn, "nobody") == ""


def cluster(name: str, size: str = ALLOWED, least: int = 0) -> Any:
    from azure.ai.ml.entities import AmlCompute

    return AmlCompute(name=name, size=size, min_instances=least, max_instances=2)


def test_a_compute_takes_its_time_and_lists_lag_behind(conn: Connection, azure: LocalServer) -> None:
    assert compute.list_computes(conn) == []
    what = "compute 'gpu'"
    start_write(conn, "create", what, conn.workspace.compute.begin_create_or_update, cluster("gpu"))
    assert compute.get_compute(conn, "gpu").state == "Creating"
    assert compute.list_computes(conn) == [], "the list is as it was some seconds ago"
    assert check_write(conn, what) is None
    advance(azure, 300)
    wait_until(lambda: compute.get_compute(conn, "gpu").state == "Succeeded")
    (found,) = compute.list_computes(conn)
    assert (found.name, found.size, found.gpus) == ("gpu", ALLOWED, 1)
    sizes = compute.list_sizes(conn)
    assert compute.check_compute(found, base_models.get_base_model(conn, "Phi-4"), sizes).eligible
    archived = base_models.get_base_model(conn, "Phi-3-mini-4k-instruct", "15")
    assert "is archived" in compute.check_compute(found, archived, sizes).reason


def test_a_cluster_that_keeps_more_than_its_familys_quota_fails_with_numbers(
    conn: Connection, azure: LocalServer
) -> None:
    what = "compute 'greedy'"
    begin = conn.workspace.compute.begin_create_or_update
    start_write(conn, "create", what, begin, cluster("greedy", "Standard_NC96ads_A100_v4", 1))
    advance(azure, 300)
    error = wait_until(lambda: check_write(conn, what))
    assert type(error) is QuotaExceeded
    assert error.message == "Quota for standardNCADSA100v4: needs 96 cores, 48 free."
    assert compute.get_compute(conn, "greedy").errors


def test_a_deployment_is_updating_until_its_time_has_come_and_quota_is_its_familys(
    conn: Connection, azure: LocalServer
) -> None:
    from azure.ai.ml.entities import Model

    folder = azure.home.blobs / CONTAINER / "models" / "good"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    path = "azureml://datastores/workspaceblobstore/paths/models/good"
    model = conn.workspace.models.create_or_update(Model(name="good", version="1", path=path, type="custom_model"))
    endpoints.begin_endpoint(conn, "shop", "a shop", {})
    wait_until(lambda: endpoints.get_endpoint(conn, "shop").state == "Succeeded")
    with pytest.raises(QuotaExceeded) as caught:
        endpoints.begin_deployment(conn, "shop", model.id, "Standard_ND40rs_v2", 1, {}, {})
    assert caught.value.message == "Quota for Standard_ND40rs_v2: needs 40 cores, 0 free of 0."
    endpoints.begin_deployment(conn, "shop", model.id, "Standard_DS3_v2", 1, {}, {})
    assert endpoints.get_endpoint(conn, "shop").deployments == (), "the list is as it was some seconds ago"
    advance(azure, 10)
    assert endpoints.get_endpoint(conn, "shop").state_word == "Updating"
    advance(azure, 600)

    def is_up() -> bool:
        advance(azure, 10)
        return [one.up for one in endpoints.get_endpoint(conn, "shop").deployments] == [True]

    wait_until(is_up, every_s=0.3)
    endpoints.begin_endpoint_deletion(conn, "shop")


def test_a_token_that_ages_is_refused_once_and_the_next_read_works(conn: Connection, azure: LocalServer) -> None:
    assert conn.workspace.workspaces.get("local").name == "local"
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "the next second")  # a token says its second only
    advance(azure, 4000)
    with pytest.raises(SignInFailed) as caught:
        conn.call("read", "workspace 'local'", lambda: conn.workspace.workspaces.get("local"))
    assert "has expired (401)" in caught.value.message
    assert conn.facts().name == "local"


def test_a_home_keeps_the_manners_it_was_begun_with(azure: LocalServer, tmp_path: Path) -> None:
    for file in azure.home.path.glob("workspace.db*"):
        shutil.copyfile(file, tmp_path / file.name)
    command = [sys.executable, "-m", "core.local", "serve", "--profile", "local"]
    environment = {**os.environ, "TUNEDECK_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "was begun with the profile 'azure', not 'local'." in done.stderr
    assert "--profile azure" in done.stderr


def test_the_clock_of_this_machine_is_not_put_forward(server: LocalServer) -> None:
    assert server.request("PUT", "/profile/clock", json={"advanceSeconds": 5}).status_code == 501
    assert server.request("GET", "/health").json()["profile"] == "local"
