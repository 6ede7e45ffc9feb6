"""Drafts that several tabs change at once: each edit is kept, none is undone, and what was started stays started."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from core.errors import Conflict, NotFound
from core.home import Home
from core.launch.drafts import (
    Draft,
    create_draft,
    find_latest_draft,
    get_draft,
    list_differences,
    mark_launched,
    save_draft,
)


@pytest.fixture
def draft(home: Home) -> Draft:
    return create_draft("local", model="tiny-chat", model_version="1", parameters={"seed": 7})


def test_a_draft_is_found_again_and_a_changed_one_counts_as_not_launched(draft: Draft) -> None:
    draft = save_draft(draft, compute="this-machine", parameters={"seed": 8})
    assert get_draft(draft.id) == draft
    assert find_latest_draft("local") == draft
    mark_launched(draft.id, "op1")
    assert get_draft(draft.id).launched == "op1"
    assert get_draft(draft.id).revision == draft.revision
    assert find_latest_draft("local") is None
    assert save_draft(get_draft(draft.id), dataset="abc").launched == ""
    with pytest.raises(NotFound, match="There is no draft 'nope'"):
        get_draft("nope")


def test_each_draft_has_a_nonce_of_its_own_that_no_change_alters(draft: Draft) -> None:
    other = create_draft("local", model="tiny-chat")
    assert len(draft.nonce) == 16
    assert draft.nonce != other.nonce
    assert save_draft(draft, compute="this-machine").nonce == draft.nonce


def test_two_tabs_that_change_different_things_lose_neither(draft: Draft) -> None:
    save_draft(draft, compute="gpu-1", parameters={**draft.parameters, "num_train_epochs": 5})
    saved = save_draft(draft, dataset="abc", parameters={"max_steps": 6})  # takes the seed away
    assert (saved.compute, saved.dataset) == ("gpu-1", "abc")
    assert saved.parameters == {"num_train_epochs": 5, "max_steps": 6}
    assert saved == get_draft(draft.id)


@pytest.mark.parametrize(
    ("theirs", "mine", "said"),
    [
        ({"parameters": {"seed": 9}}, {"parameters": {"seed": 8}}, "Seed was changed in another tab: it is 9 now."),
        ({"parameters": {}}, {"parameters": {"seed": 8}}, "it is at its default now."),
        ({"parameters": {"seed": 9}}, {"parameters": {}}, "it is 9 now."),
        ({"compute": "gpu-1"}, {"compute": "gpu-2"}, "Compute was changed in another tab: it is gpu-1 now."),
        ({"dataset": "abc"}, {"dataset": "def"}, "Data was changed in another tab: it is another data set now."),
    ],
)
def test_two_tabs_that_change_the_same_thing_are_told_what_it_is_now(
    draft: Draft, theirs: dict[str, object], mine: dict[str, object], said: str
) -> None:
    saved = save_draft(draft, **theirs)
    with pytest.raises(Conflict) as raised:
        save_draft(draft, **mine)
    assert said in raised.value.message
    assert get_draft(draft.id) == saved
    assert save_draft(draft, **theirs).revision == saved.revision + 1, "who wants what is there already has it"


def test_a_stale_tab_does_not_take_back_that_a_draft_was_started(draft: Draft) -> None:
    mark_launched(draft.id, "op1", draft.revision)
    with pytest.raises(Conflict, match="This set-up was started in another tab"):
        save_draft(draft, compute="gpu-1")
    assert get_draft(draft.id).launched == "op1"


def test_a_draft_that_was_changed_before_its_start_was_noted_is_not_the_one_that_runs(draft: Draft) -> None:
    changed = save_draft(draft, compute="gpu-1")
    mark_launched(draft.id, "op1", draft.revision)
    assert get_draft(draft.id) == changed


def test_a_draft_that_is_not_there_is_not_saved(draft: Draft) -> None:
    with pytest.raises(NotFound):
        save_draft(replace(draft, id="nope"), compute="gpu-1")
    assert find_latest_draft("local") == draft


def test_eight_tabs_saving_at_once_keep_all_their_edits(draft: Draft) -> None:
    together = threading.Barrier(8)

    def save(number: int) -> None:
        together.wait()
        save_draft(draft, parameters={**draft.parameters, f"parameter-{number}": number})

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_draft(draft.id).parameters == {"seed": 7} | {f"parameter-{number}": number for number in range(8)}
    assert get_draft(draft.id).revision == draft.revision + 8


def test_what_another_tab_changed_is_said_in_words(draft: Draft) -> None:
    now = save_draft(draft, compute="gpu-1", dataset="abc", parameters={"num_train_epochs": 5})
    assert list_differences(draft, now) == [
        "Compute is gpu-1, it was not chosen",
        "Data is another data set",
        "Seed is at its default, it was 7",
        "Epochs is 5, it was at its default",
    ]
    assert list_differences(draft, draft) == []
