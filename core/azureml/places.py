"""What can be seen of Azure before a workspace is chosen: its subscriptions, and what is in them to work with."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from core import home as homes
from core.azureml.addresses import Cloud, metadata_url, read_metadata
from core.azureml.cloud import read_claims, whom
from core.azureml.connection import Connection
from core.azureml.failures import Place
from core.azureml.identities import AzureCredential
from core.azureml.service_errors import explain, read_answer, service_exceptions, translate
from core.azureml.settings import Settings
from core.errors import BadInput, Throttled, TunedeckError

IN_FLIGHT = 8
_LONGEST_PAUSE_S = 60
_DIRECTORY_API = "2022-12-01"
# What is listed in each subscription, and the api-version.
_LISTS = {
    "workspaces": ("Microsoft.MachineLearningServices/workspaces", "2024-10-01"),
    "Foundry resources": ("Microsoft.CognitiveServices/accounts", "2024-10-01"),
}


@dataclass(frozen=True)
class Kind:
    """What a resource is. advice: what to choose in its place; "" where runs can be started in it."""

    words: str
    advice: str = ""


# By the service's own word for it, in lower case. A plain workspace's kind is often left out.
KINDS = {
    "default": Kind("Workspace"),
    "project": Kind("Project of a hub"),
    "hub": Kind("Hub", "It holds projects and trains nothing itself. Choose one of its projects."),
    "featurestore": Kind("Feature store", "It keeps features and trains nothing. Choose a workspace."),
    "aiservices": Kind(
        "Foundry resource", "It has no compute of yours, which this pipeline needs. Choose an Azure ML workspace."
    ),
}


@dataclass(frozen=True)
class Subscription:
    """One that the account sees."""

    id: str
    name: str


@dataclass(frozen=True)
class Listed:
    """A resource of a subscription."""

    name: str
    resource_group: str
    region: str
    kind: Kind
    subscription: Subscription


@dataclass
class Listing:
    """What is known so far; filled by the threads that list, pages only look."""

    account: str = ""
    tenant: str = ""
    source: str = ""
    """What gave the identity: "Azure CLI", "the browser"."""
    subscriptions: list[Subscription] = field(default_factory=list)
    resources: list[Listed] = field(default_factory=list)
    problems: list[TunedeckError] = field(default_factory=list)
    """What could not be listed."""
    other_tenants: list[str] = field(default_factory=list)
    """Tenants that know the account too, whose subscriptions are not listed: "Fabrikam (0b7d…)"."""
    lists_read: int = 0

    @property
    def lists(self) -> int:
        """Return how many there are to read in the subscriptions found."""
        return len(self.subscriptions) * len(_LISTS)


def ask_cloud(address: str) -> Cloud:
    """Ask a resource manager which cloud it is; raise BadInput for an address that is none, or a service's error."""
    import requests

    url = metadata_url(address)
    host = urlsplit(url).netloc
    place = Place("Azure", "", "", "", host, is_local=False)
    what = f"the addresses of the cloud at {host}"
    try:
        answer = requests.get(url, timeout=(5, 15), allow_redirects=False)
        content = answer.json() if answer.ok else None
    except service_exceptions() as error:
        raise translate(error, place, "read", what) from error
    if not answer.ok:
        raise explain(read_answer(answer.status_code, answer.headers, answer.text), place, "read", what)
    return read_metadata(url, content)


def sign_in(cloud: Cloud, credential: AzureCredential, listing: Listing) -> None:
    """Note who acts; a credential of a sign-in by click waits here for the operator. Raises SignInFailed."""
    conn = _top(cloud, credential)
    claims = read_claims(conn.call("read", "the sign-in", credential.get_token, cloud.scope).token)
    listing.account, listing.tenant = whom(claims), str(claims.get("tid") or "")
    listing.source = credential.source


def list_resources(cloud: Cloud, credential: AzureCredential, listing: Listing) -> None:
    """Fill a listing with what the account sees in its tenant; at most IN_FLIGHT requests at once.

    Raises a TunedeckError where not even the subscriptions can be listed.
    """
    top = _top(cloud, credential)
    for each in _pages(top, "/subscriptions", _DIRECTORY_API, "your subscriptions"):
        listing.subscriptions.append(
            Subscription(each["subscriptionId"], str(each.get("displayName") or each["subscriptionId"]))
        )
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="listing") as pool:
        pool.submit(_list_tenants, top, listing)
        for subscription in listing.subscriptions:
            for what in _LISTS:
                pool.submit(_list_one, top, subscription, what, listing)


def kind_of(name: str | None) -> Kind:
    """Return a kind by the service's word for it; one that is not known yet may be worked with."""
    return KINDS.get((name or "default").lower(), Kind(str(name)))


def _top(cloud: Cloud, credential: AzureCredential) -> Connection:
    """Return what asks the resource manager before a workspace is known."""
    return Connection(Settings("", "azure", "", "", "Azure", cloud=cloud), homes.current(), credential)


def _pages(conn: Connection, path: str, version: str, what: str) -> Iterator[dict[str, Any]]:
    url = f"{path}?api-version={version}"
    while url:
        answer = _ask(conn, url, what)
        yield from answer.get("value") or ()
        url = answer.get("nextLink") or ""


def _ask(conn: Connection, url: str, what: str) -> Any:
    """Ask for a page; where the service says when to come back, again then, and once more."""
    for _ in range(2):
        try:
            return conn.http("GET", url, what=what).json()
        except Throttled as refused:
            if refused.pause_s is None or refused.pause_s > _LONGEST_PAUSE_S:
                raise
            time.sleep(refused.pause_s)
    return conn.http("GET", url, what=what).json()


def _list_one(conn: Connection, subscription: Subscription, what: str, listing: Listing) -> None:
    conn = copy.copy(conn)  # the connections of this thread with it
    conn.settings = replace(conn.settings, workspace_name=subscription.name)  # which stands in its errors
    provider, version = _LISTS[what]
    path = f"/subscriptions/{subscription.id}/providers/{provider}"
    try:
        for each in _pages(conn, path, version, f"the {what}"):
            kind = str(each.get("kind") or "default")
            if what == "workspaces" or kind.lower() in KINDS:  # other accounts hear or see, or are of OpenAI's alone
                group = str(each["id"]).split("/")[4]
                listing.resources.append(
                    Listed(each["name"], group, str(each.get("location")), kind_of(kind), subscription)
                )
    except TunedeckError as error:
        listing.problems.append(error)
    except (KeyError, IndexError, ValueError, AttributeError) as problem:
        words = f"What Azure said of the {what} in '{subscription.name}' could not be read."
        listing.problems.append(BadInput(words, "Fill in the ids by hand.", repr(problem)))
    finally:
        listing.lists_read += 1


def _list_tenants(conn: Connection, listing: Listing) -> None:
    """Note the other tenants of the account; a token is good for the subscriptions of one."""
    try:
        for each in _pages(conn, "/tenants", _DIRECTORY_API, "your tenants"):
            if each["tenantId"] != listing.tenant:
                listing.other_tenants.append(f"{each.get('displayName') or 'a tenant'} ({each['tenantId']})")
    except (TunedeckError, KeyError):
        return  # a kindness: the list of subscriptions stands without it
