"""Mine is what this identity made through Tunedeck: a teardown ticks nothing else by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.owners import Names, is_mine, read_names
from core.serving.endpoints import begin_endpoint
from core.teardown.inventory import Item, list_billing
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.stand_in import StandIn
from tests.waiting import wait_until

MARK = {tags.MADE_BY: "another-home"}


@pytest.fixture
def kettle(azure: StandIn, conn: Connection) -> Iterator[Connection]:
    """An endpoint of the signed-in identity, made with the tags of a Tunedeck of another home."""
    begin_endpoint(conn, "kettle", "", MARK)
    with azure.hurried():
        wait_until(lambda: (item := list_billing(conn).find("endpoint:kettle")) and item.state == "Empty")
        yield conn
        azure.az(user="ada@contoso.com")
        conn.credential.look_anew()
        conn.http("DELETE", f"{conn.workspace_path}/onlineEndpoints/kettle?api-version=2024-10-01")
        wait_until(lambda: list_billing(conn).find("endpoint:kettle") is None)


def find(conn: Connection, key: str) -> Item:
    item = list_billing(conn).find(key)
    assert item is not None
    return item


def test_what_this_identity_made_through_tunedeck_is_mine_from_whichever_home(
    kettle: Connection, azure: StandIn
) -> None:
    item = find(kettle, "endpoint:kettle")
    assert (item.owner, item.mine, item.bills) == ("ada@contoso.com", True, False)
    assert item.created_at is not None
    assert "Succeeded" in item.stamp


def test_what_a_colleague_made_is_not_mine_whatever_its_tags_say(kettle: Connection, azure: StandIn) -> None:
    azure.az(user="ben@contoso.com")
    kettle.credential.look_anew()
    item = find(kettle, "endpoint:kettle")
    assert (item.owner, item.mine) == ("ada@contoso.com", False)
    azure.azure.makers.known[f"{WORKSPACE_PATH}/onlineendpoints/kettle".lower()] = "az-user"
    assert find(kettle, "endpoint:kettle").mine, "an identity is known by its object id, too"


def test_what_was_not_made_through_tunedeck_is_nobodys_to_tick(azure: StandIn, conn: Connection) -> None:
    names = read_names(conn)
    assert is_mine(names, "Ada@Contoso.com", MARK)
    assert not is_mine(names, "ada@contoso.com", {})
    assert not is_mine(names, "", MARK)


@pytest.mark.usefixtures("azure")
def test_a_shown_name_alone_is_believed_of_what_this_home_made_only() -> None:
    names = Names(frozenset({"ada@contoso.com"}), "ada lovelace")
    assert is_mine(names, "Ada Lovelace", {tags.MADE_BY: tags.made_by()})
    assert not is_mine(names, "Ada Lovelace", MARK)
    assert not is_mine(Names(), "", {tags.MADE_BY: tags.made_by()})
