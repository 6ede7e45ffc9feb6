"""Each cloud at its own hosts: sign-in, the proof of access, computes and prices."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests

from core.azureml.access import prove_access
from core.azureml.addresses import CLOUDS, Cloud, metadata_url, read_metadata
from core.azureml.connection import Connection
from core.azureml.identities import AzureCredential, DeviceCode, SignIn
from core.azureml.places import ask_cloud
from core.azureml.settings import Settings, find_settings, save_settings
from core.catalog import compute
from core.errors import BadInput, NotFound, Unreachable
from core.launch.export import write_script
from tests.azure.login import CLIENT_SECRET, TENANT
from tests.azure.sites import PRICES, SITES, Site
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import walking

CLIENT = "c0ffee00-0000-4000-8000-000000000001"
CUSTOM = SITES[-1]
each_cloud = pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)


def cloud_of(site: Site) -> Cloud:
    """Return the cloud as an operator chooses it: by its name, or by where its metadata are."""
    return CLOUDS.get(site.name) or ask_cloud(f"https://{site.management}")


def settings_in(azure: StandIn, site: Site) -> Settings:
    return replace(azure.settings(), alias=site.name.lower(), cloud=cloud_of(site))


def hosts(azure: StandIn, since: int) -> set[str]:
    return {urlsplit(each.url).netloc for each in azure.rules.asked(since=since)}


@each_cloud
def test_access_and_computes_are_asked_at_the_clouds_own_hosts_alone(azure: StandIn, site: Site) -> None:
    settings = settings_in(azure, site)
    before = len(azure.rules)
    conn = Connection(settings, azure.home)
    assert [line for line in prove_access(conn) if line.state == "failed"] == []
    assert compute.list_computes(conn) == []
    discovery = urlsplit(settings.cloud.registry_discovery).netloc
    assert discovery.endswith(f".{site.services}")
    assert hosts(azure, before) | {site.api} == {site.management, site.api, site.blobs, discovery}


@each_cloud
def test_a_principal_and_a_device_code_sign_in_at_the_clouds_own_login_host(
    azure: StandIn, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = cloud_of(site)
    before = len(azure.rules)

    def enter(_code: DeviceCode) -> None:
        azure.login.code_was_entered = True

    AzureCredential(cloud, TENANT, SignIn("device_code", enter)).get_token(cloud.scope)
    for name, value in {"CLIENT_ID": CLIENT, "TENANT_ID": TENANT, "CLIENT_SECRET": CLIENT_SECRET}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    azure.az(state="signed out")
    credential = AzureCredential(cloud, TENANT)
    credential.get_token(cloud.scope)
    assert credential.source == "Environment"
    assert hosts(azure, before) == {site.login}


@each_cloud
def test_a_price_is_asked_for_where_the_cloud_has_a_list(azure: StandIn, site: Site) -> None:
    conn = Connection(settings_in(azure, site), azure.home)
    before = len(azure.rules)
    price = compute.size_price(conn, SIZE)
    listed = site.name in ("AzureCloud", "AzureUSGovernment")
    assert price.words == ("$3.67/h" if listed else "price unknown")
    assert (PRICES in hosts(azure, before)) == listed


@each_cloud
def test_a_home_remembers_the_cloud_of_a_workspace(azure: StandIn, site: Site) -> None:
    settings = settings_in(azure, site)
    save_settings(settings)
    assert find_settings(settings.alias) == settings


def test_a_home_that_knows_no_clouds_opens_in_the_public_one(azure: StandIn) -> None:
    save_settings(azure.settings())
    file = azure.home.connections
    entries = json.loads(file.read_text(encoding="utf-8"))
    for entry in entries["connections"]:
        del entry["cloud"]
    file.write_text(json.dumps(entries), encoding="utf-8")
    found = find_settings(azure.settings().alias)
    assert found is not None
    assert found.cloud == CLOUDS["AzureCloud"]


def test_a_cloud_that_is_known_is_found_by_its_metadata_too(azure: StandIn) -> None:
    assert ask_cloud("https://management.azure.com/metadata/endpoints?api-version=2019-05-01") is CLOUDS["AzureCloud"]
    assert azure.rules.asked()[-1].url.endswith("/metadata/endpoints?api-version=2019-05-01")


def test_what_is_no_clouds_metadata_is_said(azure: StandIn) -> None:
    for address in ("management.contoso.example", "http://management.contoso.example", "https://"):
        with pytest.raises(BadInput, match="is not the address of a cloud's metadata"):
            metadata_url(address)
    with pytest.raises(BadInput, match="are of other resource managers: management"):
        read_metadata("https://elsewhere.example/metadata/endpoints", ask_entries())
    with pytest.raises(BadInput, match="is not a cloud's metadata"):
        read_metadata("https://elsewhere.example/metadata/endpoints", {"error": "none"})
    azure.rules.add("/metadata/endpoints", 404, body="{}")
    with pytest.raises(NotFound):
        ask_cloud(f"https://{CUSTOM.management}")
    with pytest.raises(Unreachable):
        ask_cloud("https://nowhere.example")


def ask_entries() -> list[object]:
    found: list[object] = requests.get("https://management.azure.com/metadata/endpoints").json()
    return found


def test_no_token_of_a_cloud_goes_to_another_clouds_hosts() -> None:
    for cloud in CLOUDS.values():
        for other in CLOUDS.values():
            assert {cloud.owns(other.resource_manager), cloud.owns(other.registry_discovery)} == {other is cloud}


@pytest.mark.slow
def test_the_script_to_take_away_speaks_to_the_clouds_own_hosts(azure: StandIn) -> None:
    """Takes three seconds: a compute is made for the plan."""
    with walking(azure) as walk:
        walk.ensure_compute()
        plan = walk.plan()
        for site in SITES:
            script = write_script(settings_in(azure, site), plan)
            compile(script, "run.py", "exec")
            named = set(re.findall(r"https://([\w.]+)", script))
            assert all(
                host.endswith((site.login, site.management, site.portal, site.services, site.studio)) for host in named
            )
            assert (site.login in named) == (site.name != "AzureCloud")
