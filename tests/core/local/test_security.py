"""What is on disk is the owner's alone, a signature opens its container only and ends, a body is plain JSON."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from starlette.routing import Route

from core.local.blobs import CONTAINER
from core.local.server import ROUTES
from core.local.wire.storage_key import ACCOUNT
from tests.core.local.submitting import command_body, submit, wait_for
from tests.local_server import LocalServer


def secret_of(server: LocalServer, **asked: object) -> dict[str, str]:
    answer = server.request("POST", "datastores/workspaceblobstore/listSecrets", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def method_of(route: Route) -> str:
    return min(route.methods or {"GET"})


def test_nothing_in_a_home_can_be_read_by_another_user(own_server: LocalServer) -> None:
    """A server and a job are started with the usual mask, which lets others read."""
    own_server.stop()
    before = os.umask(0o022)
    try:
        own_server.start()
    finally:
        os.umask(before)
    submit(own_server, "private", command_body("--steps 1 --output ${{outputs.made}}", outputs={"made": {}}))
    wait_for(own_server, "private", "Completed")
    own_server.request("PUT", "onlineEndpoints/ep", json={"properties": {"authMode": "Key"}})
    home = own_server.home.path
    written = [home / "secret", home / "workspace.db", *(home / "runs").rglob("*"), *(home / "blobs").rglob("*")]
    assert any(path.name == "steps_done" for path in written)
    open_to_others = [
        str(path.relative_to(home))
        for path in written
        if path.exists() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert [path for path in open_to_others if Path(path).name not in ("runs", "blobs")] == []
    assert stat.S_IMODE((home / "secret").stat().st_mode) == 0o600


def test_a_datastores_signature_opens_its_container_and_no_other(local_server: LocalServer) -> None:
    key, sas = secret_of(local_server)["key"], secret_of(local_server, expirableSecret=True)["sasToken"]
    account = f"{local_server.url}/{ACCOUNT}"
    ContainerClient(account, "elsewhere", credential=key).create_container()
    ContainerClient(account, "elsewhere", credential=key).upload_blob("b", b"x")
    with ContainerClient(account, CONTAINER, credential=sas) as own:
        own.upload_blob("mine", b"x", overwrite=True)
        assert "mine" in [blob.name for blob in own.list_blobs()]
        own.delete_blob("mine")
    for refused in (
        lambda: ContainerClient(account, "elsewhere", credential=sas).download_blob("b").readall(),
        lambda: list(ContainerClient(account, "elsewhere", credential=sas).list_blobs()),
        lambda: ContainerClient(account, "brand-new", credential=sas).create_container(),
    ):
        with pytest.raises(HttpResponseError) as caught:
            refused()
        assert caught.value.status_code == 403


@pytest.mark.parametrize("hours", [0, -1, 24 * 7 + 1, 10**17])
def test_a_signature_ends_within_a_week(local_server: LocalServer, hours: int) -> None:
    asked = {"expirableSecret": True, "expireAfterHours": hours}
    assert local_server.request("POST", "datastores/workspaceblobstore/listSecrets", json=asked).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": 1' + b"0" * 400 + b"}",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"tags": {"\\uDE00": "x"}}',
        b'{"a": "\xed\xa0\xbd"}',
        b"\xff\xfe",
        b'{"properties": [1]}',
        b'{"properties": "x"}',
    ],
    ids=range(11),
)
def test_a_body_that_is_no_plain_json_is_a_400(local_server: LocalServer, body: bytes) -> None:
    for path in ("jobs/x", "computes/gpu", "onlineEndpoints/ep-x", "data/d/versions/1"):
        answer = local_server.request("PUT", path, data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (path, answer.text)


def test_an_origin_that_is_no_address_is_refused(local_server: LocalServer) -> None:
    for origin in ("http://[", "http://[::1", "null", "file://"):
        assert local_server.request("GET", "/health", headers={"Origin": origin}).status_code == 403


def test_no_route_takes_a_name_that_leads_out_of_the_home(local_server: LocalServer, tmp_path: Path) -> None:
    """Each route, each name in its path: the others are right."""
    right = {
        "subscription": "00000000-0000-0000-0000-000000000000",
        "group": "local",
        "workspace": "local",
        "registry": "azureml",
        "container": CONTAINER,
        "location": "local",
    }
    bearer = {"Authorization": f"Bearer {local_server.token}"}
    outside = tmp_path / "canary"
    outside.write_text("untouched", encoding="utf-8")
    ways = ("../" * 12 + str(outside).lstrip("/"), "..", "%2e%2e")
    tried = 0
    for route in ROUTES:
        for name in set(route.param_convertors) - {"experiment"}:  # any text, and never used as a name of a file
            for way in ways:
                path = route.path
                for each in route.param_convertors:
                    value = way if each == name else right.get(each, "x")
                    if "registries" in route.path and each == "group" and each != name:
                        value = "local-registry"
                    path = path.replace(f"{{{each}:path}}", value).replace(f"{{{each}}}", value)
                for written in (path, quote(path)):
                    status, answer = local_server.send_raw(method_of(route), written, bearer, b"{}")
                    tried += 1
                    assert 400 <= status < 500 or status == 501, (written, status)
                    assert b"untouched" not in answer
    assert tried > 300
    assert outside.read_text(encoding="utf-8") == "untouched"
