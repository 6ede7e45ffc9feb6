from __future__ import annotations

import time
import tomllib

import pytest

from core.local import processes
from core.local.wire.auth import Gatekeeper
from tests.local_server import LocalServer

ARM = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers"
WORKSPACE = f"{ARM}/Microsoft.MachineLearningServices/workspaces/local"
BEARER_PATHS = (
    "/health",
    WORKSPACE,
    f"/history/v1.0{WORKSPACE}/runs/x",
    "/api/2.0/mlflow/runs/get",
    "/registrymanagement/v1.0/registries/azureml/discovery",
    "/a/path/nobody/knows",
)


def envelope(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", BEARER_PATHS)
def test_a_missing_a_foreign_and_an_expired_token_are_refused(local_server: LocalServer, path: str) -> None:
    other_home = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ0dW5lZGVjay1sb2NhbCJ9.AAAA"
    for header in ("", f"Bearer {other_home}", "Basic YTpi", f"Bearer {local_server.make_token(exp=time.time() - 1)}"):
        answer = local_server.request("GET", path, headers={"Authorization": header})
        assert envelope(answer) == (401, "AuthenticationFailed"), header
        assert "invalid_token" in answer.headers["WWW-Authenticate"]


def test_a_token_for_another_workspaces_address_is_refused(local_server: LocalServer) -> None:
    for audience in (
        "http://127.0.0.1:1",
        "https://management.azure.com",
        local_server.url.replace("127.0.0.1", "evil"),
    ):
        token = local_server.make_token(aud=audience)
        answer = local_server.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
        assert envelope(answer) == (401, "AuthenticationFailed"), audience


def test_a_token_made_before_the_clock_was_set_back_is_good_to_its_end(local_server: LocalServer) -> None:
    token = local_server.make_token(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200)
    answer = local_server.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_an_unsigned_token_is_refused(local_server: LocalServer) -> None:
    head, body, _ = local_server.token.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
    for token in (f"{none}.{body}.", f"{head}.{body}.", f"{none}.{body}.c2ln"):
        answer = local_server.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_a_foreign_host_or_origin_is_refused_even_with_a_good_token(local_server: LocalServer, header: dict) -> None:
    answer = local_server.request("GET", "/health", headers=header)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] in ("ForeignHost", "ForeignOrigin")


def test_an_unknown_route_or_method_is_501_and_says_which(local_server: LocalServer) -> None:
    for method, path in (("GET", "/a/path/nobody/knows"), ("DELETE", "/health"), ("POST", f"{WORKSPACE}/computes")):
        answer = local_server.request(method, path)
        assert envelope(answer) == (501, "NotImplemented")
        assert f"{method} {path}" in answer.json()["error"]["message"]


def test_another_subscription_group_or_workspace_is_404_as_in_azure(local_server: LocalServer) -> None:
    wrong = {
        "SubscriptionNotFound": WORKSPACE.replace("00000000-0", "10000000-0"),
        "ResourceGroupNotFound": WORKSPACE.replace("resourceGroups/local", "resourceGroups/ml"),
        "ResourceNotFound": WORKSPACE.replace("workspaces/local", "workspaces/lokal"),
    }
    for code, path in wrong.items():
        for prefix in ("", "/history/v1.0"):
            assert envelope(local_server.request("GET", f"{prefix}{path}/computes")) == (404, code)


def test_health_says_who_serves_and_what_the_machine_is(local_server: LocalServer) -> None:
    health = local_server.request("GET", "/health").json()
    assert health["home"] == str(local_server.home.path)
    assert health["pid"] == local_server.pid
    assert health["machine"]["cores"] >= 1


def test_discovery_is_open_because_the_sdk_asks_it_without_a_token(local_server: LocalServer) -> None:
    answer = local_server.request("GET", "/discovery", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["api"]) == (200, local_server.url)


def test_the_version_is_the_projects(local_server: LocalServer) -> None:
    project = tomllib.loads((processes.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert local_server.request("GET", "/health").json()["version"] == project["version"]


def test_a_signed_link_opens_its_own_path_until_it_expires() -> None:
    keeper = Gatekeeper("secret", 80)
    link = keeper.sign_link("/logs/a")
    assert link.startswith("/logs/a?se=")
    assert link != keeper.sign_link("/logs/b").replace("/logs/b", "/logs/a")


def test_log_links_are_checked(local_server: LocalServer) -> None:
    keeper = Gatekeeper(local_server.home.secret(), local_server.home.port())
    no_token = {"Authorization": ""}
    good = keeper.sign_link("/logs/nobody")
    assert local_server.request("GET", good, headers=no_token).status_code in (404, 501)
    refused = [
        "/logs/nobody",
        good.replace("nobody", "other"),
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        keeper.sign_link("/logs/nobody", lifetime_s=-1),
        Gatekeeper("other", 1).sign_link("/logs/nobody"),
    ]
    for link in refused:
        assert envelope(local_server.request("GET", link, headers=no_token)) == (401, "AuthenticationFailed"), link


def test_bad_names_and_bodies_are_400(local_server: LocalServer) -> None:
    assert envelope(local_server.request("GET", "computes/a%20b")) == (400, "InvalidName")
    assert envelope(local_server.request("GET", "computes/a..b")) == (400, "InvalidName")
    assert envelope(local_server.request("PUT", "computes/gpu", data=b"{")) == (400, "BadRequest")
    assert envelope(local_server.request("PUT", "computes/gpu", data=b"[1]")) == (400, "BadRequest")
    assert local_server.request("PUT", "computes/gpu", data=b" " * (9 << 20)).status_code == 413


def test_the_log_holds_requests_and_no_secret(local_server: LocalServer) -> None:
    link = Gatekeeper(local_server.home.secret(), local_server.home.port()).sign_link("/logs/quiet")
    token = local_server.token
    local_server.request("GET", link, headers={"Authorization": ""})
    local_server.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
    log = local_server.log()
    assert "GET /logs/quiet" in log
    assert link.partition("sig=")[2] not in log
    assert token not in log
    assert local_server.home.secret() not in log
