"""Who acts on Azure: what each source on the machine answers, and the operator's own sign-in beside it."""

from __future__ import annotations

import time

import pytest
from azure.core.exceptions import ClientAuthenticationError

from core.azureml import access, connection
from core.azureml.addresses import AZURE
from core.azureml.identities import AzureCredential, DeviceCode, ask_machine, choose
from core.azureml.sign_in_rules import refuses_device_code
from core.errors import SignInFailed
from tests.azure.login import CLIENT_SECRET, TENANT
from tests.azure.stand_in import StandIn
from tests.azure.tokens import make_token

SCOPE = "https://management.azure.com/.default"
CLIENT = "c0ffee00-0000-4000-8000-000000000001"
BLOCKED = "AADSTS53003: Access has been blocked by Conditional Access policies."


def principal(monkeypatch: pytest.MonkeyPatch, secret: str = CLIENT_SECRET) -> None:
    for name, value in {"CLIENT_ID": CLIENT, "TENANT_ID": TENANT, "CLIENT_SECRET": secret}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)


def write_program(azure: StandIn, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Put a program before those of the stand-in."""
    folder = azure.home.path / "own-programs"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_each_source_says_who_answered_in_which_tenant(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    principal(monkeypatch)
    until = "2099-01-01T00:00:00Z"
    token = make_token("https://management.azure.com", TENANT, upn="dev@contoso.com")
    write_program(azure, monkeypatch, "azd", f"""echo '{{"token": "{token}", "expiresOn": "{until}"}}'""")
    found = {each.source: (each.account, each.tenant) for each in ask_machine(AZURE, TENANT)}
    assert found == {
        "Environment": (f"service principal {CLIENT}", TENANT),
        "Workload identity": ("", ""),
        "Managed identity": ("", ""),
        "Azure CLI": ("ada@contoso.com", TENANT),
        "Azure Developer CLI": ("dev@contoso.com", TENANT),
    }


def test_a_program_that_hangs_costs_five_seconds_and_hides_no_other(
    azure: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 5 s: so long a hanging program is waited for."""
    write_program(azure, monkeypatch, "azd", "exec sleep 60")
    began = time.monotonic()
    credential = AzureCredential(AZURE, TENANT)
    credential.get_token(SCOPE)
    assert time.monotonic() - began < 30
    assert credential.source == "Azure CLI"
    assert credential.identities[-1].problem == "It did not answer within 5 s."


def test_a_principal_that_is_refused_is_not_replaced_by_whoever_is_signed_in_to_az(
    azure: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    principal(monkeypatch, "mistyped")
    identities = ask_machine(AZURE, TENANT)
    assert [each.source for each in identities if each.credential] == ["Azure CLI"]
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        choose(identities)


def test_the_lines_of_access_name_every_source(azure: StandIn) -> None:
    lines = {line.title: line for line in access.check_access(azure.settings())}
    assert lines["Azure CLI"].detail == f"ada@contoso.com, tenant {TENANT}."
    assert (lines["Environment"].state, lines["Environment"].detail) == ("skipped", "No identity here.")


def test_every_check_says_for_whom_it_answered(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "/subscriptions/x/resourcegroups/rg-ml/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    azure.login.machine = f"{folder}/trainer"
    lines = {line.title: line.detail for line in access.check_access(azure.settings())}
    signed_in = f"Signed in as managed identity 'trainer' by Managed identity, tenant {TENANT}, object machine, token"
    assert lines["Sign-in"].startswith(signed_in)
    assert lines["Delete endpoints"] == "Allowed to managed identity 'trainer'."
    principal(monkeypatch)
    lines = {line.title: line.detail for line in access.check_access(azure.settings())}
    assert lines["Sign-in"].startswith(f"Signed in as service principal {CLIENT} by Environment")
    principal(monkeypatch, "mistyped")
    refused = access.check_access(azure.settings())[1]
    assert refused.detail == f"service principal {CLIENT}: The secret in AZURE_CLIENT_SECRET is not the application's."


def test_another_login_of_az_is_seen_by_the_next_check(azure: StandIn) -> None:
    settings = azure.settings()
    access.check_access(settings)
    azure.az(user="eve@contoso.com")
    try:
        assert "eve@contoso.com" in access.check_access(settings)[0].detail
    finally:
        azure.az(user="ada@contoso.com")


def test_a_code_signs_in_by_click_while_az_works_too(azure: StandIn) -> None:
    azure.login.user = "grace@contoso.com"
    settings, codes, starts = azure.settings(), list[DeviceCode](), azure.az_starts()

    def enter(code: DeviceCode) -> None:
        codes.append(code)
        assert connection.connect(settings).credential.source != "a device code", "until then all is as it was"
        azure.login.code_was_entered = True

    lines = access.check_access(settings, credential=azure.by_click(on_code=enter))
    assert [code.code for code in codes] == ["H7KQP2XV"]
    assert "grace@contoso.com by a device code" in lines[0].detail
    assert azure.az_starts() == starts
    assert connection.connect(settings).facts().user == "grace@contoso.com"


def test_a_sign_in_that_failed_leaves_the_identity_in_use(azure: StandIn) -> None:
    settings = azure.settings()
    before = connection.connect(settings)
    azure.login.refusal = BLOCKED
    lines = access.check_access(settings, credential=azure.by_click())
    assert lines[0].state == "failed"
    assert refuses_device_code(lines[0].service)
    assert connection.connect(settings) is before


def test_a_sign_in_that_ends_opens_no_window_by_itself(azure: StandIn) -> None:
    azure.login.code_was_entered, azure.login.token_life_s = True, 0
    codes: list[DeviceCode] = []
    conn = connection.Connection(azure.settings(), azure.home, azure.by_click(on_code=codes.append))
    conn.credential.get_token(SCOPE)
    azure.login.refusal = "AADSTS700082: The refresh token has expired due to inactivity."
    conn.credential.forget()
    with pytest.raises(SignInFailed):
        conn.http("GET", "/subscriptions")
    assert len(codes) == 1
