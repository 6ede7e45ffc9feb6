"""The stand-in itself: what the real azure-identity, azure-ai-ml and azure-storage-blob meet at Azure's names."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest
import requests

from core.azureml.access import AccessLine, prove_access
from core.azureml.connection import Connection
from core.azureml.identities import SOURCES, DeviceCode
from core.catalog import compute
from core.errors import Throttled, TunedeckError
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.login import CLIENT_SECRET, EXPIRED_LOGIN, OTHER_TENANT, TENANT
from tests.azure.prices import PER_HOUR
from tests.azure.sites import PUBLIC, SITES, Site
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.tokens import make_token

CLIENT = "c0ffee00-0000-4000-8000-000000000001"
BLOCKED = "AADSTS53003: Access has been blocked by Conditional Access policies."


@pytest.fixture
def client(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> str:
    """A service principal in the environment, as a build server has it."""
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", CLIENT_SECRET)
    return CLIENT


def first_failure(conn: Connection) -> AccessLine:
    return next(line for line in prove_access(conn) if line.state == "failed")


def test_every_step_of_access_is_proved_by_az_at_azures_own_names(azure: StandIn, conn: Connection) -> None:
    before = len(azure.rules)
    lines = [line for line in prove_access(conn) if line.title not in SOURCES]
    assert {line.state for line in lines} == {"ok"}, lines
    assert lines[0].detail.startswith(
        f"Signed in as ada@contoso.com by Azure CLI, tenant {TENANT}, object az-user, token valid "
    )
    assert lines[1].detail == "'ml-dev' in eastus."
    asked = azure.rules.asked(since=before)
    assert {each.url.split("/")[2] for each in asked} == {PUBLIC.management, PUBLIC.api, PUBLIC.blobs}
    assert all(each.status == 200 for each in asked), asked


def test_az_says_who_is_signed_in_and_its_starts_are_counted(azure: StandIn) -> None:
    before = azure.az_starts()
    shown = subprocess.run(["az", "account", "show"], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["tenantId"] == TENANT
    azure.az(state="expired")
    refused = subprocess.run(["az", "account", "get-access-token"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "AADSTS700082" in refused.stderr
    assert azure.az_starts() == before + 2


def test_az_of_another_tenant_is_refused_with_both_tenants(azure: StandIn, conn: Connection) -> None:
    azure.az(tenant=OTHER_TENANT)
    failed = first_failure(conn)
    assert failed.title == "Workspace"
    assert failed.detail == f"The sign-in is for tenant '{OTHER_TENANT}'; this workspace is in '{TENANT}'."


@pytest.mark.parametrize(("state", "words"), [("signed out", "az login"), ("expired", "AADSTS700082")])
def test_az_without_a_good_login_is_no_sign_in(azure: StandIn, conn: Connection, state: str, words: str) -> None:
    azure.az(state=state)
    failed = first_failure(conn)
    assert failed.title == "Sign-in"
    assert words in failed.service


def test_a_device_code_signs_in_once_it_was_entered(azure: StandIn) -> None:
    azure.az(state="signed out")
    shown: list[DeviceCode] = []

    def enter(code: DeviceCode) -> None:
        shown.append(code)
        azure.login.code_was_entered = True

    conn = Connection(azure.settings(), azure.home, azure.by_click(on_code=enter))
    assert conn.facts().user == "ada@contoso.com"
    assert [(code.code, code.url) for code in shown] == [("H7KQP2XV", "https://microsoft.com/devicelogin")]


def test_a_device_code_may_be_refused_by_a_companys_policy(azure: StandIn) -> None:
    azure.az(state="signed out")
    azure.login.refusal = BLOCKED
    failed = first_failure(Connection(azure.settings(), azure.home, azure.by_click()))
    assert failed.title == "Sign-in"
    assert BLOCKED in failed.service


def test_a_service_principal_signs_in_by_its_secret(client: str, conn: Connection) -> None:
    assert conn.facts().user == f"service principal {client}"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AZURE_CLIENT_SECRET", "mistyped", "AADSTS7000215"),
        ("AZURE_TENANT_ID", TENANT[:-1] + "1", "your tenant name or GUID"),
    ],
)
def test_a_service_principal_with_a_mistake_is_told_which(
    azure: StandIn, client: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    conn = Connection(replace(azure.settings(), tenant_id=None), azure.home)
    assert words in first_failure(conn).service


def test_a_login_that_expired_is_refused_whatever_is_asked(azure: StandIn, client: str, conn: Connection) -> None:
    azure.login.refusal = EXPIRED_LOGIN
    assert "AADSTS700082" in first_failure(conn).service


def test_a_token_that_is_too_old_or_for_another_service_is_refused(azure: StandIn) -> None:
    old = make_token("https://management.azure.com", TENANT, -60)
    answer = requests.get(f"https://{PUBLIC.management}{WORKSPACE_PATH}", headers={"Authorization": f"Bearer {old}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")
    other = make_token("https://graph.microsoft.com", TENANT)
    answer = requests.get(f"https://{PUBLIC.management}{WORKSPACE_PATH}", headers={"Authorization": f"Bearer {other}"})
    assert answer.json()["error"]["code"] == "InvalidAuthenticationTokenAudience"


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_the_workspace_is_in_a_region_of_each_cloud(azure: StandIn, site: Site) -> None:
    token = make_token(f"https://{site.management}", TENANT)
    answer = requests.get(f"https://{site.management}{WORKSPACE_PATH}", headers={"Authorization": f"Bearer {token}"})
    found = answer.json()
    assert (found["name"], found["location"], found["id"]) == ("ml-dev", site.region, WORKSPACE_PATH)
    assert found["properties"]["mlFlowTrackingUri"] == f"azureml://{site.api}/mlflow/v1.0{WORKSPACE_PATH}"
    assert requests.get(f"https://{site.api}/discovery").json()["history"] == f"https://{site.api}"
    signed_in = requests.get(f"https://{site.login}/{TENANT}/v2.0/.well-known/openid-configuration").json()
    assert signed_in["token_endpoint"] == f"https://{site.login}/{TENANT}/oauth2/v2.0/token"


def test_the_clouds_and_the_subscriptions_of_who_asks_are_listed(azure: StandIn, conn: Connection) -> None:
    clouds = requests.get(f"https://{PUBLIC.management}/metadata/endpoints?api-version=2022-09-01").json()
    found = {cloud["name"]: (cloud["resourceManager"], cloud["authentication"]["loginEndpoint"]) for cloud in clouds}
    assert found == {site.name: (f"https://{site.management}/", f"https://{site.login}/") for site in SITES[:3]}
    subscriptions = conn.http("GET", "/subscriptions", params={"api-version": "2022-12-01"}).json()["value"]
    assert [each["subscriptionId"] for each in subscriptions] == [*azure.azure.directory.names]
    assert len(conn.http("GET", "/tenants", params={"api-version": "2022-12-01"}).json()["value"]) == 2
    group = WORKSPACE_PATH.split("/resourceGroups/")[0]
    listed = conn.http("GET", f"{group}/providers/Microsoft.MachineLearningServices/workspaces").json()["value"]
    assert listed[0]["id"] == WORKSPACE_PATH


def test_files_go_to_the_storage_account_by_identity_and_else_by_its_key(azure: StandIn) -> None:
    for may_by_identity in (True, False):
        azure.azure.identity_opens_storage = may_by_identity
        blobs, before = Connection(azure.settings(), azure.home).blobs(), len(azure.rules)
        content = b"0123456789" * 500_000  # more than one block
        blobs.container.upload_blob("tests/some file.bin", content, overwrite=True)
        assert blobs.container.download_blob("tests/some file.bin").readall() == content
        assert [blob.size for blob in blobs.container.list_blobs(name_starts_with="tests/")] == [len(content)]
        signed = {"sig=" in each.url for each in azure.rules.asked(PUBLIC.blobs, before)}
        assert signed == {not may_by_identity}


def test_the_price_of_a_size_is_the_lists(azure: StandIn, conn: Connection) -> None:
    assert compute.size_price(conn, SIZE).per_hour == PER_HOUR[SIZE]
    assert compute.size_price(conn, "Standard_ND40rs_v2").per_hour is None
    azure.azure.behind = replace(azure.azure.behind, prices_of_sizes=True)
    assert compute.size_price(Connection(azure.settings(), azure.home), SIZE).source == "workspace"


def test_a_rule_answers_so_many_requests_and_the_next_go_their_way(azure: StandIn, conn: Connection) -> None:
    azure.rules.add("GET .*/computes", 429, headers={"Retry-After": "7"}, times=2)
    azure.rules.add("/computes", delay_s=0.01)
    before = len(azure.rules)
    for _ in range(2):
        with pytest.raises(Throttled) as caught:
            compute.list_computes(conn)
        assert "waits 7 s" in caught.value.hint
    assert compute.list_computes(conn) == []
    statuses = [(each.status, each.ruled) for each in azure.rules.asked("/computes", before)]
    assert statuses == [(429, True), (429, True), (200, False)]


def test_rules_are_set_over_http_by_whoever_clicks_through(azure: StandIn, conn: Connection) -> None:
    rule = {"pattern": "/computes", "status": 403, "body": '{"error": {"code": "ScopeLocked", "message": "Locked."}}'}
    assert requests.post(f"{azure.proxy.url}/rules", json=rule).ok
    with pytest.raises(TunedeckError) as caught:
        compute.list_computes(conn)
    assert "ScopeLocked" in caught.value.detail
    assert "403 by a rule GET https://management.azure.com/" in requests.get(f"{azure.proxy.url}/requests").text


def test_no_host_but_azures_is_let_through(azure: StandIn) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://pypi.org/simple")
    assert [str(each) for each in azure.rules.asked("pypi")] == ["403 CONNECT https://pypi.org"]
