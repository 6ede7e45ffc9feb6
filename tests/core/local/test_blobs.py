"""The blob service through the real azure-storage-blob, and by hand where that client would not do wrong."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.blob import (
    AccountSasPermissions,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ContentSettings,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from core.home import Home
from tests.core.local.submitting import command_body, submit, wait_for
from tests.local_server import LocalServer, running_server

ACCOUNT = "localstore"
CONTAINER = "azureml-blobstore"
ODD_NAME = "a b/ü&x+%20'.txt"


def secret_of(server: LocalServer, **body: Any) -> dict[str, str]:
    answer: dict[str, str] = server.request("POST", "datastores/workspaceblobstore/listSecrets", json=body).json()
    return answer


def open_container(server: LocalServer, credential: Any = None, container: str = CONTAINER) -> ContainerClient:
    service = BlobServiceClient(
        f"{server.url}/{ACCOUNT}",
        credential=credential or secret_of(server)["key"],
        max_single_put_size=1 << 20,
        max_block_size=1 << 20,
        max_single_get_size=1 << 20,
        retry_total=0,
        use_env_settings=False,
    )
    return service.get_container_client(container)


@pytest.fixture(params=["account key", "signature"])
def container(request: pytest.FixtureRequest, local_server: LocalServer) -> ContainerClient:
    if request.param == "account key":
        return open_container(local_server)
    return open_container(local_server, secret_of(local_server, expirableSecret=True, expireAfterHours=1)["sasToken"])


def test_the_datastore_says_where_its_blobs_are(local_server: LocalServer) -> None:
    (store,) = local_server.request("GET", "datastores?isDefault=true&count=30").json()["value"]
    properties = store["properties"]
    assert properties["isDefault"]
    assert (properties["protocol"], properties["accountName"]) == ("http", ACCOUNT)
    assert f"http://{properties['endpoint']}" == local_server.url
    assert local_server.request("GET", "datastores/other").status_code == 404


def test_a_big_file_goes_up_in_blocks_and_comes_down_in_ranges(container: ContainerClient) -> None:
    content = os.urandom(5_000_001)
    container.upload_blob("big/data.bin", content, overwrite=True, max_concurrency=4)
    assert container.download_blob("big/data.bin", max_concurrency=3).readall() == content
    assert (
        container.download_blob("big/data.bin", offset=1_000_000, length=17).readall() == content[1_000_000:1_000_017]
    )


def test_an_empty_blob_comes_down_empty(container: ContainerClient) -> None:
    container.upload_blob("empty", b"", overwrite=True)
    assert container.download_blob("empty").readall() == b""


def test_names_metadata_and_content_type_come_back_as_they_went(container: ContainerClient) -> None:
    settings = ContentSettings(content_type="text/plain; charset=utf-8")
    metadata = {"upload_status": "completed", "a1": "x", "a_b": "y"}
    container.upload_blob(ODD_NAME, b"hello", overwrite=True, metadata=metadata, content_settings=settings)
    found = container.get_blob_client(ODD_NAME).get_blob_properties()
    assert (found.size, found.metadata, found.content_settings.content_type) == (5, metadata, settings.content_type)
    container.get_blob_client(ODD_NAME).set_blob_metadata({"only": "this"})
    found = container.get_blob_client(ODD_NAME).get_blob_properties()
    assert (found.metadata, found.content_settings.content_type) == ({"only": "this"}, settings.content_type)


def test_lists_have_prefixes_folders_and_pages(container: ContainerClient) -> None:
    for name in ("list/a", "list/b/1", "list/b/2", "list/c", "listen"):
        container.upload_blob(name, b"x", overwrite=True)
    assert [blob.name for blob in container.list_blobs("list/")] == ["list/a", "list/b/1", "list/b/2", "list/c"]
    assert [blob.name for blob in container.list_blobs("list/b")] == ["list/b/1", "list/b/2"]
    assert {item.name for item in container.walk_blobs("list/", delimiter="/")} == {"list/a", "list/b/", "list/c"}
    pages = container.list_blobs("list", results_per_page=2).by_page()
    assert [[blob.name for blob in page] for page in pages] == [
        ["list/a", "list/b/1"],
        ["list/b/2", "list/c"],
        ["listen"],
    ]
    assert list(container.list_blobs("no/such/folder/")) == []


def test_deleting_a_blob_leaves_no_empty_folder(container: ContainerClient, local_server: LocalServer) -> None:
    container.upload_blob("deep/er/file", b"x", overwrite=True)
    container.delete_blob("deep/er/file")
    assert not (local_server.home.blobs / CONTAINER / "deep").exists()
    with pytest.raises(ResourceNotFoundError) as caught:
        container.delete_blob("deep/er/file")
    assert caught.value.error_code == "BlobNotFound"


def test_a_blob_is_not_overwritten_unasked_nor_changed_under_a_reader(container: ContainerClient) -> None:
    container.upload_blob("kept", b"one", overwrite=True)
    with pytest.raises(ResourceExistsError):
        container.upload_blob("kept", b"two")
    etag = container.get_blob_client("kept").get_blob_properties().etag
    container.upload_blob("kept", b"three", overwrite=True)
    with pytest.raises(HttpResponseError) as caught:
        container.get_blob_client("kept").download_blob(etag=etag, match_condition=_if_not_modified()).readall()
    assert caught.value.status_code == 412


def test_a_file_that_a_job_wrote_is_a_blob(container: ContainerClient, local_server: LocalServer) -> None:
    folder = local_server.home.blobs / CONTAINER / "azureml" / "job_1" / "trained_model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_bytes(b"flavors: {}\n")
    assert container.download_blob("azureml/job_1/trained_model/MLmodel").readall() == b"flavors: {}\n"
    assert "azureml/job_1/trained_model/MLmodel" in [blob.name for blob in container.list_blobs("azureml/")]


def test_a_name_cannot_be_both_a_blob_and_a_folder(container: ContainerClient) -> None:
    container.upload_blob("both", b"x", overwrite=True)
    with pytest.raises(HttpResponseError) as caught:
        container.upload_blob("both/inside", b"x")
    assert caught.value.status_code == 409
    container.upload_blob("folder/inside", b"x", overwrite=True)
    with pytest.raises(HttpResponseError) as caught:
        container.upload_blob("folder", b"x")
    assert caught.value.status_code == 409
    assert not container.get_blob_client("folder").exists()


def test_a_wrong_checksum_leaves_nothing_behind(local_server: LocalServer, container: ContainerClient) -> None:
    address = container.get_blob_client("checked").url
    sas = "" if "sig=" in address else secret_of(local_server, expirableSecret=True)["sasToken"]
    headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    answer = requests.put(address + sas, data=b"hello", headers=headers, timeout=10)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
    assert not container.get_blob_client("checked").exists()
    assert [path for path in (local_server.home.blobs / ".staging").iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    "name", ["..%2f..%2fsecret", "a/..%2f..%2f..%2fsecret", "%2e%2e/secret", "a//b", "a%00b", "x/."]
)
def test_no_name_leads_out_of_the_container(local_server: LocalServer, name: str) -> None:
    sas = secret_of(local_server, expirableSecret=True)["sasToken"]
    path = f"/{ACCOUNT}/{CONTAINER}/{name}{sas}"
    for method in ("GET", "PUT", "DELETE"):
        answer = raw_request(local_server, method, path)
        assert answer.status == 400, (method, name, answer.status)


def test_a_link_inside_a_container_that_points_out_of_it_is_not_followed(local_server: LocalServer) -> None:
    link = local_server.home.blobs / CONTAINER / "link"
    if not link.is_symlink():
        link.symlink_to(local_server.home.path / "secret")
    with pytest.raises(HttpResponseError) as caught:
        open_container(local_server).download_blob("link").readall()
    assert caught.value.status_code == 400
    link.unlink()


def test_containers_are_made_once_and_looked_at(local_server: LocalServer) -> None:
    other = open_container(local_server, container="other-files")
    assert not other.exists()
    other.create_container()
    assert other.exists()
    with pytest.raises(ResourceExistsError):
        other.create_container()
    with pytest.raises(HttpResponseError):
        open_container(local_server, container="Not_Allowed").create_container()


def test_a_wrong_key_and_a_tampered_or_missing_signature_are_refused(local_server: LocalServer) -> None:
    with pytest.raises(ClientAuthenticationError):
        open_container(local_server, "AAAA").get_container_properties()
    good = secret_of(local_server, expirableSecret=True)["sasToken"]
    more = good.replace("sp=racwdl", "sp=racwdlx")
    later = good.replace("se=20", "se=21")
    for signature in (more, later, good[:-4] + "AAAA"):
        with pytest.raises(ClientAuthenticationError):
            open_container(local_server, signature).get_container_properties()
    bare = requests.get(f"{local_server.url}/{ACCOUNT}/{CONTAINER}?restype=container", timeout=10)
    assert (bare.status_code, bare.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    with_token = local_server.request("GET", f"/{ACCOUNT}/{CONTAINER}?restype=container")
    assert with_token.status_code == 403


def test_signatures_made_by_the_library_open_what_they_name_and_no_more(local_server: LocalServer) -> None:
    key = secret_of(local_server)["key"]
    soon = datetime.now(UTC) + timedelta(minutes=5)
    whole = open_container(local_server)
    whole.upload_blob("mine/file", b"x", overwrite=True)
    whole.upload_blob("other", b"x", overwrite=True)
    reading = generate_container_sas(
        ACCOUNT, CONTAINER, key, permission=ContainerSasPermissions(read=True), expiry=soon
    )
    assert open_container(local_server, reading).download_blob("mine/file").readall() == b"x"
    refuse(lambda: open_container(local_server, reading).upload_blob("mine/new", b"x"))
    refuse(lambda: list(open_container(local_server, reading).list_blobs()))
    one = generate_blob_sas(
        ACCOUNT, CONTAINER, "mine/file", account_key=key, permission=BlobSasPermissions(read=True), expiry=soon
    )
    assert open_container(local_server, one).download_blob("mine/file").readall() == b"x"
    refuse(lambda: open_container(local_server, one).download_blob("other").readall())
    objects = generate_account_sas(
        ACCOUNT, key, ResourceTypes(object=True), AccountSasPermissions(read=True, list=True), soon
    )
    assert open_container(local_server, objects).download_blob("other").readall() == b"x"
    refuse(lambda: list(open_container(local_server, objects).list_blobs()))
    past = datetime.now(UTC) - timedelta(minutes=1)
    gone = generate_container_sas(ACCOUNT, CONTAINER, key, permission=ContainerSasPermissions(read=True), expiry=past)
    refuse(lambda: open_container(local_server, gone).download_blob("other").readall())


def test_an_old_request_cannot_be_sent_again(local_server: LocalServer) -> None:
    from core.local.wire import storage_key

    stale = (datetime.now(UTC) - timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": stale, "x-ms-version": "2026-10-06"}
    lines = ["GET", *[""] * 11, f"x-ms-date:{stale}", "x-ms-version:2026-10-06", f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}"]
    text = "\n".join([*lines, "restype:container"])
    key = storage_key.derive(local_server.home.secret())
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{storage_key._sign(key, text)}"
    answer = requests.get(f"{local_server.url}/{ACCOUNT}/{CONTAINER}?restype=container", headers=headers, timeout=10)
    assert answer.status_code == 403
    assert "15 minutes" in answer.text


def test_an_operation_the_blob_store_does_not_have_is_501(local_server: LocalServer) -> None:
    with pytest.raises(HttpResponseError) as caught:
        open_container(local_server).get_blob_client("x").create_snapshot()
    assert caught.value.status_code == 501
    with pytest.raises(HttpResponseError) as caught:
        open_container(local_server).get_blob_client("x").upload_blob_from_url("http://127.0.0.1/x")
    assert caught.value.status_code == 501


def test_what_an_unfinished_upload_left_is_gone_after_a_restart(own_server: LocalServer) -> None:
    staging = own_server.home.blobs / ".staging"
    (staging / "half").write_bytes(b"x")
    for name, age_s in (("old", 8 * 24 * 3600), ("new", 3600)):
        (staging / name).mkdir()
        (staging / name / "block").write_bytes(b"x")
        os.utime(staging / name, (time.time() - age_s, time.time() - age_s))
    own_server.kill()
    own_server.start()
    assert [path.name for path in staging.iterdir()] == ["new"]


def refuse(call: Any) -> None:
    with pytest.raises(HttpResponseError) as caught:
        call()
    assert caught.value.status_code == 403


def _if_not_modified() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def raw_request(server: LocalServer, method: str, path: str) -> Any:
    """Send a path exactly as it is: every client library tidies dots away."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.home.port(), timeout=10)
    connection.request(method, path, headers={"x-ms-blob-type": "BlockBlob", "Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_the_log_of_a_run_is_read_in_the_artifact_store_and_written_by_nobody(local_server: LocalServer) -> None:
    submit(local_server, "logged", command_body("--steps 3"))
    wait_for(local_server, "logged")
    path = "datastores/workspaceartifactstore"
    secret = local_server.request("POST", f"{path}/listSecrets", json={"expirableSecret": True}).json()["sasToken"]
    name = local_server.request("GET", path).json()["properties"]["containerName"]
    store = open_container(local_server, secret, name)
    folder = "ExperimentRun/dcid.logged/"
    log, events = f"{folder}user_logs/std_log.txt", f"{folder}logs/azureml/executionlogs.txt"
    assert sorted(store.list_blob_names(name_starts_with=folder)) == sorted([log, events])
    kept = (local_server.home.runs / "logged/command/std_log.txt").read_bytes()
    assert store.download_blob(log).readall() == kept
    for change in (
        lambda: store.upload_blob(log, b"mine", overwrite=True),
        lambda: store.delete_blob(log),
        lambda: store.get_blob_client(log).set_blob_metadata({"a": "b"}),
    ):
        with pytest.raises(HttpResponseError) as refused:
            change()
        assert refused.value.status_code == 409
    assert store.download_blob(log).readall() == kept


def test_what_mlflow_clients_logged_in_an_older_home_is_found_where_it_is_now(tmp_path: Path) -> None:
    older = Home(tmp_path).blobs / CONTAINER / "azureml/ExperimentRun/dcid.run/plot.txt"
    older.parent.mkdir(parents=True)
    older.write_text("drawn")
    with running_server(tmp_path) as server:
        assert open_container(server, container="azureml").download_blob(
            "ExperimentRun/dcid.run/plot.txt"
        ).readall() == (b"drawn")
