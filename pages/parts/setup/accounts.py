"""Who acts on a cloud of Azure, found on this machine or signed in by click, and what they see there. Draws nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from core import home as homes
from core.azureml import places
from core.azureml.addresses import Cloud
from core.azureml.connection import challenge_to
from core.azureml.identities import AzureCredential, DeviceCode, SignIn
from core.azureml.places import Listing
from core.azureml.reader import Snapshot
from core.azureml.settings import Settings
from core.azureml.sign_in_rules import refuses_device_code
from core.errors import SignInFailed
from pages.parts.kit import reads
from pages.parts.setup import access

Method = Literal["", "browser", "device_code"]
WAIT_S = 300  # for the operator in the browser, or with the code


@dataclass
class Account:
    """Filled by a thread of its own; pages only look. method: "" for whatever identity this machine has."""

    cloud: Cloud
    tenant_id: str
    method: Method
    listing: Listing = field(default_factory=Listing)
    claims: str = ""
    """What the sign-in by click has to prove."""
    code: DeviceCode | None = None
    waited_until: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(seconds=WAIT_S))

    def __post_init__(self) -> None:
        sign_in = SignIn(self.method, self._keep_code, WAIT_S, self.claims) if self.method else None
        self.credential = AzureCredential(self.cloud, self.tenant_id or None, sign_in)

    @property
    def signed_in(self) -> bool:
        """Tell whether it has an identity."""
        return bool(self.listing.account)

    def run(self, again: Settings | None) -> None:
        """Get an identity, check access to a workspace with it, and list what it sees."""
        try:
            places.sign_in(self.cloud, self.credential, self.listing)
        except SignInFailed as refused:
            if self.method == "device_code" and refuses_device_code(refused.detail):
                _no_codes.add(_key(self.cloud, self.tenant_id))
            raise
        if again:
            access.start(again, self.credential)
        places.list_resources(self.cloud, self.credential, self.listing)

    @property
    def work(self) -> Snapshot[Any]:
        """Return how far it is."""
        return reads.find_work("account", _key(self.cloud, self.tenant_id)) or reads.LOADING

    def _keep_code(self, code: DeviceCode) -> None:
        self.code = code


_accounts: dict[str, Account] = {}
_no_codes: set[str] = set()
_lock = threading.Lock()


def start(cloud: Cloud, tenant_id: str, method: Method, again: Settings | None = None) -> None:
    """Begin to sign in and to list; the account before it in this cloud and tenant is forgotten."""
    claims = challenge_to(again) if again else ""
    account, key = Account(cloud, tenant_id, method, claims=claims), _key(cloud, tenant_id)
    with _lock:
        _accounts[key] = account
    reads.end_work("account", key)
    reads.run_once("account", key, lambda: account.run(again), apart=True)


def find(cloud: Cloud, tenant_id: str) -> Account | None:
    """Return the account that was begun last in a cloud and tenant."""
    with _lock:
        return _accounts.get(_key(cloud, tenant_id))


def code_refused(cloud: Cloud, tenant_id: str) -> bool:
    """Tell whether a company's policy has refused a device code there."""
    return _key(cloud, tenant_id) in _no_codes


def _key(cloud: Cloud, tenant_id: str) -> str:
    return f"{homes.default_path()} {cloud.name} {tenant_id}"
