from __future__ import annotations

import json
import stat

import pytest

from core.azureml.settings import (
    change_settings,
    find_settings,
    list_settings,
    make_settings,
    parse_config_json,
    save_settings,
)
from core.errors import BadInput, Conflict, NotFound
from core.home import Home

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


def test_the_local_workspace_is_known_without_being_saved(home: Home) -> None:
    assert [known.alias for known in list_settings()] == ["local"]


def test_a_saved_workspace_is_found_by_its_alias_and_the_last_saved_comes_first(home: Home) -> None:
    first = make_settings(SUBSCRIPTION, "rg-ml", "ml-dev")
    save_settings(first)
    save_settings(make_settings(SUBSCRIPTION, "rg-ml", "ml-prod"))
    assert [known.alias for known in list_settings()] == ["local", "ml-prod", "ml-dev"]
    assert find_settings("ml-dev") == first
    assert find_settings("nowhere") is None


def test_two_workspaces_of_one_name_get_two_aliases_and_the_same_one_keeps_its_own(home: Home) -> None:
    save_settings(make_settings(SUBSCRIPTION, "rg-a", "ml"))
    save_settings(make_settings(SUBSCRIPTION, "rg-b", "ml"))
    assert make_settings(SUBSCRIPTION, "rg-a", "ML").alias == "ml"
    assert make_settings(SUBSCRIPTION, "rg-b", "ml").alias == "ml-2"
    assert make_settings(SUBSCRIPTION, "rg-c", "Local").alias == "local-2"


def test_what_was_typed_with_spaces_is_trimmed(home: Home) -> None:
    made = make_settings(f" {SUBSCRIPTION.upper()} ", " rg-ml ", "ml-dev\n", " ")
    assert (made.subscription_id, made.resource_group, made.workspace_name, made.tenant_id) == (
        SUBSCRIPTION,
        "rg-ml",
        "ml-dev",
        None,
    )


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (("not-a-uuid", "rg", "ws"), "'not-a-uuid' is not a subscription id."),
        ((SUBSCRIPTION, "", "ws"), "The name of the resource group is missing."),
        ((SUBSCRIPTION, "rg", "my/ws"), "'my/ws' cannot be the name of a workspace."),
    ],
)
def test_ids_that_cannot_be_are_named(home: Home, ids: tuple[str, str, str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_settings(*ids)
    assert caught.value.message == said
    assert caught.value.hint


def test_a_config_json_is_read_in_its_form_of_today_and_of_before(home: Home) -> None:
    today = {"subscription_id": SUBSCRIPTION, "resource_group": "rg", "workspace_name": "ws"}
    scope = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
    assert parse_config_json(b"\xef\xbb\xbf" + json.dumps(today).encode()) == parse_config_json(
        json.dumps({"Scope": scope}).encode()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "The file is not a config.json: it is not JSON."),
        (b"\xff\xfe", "The file is not a config.json: it is not JSON."),
        (b"[]", "The config.json has no subscription_id and no resource_group and no workspace_name."),
        (
            b'{"subscription_id": 5}',
            "The config.json has no subscription_id and no resource_group and no workspace_name.",
        ),
    ],
)
def test_a_file_that_is_no_config_json_is_refused_in_words(home: Home, content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_config_json(content)
    assert caught.value.message == said


def test_a_connections_file_that_cannot_be_read_says_which_file(home: Home) -> None:
    home.connections.write_text("{")
    with pytest.raises(BadInput) as caught:
        list_settings()
    assert "connections.json" in caught.value.message
    assert str(home.connections) in caught.value.hint


def test_the_home_can_be_read_by_its_owner_only(home: Home) -> None:
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_what_is_chosen_for_a_workspace_that_was_removed_from_the_home_meanwhile_is_refused(home: Home) -> None:
    with pytest.raises(NotFound, match="The workspace 'ml-prod' is not kept here any more"):
        change_settings("ml-prod", policy_tags="owner=ada")
    assert not home.connections.exists()


def test_of_two_workspaces_of_one_name_connected_at_once_the_second_gets_a_name_of_its_own(home: Home) -> None:
    first, second = (make_settings(SUBSCRIPTION, group, "ml") for group in ("rg-a", "rg-b"))
    assert first.alias == second.alias == "ml"
    save_settings(first)
    with pytest.raises(Conflict, match="Another workspace was connected as 'ml' meanwhile"):
        save_settings(second)
    save_settings(make_settings(SUBSCRIPTION, "rg-b", "ml"))
    found = {each.alias: each.resource_group for each in list_settings()}
    assert (found["ml"], found["ml-2"]) == ("rg-a", "rg-b")


def test_connecting_once_more_keeps_what_another_tab_chose_for_the_workspace_meanwhile(home: Home) -> None:
    settings = make_settings(SUBSCRIPTION, "rg-ml", "ml-prod")
    save_settings(settings)
    change_settings(settings.alias, price_factor=0.7)
    save_settings(settings)
    known = find_settings(settings.alias)
    assert known is not None
    assert known.price_factor == 0.7
