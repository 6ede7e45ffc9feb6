from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError

from core.azureml import cloud as clouds
from core.azureml.addresses import AZURE
from core.azureml.cloud import LocalCredential, local_cloud
from core.azureml.connection import connect
from core.azureml.identities import AzureCredential
from core.azureml.settings import Settings
from core.errors import SignInFailed
from core.home import REPOSITORY, Home
from tests.no_identity import no_identity

__all__ = ["no_identity"]

AZURE_SETTINGS = Settings("ml-dev", "azure", "11111111-2222-3333-4444-555555555555", "rg-ml", "ml-dev")


@contextmanager
def identity_service(asked: list[dict[str, list[str]]]) -> Iterator[str]:
    """The managed identity service of an Azure app, which speaks plain http: the one sign-in that needs no tenant."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({**parse_qs(urlsplit(self.path).query), "header": [self.headers.get("X-IDENTITY-HEADER", "")]})
            expires_on = int(time.time()) + 3600
            claims = {"upn": "ana@contoso.com", "tid": "contoso", "exp": expires_on}
            token = jwt.encode(claims, "not checked by a client, but long enough", algorithm="HS256")
            answer = {"access_token": token, "expires_on": str(expires_on), "resource": "r", "token_type": "Bearer"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/msi/token"
    finally:
        server.shutdown()
        server.server_close()


def test_a_local_token_is_signed_by_the_home_and_made_for_what_was_asked(home: Home) -> None:
    asked = f"{home.url()}/aml/.default"
    token = LocalCredential(home).get_token(asked)
    claims = jwt.decode(token.token, home.secret(), algorithms=["HS256"], audience=f"{home.url()}/aml")
    assert (claims["iss"], claims["tid"], claims["oid"]) == ("tunedeck-local", "local", "local")
    assert 3500 < token.expires_on - time.time() <= 3600


@pytest.mark.parametrize(
    "scope",
    ["https://management.azure.com/.default", "http://127.0.0.1:1/.default", "https://evil.example/.default"],
)
def test_a_local_credential_makes_no_token_for_another_cloud(home: Home, scope: str) -> None:
    with pytest.raises(ClientAuthenticationError):
        LocalCredential(home).get_token(scope)


def test_an_azure_credential_asks_nobody_for_a_token_for_the_local_workspace(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, list[str]]] = []
    with identity_service(asked) as endpoint:
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", "secret-header")
        with pytest.raises(ClientAuthenticationError):
            AzureCredential(AZURE, None).get_token(f"{home.url()}/.default")
    assert asked == []


def test_the_machines_own_credential_is_proved_by_a_token_for_the_resource_manager(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, list[str]]] = []
    with identity_service(asked) as endpoint:
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", "secret-header")
        claims = clouds.read_claims(
            AzureCredential(AZURE, None).get_token("https://management.azure.com/.default").token
        )
    assert claims["upn"] == "ana@contoso.com"
    assert asked[0]["resource"] == ["https://management.azure.com"]
    assert asked[0]["header"] == ["secret-header"]


@pytest.mark.usefixtures("home", "no_identity")
def test_without_any_credential_the_operator_reads_what_to_do() -> None:
    with pytest.raises(SignInFailed) as caught:
        connect(AZURE_SETTINGS).http("GET", "/subscriptions")
    assert caught.value.message == "No sign-in for Azure was found on this machine."
    assert "az login" in caught.value.hint
    assert "Azure CLI: Azure CLI not found on path" in caught.value.detail


def test_a_token_goes_to_hosts_of_its_own_cloud_only(home: Home) -> None:
    own = local_cloud(home)
    assert own.owns(f"{home.url()}/health")
    assert not own.owns(f"http://127.0.0.1:{home.port() + 1}/health")
    assert AZURE.owns("https://westus.api.azureml.ms/mlflow/v2.0/x")
    for url in ("http://management.azure.com/x", "https://api.azureml.ms.evil.example/x", f"{home.url()}/x"):
        assert not AZURE.owns(url)
    with pytest.raises(SignInFailed, match="not sent to another host"):
        connect(AZURE_SETTINGS).http("GET", "https://evil.example/x")


def test_the_name_of_a_local_cloud_holds_its_address(home: Home) -> None:
    """The SDK remembers an address by the cloud's name for the life of the process."""
    assert local_cloud(home).name == f"TunedeckLocal{home.port()}"


def test_threads_do_not_load_azures_package_and_a_module_in_it_at_once() -> None:
    """Which of them fails is chance, so this asks a new process what is loaded before there are threads."""
    code = "import sys, core.azureml.cloud; print('azure.core.pipeline' in sys.modules, 'azure.ai.ml' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "False"]
