"""The stand-in as a whole: a local workspace with Azure's manners, the proxy before it, `az`, an operator's home."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import requests

from core.azureml.addresses import AZURE
from core.azureml.identities import AzureCredential, SignIn
from core.azureml.settings import Settings, make_settings
from core.home import Home
from core.local import control
from tests.azure import az
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE, Behind
from tests.azure.certificates import make_certificates
from tests.azure.login import TENANT, Login
from tests.azure.proxy import Azure, Proxy
from tests.azure.rules import Rules
from tests.local_server import LocalServer
from tests.tiny_model import build_tiny_model

SIZE = "Standard_NC24ads_A100_v4"
ALLOWED = str([SIZE, "Standard_NC48ads_A100_v4"])


@dataclass(frozen=True)
class StandIn:
    """A running stand-in. home: the operator's, which knows of Azure only what the operator tells it."""

    azure: Azure
    proxy: Proxy
    workspace: LocalServer
    home: Home
    programs: Path
    authority: Path

    @property
    def login(self) -> Login:
        return self.azure.login

    @property
    def rules(self) -> Rules:
        return self.azure.rules

    @property
    def environment(self) -> dict[str, str]:
        """Return what an operator's process needs to find the stand-in in the place of Azure."""
        return {
            "PATH": os.pathsep.join((str(self.programs), os.environ.get("PATH", os.defpath))),
            "HTTPS_PROXY": self.proxy.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "REQUESTS_CA_BUNDLE": str(self.authority),
            "SSL_CERT_FILE": str(self.authority),
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.proxy.url,
            "BROWSER": "browser %s &",  # found anew by each: Python remembers the line for the life of a process
            "TUNEDECK_HOME": str(self.home.path),
            "TUNEDECK_LOOK_S": "0.25",  # its minutes may hurry by: see `hurried`
        }

    def settings(self) -> Settings:
        """Return the workspace as the operator would fill it in."""
        return make_settings(SUBSCRIPTION, GROUP, WORKSPACE, TENANT)

    def by_click(self, method: Literal["browser", "device_code"] = "device_code", **options: Any) -> AzureCredential:
        """Return a credential of an operator who signs in by click. options: of SignIn, and the `tenant`."""
        return AzureCredential(AZURE, options.pop("tenant", TENANT), SignIn(method, **options))

    def az(self, **choices: str) -> None:
        """Change what `az` says: see tests/azure/az.py."""
        az.choose(self.programs, **choices)

    def az_starts(self) -> int:
        """Return how often `az` was started."""
        return az.count_starts(self.programs)

    def advance(self, seconds: float) -> None:
        """Put the workspace's clock forward: provisioning takes minutes there."""
        answer = self.workspace.request("PUT", "/profile/clock", json={"advanceSeconds": seconds})
        assert answer.status_code == 200, answer.text

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Let the workspace's minutes go by in a tenth of a second for the block.

        What is not there is dated by them, so that a minute between two looks goes by; the rest by this machine's.
        """
        ended = threading.Event()

        def hurry() -> None:
            with suppress(requests.ConnectionError):  # Ctrl-C in a terminal ends the workspace, too
                while not ended.wait(0.1):
                    self.advance(60)
                    self.rules.absent_ahead_s += 60

        clock = threading.Thread(target=hurry, daemon=True)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join()


def tiny_model_for_azure(base_models: Path) -> None:
    """Build the tiny model as one that asks for a GPU, and for DeepSpeed as the service's own models do."""
    build_tiny_model(
        base_models,
        defaults={"apply_deepspeed": "true", "deepspeed_stage": 2},
        tags={"finetune_compute_allow_list": ALLOWED, "inference_compute_allow_list": ALLOWED},
    )


@contextmanager
def running_stand_in(folder: Path, module: str = "core.local") -> Iterator[StandIn]:
    """Serve a stand-in for the block, everything of it in `folder`. module: what serves the workspace behind it."""
    tiny_model_for_azure(folder / "base-models")
    served = {"TUNEDECK_BASE_MODELS": str(folder / "base-models"), "TUNEDECK_PROFILE": "azure"}
    workspace = LocalServer(Home(folder / "azure"), served, module=module)
    certificates = make_certificates(folder)
    user = {"state": "signed in", "tenant": TENANT, "user": "ada@contoso.com", "subscription": SUBSCRIPTION}
    programs = az.install(folder / "programs", **user)
    azure = Azure(Behind(workspace.home))
    proxy = Proxy(azure, certificates.server_context())
    try:
        workspace.start()
        home = Home(folder / "operator").create()
        yield StandIn(azure, proxy, workspace, home, programs, certificates.authority)
    finally:
        control.stop(Home(folder / "operator"))  # a page may have started the local workspace of this home
        proxy.close()
        workspace.stop()
