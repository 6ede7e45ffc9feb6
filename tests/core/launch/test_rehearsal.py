"""What goes along from a run on this machine to Azure, and what is said to differ there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.catalog.prices import Price
from core.launch import drafts, rehearsal

pytestmark = pytest.mark.usefixtures("home")


def rehearse() -> drafts.Draft:
    draft = drafts.create_draft(
        "local",
        model="SmolLM2",
        model_version="1",
        compute="this-machine",
        dataset="abc",
        parameters={"learning_rate": 1e-4},
    )
    drafts.mark_launched(draft.id, "operation-1")
    return draft


def test_the_rehearsal_is_the_last_start_here_with_the_same_data() -> None:
    started = rehearse()
    drafts.create_draft("local", dataset="abc", model="never started")
    there = drafts.create_draft("ml-dev", dataset="abc")
    found = rehearsal.find_rehearsal(there)
    assert found is not None
    assert found.id == started.id
    assert rehearsal.find_rehearsal(drafts.create_draft("ml-dev", dataset="other")) is None
    assert rehearsal.find_rehearsal(started) is None, "a run on this machine was not rehearsed on it"


def test_size_model_and_price_are_what_differs() -> None:
    plan = SimpleNamespace(
        estimate=SimpleNamespace(cost_words="$3 to $5"),
        compute=SimpleNamespace(name="gpu-1", size="Standard_NC24ads_A100_v4", price=Price(3.67)),
        model=SimpleNamespace(name="Phi-4", version="8"),
    )
    assert rehearsal.compare(rehearse(), cast("Any", plan)) == [
        ("Size", "this-machine", "gpu-1, Standard_NC24ads_A100_v4"),
        ("Model", "SmolLM2 v1", "Phi-4 v8"),
        ("Price", "$0.00", "$3 to $5, $3.67/h"),
    ]
