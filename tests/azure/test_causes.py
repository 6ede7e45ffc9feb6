"""Each cause of a sign-in or a refusal that Connect names, provoked over the wire."""

from __future__ import annotations

import email.utils
import json
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from core import errors
from core.azureml.connection import Connection
from core.azureml.failures import Rule
from core.azureml.identities import SignIn
from core.azureml.sign_in_rules import SIGN_IN
from core.catalog import compute
from tests.azure.login import CLIENT_SECRET, TENANT
from tests.azure.stand_in import StandIn

CLIENT = "c0ffee00-0000-4000-8000-000000000001"
EXPIRED = "The sign-in has expired."
MFA_NEEDED = "Azure asks for a second factor (MFA) for this sign-in."
CONSENT = "Your company has not agreed that this application acts for you."
MANAGED_DEVICE = "Your company's policy wants a device that it manages for this sign-in."
# What the login host says of a refused sign-in, as in its reference of codes -> what the operator reads.
REFUSALS = {
    "AADSTS700082: The refresh token has expired due to inactivity.": EXPIRED,
    "AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks.": EXPIRED,
    "AADSTS50173: The provided grant has expired due to it being revoked.": "The sign-in was ended, as after a change",
    "AADSTS7000215: Invalid client secret provided.": "The secret in AZURE_CLIENT_SECRET is not the application's.",
    "AADSTS7000222: The provided client secret keys are expired.": "The secret in AZURE_CLIENT_SECRET has expired.",
    "AADSTS700016: Application with identifier was not found in the directory.": "The application of AZURE_CLIENT_ID",
    "AADSTS90002: Tenant not found.": "There is no tenant of that id or name.",
    "AADSTS70020: The provided value for the input parameter 'device_code' is expired.": "The code ran out",
    "AADSTS53003: Access has been blocked by Conditional Access policies.": "Your company's policy (conditional",
    "AADSTS53000: Device is not in required device state: compliant.": MANAGED_DEVICE,
    "AADSTS50005: User tried to log in to a device from a platform not supported.": "Your company's policy does not",
    "AADSTS65001: The user or administrator has not consented to use the application.": CONSENT,
    "AADSTS50076: You must use multi-factor authentication to access the resource.": MFA_NEEDED,
    "AADSTS50020: User account from identity provider does not exist in tenant.": "Your account is not known",
    "AADSTS50105: The signed in user is not assigned to a role for the application.": "Your account is not assigned",
    "AADSTS50057: The user account is disabled.": "Your account is switched off.",
    "AADSTS500011: The resource principal named https://management was not found.": "The sign-in is of another of",
    "AADSTS700024: Client assertion is not within its valid time range.": "The login host says that the time",
}


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


def test_every_code_of_the_table_is_in_a_refusal() -> None:
    by_code = [rule for rule in SIGN_IN if rule.code.startswith("AADSTS")]
    assert [rule.message for rule in by_code if not any(fits(rule, said) for said in REFUSALS)] == []


def fits(rule: Rule, said: str) -> bool:
    return bool(re.search(rule.code, said))


def test_an_expired_login_of_az_is_named_too(azure: StandIn, conn: Connection) -> None:
    azure.az(state="expired")
    assert refusal(conn).message == EXPIRED


def test_a_mistyped_tenant_is_named(azure: StandIn, client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT[:-1] + "1")
    conn = Connection(replace(azure.settings(), tenant_id=None), azure.home)
    assert refusal(conn).message == "There is no tenant of that id or name."
    mistyped = Connection(replace(azure.settings(), tenant_id="no tenant!"), azure.home, SignIn("device_code"))
    assert refusal(mistyped).message == "There is no tenant of that id or name."


def test_a_code_that_nobody_enters_runs_out(azure: StandIn) -> None:
    """About 2 s: so long the code is good."""
    azure.login.code_life_s = 1
    conn = Connection(azure.settings(), azure.home, SignIn("device_code", timeout_s=1))
    assert refusal(conn).message == "The code ran out before it was entered."


def test_a_sign_in_by_code_that_ended_asks_for_another_click(azure: StandIn) -> None:
    azure.login.code_was_entered, azure.login.token_life_s = True, 0
    conn = Connection(azure.settings(), azure.home, SignIn("device_code"))
    conn.credential.get_token(conn.cloud.scope)
    azure.login.refusal = "AADSTS70043: The refresh token has expired."
    conn.credential.forget()
    assert refusal(conn).message == EXPIRED


DISALLOWED = {
    "code": "RequestDisallowedByPolicy",
    "message": "Resource 'gpu-1' was disallowed by policy. Policy identifiers: "
    '\'[{"policyAssignment":{"name":"Require a cost centre","id":"/subscriptions/x"}}]\'.',
}
LOCKED = {
    "code": "ScopeLocked",
    "message": "The scope '/subscriptions/x' cannot perform write operation because following scope(s) are locked.",
}
MFA = {
    "code": "RequestDisallowedByAzure",
    "message": "Users must authenticate through multi-factor authentication to create or update resources.",
}


@pytest.mark.parametrize(
    ("status", "error", "kind", "read"),
    [
        (
            403,
            DISALLOWED,
            errors.AccessDenied,
            "A policy of your company does not allow to read the computes: Require",
        ),
        (409, LOCKED, errors.AccessDenied, "A lock on the resource group or the subscription keeps you from this"),
        (
            403,
            MFA,
            errors.SignInFailed,
            "You may read here; to read the computes Azure asks for a second factor (MFA).",
        ),
    ],
    ids=["policy", "lock", "mfa"],
)
def test_what_a_company_forbids_is_named(
    azure: StandIn, conn: Connection, status: int, error: dict[str, Any], kind: type[errors.TunedeckError], read: str
) -> None:
    azure.rules.add("GET .*/computes", status, body=json.dumps({"error": error}))
    found = refusal(conn)
    assert type(found) is kind
    assert found.message.startswith(read)


def test_a_clock_that_is_wrong_is_told_by_azures_own(azure: StandIn, conn: Connection) -> None:
    body = {"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expiry UTC time is earlier."}}
    ahead = email.utils.formatdate(time.time() + 3600, usegmt=True)
    azure.rules.add("GET .*/computes", 401, body=json.dumps(body), headers={"Date": ahead}, times=2)
    assert refusal(conn).message.startswith("This machine's clock is 60 minutes from Azure's")


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


@pytest.mark.parametrize("by", ["az", "principal"])
def test_a_proxy_that_is_not_there_is_named(
    azure: StandIn, conn: Connection, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, by: str
) -> None:
    if by == "principal":
        request.getfixturevalue("client")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    error = refusal(conn)
    assert error.message == "The proxy of HTTPS_PROXY did not let the request to Azure through."


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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    try:
        assert refusal(conn).message == "The proxy asks for a name and a password (407)."
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_that_dns_does_not_know_is_named(azure: StandIn, conn: Connection) -> None:
    with pytest.raises(errors.Unreachable, match=r"not found \(DNS\)"):
        conn.call("read", "computes", requests.get, "http://management.azure.invalid")
