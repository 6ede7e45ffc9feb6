"""Lets a script use the local workspace by its environment alone, as if it were a cloud.

azure-ai-ml looks its cloud up where ARM_CLOUD_METADATA_URL says, azure-identity asks IDENTITY_ENDPOINT for tokens, and
both, with azure-storage-blob, take the certificates of REQUESTS_CA_BUNDLE: so `DefaultAzureCredential()` and
`MLClient(credential, subscription, group, workspace)` need no change. Credentials of a real Azure are kept from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from core.errors import BadInput, LocalWorkspaceDown
from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME, Home, write_atomically
from core.local import control
from core.local.wire.answers import REGISTRY_NAME
from core.local.wire.auth import SCRIPT_TOKEN_LIFETIME_S, Gatekeeper
from core.local.wire.certificates import Certificates, ensure_certificates

STREAM_POLL_S = 5  # jobs.stream looks every minute in the end: too seldom for a run of minutes
_OF_AZURE = ("AZURE_", "ARM_", "AZUREML_", "MSI_", "IDENTITY_")  # what would lead a script elsewhere

SCRIPT = """\
import os
os.environ.update(REQUESTS_CA_BUNDLE={bundle!r}, NO_PROXY="127.0.0.1")
os.environ.update(ARM_CLOUD_METADATA_URL="{url}/metadata/endpoints", REGISTRY_DISCOVERY_ENDPOINT_URL="{url}/")
os.environ.update(IDENTITY_ENDPOINT="{url}/identity/token", IDENTITY_HEADER=open({header!r}).read())
os.environ.update(AZURE_TOKEN_CREDENTIALS="ManagedIdentityCredential", MLFLOW_TRACKING_URI="{url}")
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
os.environ["MLFLOW_TRACKING_TOKEN"] = (credential := DefaultAzureCredential()).get_token("{url}/.default").token
ml_client = MLClient(credential, "{subscription}", "{group}", "{workspace}")
registry_ml_client = MLClient(credential, registry_name="{registry}")
"""


def write_script(home: Home) -> str:
    """Return the ten lines that connect a plain azure-ai-ml script or notebook, before anything else of it runs.

    They hold no secret: they read it from a file that only the home's owner can.
    """
    certificates = ensure_certificates(home)
    header = certificates.folder / "identity"
    write_atomically(header, _keeper_of(home).identity_header, 0o600)
    return SCRIPT.format(
        bundle=str(certificates.bundle),
        header=str(header),
        url=home.tls_url(),
        subscription=SUBSCRIPTION_ID,
        group=RESOURCE_GROUP,
        workspace=WORKSPACE_NAME,
        registry=REGISTRY_NAME,
    )


def run(home: Home, command: Sequence[str]) -> int:
    """Run a command with the environment that leads its azure-ai-ml and mlflow to this home; return its exit status.

    Starts the server where none runs.
    """
    if not command:
        raise BadInput("No command was given.", "For example: python -m core.local exec -- python script.py")
    control.start(home)
    check_listener(home)
    program = shutil.which(command[0])
    if program is None:
        raise BadInput(f"The program '{command[0]}' was not found.", "Name one that is on the PATH.")
    return subprocess.run([program, *command[1:]], env=environment(home), check=False).returncode


def check_listener(home: Home) -> None:
    """Raise LocalWorkspaceDown where the server speaks no TLS."""
    health = control.find_health(home)
    if health is not None and not health.get("tls"):
        raise LocalWorkspaceDown(
            "The local workspace answers over http only.",
            f"Another program had port {home.tls_port()} when it started: {home.logs / 'server.log'} says so. End that "
            "program, then `python -m core.local stop`, and try again.",
        )


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a foreign script: this process's without what leads to Azure, and what leads here."""
    certificates = ensure_certificates(home)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_AZURE)}
    around = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost")))
    return {**kept, "NO_PROXY": around, "no_proxy": around, **_addresses(home, certificates)}


def _addresses(home: Home, certificates: Certificates) -> dict[str, str]:
    url, keeper = home.tls_url(), _keeper_of(home)
    return {
        "REQUESTS_CA_BUNDLE": str(certificates.bundle),
        "SSL_CERT_FILE": str(certificates.bundle),
        "ARM_CLOUD_METADATA_URL": f"{url}/metadata/endpoints",
        "REGISTRY_DISCOVERY_ENDPOINT_URL": f"{url}/",
        "IDENTITY_ENDPOINT": f"{url}/identity/token",
        "IDENTITY_HEADER": keeper.identity_header,
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "AZUREML_RUN_POLLING_INTERVAL_MAX": str(STREAM_POLL_S),
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_TOKEN": keeper.sign_token(url, SCRIPT_TOKEN_LIFETIME_S),
        "TUNEDECK_HOME": str(home.path),
    }


def _keeper_of(home: Home) -> Gatekeeper:
    return Gatekeeper(home.secret(), home.port(), home.tls_port())
