"""Each sentence of the error table, provoked over the wire: a row that nothing provokes fails the last test."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from core import errors
from core.azureml.access import check_access
from core.azureml.connection import Connection, challenge_to, connect
from core.azureml.failures import Place, Rule
from core.azureml.service_errors import find_rule, read_answer, read_refusal
from core.azureml.service_rules import RULES
from core.azureml.settings import local_settings
from core.catalog import compute
from core.home import Home
from tests.azure.causes import CAUSES, EXPIRED, MFA, NO_TENANT, PROVOKED, REFUSALS, REVOKED, Cause, provokes
from tests.azure.certificates import make_certificates
from tests.azure.login import CLIENT_SECRET, TENANT
from tests.azure.proxy import Proxy
from tests.azure.rules import HANG_UP
from tests.azure.stand_in import SIZE, StandIn

CLIENT = "c0ffee00-0000-4000-8000-000000000001"
AZURE = Place("Azure", "ml-dev", "rg-ml", "sub-1", "management.azure.com", False)


@pytest.fixture
def client(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service principal in the environment."""
    for name, value in {"CLIENT_ID": CLIENT, "TENANT_ID": TENANT, "CLIENT_SECRET": CLIENT_SECRET}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)


def refusal(conn: Connection) -> errors.TunedeckError:
    """Return what an operator reads of a call that fails."""
    with pytest.raises(errors.TunedeckError) as caught:
        compute.list_computes(conn)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(("said", "read"), REFUSALS.items(), ids=[said.split(":")[0] for said in REFUSALS])
def test_a_refused_sign_in_is_named_by_its_code(
    azure: StandIn, client: None, conn: Connection, said: str, read: str
) -> None:
    azure.login.refusal = said
    error = refusal(conn)
    assert type(error) is errors.SignInFailed
    assert error.message.startswith(read)
    assert said in error.detail


def test_an_expired_login_of_az_is_named_too(azure: StandIn, conn: Connection) -> None:
    azure.az(state="expired")
    assert refusal(conn).message == EXPIRED


@provokes(NO_TENANT)
def test_a_mistyped_tenant_is_named(azure: StandIn, client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT[:-1] + "1")
    conn = Connection(replace(azure.settings(), tenant_id=None), azure.home)
    assert refusal(conn).message == NO_TENANT
    for tenant in ("no tenant!", TENANT[:-1] + "1"):
        mistyped = replace(azure.settings(), tenant_id=tenant)
        assert refusal(Connection(mistyped, azure.home, azure.by_click(tenant=tenant))).message == NO_TENANT


def test_a_tenant_that_az_does_not_find_is_named(azure: StandIn, conn: Connection) -> None:
    azure.az(state="no such tenant")
    assert refusal(conn).message == NO_TENANT


@provokes("The code ran out before it was entered.")
def test_a_code_that_nobody_enters_runs_out(azure: StandIn) -> None:
    """About 2 s: so long the code is good."""
    azure.login.code_life_s = 1
    conn = Connection(azure.settings(), azure.home, azure.by_click(timeout_s=1))
    assert refusal(conn).message == "The code ran out before it was entered."


@provokes(EXPIRED, "To go on, sign in")
def test_a_sign_in_by_code_that_ended_asks_for_another_click(azure: StandIn) -> None:
    azure.login.code_was_entered, azure.login.token_life_s = True, 0
    conn = Connection(azure.settings(), azure.home, azure.by_click())
    conn.credential.get_token(conn.cloud.scope)
    for said in ("AADSTS70043: The refresh token has expired.", "The grant is no longer good."):
        azure.login.refusal = said
        conn.credential.forget()
        assert refusal(conn).message == EXPIRED


@provokes(
    "The certificate shown for {address} is of nobody this machine trusts: a company's proxy opens the connection."
)
@pytest.mark.parametrize("by", ["az", "principal"])
def test_a_proxy_that_opens_tls_is_named_with_the_setting_to_make(
    azure: StandIn, conn: Connection, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, by: str
) -> None:
    if by == "principal":
        request.getfixturevalue("client")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("SSL_CERT_FILE")
    error = refusal(conn)
    assert type(error) is errors.Unreachable
    assert "a company's proxy opens the connection" in error.message
    assert "REQUESTS_CA_BUNDLE" in error.hint


@provokes("The proxy of HTTPS_PROXY did not let the request to Azure through.")
@pytest.mark.parametrize("by", ["az", "principal"])
def test_a_proxy_that_is_not_there_is_named(
    azure: StandIn, conn: Connection, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, by: str
) -> None:
    if by == "principal":
        request.getfixturevalue("client")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    error = refusal(conn)
    assert error.message == "The proxy of HTTPS_PROXY did not let the request to Azure through."


@provokes("The proxy asks for a name and a password (407).")
def test_a_proxy_that_asks_for_a_password_is_named(
    azure: StandIn, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(407, "Proxy Authentication Required")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    try:
        assert refusal(conn).message == "The proxy asks for a name and a password (407)."
    finally:
        server.shutdown()
        server.server_close()


@provokes("The name of a host of Azure was not found (DNS).")
def test_a_name_that_dns_does_not_know_is_named(azure: StandIn, conn: Connection) -> None:
    with pytest.raises(errors.Unreachable, match=r"not found \(DNS\)"):
        conn.call("read", "computes", requests.get, "http://management.azure.invalid")


@provokes("The certificate of {address} is not valid at this machine's time.")
def test_a_certificate_that_is_not_valid_yet_is_told_from_a_proxy_that_opens_tls(
    azure: StandIn, conn: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    conn.credential.get_token(conn.cloud.scope)
    early = make_certificates(tmp_path, ahead=timedelta(hours=2))
    proxy = Proxy(azure.azure, early.server_context())
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(early.authority))
    try:
        with pytest.raises(errors.Unreachable, match="is not valid at this machine's time"):
            conn.http("GET", "/subscriptions")
    finally:
        proxy.close()


@provokes("The connection to {service} ended before it answered.")
def test_a_connection_that_ends_before_the_answer_is_named(azure: StandIn, conn: Connection) -> None:
    azure.rules.add("GET .*/subscriptions", HANG_UP)
    with pytest.raises(errors.Unreachable, match="The connection to Azure ended before it answered"):
        conn.http("GET", "/subscriptions")


@provokes("Azure does not answer ({address}).")
def test_a_host_that_does_not_answer_is_named(azure: StandIn, conn: Connection) -> None:
    with pytest.raises(errors.Unreachable, match=r"Azure does not answer \(management"):
        conn.call("read", "computes", requests.get, "http://127.0.0.1:9")


@provokes("The local workspace does not answer on {address}.")
def test_a_local_workspace_that_does_not_run_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    with pytest.raises(errors.LocalWorkspaceDown, match=f"does not answer on 127.0.0.1:{home.port()}"):
        Connection(local_settings(), home).http("GET", "/health")


@provokes("{What} cannot be sent as it is: {message}")
def test_what_the_sdk_keeps_back_is_named(conn: Connection) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    nameless = ManagedOnlineEndpoint(name="0 no name", auth_mode="none of them")
    begin = conn.workspace.online_endpoints.begin_create_or_update
    with pytest.raises(errors.BadInput, match="Endpoint 'x' cannot be sent as it is"):
        conn.call("create", "endpoint 'x'", begin, nameless)


@provokes("The credential of '{workspace}' was asked for a token of another cloud. Nothing was sent.")
def test_a_token_of_another_cloud_is_not_asked_for(conn: Connection) -> None:
    with pytest.raises(errors.SignInFailed, match="of another cloud"):
        conn.call("read", "x", conn.credential.get_token, "https://example.com/.default")


@provokes("No sign-in for Azure was found on this machine.")
def test_a_machine_without_an_identity_is_named(azure: StandIn, conn: Connection) -> None:
    azure.az(state="signed out")
    assert refusal(conn).message == "No sign-in for Azure was found on this machine."


@provokes("The sign-in was not finished in the browser.")
def test_a_machine_without_a_browser_is_told_of_the_code(
    azure: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refusal(Connection(azure.settings(), azure.home, azure.by_click("browser")))
    assert error.message == "The sign-in was not finished in the browser."
    assert "with a code" in error.hint
    assert "Failed to open a browser" in error.detail


@provokes("The sign-in failed.")
def test_a_sign_in_by_click_that_fails_is_no_missing_identity(azure: StandIn) -> None:
    azure.rules.add("POST .*/oauth2/v2.0/token", 400, body="{", times=9)
    error = refusal(Connection(azure.settings(), azure.home, azure.by_click("browser")))
    assert error.message == "The sign-in failed."


@provokes("{Service} could not {doing} {what}: {message}")
def test_a_write_that_failed_after_it_was_taken_keeps_its_own_words(azure: StandIn, conn: Connection) -> None:
    """It was polled with status 200, so the words are in the exception and not in the answer's status."""
    from azure.ai.ml.entities import AmlCompute

    status = f"{conn.cloud.resource_manager}/subscriptions/x/computeOperationsStatus/1"
    body = {"id": "x", "name": "gpu-1", "properties": {"computeType": "AmlCompute", "properties": {}}}
    taken = {"Azure-AsyncOperation": status, "Retry-After": "0"}
    azure.rules.add("PUT .*/computes/gpu-1", 201, body=json.dumps(body), headers=taken)
    failed = {"status": "Failed", "error": {"code": "NodeLost", "message": "The node went away."}}
    azure.rules.add("GET .*/computeOperationsStatus", 200, body=json.dumps(failed))
    begin = conn.workspace.compute.begin_create_or_update
    with pytest.raises(errors.ServiceRefused, match=r"could not create compute 'gpu-1': The node went away\."):
        conn.call("create", "compute 'gpu-1'", lambda: begin(AmlCompute(name="gpu-1", size="x")).result())


def test_a_write_that_asks_for_a_second_factor_is_named_and_the_next_sign_in_brings_it(azure: StandIn) -> None:
    """As the SDK hears of it: it asks the identity for a token that proves more."""
    settings, asked = azure.settings(), "PUT .*/computes/gpu-1"
    conn = connect(settings, home=azure.home)
    azure.rules.add(asked, 401, headers=MFA)
    error = with_sdk(conn)
    assert error.message == "You may read here; to create compute 'gpu-1' Azure asks for a second factor (MFA)."
    assert "az login --claims-challenge eyJ" in error.hint
    azure.login.code_was_entered = True
    check_access(settings, credential=azure.by_click(claims=challenge_to(settings)))
    assert "acrs" in azure.login.claims
    azure.rules.add(asked, 401, headers=REVOKED)
    azure.login.refusal = "AADSTS50173: The provided grant has expired due to it being revoked."
    assert with_sdk(connect(settings, home=azure.home)).message.startswith("The sign-in was ended")


def test_a_second_factor_that_the_identity_can_prove_is_brought_without_a_question(azure: StandIn) -> None:
    azure.login.code_was_entered = True
    conn = Connection(azure.settings(), azure.home, azure.by_click())
    azure.rules.add("GET .*/subscriptions", 401, headers=MFA)
    assert conn.http("GET", "/subscriptions").json()["value"]
    assert "acrs" in azure.login.claims


def with_sdk(conn: Connection) -> errors.TunedeckError:
    from azure.ai.ml.entities import AmlCompute

    begin = conn.workspace.compute.begin_create_or_update
    with pytest.raises(errors.SignInFailed) as caught:
        conn.call("create", "compute 'gpu-1'", begin, AmlCompute(name="gpu-1", size=SIZE))
    return caught.value


@pytest.mark.parametrize("cause", CAUSES, ids=str)
def test_an_answer_becomes_a_sentence_with_the_next_step(azure: StandIn, cause: Cause, tmp_path: Path) -> None:
    conn = ruled_workspace(azure, tmp_path) if cause.local else connect(azure.settings(), home=azure.home)
    azure.rules.add("GET .*/what-is-ruled", cause.status, body=cause.body, headers=cause.headers, times=2)
    with pytest.raises(errors.TunedeckError) as caught:
        conn.http("GET", "/what-is-ruled", doing="create", what="compute 'gpu-1'")
    error = caught.value
    assert type(error) is cause.kind
    assert error.message.startswith(cause.read)
    assert error.hint
    assert cause.hint in error.hint
    assert f"status {cause.status}" in error.detail
    assert cause.code in error.detail


def ruled_workspace(azure: StandIn, folder: Path) -> Connection:
    """Return a connection to a local workspace that answers what a rule says."""
    home = Home(folder).create()
    (home.path / "address.json").write_text(json.dumps({"port": azure.proxy.server_port}), encoding="utf-8")
    return Connection(local_settings(), home)


def test_every_row_of_the_table_is_provoked_over_the_wire() -> None:
    places = {local: replace(AZURE, is_local=local) for local in (True, False)}
    spoken = {find_rule(read_refusal(said), AZURE) for said in REFUSALS}
    for cause in CAUSES:
        spoken.add(find_rule(read_answer(cause.status, cause.headers, cause.body), places[cause.local]))
    spoken |= {rule for rule in RULES if any(is_row(rule, *row) for row in PROVOKED)}
    assert [(rule.message, rule.hint) for rule in RULES if rule not in spoken] == []
    assert [row for row in PROVOKED if not any(is_row(rule, *row) for rule in RULES)] == []


def is_row(rule: Rule, message: str, hint: str) -> bool:
    return rule.message == message and rule.hint.startswith(hint)
