"""The local workspace behind the stand-in: requests in Azure's words go to it, its answers come back in Azure's words.

Its subscription, resource group, workspace, region, storage account and hosts are those of one cloud to whoever asks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests

from core import home as homes
from core.azureml.cloud import LocalCredential, local_cloud
from core.home import Home
from core.local.wire import storage_key
from tests.azure.login import TENANT
from tests.azure.rules import Answer
from tests.azure.sites import STORE, Site
from tests.azure.tokens import read_token

SUBSCRIPTION = "5c1e7d90-3f42-4a6b-8e15-9d0b2c4f6a81"
GROUP = "rg-ml"
WORKSPACE = "ml-dev"
PROVIDER = "providers/Microsoft.MachineLearningServices"
WORKSPACE_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{PROVIDER}/workspaces/{WORKSPACE}"

_PASSED_ON = ("authorization", "connection", "proxy-connection", "host", "accept-encoding", "content-length")
_NOT_SENT_BACK = ("content-length", "connection", "transfer-encoding", "date", "server", "keep-alive")
_INWARD = (
    (rf"{SUBSCRIPTION}", homes.SUBSCRIPTION_ID),
    (rf"(?i)(/resourcegroups/){GROUP}\b", rf"\g<1>{homes.RESOURCE_GROUP}"),
    (rf"(?i)(/workspaces/){WORKSPACE}\b", rf"\g<1>{homes.WORKSPACE_NAME}"),
)
_END = r'(?=["/?\\]|$)'


@dataclass(frozen=True)
class Behind:
    """The local workspace of a home, as a cloud's hosts show it."""

    home: Home
    prices_of_sizes: bool = False
    """Whether the list of sizes tells prices; on Azure it does not always."""

    def send(self, site: Site, host: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
        """Hand a request on; return requests' answer, whose body is still to be read."""
        path, credentials = self._place(site, host, target, headers)
        passed = {name: value for name, value in headers.items() if name.lower() not in _PASSED_ON}
        if "x-azureml-token" in passed:
            passed["x-azureml-token"] = self._token()
        if headers.get("Content-Type", "").startswith("application/json"):
            body = self._inward(body.decode()).replace(f'"{site.region}"', f'"{homes.LOCATION}"').encode()
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.home.url() + path,
                data=body or None,
                headers={**passed, **credentials, "Accept-Encoding": "identity"},
                allow_redirects=False,
                stream=True,
                timeout=120,
            )

    def translate(self, site: Site, text: str) -> str:
        """Return an answer of the local workspace in the words of a cloud."""
        for pattern, words in self._outward(site):
            text = re.sub(pattern, words, text)
        return text

    def headers_of(self, site: Site, answer: requests.Response) -> dict[str, str]:
        """Return the headers that go back but for the length, addresses in them translated."""
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_SENT_BACK}
        if "x-ms-request-id" in kept:
            kept["x-ms-correlation-request-id"] = kept["x-ms-request-id"]
        return {name: self.translate(site, value) for name, value in kept.items()}

    def _place(self, site: Site, host: str, target: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return where a request goes, and by what it is let in there."""
        if endpoint := site.find_endpoint(host):
            return f"/endpoints/{endpoint}{target}", {"Authorization": headers.get("Authorization", "")}
        if host == site.blobs:
            return (target, {}) if target.startswith("/logs/") else (self._blob_path(target), {})
        path = self._inward(target).replace(f"/locations/{site.region}/", f"/locations/{homes.LOCATION}/")
        return path, {"Authorization": f"Bearer {self._token()}"}

    def _blob_path(self, target: str) -> str:
        """Return a blob's address on the local account, signed where the caller's address is not."""
        container = urlsplit(target).path.split("/")[1]
        path = f"/{storage_key.ACCOUNT}{target}"
        if "sig=" in target:
            return path
        key = storage_key.derive(self.home.secret())
        signature = storage_key.make_container_sas(key, container, timedelta(hours=1))[1:]
        return f"{path}{'&' if '?' in path else '?'}{signature}"

    def _token(self) -> str:
        return LocalCredential(self.home).get_token(local_cloud(self.home).scope).token

    @staticmethod
    def _inward(text: str) -> str:
        for pattern, words in _INWARD:
            text = re.sub(pattern, words, text)
        return text

    def _outward(self, site: Site) -> list[tuple[str, str]]:
        url = re.escape(self.home.url())
        tracking = f"azureml://{site.api}/mlflow/v1.0{WORKSPACE_PATH}"
        rules = [
            (rf'("mlFlowTrackingUri":\s*"){url}"', rf'\g<1>{tracking}"'),
            (rf"{url}/endpoints/([\w-]+)", rf"https://\g<1>.{site.region}.{site.inference}"),
            (rf"{url}/logs/", f"https://{site.blobs}/logs/"),
            (rf"{url}/studio", f"https://{site.studio}"),
            (rf"{url}/subscriptions/", f"https://{site.management}/subscriptions/"),
            (url, f"https://{site.api}"),
            (r'("endpoint":\s*")127\.0\.0\.1:\d+"', rf'\g<1>{site.storage}"'),
            (r'("protocol":\s*")http"', r'\g<1>https"'),
            (r'("publicNetworkAccess":\s*")Disabled"', r'\g<1>Enabled"'),
            (rf"\b{storage_key.ACCOUNT}\b", STORE),
            (rf'("tenantId":\s*"){homes.SUBSCRIPTION_ID}"', rf'\g<1>{TENANT}"'),
            (homes.SUBSCRIPTION_ID, SUBSCRIPTION),
            (rf"(?i)(/resourcegroups/){homes.RESOURCE_GROUP}{_END}", rf"\g<1>{GROUP}"),
            (rf"(?i)(/workspaces/){homes.WORKSPACE_NAME}{_END}", rf"\g<1>{WORKSPACE}"),
            (
                r'("name":\s*")local(",\s*"type":\s*"Microsoft.MachineLearningServices/workspaces")',
                rf"\g<1>{WORKSPACE}\2",
            ),
            (rf'("(?:location|computeLocation)":\s*"){homes.LOCATION}"', rf'\g<1>{site.region}"'),
        ]
        if not self.prices_of_sizes:
            rules.append((r'("estimatedVMPrices":\s*)\{[^\]]*\]\s*\}', r"\g<1>null"))
        return rules


def find_token_fault(site: Site, header: str) -> Answer | None:
    """Return the refusal of a bearer token, in the resource manager's words; None where it is good."""
    claims = read_token(header.removeprefix("Bearer "))
    if not claims:
        return _unauthorised("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    if claims["tid"] != TENANT:
        wanted, wrong = (f"https://sts.windows.net/{tenant}/" for tenant in (TENANT, claims["tid"]))
        return _unauthorised(
            "InvalidAuthenticationTokenTenant",
            f"The access token is from the wrong issuer '{wrong}'. It must match the tenant '{wanted}' associated with "
            "this subscription. Please use correct authority (URL) to get the token.",
        )
    if str(claims["aud"]).rstrip("/") not in site.audiences():
        message = f"The access token has been obtained for wrong audience or resource '{claims['aud']}'."
        return _unauthorised("InvalidAuthenticationTokenAudience", message)
    if claims["exp"] < time.time():
        until = datetime.fromtimestamp(claims["exp"], UTC)
        message = f"The access token expiry UTC time '{until:%m/%d/%Y %H:%M:%S}' is earlier than current UTC time."
        return _unauthorised("ExpiredAuthenticationToken", message)
    return None


def _unauthorised(code: str, message: str) -> Answer:
    answer = Answer.error(401, code, message)
    return Answer(
        401, answer.body, {**answer.headers, "WWW-Authenticate": f'Bearer error="invalid_token", code="{code}"'}
    )
