"""Endpoints and deployments: scorers as real processes, their keys, traffic, logs, restart and end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from core.home import Home
from core.local import processes, shim
from core.local.blobs import CONTAINER, DATASTORE
from core.local.wire import answers, request_log
from tests.core.local.submitting import command_body, submit, wait_for
from tests.local_server import LocalServer
from tests.waiting import wait_until

SERVER = "tests.core.local.trivial_server"


def serve(folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(Home(folder), {"TUNEDECK_QUOTA_CORES": "64"}, module=SERVER)
    try:
        server.start()
        for name in ("good", "other", "broken"):
            model = server.home.blobs / CONTAINER / "models" / name / "model"
            model.mkdir(parents=True)
            (model / "config.json").write_text("{}")
        (server.home.blobs / CONTAINER / "models/broken/model/broken").write_text("")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    yield from serve(tmp_path_factory.mktemp("home"))


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    yield from serve(tmp_path_factory.mktemp("home"))


def put_endpoint(server: LocalServer, name: str, **properties: Any) -> dict[str, Any]:
    body = {"location": "local", "tags": {"t": "1"}, "properties": {"authMode": "Key", "traffic": {}, **properties}}
    response = server.request("PUT", f"onlineEndpoints/{name}", json=body)
    assert response.status_code == 201, response.text
    return server.finish(response)


def put_deployment(
    server: LocalServer, endpoint: str, name: str, folder: str = "good", **properties: Any
) -> requests.Response:
    asked = {
        "model": f"azureml://datastores/{DATASTORE}/paths/models/{folder}",
        "instanceType": "Local.CPU1",
        "endpointComputeType": "Managed",
        "requestSettings": {"requestTimeout": "PT3S"},
        **properties,
    }
    body = {"location": "local", "sku": {"name": "Default", "capacity": 1}, "tags": {}, "properties": asked}
    return server.request("PUT", f"onlineEndpoints/{endpoint}/deployments/{name}", json=body)


def deploy(server: LocalServer, endpoint: str, name: str = "demo", **properties: Any) -> None:
    put_endpoint(server, endpoint)
    response = put_deployment(server, endpoint, name, **properties)
    assert response.status_code == 201, response.text
    assert server.finish(response)["status"] == "Succeeded"
    put_endpoint(server, endpoint, traffic={name: 100})


def deployment_of(server: LocalServer, endpoint: str, name: str = "demo") -> dict[str, Any]:
    return server.request("GET", f"onlineEndpoints/{endpoint}/deployments/{name}").json()["properties"]


def key_of(server: LocalServer, endpoint: str) -> str:
    return server.request("POST", f"onlineEndpoints/{endpoint}/listKeys").json()["primaryKey"]


def score(
    server: LocalServer, endpoint: str, body: dict[str, Any], path: str = "/score", **headers: str
) -> requests.Response:
    headers = {"Authorization": f"Bearer {key_of(server, endpoint)}", **headers}
    stream = bool(body.get("stream"))
    return requests.post(
        f"{server.url}/endpoints/{endpoint}{path}", json=body, headers=headers, timeout=20, stream=stream
    )


def log_of(server: LocalServer, endpoint: str, **asked: Any) -> str:
    return server.request("POST", f"onlineEndpoints/{endpoint}/deployments/demo/getLogs", json=asked).json()["content"]


def record_of(server: LocalServer, endpoint: str, name: str = "demo") -> dict[str, int]:
    path = server.home.deployments / endpoint / name / shim.PROCESS_NAME
    return json.loads(path.read_text())


def test_a_deployment_answers_through_the_endpoint_and_goes_with_it(served: LocalServer) -> None:
    deploy(served, "whole-way")
    endpoint = served.request("GET", "onlineEndpoints/whole-way").json()["properties"]
    assert (endpoint["provisioningState"], endpoint["traffic"]) == ("Succeeded", {"demo": 100})
    assert endpoint["scoringUri"] == f"{served.url}/endpoints/whole-way/score"
    shown = deployment_of(served, "whole-way")
    assert (shown["provisioningState"], shown["properties"]["tunedeck.health"]) == ("Succeeded", "healthy")
    assert shown["requestSettings"]["requestTimeout"] == "PT3S"
    assert shown["livenessProbe"]["period"] == "PT10S"
    assert shown["scaleSettings"] == {"scaleType": "Default"}
    answer = score(served, "whole-way", {})
    assert (answer.status_code, answer.json()["output"]) == (200, "hello")
    assert answer.json()["model"].endswith("models/good/model"), "the MLflow model's inner folder"
    assert answer.headers["azureml-model-deployment"] == "demo"
    assert "loads" in log_of(served, "whole-way", tail=50)
    assert "bytes" in log_of(served, "whole-way", containerType="StorageInitializer")

    pid = answer.json()["pid"]
    deleted = served.request("DELETE", "onlineEndpoints/whole-way")
    assert deleted.status_code == 202
    assert served.finish(deleted)["status"] == "Succeeded"
    assert served.request("GET", "onlineEndpoints/whole-way").status_code == 404
    assert shim.start_time_of(pid) == ""
    assert not (served.home.deployments / "whole-way").exists()
    assert served.request("DELETE", "onlineEndpoints/whole-way").status_code == 204


def test_an_event_stream_comes_piece_by_piece_and_ends_when_the_reader_leaves(served: LocalServer) -> None:
    deploy(served, "streams")
    times, pieces = [], []
    with score(served, "streams", {"stream": True, "count": 6}, "/v1/chat/completions") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic())
                pieces.append(line)
    assert len(pieces) == 7
    assert pieces[-1] == b"data: [DONE]"
    assert times[-1] - times[0] > 0.2, "all at once is no stream"
    with score(served, "streams", {"stream": True, "count": 400}, "/v1/chat/completions") as answer:
        next(answer.iter_lines())
    wait_until((served.home.deployments / "streams" / "demo" / "left").exists)


def test_only_a_key_of_the_endpoint_opens_it_and_a_new_key_closes_it_to_the_old(served: LocalServer) -> None:
    deploy(served, "locked")
    old = key_of(served, "locked")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {served.token}"}):
        answer = requests.post(f"{served.url}/endpoints/locked/score", json={}, headers=header, timeout=10)
        assert answer.status_code == 401
    elsewhere = requests.post(
        f"{served.url}/endpoints/nowhere/score", json={}, headers={"Authorization": "Bearer x"}, timeout=10
    )
    assert elsewhere.status_code == 401
    served.request("POST", "onlineEndpoints/locked/regenerateKeys", json={"keyType": "Primary"})
    headers = {"Authorization": f"Bearer {old}"}
    assert (
        requests.post(f"{served.url}/endpoints/locked/score", json={}, headers=headers, timeout=10).status_code == 401
    )
    assert score(served, "locked", {}).status_code == 200


def test_traffic_and_the_header_choose_the_deployment(served: LocalServer) -> None:
    deploy(served, "shared", "blue")
    assert served.finish(put_deployment(served, "shared", "green", "other"))["status"] == "Succeeded"
    assert {score(served, "shared", {}).headers["azureml-model-deployment"] for _ in range(5)} == {"blue"}
    named = score(served, "shared", {}, **{"azureml-model-deployment": "green"})
    assert named.json()["model"].endswith("other/model")
    assert score(served, "shared", {}, **{"azureml-model-deployment": "red"}).status_code == 404
    put_endpoint(served, "shared", traffic={"blue": 50, "green": 50})
    assert {score(served, "shared", {}).headers["azureml-model-deployment"] for _ in range(40)} == {"blue", "green"}
    refused = served.request("DELETE", "onlineEndpoints/shared/deployments/green")
    assert "receives traffic" in refused.json()["error"]["message"]
    put_endpoint(served, "shared", traffic={"blue": 0, "green": 0})
    assert score(served, "shared", {}).status_code == 404
    gone = served.request("DELETE", "onlineEndpoints/shared/deployments/green")
    assert served.finish(gone)["status"] == "Succeeded"
    assert served.request("GET", "onlineEndpoints/shared/deployments/green").status_code == 404


def test_a_name_in_other_capitals_is_the_same_thing_and_keeps_its_first_spelling(served: LocalServer) -> None:
    """One test for all, because a scorer is a process that has to start."""
    put_endpoint(served, "My-Shop")
    assert served.finish(put_deployment(served, "my-shop", "Blue"))["status"] == "Succeeded"
    put_endpoint(served, "MY-SHOP", traffic={"BLUE": 100})
    shown = served.request("GET", "onlineendpoints/mY-sHOP").json()
    assert (shown["name"], shown["properties"]["traffic"]) == ("My-Shop", {"Blue": 100})
    assert [each["name"] for each in served.request("GET", "onlineEndpoints?name=my-shop").json()["value"]] == [
        "My-Shop"
    ]
    shouted = answers.workspace_id().upper() + "/ONLINEENDPOINTS/MY-SHOP/DEPLOYMENTS/BLUE"
    assert served.request("GET", shouted).json()["id"] == f"{shown['id']}/deployments/Blue"
    before = record_of(served, "My-Shop", "Blue")["child_pid"]
    again = put_deployment(served, "my-shop", "bLUE", requestSettings={"requestTimeout": "PT7S"})
    assert (again.json()["name"], served.finish(again)["status"]) == ("Blue", "Succeeded")
    assert record_of(served, "My-Shop", "Blue")["child_pid"] == before, "the same deployment, not another one"
    twice = {"properties": {"traffic": {"blue": 50, "Blue": 50}}}
    assert "twice" in served.request("PUT", "onlineEndpoints/my-shop", json=twice).json()["error"]["message"]
    for path in ("/endpoints/my-shop/score", "/Endpoints/MY-SHOP/Score"):
        headers = {"Authorization": f"Bearer {key_of(served, 'my-SHOP')}", "azureml-model-deployment": "bluE"}
        answer = requests.post(f"{served.url}{path}", json={}, headers=headers, timeout=20)
        assert (answer.status_code, answer.headers["azureml-model-deployment"]) == (200, "Blue"), answer.text
    refused = served.request("DELETE", "onlineEndpoints/my-shop/deployments/blue")
    assert "'Blue' receives traffic" in refused.json()["error"]["message"]
    assert served.finish(served.request("DELETE", "onlineEndpoints/my-shop"))["status"] == "Succeeded"
    assert served.request("GET", "onlineEndpoints/My-Shop").status_code == 404
    assert not (served.home.deployments / "My-Shop").exists()


def test_a_compute_in_other_capitals_is_the_same_and_runs_the_job(served: LocalServer) -> None:
    body = {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "LOCAL.CPU1"}}}
    for name in ("Cluster", "CLUSTER"):
        assert served.finish(served.request("PUT", f"computes/{name}", json=body))["status"] == "Succeeded"
    names = [each["name"] for each in served.request("GET", "Computes").json()["value"]]
    assert sorted(names) == ["Cluster", "this-machine"]
    submit(served, "cased", command_body("--steps 1", compute="cluster"))
    for address in (f"{answers.workspace_id()}/computes/CLUSTER".lower(), "azureml:CLUSTER"):
        name = f"cased-{len(address)}"
        submit(served, name, command_body("--steps 1", computeId=address))
        assert wait_for(served, name)["computeId"].endswith("/computes/Cluster")
    assert served.finish(served.request("DELETE", "computes/CLUSTER"))["status"] == "Succeeded"
    assert served.request("GET", "computes/Cluster").status_code == 404


def test_the_gateways_errors_are_the_services(served: LocalServer) -> None:
    """Waits out the request timeout of one second."""
    deploy(served, "errors", requestSettings={"requestTimeout": "PT1S"})
    refused = score(served, "errors", {"status": 422})
    assert (refused.status_code, refused.headers["ms-azureml-model-error-statuscode"]) == (424, "422")
    assert refused.json()["output"] == "hello", "the model's own words pass through"
    slow = score(served, "errors", {"sleep": 3})
    assert (slow.status_code, slow.json()["error"]["code"]) == (408, "RequestTimeout")
    assert score(served, "errors", {"die": True}).status_code == 424


def test_what_is_too_much_is_refused_with_the_time_in_which_one_of_those_before_ends(served: LocalServer) -> None:
    """Two are taken at once; the answer before took over two seconds, so every second one of two ends."""
    deploy(served, "busy", requestSettings={"requestTimeout": "PT60S"})
    assert score(served, "busy", {"sleep": 2.1}).status_code == 200
    endless = {"stream": True, "count": 10**6}
    with score(served, "busy", endless) as one, score(served, "busy", endless) as two:
        assert (one.status_code, two.status_code) == (200, 200)
        refused = score(served, "busy", {})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TooManyRequests")
    assert int(refused.headers["Retry-After"]) >= 2
    wait_until(lambda: score(served, "busy", {}).status_code == 200)


def test_half_of_a_character_is_refused_before_the_scorer_sees_it(served: LocalServer) -> None:
    deploy(served, "halves")
    headers = {"Authorization": f"Bearer {key_of(served, 'halves')}", "Content-Type": "application/json"}

    def post(path: str, body: bytes) -> requests.Response:
        address = f"{served.url}/endpoints/halves{path}"
        return requests.post(address, data=body, headers=headers, timeout=20)

    for path, body in (
        ("/score", b'{"input_data": {"input_string": [{"role": "user", "content": "a \\ud83d b"}]}}'),
        ("/v1/chat/completions", b'{"messages": [], "stop": ["\\uDE00"], "stream": true}'),
        ("/v1/chat/completions", b'{"messages": [], "\\ude00\\ud83d": 1}'),
        ("/score", b'{"a": "\xed\xa0\xbd"}'),
    ):
        refused = post(path, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BadRequest"), refused.text
        assert "codec" not in refused.text, "Python's own words"
    for whole in (b'{"a": "\\ud83d\\ude00"}', b'{"a": "\\\\ud83d"}', '{"a": "😀"}'.encode()):
        assert post("/score", whole).status_code == 200, whole


def test_a_killed_scorer_is_started_again_and_the_deployment_says_so(served: LocalServer) -> None:
    deploy(served, "killed")
    first = score(served, "killed", {}).json()["pid"]
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: (answer := score(served, "killed", {})).status_code == 200 and answer.json()["pid"])
    assert second != first
    shown = wait_until(
        lambda: (told := deployment_of(served, "killed")["properties"])["tunedeck.health"] == "healthy" and told
    )
    assert shown["tunedeck.restarts"] == "1"
    assert shown["tunedeck.last_restart_at"].startswith("20")
    assert "was killed (signal 9)" in shown["tunedeck.last_exit"]
    assert "was killed (signal 9)" in log_of(served, "killed", tail=50)


def test_a_scorer_that_no_longer_answers_is_killed_by_its_liveness_probe(served: LocalServer) -> None:
    """Two probes, one second apart."""
    deploy(served, "hangs", livenessProbe={"period": "PT1S", "timeout": "PT1S", "failureThreshold": 2})
    first = score(served, "hangs", {}).json()["pid"]
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: deployment_of(served, "hangs")["properties"]["tunedeck.restarts"] == "1")
    assert "liveness probes in a row had no answer" in log_of(served, "hangs", tail=50)
    assert (
        wait_until(lambda: (answer := score(served, "hangs", {})).status_code == 200 and answer.json()["pid"]) != first
    )


def test_a_model_that_does_not_load_fails_the_deployment_with_its_last_lines(served: LocalServer) -> None:
    put_endpoint(served, "broken-one")
    done = served.finish(put_deployment(served, "broken-one", "demo", "broken"))
    assert done["status"] == "Failed"
    assert "ValueError: the weights do not fit the model" in done["error"]["message"]
    assert deployment_of(served, "broken-one")["provisioningState"] == "Failed"
    assert score(served, "broken-one", {}, **{"azureml-model-deployment": "demo"}).status_code == 404
    assert served.finish(put_deployment(served, "broken-one", "demo", "good"))["status"] == "Succeeded"
    assert score(served, "broken-one", {}, **{"azureml-model-deployment": "demo"}).status_code == 200


def test_another_model_gets_another_scorer_and_a_setting_does_not(served: LocalServer) -> None:
    deploy(served, "changes")
    before = record_of(served, "changes")["child_pid"]
    served.finish(put_deployment(served, "changes", "demo", requestSettings={"requestTimeout": "PT9S"}))
    assert record_of(served, "changes")["child_pid"] == before
    assert deployment_of(served, "changes")["requestSettings"]["requestTimeout"] == "PT9S"
    served.finish(put_deployment(served, "changes", "demo", "other"))
    assert score(served, "changes", {}).json()["model"].endswith("other/model")
    assert shim.start_time_of(before) == ""


@pytest.mark.parametrize(
    ("name", "properties", "words"),
    [
        ("has space", {}, "cannot be used"),
        ("1st", {}, "cannot be the name of a deployment"),
        ("demo", {"instanceType": "Standard_NC6s_v3"}, "is not one of this machine's: local.cpu1"),
        ("demo", {"model": "azureml://datastores/workspaceblobstore/paths/none"}, "Nothing is at"),
        ("demo", {"model": None}, "model is needed"),
        ("demo", {"codeConfiguration": {"codeId": "x"}}, "codeConfiguration is not used"),
        ("demo", {"requestSettings": {"requestTimeout": "PT10M"}}, "at most 180 s"),
        ("demo", {"requestSettings": {"requestTimeout": "soon"}}, "'soon' is not a duration"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(
    served: LocalServer, name: str, properties: dict[str, Any], words: str
) -> None:
    put_endpoint(served, "refuses")
    response = put_deployment(served, "refuses", name, **properties)
    assert response.status_code in (400, 404)
    assert words in response.json()["error"]["message"]


def test_an_endpoint_that_cannot_be_is_refused(served: LocalServer) -> None:
    for name, properties, words in (
        ("a", {}, "3 to 32"),
        ("under_score", {}, "3 to 32"),
        ("fine", {"authMode": "AMLToken"}, "authMode must be Key"),
        ("fine", {"traffic": {"none": 100}}, "which 'fine' does not have"),
        ("fine", {"mirrorTraffic": {"a": 10}}, "mirror traffic names 'a'"),
    ):
        response = served.request("PUT", f"onlineEndpoints/{name}", json={"properties": properties})
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]
    assert put_deployment(served, "nowhere", "demo").status_code == 404


def test_a_new_server_adopts_a_living_scorer_and_starts_a_dead_one(own: LocalServer) -> None:
    deploy(own, "adopted")
    before = record_of(own, "adopted")
    own.kill()
    assert processes.is_alive(own.home.deployments / "adopted" / "demo")
    own.start()
    assert score(own, "adopted", {}).json()["pid"] == before["child_pid"]
    own.kill()
    processes.kill(own.home.deployments / "adopted" / "demo")
    own.start()
    assert wait_until(lambda: score(own, "adopted", {}).status_code == 200)
    assert record_of(own, "adopted")["child_pid"] != before["child_pid"]


def test_a_deployment_whose_scorer_died_with_the_machine_while_it_loaded_is_brought_up_again(own: LocalServer) -> None:
    put_endpoint(own, "cut")
    asked = put_deployment(own, "cut", "demo", environmentVariables={"LOADS_FOR_S": "1.5"})
    wait_until((own.home.deployments / "cut" / "demo" / shim.PROCESS_NAME).exists)
    record = record_of(own, "cut")
    own.kill()
    for each in ("pid", "child_pid"):
        os.kill(record[each], signal.SIGKILL)
    own.start()
    assert own.finish(asked)["status"] == "Succeeded"
    assert record_of(own, "cut")["child_pid"] != record["child_pid"]


def test_a_deletion_that_a_kill_cut_short_is_finished_by_the_next_server(own: LocalServer) -> None:
    deploy(own, "half-gone")
    pid = record_of(own, "half-gone")["child_pid"]
    own.request("DELETE", "onlineEndpoints/half-gone")
    own.kill()
    own.start()
    wait_until(lambda: own.request("GET", "onlineEndpoints/half-gone").status_code == 404)
    assert shim.start_time_of(pid) == ""


def metrics_of(server: LocalServer, endpoint: str, names: str, **asked: str) -> requests.Response:
    query = {"metricnames": names, "aggregation": "Average", "interval": "PT1M", **asked}
    return server.request("GET", f"onlineEndpoints/{endpoint}/providers/Microsoft.Insights/metrics", params=query)


def values_of(metric: dict[str, Any]) -> dict[str, float]:
    """Return the sum of a metric's points by the dimensions they are split by, "" where by none."""
    return {
        " ".join(each["value"] for each in series["metadatavalues"]): sum(
            point.get("average", 0.0) for point in series["data"]
        )
        for series in metric["timeseries"]
    }


def test_requests_and_their_latency_are_counted_by_the_minute_as_azure_monitor_tells_them(served: LocalServer) -> None:
    """Waits out a request of half a second."""
    deploy(served, "counted")
    assert values_of(metrics_of(served, "counted", "RequestsPerMinute").json()["value"][0]) == {"": 0.0}
    for body in ({}, {}, {"status": 422}, {"sleep": 0.5}):
        score(served, "counted", body)
    wanted = {"$filter": "deployment eq '*' and statusCode eq '*'"}

    def read() -> dict[str, Any]:
        found: dict[str, Any] = metrics_of(served, "counted", "RequestsPerMinute", **wanted).json()["value"][0]
        return found

    wait_until(lambda: sum(values_of(read()).values()) >= 4, "four requests")  # counted when the answer has ended
    metric = read()
    assert (metric["name"]["value"], metric["unit"], metric["errorCode"]) == ("RequestsPerMinute", "Count", "Success")
    assert values_of(metric) == {"demo 200": 3.0, "demo 424": 1.0}
    p50, p99 = metrics_of(served, "counted", "RequestLatency_P50,RequestLatency_P99").json()["value"]
    half, slowest = ([point for point in one["timeseries"][0]["data"] if "average" in point] for one in (p50, p99))
    assert 0 < half[0]["average"] <= slowest[-1]["average"]
    assert max(point["average"] for point in slowest) >= 500
    os.kill(served.pid, signal.SIGKILL)
    served.start()
    assert sum(values_of(metrics_of(served, "counted", "RequestsPerMinute").json()["value"][0]).values()) == 4.0


def test_what_ran_is_measured_and_a_span_without_a_server_has_no_value(own: LocalServer) -> None:
    deploy(own, "ran")
    os.kill(own.pid, signal.SIGKILL)
    own.start()  # measures at once what it adopts
    path = "onlineEndpoints/ran/deployments/demo/providers/Microsoft.Insights/metrics"

    def read() -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        span = f"{(now - timedelta(hours=3)).isoformat()[:19]}Z/{(now + timedelta(minutes=1)).isoformat()[:19]}Z"
        query = {"metricnames": "CpuMemoryUtilizationPercentage", "interval": "PT1H", "timespan": span}
        (series,) = own.request("GET", path, params=query).json()["value"][0]["timeseries"]
        data: list[dict[str, Any]] = series["data"]
        return data if any("average" in point for point in data) else []

    points = wait_until(read)
    assert ["average" in point for point in points[:2]] == [False, False]
    assert 0 < next(point["average"] for point in points if "average" in point) <= 100


def test_a_metric_a_span_or_a_filter_that_is_not_known_is_named(served: LocalServer) -> None:
    put_endpoint(served, "asked")
    for names, asked, said in (
        ("CpuUtilization", {}, "CpuUtilization"),
        ("", {}, "metricnames"),
        ("RequestLatency", {"timespan": "2026-01-01/2026-03-01"}, "timespan"),
        ("RequestLatency", {"timespan": "yesterday"}, "timespan"),
        ("RequestLatency", {"interval": "PT2M"}, "PT1M"),
        ("RequestLatency", {"aggregation": "Total"}, "Average"),
        ("RequestLatency", {"$filter": "statusCode eq '*'"}, "statusCode"),
        ("RequestsPerMinute", {"$filter": "deployment eq demo"}, "deployment"),
    ):
        refused = metrics_of(served, "asked", names, **asked)
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True), refused.text
    assert metrics_of(served, "nowhere", "RequestLatency").status_code == 404


def test_a_full_count_of_requests_keeps_the_newer_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "MOST_BYTES", 400)
    (tmp_path / "busy").mkdir()
    log = request_log.RequestLog(tmp_path)
    for number in range(40):
        log.add("busy", "demo", 200, float(number))
    log.add("deleted-meanwhile", "demo", 200, 1.0)
    kept = [each.milliseconds for each in log.read("busy", 0.0, time.time() + 1)]
    assert kept == [float(number) for number in range(40 - len(kept), 40)]
    assert (tmp_path / "busy" / request_log.FILE_NAME).stat().st_size <= 400
    assert list(log.read("deleted-meanwhile", 0.0, time.time() + 1)) == []
