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


def test_what_is_found_says_how_far_the_lists_are_and_what_the_filters_hide(alias: str) -> None:
    app = open_app("model", at=alias, q="azureml/phi", licence="MIT")
    hidden = "Hidden: 2 not for fine-tuning, 8 archived or retired."
    run_until(app, lambda app: hidden in texts(app))
    assert "registries listed, as of " in texts(app)
    assert (app.selectbox(key="licence").value, app.selectbox(key="task").value) == ("MIT", "chat-completion")
    assert app.radio[0].options == ["Phi-4"]
    buttons(app)["Show them too"].click()
    app.run()
    assert "Phi-3-mini instruct (4k)" in [option.replace("\\", "") for option in app.radio[0].options]
    assert app.selectbox(key="licence").value == "Any"


def test_the_lessons_model_is_archived_and_leads_to_what_follows_it(alias: str) -> None:
    app = choose(alias, "Phi-3-mini-4k-instruct", "Phi-3-mini instruct (4k)")
    run_until(app, lambda app: "its registry offers it no more. Phi-4 can be fine-tuned today." in texts(app))
    assert buttons(app)["Use these"].disabled
    assert not app.checkbox
    buttons(app)["Choose Phi-4"].click()
    app.run()
    kept = drafts.find_latest_draft(alias)
    assert kept is not None
    assert (kept.model, kept.model_version) == ("Phi-4", "9")


def test_all_that_is_known_of_a_model_is_on_its_card_with_its_source(alias: str) -> None:
    app = choose(alias, "Llama-2-7b-chat", "Llama-2-7b-chat")
    for fact in (
        "**Publisher**: Meta",
        "**Fine-tuning**: said by metadata tasks.fineTuningTasks",
        "**Size**: 7 billion parameters (by its name), about 14.0 GB in 16 bits",
        "**Languages**: en",
        "(from metadata supportedComputes.finetuneComputes)",
    ):
        assert fact in texts(app)


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
