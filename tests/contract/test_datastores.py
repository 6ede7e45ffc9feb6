"""Datastores through the SDK: containers elsewhere are kept and told, and nothing that runs here reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core.azureml import cloud as clouds
from core.local.blobs import ARTIFACT_DATASTORE, DATASTORE
from tests.contract.sdk import make_clients
from tests.local_server import LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")

KEY = "bm90IGEga2V5"


@pytest.fixture
def workspace(light_server: LocalServer) -> Iterator[Any]:
    with clouds.using(clouds.local_cloud(light_server.home)):
        yield make_clients(light_server)[0]


def refused(call: Any) -> tuple[int, str]:
    """Return the status and the sentence with which a call is refused."""
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError) as caught:
        call()
    return int(caught.value.status_code or 0), caught.value.error.message if caught.value.error else ""


def blob_store(name: str, **fields: Any) -> Any:
    from azure.ai.ml.entities import AzureBlobDatastore

    return AzureBlobDatastore(name=name, **{"account_name": "elsewhere", "container_name": "rows", **fields})


def test_a_container_elsewhere_is_kept_with_its_key_changed_and_forgotten(
    workspace: Any, light_server: LocalServer
) -> None:
    from azure.ai.ml.entities import AccountKeyConfiguration

    keyed = blob_store("keyed", credentials=AccountKeyConfiguration(account_key=KEY), tags={"k": "v"})
    made = workspace.datastores.create_or_update(keyed)
    assert (made.name, made.account_name, made.container_name, made.tags) == ("keyed", "elsewhere", "rows", {"k": "v"})
    assert workspace.datastores.create_or_update(blob_store("open", description="by identity")).description
    assert KEY not in light_server.request("GET", "datastores").text
    assert workspace.datastores.get("keyed", include_secrets=True).credentials.account_key == KEY
    assert (
        type(workspace.datastores.get("open", include_secrets=True).credentials).__name__
        == "NoneCredentialConfiguration"
    )
    assert {each.name for each in workspace.datastores.list()} == {DATASTORE, ARTIFACT_DATASTORE, "keyed", "open"}
    assert workspace.datastores.get_default().name == DATASTORE

    workspace.datastores.create_or_update(blob_store("open", container_name="others"))
    assert workspace.datastores.get("open").container_name == "others"
    for name in ("keyed", "open", "open"):
        workspace.datastores.delete(name)
    assert [each.name for each in workspace.datastores.list()] == [DATASTORE, ARTIFACT_DATASTORE]
    assert refused(lambda: workspace.datastores.get("keyed"))[0] == 404


def test_what_cannot_be_a_datastore_here_is_refused_in_words(workspace: Any, light_server: LocalServer) -> None:
    from azure.ai.ml.entities import (
        AzureDataLakeGen2Datastore,
        AzureFileDatastore,
        Data,
        NoneCredentialConfiguration,
        ServicePrincipalConfiguration,
    )

    principal = ServicePrincipalConfiguration(
        tenant_id="t", client_id="c", client_secret="s", authority_url="https://a", resource_url="https://r"
    )
    nobody = NoneCredentialConfiguration()
    cases = [
        (AzureFileDatastore(name="f", account_name="a12", file_share_name="s", credentials=nobody), "AzureBlob only"),
        (AzureDataLakeGen2Datastore(name="g", account_name="a12", filesystem="s"), "AzureBlob only"),
        (blob_store("b", credentials=principal), "credentials of type None, AccountKey, Sas, not 'ServicePrincipal'"),
        (blob_store("b", account_name="No_account"), "'No_account' is no storage account"),
        (blob_store("b", container_name="x"), "'x' is no container"),
        (blob_store("a-b"), "letters, digits and '_' only"),
        (blob_store(DATASTORE), "the workspace's own"),
        (blob_store(ARTIFACT_DATASTORE), "the workspace's own"),
    ]
    for asked, said in cases:
        status, message = refused(lambda asked=asked: workspace.datastores.create_or_update(asked))
        assert (status, said in message) == (400, True), message
    assert refused(lambda: workspace.datastores.delete(DATASTORE))[0] == 400
    keyless = {"properties": {**_PROPERTIES, "credentials": {"credentialsType": "AccountKey"}}}
    assert "needs its key" in light_server.request("PUT", "datastores/b", json=keyless).json()["error"]["message"]

    workspace.datastores.create_or_update(blob_store("elsewhere"))
    data = Data(name="far", type="uri_file", path="azureml://datastores/elsewhere/paths/a.jsonl")
    status, message = refused(lambda: workspace.data.create_or_update(data))
    assert status == 400
    assert "the one that is read here" in message
    workspace.datastores.delete("elsewhere")


_PROPERTIES = {"datastoreType": "AzureBlob", "accountName": "elsewhere", "containerName": "rows"}
