"""What the resource manager knows above a workspace: the clouds, the tenants, the subscriptions and what is in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.azure.behind import GROUP, PROVIDER, SUBSCRIPTION, WORKSPACE
from tests.azure.login import OTHER_TENANT, TENANT
from tests.azure.rules import Answer
from tests.azure.sites import SITES, Site

PRODUCTION = "5c1e7d90-3f42-4a6b-8e15-9d0b2c4f6a82"
ACCOUNTS = "providers/Microsoft.CognitiveServices"
PAGE = 2  # entries on a page of a list


@dataclass
class Directory:
    """What is there, by the subscription's id. resources: (provider, kind, name), of a group `rg-ml` each."""

    names: dict[str, str] = field(default_factory=lambda: {SUBSCRIPTION: "ML development", PRODUCTION: "Production"})
    resources: dict[str, list[tuple[str, str, str]]] = field(
        default_factory=lambda: {
            SUBSCRIPTION: [
                (PROVIDER, "", WORKSPACE),
                (PROVIDER, "Hub", "ai-hub"),
                (PROVIDER, "Project", "ai-project"),
                (PROVIDER, "FeatureStore", "features"),
                (ACCOUNTS, "AIServices", "foundry"),
                (ACCOUNTS, "SpeechServices", "speech"),
            ],
            PRODUCTION: [(PROVIDER, "Default", "ml-prod")],
        }
    )

    def find_answer(self, site: Site, path: str, skip: int = 0) -> Answer | None:
        """Return the answer to a path of the directory, None for another path."""
        parts = path.strip("/").split("/")
        if path == "/metadata/endpoints":
            own = [each for each in SITES if (each is SITES[-1]) == (site is SITES[-1])]  # a cloud apart knows itself
            return Answer.of([_cloud(each) for each in own])
        if path == "/tenants":
            names = {TENANT: "Contoso", OTHER_TENANT: "Fabrikam"}
            tenants = [{"id": f"/tenants/{key}", "tenantId": key, "displayName": name} for key, name in names.items()]
            return Answer.of({"value": tenants})
        if path == "/subscriptions":
            entries = [self._subscription(key) for key in self.names]
        elif len(parts) == 5 and parts[0] == "subscriptions" and parts[4] in ("workspaces", "accounts"):
            entries = self._resources(site, parts[1], "/".join(parts[2:4]), parts[4])
        elif len(parts) == 4 and parts[2] == "providers":
            return Answer.of({"namespace": parts[3], "registrationState": "Registered"})
        else:
            return None
        more = {"nextLink": f"https://{site.management}{path}?skip={skip + PAGE}"} if entries[skip + PAGE :] else {}
        return Answer.of({"value": entries[skip : skip + PAGE], **more})

    def _subscription(self, key: str) -> dict[str, Any]:
        own = {"id": f"/subscriptions/{key}", "subscriptionId": key, "tenantId": TENANT}
        return {**own, "displayName": self.names[key], "state": "Enabled"}

    def _resources(self, site: Site, subscription: str, provider: str, noun: str) -> list[dict[str, Any]]:
        base = f"/subscriptions/{subscription}/resourceGroups/{GROUP}"
        return [
            {"id": f"{base}/{own}/{noun}/{name}", "name": name, "location": site.region, "kind": kind or None}
            for own, kind, name in self.resources.get(subscription, ())
            if own == provider
        ]


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
