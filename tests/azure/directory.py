"""What the resource manager knows above a workspace: the clouds, the tenants, and the subscriptions of who asks."""

from __future__ import annotations

from typing import Any

from tests.azure.behind import SUBSCRIPTION
from tests.azure.login import OTHER_TENANT, TENANT
from tests.azure.rules import Answer
from tests.azure.sites import SITES, Site

_PROVIDERS = f"/subscriptions/{SUBSCRIPTION}/providers/"


def find_answer(site: Site, path: str) -> Answer | None:
    """Return the answer to a path of the directory, None for another path."""
    if path == "/metadata/endpoints":
        own = [each for each in SITES if (each is SITES[-1]) == (site is SITES[-1])]  # a cloud apart knows itself alone
        return Answer.of([_cloud(each) for each in own])
    if path == "/tenants":
        names = {TENANT: "Contoso", OTHER_TENANT: "Fabrikam"}
        tenants = [{"id": f"/tenants/{key}", "tenantId": key, "displayName": name} for key, name in names.items()]
        return Answer.of({"value": tenants})
    if path == "/subscriptions":
        own = {"id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION, "tenantId": TENANT}
        return Answer.of({"value": [{**own, "displayName": "ML development", "state": "Enabled"}]})
    if (provider := path.removeprefix(_PROVIDERS)) != path and "/" not in provider:
        return Answer.of({"namespace": provider, "registrationState": "Registered"})
    return None


def _cloud(site: Site) -> dict[str, Any]:
    """Describe a cloud as the resource manager does since 2019."""
    return {
        "name": site.name,
        "portal": f"https://{site.portal}",
        "resourceManager": f"https://{site.management}/",
        "authentication": {
            "loginEndpoint": f"https://{site.login}/",
            "audiences": [f"{audience}/" for audience in site.audiences()],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "suffixes": {"storage": site.storage},
    }
