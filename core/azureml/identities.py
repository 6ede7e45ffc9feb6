"""Who acts on Azure: the identities that this machine has, asked side by side, or the operator who signs in by click.

Asking the machine opens no window and waits for nobody longer than WAIT_S. It does not know what an identity may do.
"""

from __future__ import annotations

import base64
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError

from core.azureml.addresses import Cloud
from core.azureml.cloud import check_scopes, let_go_of_cloud, read_claims, whom
from core.azureml.tokens import KeptTokens

# Each source that has no identity would warn in the log, at each look; what it says is in Identity.problem.
logging.getLogger("azure.identity").setLevel(logging.ERROR)
WAIT_S = 5.0
_ANY_TENANT: dict[str, Any] = {"additionally_allowed_tenants": ["*"]}
_SOON: dict[str, Any] = {"retry_total": 1}  # at once; by three more, a proxy that is not there would take all of WAIT_S


def _login_of(cloud: Cloud) -> dict[str, Any]:
    """Return azure-identity's options for a cloud's login host; Microsoft's own is not asked about a custom one."""
    return {"authority": cloud.login, "disable_instance_discovery": cloud.is_custom}


@dataclass(frozen=True)
class Identity:
    """What one source of identities answered: a token for `account` in `tenant`, or why there is none for it.

    refused: there is an identity and it got no token; else the source has none.
    """

    source: str
    account: str = ""
    tenant: str = ""
    problem: str = ""
    refused: bool = False
    credential: KeptTokens | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DeviceCode:
    """What the operator types, where, and until when."""

    code: str
    url: str
    expires_at: datetime


@dataclass(frozen=True)
class SignIn:
    """How the operator signs in; the code is delivered to `on_code`."""

    method: Literal["browser", "device_code"]
    on_code: Callable[[DeviceCode], None] | None = None
    timeout_s: int = 300
    claims: str = ""
    """What a service asked of the sign-in, such as a second factor: JSON, as it was told."""


def _environment(cloud: Cloud) -> TokenCredential:
    from azure.identity import EnvironmentCredential

    return EnvironmentCredential(**_ANY_TENANT, **_SOON, **_login_of(cloud))


def _workload(cloud: Cloud) -> TokenCredential:
    from azure.identity import CredentialUnavailableError, WorkloadIdentityCredential

    try:
        return WorkloadIdentityCredential(**_ANY_TENANT, **_SOON, **_login_of(cloud))
    except ValueError as missing:
        raise CredentialUnavailableError(str(missing)) from missing


def _managed(_cloud: Cloud) -> TokenCredential:
    from azure.identity import ManagedIdentityCredential

    # As in DefaultAzureCredential it looks for its service for one second first; else it would try for minutes.
    return ManagedIdentityCredential(client_id=os.environ.get("AZURE_CLIENT_ID"), _enable_imds_probe=True)


def _cli(_cloud: Cloud) -> TokenCredential:
    from azure.identity import AzureCliCredential

    return AzureCliCredential(**_ANY_TENANT)


def _developer_cli(_cloud: Cloud) -> TokenCredential:
    from azure.identity import AzureDeveloperCliCredential

    return AzureDeveloperCliCredential(**_ANY_TENANT)


# In the order of azure-identity's DefaultAzureCredential: the first that answers is used.
SOURCES: dict[str, Callable[[Cloud], TokenCredential]] = {
    "Environment": _environment,
    "Workload identity": _workload,
    "Managed identity": _managed,
    "Azure CLI": _cli,
    "Azure Developer CLI": _developer_cli,
}
# Set up for this very process: where such an identity is refused, another one is not taken in its place.
_DELIBERATE = ("Environment", "Workload identity")


def ask_machine(cloud: Cloud, tenant_id: str | None, wait_s: float = WAIT_S) -> list[Identity]:
    """Ask every source for a token at once and return their answers in the order of SOURCES."""
    answers: queue.SimpleQueue[Identity] = queue.SimpleQueue()
    deadline = time.monotonic() + wait_s

    def ask(source: str) -> None:
        answers.put(_ask(source, cloud, tenant_id))

    for source in SOURCES:
        threading.Thread(target=ask, args=(source,), name=f"identity-{source}", daemon=True).start()
    known = {source: Identity(source, problem=f"It did not answer within {wait_s:g} s.") for source in SOURCES}
    for _ in SOURCES:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        known[answer.source] = answer
    return list(known.values())


def _ask(source: str, cloud: Cloud, tenant_id: str | None) -> Identity:
    from azure.identity import CredentialUnavailableError

    try:
        credential = KeptTokens(SOURCES[source](cloud))
        claims = read_claims(credential.get_token(cloud.scope, **_in_tenant(tenant_id)).token)
    except CredentialUnavailableError as none:
        return Identity(source, problem=str(none))
    except (AzureError, ValueError) as refusal:  # ValueError: ids in the environment that cannot be ids
        who = f"service principal {os.environ.get('AZURE_CLIENT_ID')}" if source in _DELIBERATE else ""
        return Identity(source, who, problem=str(refusal), refused=True)
    return Identity(source, whom(claims), str(claims.get("tid") or ""), credential=credential)


def choose(identities: list[Identity]) -> Identity:
    """Return the identity to act as, or raise ClientAuthenticationError with what every source said."""
    for identity in identities:
        if identity.credential:
            return identity
        if identity.refused and identity.source in _DELIBERATE:
            break
    refused = next((identity for identity in identities if identity.refused), None)
    first = f"{refused.source}: {refused.problem}" if refused else "No identity was found on this machine."
    said = "\n".join(f"{identity.source}: {identity.problem or identity.account}" for identity in identities)
    raise ClientAuthenticationError(f"{first}\n{said}")


class AzureCredential:
    """An identity of this machine, found at first use; or the operator's sign-in, where one is asked for.

    identities: what the machine's sources answered, empty before they were asked and with a sign-in. claims: what a
    service asked of a token last and the identity in use could not prove.
    """

    def __init__(self, cloud: Cloud, tenant_id: str | None, sign_in: SignIn | None = None) -> None:
        self.cloud = cloud
        self.tenant_id = tenant_id
        self.sign_in = sign_in
        self.identities: list[Identity] = []
        self.claims = ""
        self._lock = threading.Lock()
        self._tokens: KeptTokens | None = None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token, in the workspace's tenant where that is known."""
        check_scopes(self.cloud, scopes)
        if scopes[0].startswith(self.cloud.job_audience):
            let_go_of_cloud()
        try:
            return self._prove().get_token(*scopes, **{**_in_tenant(self.tenant_id), **options})
        except ClientAuthenticationError as refused:
            if not options.get("claims"):
                raise
            self.claims = options["claims"]
            encoded = base64.b64encode(self.claims.encode()).decode()
            raise ClientAuthenticationError(f"The service asked: claims-challenge {encoded}\n{refused}") from refused

    def forget(self) -> None:
        """Ask for each token anew from now on: a service refused one."""
        if self._tokens:
            self._tokens.forget()

    def look_anew(self) -> None:
        """Ask the machine again at the next token: another account may have signed in. A sign-in by click is kept."""
        if self.sign_in is None:
            self._tokens = None

    @property
    def source(self) -> str:
        """Return what gave the identity in use: "Azure CLI", "the browser"."""
        if self.sign_in:
            return "the browser" if self.sign_in.method == "browser" else "a device code"
        return next((identity.source for identity in self.identities if identity.credential is self._tokens), "")

    def _prove(self) -> KeptTokens:
        with self._lock:
            if self._tokens is None:
                self._tokens = self._sign_in(self.sign_in) if self.sign_in else self._find()
            return self._tokens

    def _find(self) -> KeptTokens:
        self.identities = ask_machine(self.cloud, self.tenant_id)
        chosen = choose(self.identities).credential
        assert chosen is not None
        return chosen

    def _sign_in(self, sign_in: SignIn) -> KeptTokens:
        """Have the operator sign in, now and not again by itself: a page that reads must not open a window."""
        from azure.identity import DeviceCodeCredential, InteractiveBrowserCredential

        options: dict[str, Any] = {"timeout": sign_in.timeout_s, "disable_automatic_authentication": True}
        options |= _in_tenant(self.tenant_id) | _login_of(self.cloud)

        def deliver(url: str, code: str, expires_at: datetime) -> None:
            if sign_in.on_code:
                sign_in.on_code(DeviceCode(code, url, expires_at))

        try:
            asked = (
                InteractiveBrowserCredential(**options)
                if sign_in.method == "browser"
                else DeviceCodeCredential(prompt_callback=deliver, **options)
            )
            asked.authenticate(scopes=[self.cloud.scope], claims=sign_in.claims or None)
        except ValueError as wrong:  # a tenant that can be none
            raise ClientAuthenticationError(str(wrong)) from wrong
        return KeptTokens(asked)


def _in_tenant(tenant_id: str | None) -> dict[str, Any]:
    return {"tenant_id": tenant_id} if tenant_id else {}
