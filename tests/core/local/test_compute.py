from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from core.local.compute import Compute
from core.local.machine import Machine, measure, probe
from core.local.routes.compute import FIRST_COMPUTE
from tests.local_server import LocalServer

LOCATION = "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.MachineLearningServices/locations"


def cluster(size: str = "local.cpu1", least: int = 0, most: int = 1, **outer: Any) -> dict[str, Any]:
    scale = {"minNodeCount": least, "maxNodeCount": most, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    return {
        "location": "local",
        "properties": {"computeType": "AmlCompute", "properties": {"vmSize": size, "scaleSettings": scale}},
        **outer,
    }


def create(server: LocalServer, name: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.request("PUT", f"computes/{name}", json=body)
    assert answer.status_code == 201, answer.text
    return server.finish(answer)


def delete(server: LocalServer, name: str) -> None:
    answer = server.request("DELETE", f"computes/{name}")
    assert answer.status_code == 202
    assert server.finish(answer)["status"] == "Succeeded"


def test_a_new_home_has_this_machine_as_a_compute(local_server: LocalServer) -> None:
    (found,) = local_server.request("GET", "computes").json()["value"]
    assert found["name"] == FIRST_COMPUTE
    assert found["properties"]["provisioningState"] == "Succeeded"
    inner = found["properties"]["properties"]
    assert inner["vmSize"] == probe().largest.name.upper()
    assert (inner["scaleSettings"]["minNodeCount"], inner["scaleSettings"]["maxNodeCount"]) == (0, 1)


def test_a_compute_is_created_polled_found_and_deleted(local_server: LocalServer) -> None:
    done = create(local_server, "gpu-1", cluster("Local.CPU1", most=2, tags={"a": "b"}))
    assert (done["status"], done["percentComplete"]) == ("Succeeded", 100.0)
    found = local_server.request("GET", "computes/gpu-1").json()
    assert found["tags"] == {"a": "b"}
    assert found["properties"]["properties"]["vmSize"] == "LOCAL.CPU1"
    delete(local_server, "gpu-1")
    gone = local_server.request("GET", "computes/gpu-1")
    assert (gone.status_code, gone.content) == (404, b"")
    assert local_server.request("DELETE", "computes/gpu-1").status_code == 404


def test_a_size_that_is_not_here_is_refused_with_those_that_are(local_server: LocalServer) -> None:
    answer = local_server.request("PUT", "computes/gpu-2", json=cluster("Standard_NC24ads_A100_v4"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "InvalidPropertyValue")
    assert all(size.name in error["message"] for size in probe().sizes)
    assert local_server.request("GET", "computes/gpu-2").status_code == 404


def test_more_kept_nodes_than_cores_fail_the_operation_and_leave_a_failed_compute(local_server: LocalServer) -> None:
    done = create(local_server, "greedy", cluster(least=1000, most=1000))
    assert done["status"] == "Failed"
    assert done["error"]["code"] == "ClusterMinNodesExceedCoreQuota"
    properties = local_server.request("GET", "computes/greedy").json()["properties"]
    assert properties["provisioningState"] == "Failed"
    assert properties["provisioningErrors"][0]["error"]["code"] == "ClusterMinNodesExceedCoreQuota"
    done = create(local_server, "greedy", cluster(least=0, most=1))
    assert done["status"] == "Succeeded"
    assert local_server.request("GET", "computes/greedy").json()["properties"]["provisioningErrors"] is None
    delete(local_server, "greedy")


@pytest.mark.parametrize(
    "body",
    [
        cluster(least=2, most=1),
        cluster(most=0),
        cluster(least=-1),
        {"properties": {"computeType": "Kubernetes"}},
        {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": 7}}},
        {"properties": []},
    ],
)
def test_a_compute_that_makes_no_sense_is_a_400(local_server: LocalServer, body: dict[str, Any]) -> None:
    assert local_server.request("PUT", "computes/odd", json=body).status_code == 400


def test_a_name_the_service_would_not_take_is_a_400(local_server: LocalServer) -> None:
    for name in ("1st", "a", "under_score", "x" * 33):
        assert local_server.request("PUT", f"computes/{name}", json=cluster()).status_code == 400, name


def test_scaling_changes_and_the_size_does_not(local_server: LocalServer) -> None:
    create(local_server, "steady", cluster(most=1))
    create(local_server, "steady", cluster(most=3))
    scale = local_server.request("GET", "computes/steady").json()["properties"]["properties"]["scaleSettings"]
    assert scale["maxNodeCount"] == 3
    patch = {"properties": {"properties": {"scaleSettings": {"maxNodeCount": 2}}}}
    patched = local_server.request("PATCH", "computes/steady", json=patch).json()
    assert patched["properties"]["properties"]["scaleSettings"]["maxNodeCount"] == 2
    largest = probe().largest.name
    if largest != "local.cpu1":
        assert local_server.request("PUT", "computes/steady", json=cluster(largest)).status_code == 409
    delete(local_server, "steady")


def test_sizes_say_their_price_and_what_they_can_be_used_for(local_server: LocalServer) -> None:
    sizes = local_server.request("GET", f"{LOCATION}/local/vmSizes").json()["value"]
    assert [size["name"] for size in sizes] == [size.name for size in probe().sizes]
    for size in sizes:
        assert {price["retailPrice"] for price in size["estimatedVMPrices"]["values"]} == {0.0}
        assert size["supportedComputeTypes"] == ["AmlCompute", "MIR"]
    assert local_server.request("GET", f"{LOCATION}/westus/vmSizes").status_code == 400


def test_the_quota_is_the_cores_and_kept_nodes_use_it(local_server: LocalServer) -> None:
    create(local_server, "kept", cluster(least=1, most=1))
    usages = {
        each["name"]["value"]: each for each in local_server.request("GET", f"{LOCATION}/local/usages").json()["value"]
    }
    assert usages["localCPUFamily"]["limit"] == probe().cores
    assert usages["localCPUFamily"]["currentValue"] == 1
    delete(local_server, "kept")


def test_computes_and_a_finished_operation_survive_a_killed_server(own_server: LocalServer) -> None:
    answer = own_server.request("PUT", "computes/gpu-1", json=cluster())
    own_server.finish(answer)
    assert own_server.request("DELETE", f"computes/{FIRST_COMPUTE}").status_code == 202
    own_server.kill()
    own_server.start()
    assert [each["name"] for each in own_server.request("GET", "computes").json()["value"]] == ["gpu-1"]
    assert own_server.finish(answer)["status"] == "Succeeded"


def test_a_machine_is_measured_without_torch_in_this_process() -> None:
    import sys

    machine = measure()
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert "torch" not in sys.modules or machine.gpus == ()


def test_a_gpu_that_the_installed_torch_cannot_use_is_none_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes seconds: torch is asked, in a process of its own."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H100, 81559\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine = probe()
    assert machine.gpus == ()
    assert machine.problem == "GPUs found: 1, usable by the installed torch: 0."


def test_sizes_are_shares_of_the_machine() -> None:
    small = Machine(cores=1, memory_gib=4.0)
    assert [size.name for size in small.sizes] == ["local.cpu1"]
    large = Machine(cores=16, memory_gib=128.0, gpus=("H100", "H100"))
    assert [(size.name, size.cores, size.gpus) for size in large.sizes] == [
        ("local.cpu1", 1, 0),
        ("local.cpu16", 16, 0),
        ("local.gpu1", 8, 1),
        ("local.gpu2", 16, 2),
    ]
    assert large.largest.name == "local.gpu2"
    assert large.find_size("LOCAL.GPU1") == large.sizes[2]
    assert large.find_size("local.gpu3") is None


def test_no_more_nodes_run_than_the_machine_has_room_for() -> None:
    machine = Machine(cores=4, memory_gib=8.0)
    assert Compute(name="a", size="local.cpu1", max_nodes=8).node_limit(machine) == 4
    assert Compute(name="a", size="local.cpu4", max_nodes=2).node_limit(machine) == 1
    assert Compute(name="a", size="local.cpu8", max_nodes=2).node_limit(machine) == 0
