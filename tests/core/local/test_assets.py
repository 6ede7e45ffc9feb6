"""Data assets and registered models, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from core.local.addresses import datastore_path, long_uri
from core.local.blobs import CONTAINER
from core.local.wire.errors import WireError
from tests.local_server import LocalServer

SHORT = "azureml://datastores/workspaceblobstore/paths/"


def data(path: str = "fine/train.jsonl", **properties: Any) -> dict[str, Any]:
    return {"properties": {"dataUri": SHORT + path, "dataType": "uri_file", "tags": {}, **properties}}


def model(uri: str, **properties: Any) -> dict[str, Any]:
    return {"properties": {"modelUri": uri, "modelType": "mlflow_model", **properties}}


def make_files(server: LocalServer, path: str) -> Any:
    folder = server.home.blobs / CONTAINER / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    return folder


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_versions_count_up_and_the_newest_is_the_latest(local_server: LocalServer) -> None:
    assert local_server.request("GET", "data/train").status_code == 404
    for version in ("1", "2"):
        answer = local_server.request("PUT", f"data/train/versions/{version}", json=data(f"fine/{version}.jsonl"))
        assert answer.status_code == 201
    container = local_server.request("GET", "data/train").json()["properties"]
    assert (container["latestVersion"], container["nextVersion"]) == ("2", "3")
    newest = local_server.request("GET", "data/train/versions?$orderBy=createdtime desc&$top=1").json()["value"]
    assert [each["name"] for each in newest] == ["2"]
    found = local_server.request("GET", "data/train/versions/1").json()
    assert found["properties"]["dataUri"] == SHORT + "fine/1.jsonl"


def test_the_content_of_a_version_never_changes_and_its_tags_do(local_server: LocalServer) -> None:
    address = "data/kept/versions/1"
    local_server.request("PUT", address, json=data())
    assert code(local_server.request("PUT", address, json=data("other.jsonl"))) == (409, "Conflict")
    assert local_server.request("PUT", address, json=data(tags={"a": "b"})).status_code == 200
    assert local_server.request("GET", address).json()["properties"]["tags"] == {"a": "b"}


def test_archived_versions_and_names_leave_the_lists(local_server: LocalServer) -> None:
    for version in ("1", "2"):
        local_server.request("PUT", f"data/old/versions/{version}", json=data())
    local_server.request("PUT", "data/old/versions/1", json=data(isArchived=True))
    active = local_server.request("GET", "data/old/versions?listViewType=ActiveOnly").json()["value"]
    assert [each["name"] for each in active] == ["2"]
    assert len(local_server.request("GET", "data/old/versions?listViewType=All").json()["value"]) == 2
    local_server.request("PUT", "data/old", json={"properties": {"isArchived": True}})
    names = [each["name"] for each in local_server.request("GET", "data?listViewType=ActiveOnly").json()["value"]]
    assert "old" not in names


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://example.org/x",
        "azureml://datastores/other/paths/x",
        "azureml://subscriptions/s/resourceGroups/g/workspaces/w/datastores/workspaceblobstore/paths/x",
    ],
)
def test_data_elsewhere_is_refused(local_server: LocalServer, uri: str) -> None:
    body = {"properties": {"dataUri": uri, "dataType": "uri_file"}}
    assert code(local_server.request("PUT", "data/odd/versions/1", json=body)) == (400, "UserError")


def test_asset_ids_are_resolved_for_the_sdks_download(local_server: LocalServer) -> None:
    created = local_server.request("PUT", "data/resolved/versions/1", json=data()).json()
    path = local_server.request("GET", "").url.removeprefix(local_server.url).rstrip("/")
    answer = local_server.request(
        "POST", f"/data/v1.0{path}/dataversion/batchGetResolvedUris", json={"values": [created["id"], "nothing"]}
    )
    assert answer.json() == {"values": {created["id"]: {"uri": SHORT + "fine/train.jsonl"}}}


def test_a_model_is_registered_by_its_files_and_answered_in_the_long_form(local_server: LocalServer) -> None:
    make_files(local_server, "azureml/job_1/trained_model")
    uri = SHORT + "azureml/job_1/trained_model/"
    answer = local_server.request("PUT", "models/m/versions/1", json=model(uri, tags={"k": "v"}))
    assert answer.status_code == 201, answer.text
    properties = answer.json()["properties"]
    assert properties["modelUri"] == long_uri("azureml/job_1/trained_model/")
    assert (properties["tags"], properties["flavors"]) == ({"k": "v"}, {})
    again = local_server.request("PUT", "models/m/versions/1", json=model(uri, isArchived=True))
    assert (again.status_code, again.json()["properties"]["isArchived"]) == (200, True)


def test_a_model_of_a_job_or_of_files_that_are_not_there_is_refused(local_server: LocalServer) -> None:
    for uri in ("azureml://jobs/nobody/outputs/trained_model", SHORT + "nothing/here", SHORT + "../../secret", "x"):
        answer = local_server.request("PUT", "models/none/versions/1", json=model(uri))
        assert answer.status_code == 400, uri
    assert local_server.request("GET", "models/none").status_code == 404


def test_deleting_a_version_keeps_the_files_unless_the_query_says_so(local_server: LocalServer) -> None:
    files = make_files(local_server, "azureml/job_2/trained_model")
    uri = SHORT + "azureml/job_2/trained_model"
    for version in ("1", "2"):
        local_server.request("PUT", f"models/gone/versions/{version}", json=model(uri))
    shared = local_server.request("DELETE", "models/gone/versions/1?deleteFiles=true")
    assert code(shared) == (409, "FilesInUse")
    assert local_server.request("DELETE", "models/gone/versions/1").status_code == 200
    assert files.is_dir()
    assert local_server.request("DELETE", "models/gone/versions/2?deleteFiles=true").status_code == 200
    assert not files.exists()
    assert code(local_server.request("DELETE", "models/gone/versions/2")) == (404, "ResourceNotFound")


def test_data_is_not_deleted_as_azure_does_not(local_server: LocalServer) -> None:
    body = {"properties": {"dataUri": SHORT + "old/kettle.jsonl", "dataType": "uri_file"}}
    assert local_server.request("PUT", "data/kettle/versions/1", json=body).status_code == 201
    assert code(local_server.request("DELETE", "data/kettle/versions/1")) == (400, "UserError")
    assert local_server.request("GET", "data/kettle/versions/1").status_code == 200


def test_the_whole_datastore_is_never_deleted_as_a_models_files(local_server: LocalServer) -> None:
    make_files(local_server, "azureml/job_3/trained_model")
    assert local_server.request("PUT", "models/all/versions/1", json=model(SHORT)).status_code == 201
    assert code(local_server.request("DELETE", "models/all/versions/1?deleteFiles=true")) == (400, "UserError")
    assert local_server.request("GET", "models/all/versions/1").status_code == 200
    assert (local_server.home.blobs / CONTAINER / "azureml/job_3").is_dir()


def test_every_form_of_an_address_names_the_same_path() -> None:
    path = "azureml/job/out/"
    assert datastore_path("azureml://jobs/job/outputs/out") == path
    assert datastore_path("azureml://jobs/job/outputs/out/paths/model/x") == path + "model/x"
    assert datastore_path(SHORT + path) == path
    assert datastore_path(long_uri(path)) == path
    assert datastore_path(long_uri(path).replace("resourceGroups", "resourcegroups")) == path
    assert datastore_path("https://example.org") is None
    with pytest.raises(WireError):
        datastore_path(SHORT.replace("workspaceblobstore", "other"))
