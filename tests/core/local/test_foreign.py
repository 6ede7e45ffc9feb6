"""Scripts that know nothing of Tunedeck: the TLS listener, its certificates, its tokens, and the lines that connect."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import requests

from core.home import Home
from core.local import foreign, processes
from core.local.wire import answers
from core.local.wire.certificates import ensure_certificates
from tests.local_server import LocalServer, running_server

ASK = """
import mlflow
print(mlflow.search_experiments()[0].name)
print(ml_client.workspaces.get("local").mlflow_tracking_uri)
from azure.ai.ml.entities import Data
made = ml_client.data.create_or_update(Data(name="local-file", type="uri_file", path="rows.jsonl"))
import sys
from azure.ai.ml._artifacts import _artifact_utilities
_artifact_utilities.download_artifact_from_aml_uri(made.path, "back", ml_client.datastores)
print(open("back/rows.jsonl").read())
"""


@pytest.fixture
def session(local_server: LocalServer) -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        opened.verify = str(ensure_certificates(local_server.home).ca)
        yield opened


def get_token(
    session: requests.Session, server: LocalServer, resource: str, header: str | None = None
) -> requests.Response:
    header = header or foreign._keeper_of(server.home).identity_header
    return session.get(
        f"{server.home.tls_url()}/identity/token", params={"resource": resource}, headers={"X-IDENTITY-HEADER": header}
    )


def test_ten_printed_lines_connect_a_plain_script(local_server: LocalServer, tmp_path: Path) -> None:
    """A process of its own imports azure-ai-ml: two seconds."""
    command = [sys.executable, "-m", "core.local", "connect", "--print"]
    home = {"TUNEDECK_HOME": str(local_server.home.path)}
    printed = subprocess.run(
        command, cwd=processes.REPOSITORY, env=os.environ | home, capture_output=True, text=True, check=True
    ).stdout
    assert len(printed.splitlines()) == 10
    assert local_server.home.secret() not in printed
    assert foreign._keeper_of(local_server.home).identity_header not in printed
    (tmp_path / "rows.jsonl").write_text("uploaded by the SDK\n", encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "TUNEDECK"))}
    plain |= {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "of a real account", "AZURE_CLIENT_SECRET": "s"}
    done = subprocess.run(
        [sys.executable, "-c", printed + ASK], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[:2] == ["Default", local_server.home.tls_url()]
    assert "uploaded by the SDK" in done.stdout


def test_addresses_follow_the_listener_that_was_asked(local_server: LocalServer, session: requests.Session) -> None:
    token = {"Authorization": f"Bearer {local_server.token}"}
    path = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/"
    path += "Microsoft.MachineLearningServices/workspaces/local/datastores/workspaceblobstore"
    host = f"127.0.0.1:{local_server.home.tls_port()}"
    over_tls = session.get(f"https://{host}{path}", headers=token).json()["properties"]
    plain = local_server.request("GET", path).json()["properties"]
    told = ("protocol", "accountName", "endpoint")
    assert [over_tls[name] for name in told] == ["https", f"{host}/localstore", "local"]
    assert [plain[name] for name in told] == ["http", "localstore", local_server.url.removeprefix("http://")]
    assert session.get(f"https://{host}/discovery").json()["api"] == f"https://{host}"


def test_tokens_are_given_for_this_workspace_to_who_has_the_homes_header(
    local_server: LocalServer, session: requests.Session
) -> None:
    own = local_server.home.tls_url()
    token = get_token(session, local_server, own).json()["access_token"]
    health = session.get(f"{own}/health", headers={"Authorization": f"Bearer {token}"})
    assert health.json()["tls"] is True
    assert get_token(session, local_server, own, "wrong").status_code == 401
    for elsewhere in ("https://storage.azure.com", "https://graph.microsoft.com", "https://ml.azure.0.1:1"):
        refused = get_token(session, local_server, elsewhere)
        assert (refused.status_code, elsewhere in refused.json()["message"]) == (400, True)


def test_a_token_asked_for_azure_is_made_for_this_workspace_and_opens_it(
    local_server: LocalServer, session: requests.Session
) -> None:
    own = local_server.home.tls_url()
    for resource in ("https://management.azure.com", "https://management.core.windows.net/", "https://ML.azure.com"):
        answer = get_token(session, local_server, resource).json()
        assert answer["resource"] == resource, "azure-identity keeps the token under what it asked for"
        assert jwt.decode(answer["access_token"], options={"verify_signature": False})["aud"] == own
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        assert session.get(f"{own}{answers.workspace_id()}", headers=headers).json()["name"] == "local"


def test_a_scope_that_is_not_this_workspaces_is_refused_in_words_to_the_script(
    local_server: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process of its own imports azure-identity."""
    ask = "from azure.identity import DefaultAzureCredential as Default\nDefault().get_token('https://graph.microsoft.com')"
    assert foreign.run(local_server.home, [sys.executable, "-c", ask]) == 1
    assert "makes no tokens for 'https://graph.microsoft.com'" in capfd.readouterr().err


def test_the_ca_vouches_for_this_machine_alone_and_its_keys_are_private(tmp_path: Path) -> None:
    made = ensure_certificates(Home(tmp_path))
    again = ensure_certificates(Home(tmp_path))
    assert made.ca.read_bytes() == again.ca.read_bytes()
    keys = [path for path in made.folder.iterdir() if "PRIVATE KEY" in path.read_text(encoding="utf-8")]
    assert len(keys) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    stranger = made.folder / "stranger.pem"
    stranger.write_text(_leaf_for("example.org", made.folder), encoding="ascii")
    assert _greeting(made.server, made.ca, "127.0.0.1") == "ok"
    assert _greeting(made.server, made.ca, "example.org") != "ok"
    assert "permitted subtree" in _greeting(stranger, made.ca, "example.org")


def test_a_taken_tls_port_leaves_http_and_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    with socket.socket() as other:
        other.bind(("127.0.0.1", home.tls_port()))
        other.listen()
        with running_server(tmp_path) as server:
            assert server.request("GET", "/health").json()["tls"] is False
            with pytest.raises(foreign.LocalWorkspaceDown, match="http only") as refused:
                foreign.run(home, [sys.executable, "-c", "pass"])
            assert str(home.tls_port()) in refused.value.hint


def test_the_exit_status_is_the_scripts_and_azures_names_are_kept_from_it(
    local_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of a real account")
    seen = foreign.environment(local_server.home)
    assert "AZURE_CLIENT_SECRET" not in seen
    assert seen["MLFLOW_TRACKING_URI"] == local_server.home.tls_url()
    assert foreign.run(local_server.home, [sys.executable, "-c", "raise SystemExit(7)"]) == 7
    with pytest.raises(foreign.BadInput, match="no-such-program"):
        foreign.run(local_server.home, ["no-such-program"])


def _leaf_for(name: str, folder: Path) -> str:
    """Return a certificate for another name, signed with the CA's own key as a thief of it would."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from core.local.wire import certificates as made

    issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    issuer_key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [(x509.SubjectAlternativeName([x509.DNSName(name)]), False)]
    leaf = made._sign(made._named(name), key.public_key(), issuer.subject, issuer_key, made.LEAF_LIFETIME, names)
    return made._pem_of(key) + made._text_of(leaf)


def _greeting(server: Path, ca: Path, name: str) -> str:
    """Return "ok" where a client that trusts the CA takes the server's certificate for `name`, else why not."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(server)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(ca)).wrap_bio(incoming, outgoing, server_hostname=name)
    other = offered.wrap_bio(outgoing, incoming, server_side=True)
    for _ in range(5):
        for side in (client, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return "ok"
