from __future__ import annotations

from pathlib import Path

from core.azureml.connection import Connection
from core.catalog import registries
from core.catalog.base_models import get_base_model, keep_model
from core.catalog.catalogue import SCREENFUL, find_successor, search
from core.catalog.kept import Kept, Wanted
from core.errors import Throttled
from core.home import Home
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


def test_a_model_that_was_asked_for_by_name_is_found_before_any_list_has_told_of_it(
    conn: Connection, tmp_path: Path
) -> None:
    new = Kept(Home(tmp_path), conn.alias)
    answer = registries.read_model(conn, "azureml", "Phi-4", "latest")
    keep_model(new, ("azureml", "Phi-4", answer[0]), answer[1])
    assert [found.name for found in new.search(Wanted(tunable=True), 0, 9)[0]] == ["Phi-4"]
    new.add_registries(["azureml"])
    new.begin("azureml")
    new.keep_page("azureml", [("Phi-5", "1", False)], "")
    assert [found.name for found in new.search(Wanted(), 0, 9)[0]] == ["Phi-5"], "the whole list does not have it"


def test_while_a_list_is_read_anew_the_last_whole_one_stays_and_says_its_age(tmp_path: Path) -> None:
    kept = Kept(Home(tmp_path), "azure")
    kept.add_registries(["shared"])
    kept.begin("shared")
    kept.keep_page("shared", [("old", "1", False), ("stays", "1", False)], "")
    (whole,) = kept.list_registries()
    kept.begin("shared")
    kept.keep_page("shared", [("stays", "2", False)], "https://next")
    (again,) = kept.list_registries()
    assert (again.state, again.listed, again.as_of, again.next_link) == ("listing", 1, whole.as_of, "https://next")
    assert [each.name for each in kept.search(Wanted(), 0, 9)[0]] == ["old", "stays"]
    kept.note("shared", Throttled("Azure asks for a pause."), "failed")
    (failed,) = kept.list_registries()
    assert (failed.state, failed.listed, failed.as_of) == ("failed", 2, whole.as_of)
    kept.keep_page("shared", [("more", "1", False)], "https://after")
    (resumed,) = kept.list_registries()
    assert (resumed.state, resumed.listed, resumed.problem) == ("listing", 2, "")
    kept.keep_page("shared", [("new", "1", False)], "")
    assert [(each.name, each.version) for each in kept.search(Wanted(), 0, 9)[0]] == [
        ("more", "1"),
        ("new", "1"),
        ("stays", "2"),
    ]


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


def test_what_a_search_leaves_out_is_counted_once_by_the_reason(conn: Connection) -> None:
    everything = find_all(conn, wanted=Wanted(task=""))
    found = find_all(conn, wanted=Wanted(tunable=True, current=True))
    hidden = found.hidden
    assert hidden.untunable >= 1, "Phi-3-vision is for inference only"
    assert hidden.ended >= 1
    assert found.matches + hidden.others + hidden.untunable + hidden.ended + hidden.unknown == everything.matches


def test_a_search_is_narrowed_by_publisher_licence_and_registry_and_says_which_there_are(conn: Connection) -> None:
    found = find_all(conn)
    assert found.choices["registry"] == ("azureml",)
    assert "Microsoft" in found.choices["publisher"]
    models = find_models(conn, wanted=Wanted(publisher="Microsoft", licence="MIT", registry="azureml"))
    assert models
    assert {(model.publisher, model.licence) for model in models} == {("Microsoft", "MIT")}
    assert find_models(conn, wanted=Wanted(registry="elsewhere")) == []


def test_what_follows_an_ended_model_is_the_newest_of_its_family_that_can_be_tuned_today(conn: Connection) -> None:
    find_all(conn)
    ended = get_base_model(conn, "Phi-3-mini-4k-instruct")
    successor = find_successor(conn, ended)
    assert successor is not None
    assert successor.name == "Phi-4"
    assert find_successor(conn, get_base_model(conn, tiny_model.NAME)) is None
