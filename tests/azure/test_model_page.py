"""Model & compute at the stand-in: what is offered first, what has ended, and what is refused."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from core.azureml.settings import save_settings
from core.launch import drafts
from tests.azure.stand_in import StandIn
from tests.pages.apps import buttons, open_app, run_until, texts


@pytest.fixture
def alias(azure: StandIn) -> str:
    settings = azure.settings()
    save_settings(settings)
    return settings.alias


def choose(alias: str, name: str, title: str) -> AppTest:
    """Open the page on a draft of this model."""
    draft = drafts.create_draft(alias, model=name)
    return run_until(open_app("model", at=alias, draft=draft.id), lambda app: f"**{title}**" in texts(app))


def test_phi_4_is_chosen_at_first(alias: str) -> None:
    app = open_app("model", at=alias)
    run_until(app, lambda app: "**Phi-4** v9" in texts(app))
    assert "Allow-list read from: metadata supportedComputes.finetuneComputes (8 sizes)" in texts(app)


def test_the_lessons_model_is_archived_and_says_so(alias: str) -> None:
    app = choose(alias, "Phi-3-mini-4k-instruct", "Phi-3-mini instruct (4k)")
    assert "is archived: its registry offers it no more." in texts(app)
    assert buttons(app)["Use these"].disabled
    assert not app.checkbox


def test_a_model_that_ended_by_its_dates_alone_goes_on_after_one_tick_that_the_draft_keeps(alias: str) -> None:
    app = choose(alias, "Phi-3-small-8k-instruct", "Phi-3-small instruct (8k)")
    assert "retired for fine-tuning on 30 Aug 2025 (metadata finetuneRetirementDate)" in texts(app)
    assert "Tick that Phi-3-small instruct (8k) is wanted, or choose another model." in texts(app)
    (tick,) = app.checkbox
    tick.check().run()
    assert "Tick that" not in texts(app)
    kept = drafts.find_latest_draft(alias)
    assert kept is not None
    assert (kept.model, kept.retired_model) == ("Phi-3-small-8k-instruct", "Phi-3-small-8k-instruct")


def test_a_licence_of_the_publishers_own_is_said_with_the_page_to_accept_it_on(alias: str) -> None:
    app = choose(alias, "Llama-2-7b-chat", "Llama-2-7b-chat")
    assert "Its licence, 'custom', is the publisher's own: whoever uses it has to accept it." in texts(app)
    (terms,) = app.get("link_button")
    assert terms.proto.url == "https://ml.azure.com/registries/azureml/models/Llama-2-7b-chat/version/28"
