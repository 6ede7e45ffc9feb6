"""The hosts of Azure's clouds and of one that is somebody's own, and what each of them is for."""

from __future__ import annotations

from dataclasses import dataclass

PRICES = "prices.azure.com"  # one list for all clouds
STORE = "mldevstore"  # the storage account


@dataclass(frozen=True)
class Site:
    """One cloud: its hosts, and the one region that is there."""

    name: str
    management: str
    login: str
    region: str
    services: str
    """Below this the region answers for registries, run history and MLflow."""
    inference: str
    storage: str
    studio: str
    portal: str

    @property
    def api(self) -> str:
        return f"{self.region}.{self.services}"

    @property
    def blobs(self) -> str:
        return f"{STORE}.blob.{self.storage}"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that a certificate has to hold; a star stands for one label only."""
        below = (f"*.{self.services}", f"*.{self.region}.{self.inference}", f"*.blob.{self.storage}")
        return (self.management, self.login, *below)

    def find_endpoint(self, host: str) -> str:
        """Return the online endpoint whose host it is, "" for another host."""
        name, dot, rest = host.partition(".")
        return name if dot and rest == f"{self.region}.{self.inference}" else ""

    def audiences(self) -> tuple[str, ...]:
        """Return whom a token for the management host and the region's services may be for."""
        old = {"management.azure.com": "management.core.windows.net"}.get(self.management, self.management)
        return tuple(f"https://{host}" for host in (self.management, old, self.studio))


SITES = (
    Site(
        "AzureCloud",
        "management.azure.com",
        "login.microsoftonline.com",
        "eastus",
        "api.azureml.ms",
        "inference.ml.azure.com",
        "core.windows.net",
        "ml.azure.com",
        "portal.azure.com",
    ),
    Site(
        "AzureUSGovernment",
        "management.usgovcloudapi.net",
        "login.microsoftonline.us",
        "usgovvirginia",
        "api.ml.azure.us",
        "inference.ml.azure.us",
        "core.usgovcloudapi.net",
        "ml.azure.us",
        "portal.azure.us",
    ),
    Site(
        "AzureChinaCloud",
        "management.chinacloudapi.cn",
        "login.chinacloudapi.cn",
        "chinanorth3",
        "api.ml.azure.cn",
        "inference.ml.azure.cn",
        "core.chinacloudapi.cn",
        "studio.ml.azure.cn",
        "portal.azure.cn",
    ),
    Site(
        "Contoso",
        "management.contoso.example",
        "login.contoso.example",
        "contosowest",
        "api.ml.azure.contoso.example",
        "inference.ml.azure.contoso.example",
        "core.contoso.example",
        "ml.azure.contoso.example",
        "portal.azure.contoso.example",
    ),
)
PUBLIC = SITES[0]


def find_site(host: str) -> Site | None:
    """Return the cloud that a host belongs to."""
    for site in SITES:
        if host in (site.management, site.login, site.blobs) or host.endswith(f".{site.services}"):
            return site
        if site.find_endpoint(host):
            return site
    return None
