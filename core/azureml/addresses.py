"""The addresses of clouds: Azure's own three, and an operator's, read from its metadata. No other host is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core.errors import BadInput

_STORAGE_AUDIENCE = "https://storage.azure.com"  # the same in every cloud
_METADATA_PATH, _METADATA_QUERY = "/metadata/endpoints", "api-version=2022-09-01"
# What a home keeps of a cloud that is not in CLOUDS: the rest follows.
KEPT = ("name", "resource_manager", "login", "portal", "storage")


@dataclass(frozen=True)
class Cloud:
    """Addresses of one cloud, without a slash at their ends.

    name: by which azure-ai-ml remembers it for the life of the process. services, storage: the hosts of its regions
    and of its storage accounts end so. prices: of its public price list; "" where it has none that can be asked.
    """

    name: str
    title: str
    resource_manager: str
    login: str
    portal: str
    job_audience: str
    """Whom the token is for that a pipeline job carries beside the request's own."""
    storage: str
    registry_discovery: str
    services: str
    prices: str = ""
    more_hosts: tuple[str, ...] = ()
    more_audiences: tuple[str, ...] = ()
    is_local: bool = False

    @property
    def absence_s(self) -> float:
        """Return for how long something has to be absent, seen at both ends, before it is gone: as its clock goes.

        A region's answers may come from a copy that lags behind; the local workspace has none.
        """
        return 0.0 if self.is_local else 60.0

    @property
    def is_custom(self) -> bool:
        """Tell whether azure-ai-ml and azure-identity do not know it."""
        return self.name not in CLOUDS

    @property
    def host(self) -> str:
        """Return the resource manager's host."""
        return urlsplit(self.resource_manager).netloc

    @property
    def studio(self) -> str:
        """Return the studio's address, which is what its jobs' tokens are for."""
        return self.job_audience

    @property
    def scope(self) -> str:
        """Return the scope that tokens for the resource manager are asked for."""
        return f"{self.resource_manager}/.default"

    @property
    def audiences(self) -> tuple[str, ...]:
        """Return what a token of this cloud may be for."""
        return (self.resource_manager, self.job_audience, *self.more_audiences)

    @property
    def metadata(self) -> dict[str, str]:
        """Return what azure-ai-ml has to be told of a cloud it does not know."""
        return {
            "azure_portal": self.portal,
            "resource_manager": self.resource_manager,
            "active_directory": self.login,
            "aml_resource_id": self.job_audience,
            "storage_endpoint": self.storage,
            "registry_discovery_endpoint": self.registry_discovery,
        }

    def owns(self, url: str) -> bool:
        """Tell whether a token of this cloud may be sent to `url`."""
        parts = urlsplit(url)
        if parts.scheme != urlsplit(self.resource_manager).scheme:
            return False
        ends = [f".{end}" for end in (self.services, *self.more_hosts) if end]
        return parts.netloc == self.host or any(parts.netloc.endswith(end) for end in ends)


AZURE = Cloud(
    name="AzureCloud",
    title="Public",
    resource_manager="https://management.azure.com",
    login="https://login.microsoftonline.com",
    portal="https://portal.azure.com",
    job_audience="https://ml.azure.com",
    storage="core.windows.net",
    registry_discovery="https://eastus.api.azureml.ms",
    services="api.azureml.ms",
    prices="https://prices.azure.com/api/retail/prices",
    more_hosts=("experiments.azureml.net",),
    more_audiences=("https://management.core.windows.net", _STORAGE_AUDIENCE),
)
CLOUDS = {
    cloud.name: cloud
    for cloud in (
        AZURE,
        Cloud(
            name="AzureUSGovernment",
            title="US Government",
            resource_manager="https://management.usgovcloudapi.net",
            login="https://login.microsoftonline.us",
            portal="https://portal.azure.us",
            job_audience="https://ml.azure.us",
            storage="core.usgovcloudapi.net",
            registry_discovery="https://usgovarizona.api.ml.azure.us",
            services="api.ml.azure.us",
            prices=AZURE.prices,  # its regions stand in the public list
            more_audiences=("https://management.core.usgovcloudapi.net", _STORAGE_AUDIENCE),
        ),
        Cloud(
            name="AzureChinaCloud",
            title="China (21Vianet)",
            resource_manager="https://management.chinacloudapi.cn",
            login="https://login.chinacloudapi.cn",
            portal="https://portal.azure.cn",
            job_audience="https://ml.azure.cn",
            storage="core.chinacloudapi.cn",
            registry_discovery="https://chinaeast2.api.ml.azure.cn",
            services="api.ml.azure.cn",
            # Its price list is one large file to download, not a list that answers a question.
            more_audiences=("https://management.core.chinacloudapi.cn", _STORAGE_AUDIENCE),
        ),
    )
}


def custom_cloud(name: str, resource_manager: str, login: str, portal: str, storage: str) -> Cloud:
    """Return a cloud of somebody's own; what its metadata does not name follows from its portal, as in azure-ai-ml."""
    end = ".".join(urlsplit(portal).netloc.split(".")[2:])
    short = name.split("@")[0]
    return Cloud(
        name=name,
        title=f"{short} ({urlsplit(resource_manager).netloc})",
        resource_manager=resource_manager,
        login=login,
        portal=portal,
        job_audience=f"https://ml.azure.{end}",
        storage=storage,
        registry_discovery=f"https://{short.lower()}west.api.ml.azure.{end}",
        services=f"api.ml.azure.{end}",
        more_audiences=(_STORAGE_AUDIENCE,),
    )


def metadata_url(text: str) -> str:
    """Return the address of a cloud's metadata, also from its resource manager's alone; BadInput for what is none."""
    parts = urlsplit(text.strip())
    if parts.scheme != "https" or not parts.hostname or parts.username:
        raise BadInput(
            f"'{text.strip()}' is not the address of a cloud's metadata.",
            f"It has the form https://<resource manager>{_METADATA_PATH}?{_METADATA_QUERY}.",
        )
    path, query = parts.path.rstrip("/") or _METADATA_PATH, parts.query or _METADATA_QUERY
    return urlunsplit(("https", parts.netloc, path, query, ""))


def read_metadata(url: str, answer: Any) -> Cloud:
    """Return the cloud that the resource manager at `url` says it is; BadInput where it does not say."""
    entries = [each for each in (answer if isinstance(answer, list) else [answer]) if isinstance(each, Mapping)]
    try:
        found = [_from_entry(entry) for entry in entries]
    except (KeyError, TypeError, AttributeError) as missing:
        raise BadInput(
            f"What {url} says is not a cloud's metadata.",
            f"Take the address with the newest api-version of your cloud, such as {_METADATA_QUERY}.",
            repr(missing),
        ) from missing
    for cloud in found:
        if cloud.host == urlsplit(url).netloc:
            return cloud
    there = ", ".join(cloud.host for cloud in found) or "none"
    raise BadInput(f"The metadata at {url} are of other resource managers: {there}.", "Take the address of yours.")


def _from_entry(entry: Mapping[str, Any]) -> Cloud:
    manager, login, portal = (
        _https(url) for url in (entry["resourceManager"], entry["authentication"]["loginEndpoint"], entry["portal"])
    )
    known = next((cloud for cloud in CLOUDS.values() if cloud.resource_manager == manager), None)
    # azure-ai-ml keeps the first cloud of a name: two of one name are told apart by their hosts.
    name = f"{entry['name']}@{urlsplit(manager).netloc}"
    return known or custom_cloud(name, manager, login, portal, str(entry["suffixes"]["storage"]))


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise TypeError(f"not an address: {url}")
    return f"https://{parts.netloc}{parts.path.rstrip('/')}"
