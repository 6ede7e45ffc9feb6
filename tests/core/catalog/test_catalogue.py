from __future__ import annotations

from core.azureml.connection import Connection
from core.catalog.catalogue import SCREENFUL, search
from core.catalog.kept import Wanted
from tests import tiny_model
from tests.catalogue import find_all, find_models


def test_a_search_says_at_once_how_far_the_lists_are_and_in_the_end_that_they_are_whole(conn: Connection) -> None:
    first = search(conn)
    assert (first.entries, first.moving) == ((), True)
    found = find_all(conn)
    (registry,) = found.registries
    assert (registry.name, registry.state, registry.problem) == ("azureml", "complete", "")
    assert registry.as_of is not None
    assert (found.matches, found.unknown) == (registry.listed, 0)
    assert len(found.entries) == min(SCREENFUL, found.matches)


def test_a_model_is_found_by_registry_name_publisher_task_and_licence(conn: Connection) -> None:
    everything = {model.name for model in find_models(conn)}
    assert {model.name for model in find_models(conn, "azureml MICROSOFT chat-comp mit")} < everything
    assert [model.name for model in find_models(conn, "microsoft mit phi-4")] == ["Phi-4"]
    assert find_models(conn, "microsoft apache") == []


def test_what_cannot_be_tuned_or_has_ended_or_runs_elsewhere_can_be_left_out(conn: Connection) -> None:
    assert [model.name for model in find_models(conn, wanted=Wanted(runs_here=True))] == [tiny_model.NAME]
    current = find_models(conn, wanted=Wanted(tunable=True, current=True))
    assert "Phi-4" in [model.name for model in current]
    lives = {model.name: model.lifecycle for model in current if model.finetunable}
    assert len(lives) == len(current)
    assert not [name for name, life in lives.items() if life.archived or life.finetuning.is_over]


def test_a_part_beyond_the_last_is_the_first_one(conn: Connection) -> None:
    find_all(conn)
    assert search(conn, first=9 * SCREENFUL).entries == search(conn).entries
