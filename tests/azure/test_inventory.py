"""The inventory at the stand-in: side by side, and what it says of what was made there."""

from __future__ import annotations

import pytest

from core.azureml import datastore
from core.azureml.abreast import MOST, abreast
from core.azureml.connection import Connection
from core.errors import NotFound
from core.teardown.inventory import list_inventory
from tests.azure.stand_in import StandIn

DATA = 12


@pytest.fixture
def talks(azure: StandIn, conn: Connection) -> Connection:
    """A workspace with a dozen data assets of a file of 3 bytes each."""
    for number in range(DATA):
        path = f"talks/{number:02}/train.jsonl"
        datastore.send_file(conn, path, b"{}\n")
        uri = f"azureml://datastores/workspaceblobstore/paths/{path}"
        asset, body = f"data/talk-{number:02}/versions/1", {"properties": {"dataType": "uri_file", "dataUri": uri}}
        conn.http("PUT", f"{conn.workspace_path}/{asset}?api-version=2024-10-01", json=body, doing="create", what=asset)
    return conn


def test_a_dozen_things_are_read_side_by_side_and_their_bytes_in_one_listing(azure: StandIn, talks: Connection) -> None:
    azure.rules.add("^GET https://", delay_s=0.05, times=10_000)
    before, azure.rules.peak = len(azure.rules), 0
    found = [item for item in list_inventory(talks).items if item.kind == "data"]
    assert [item.bytes for item in found] == [3] * DATA
    assert {item.owner for item in found} == {"ada@contoso.com"}
    assert not any(item.mine for item in found), "nobody made them through Tunedeck"
    assert 2 < azure.rules.peak <= MOST
    assert len(azure.rules.asked("comp=list", since=before)) == 1


def test_what_fails_among_many_is_raised(conn: Connection, azure: StandIn) -> None:
    def fail() -> int:
        raise NotFound("There is no such thing.", "", "")

    with pytest.raises(NotFound):
        abreast(conn, [lambda: 1, fail, lambda: 2])
    assert abreast(conn, [lambda: 1, lambda: 2]) == [1, 2]
