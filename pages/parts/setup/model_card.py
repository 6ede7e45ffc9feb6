"""What a registry tells of the model that is chosen: its end and what follows it, its terms, and the rest folded."""

from __future__ import annotations

from collections.abc import Iterator

import streamlit as st

from core.azureml.connection import Connection
from core.catalog.allow_list import AllowList
from core.catalog.base_models import BaseModel
from core.catalog.card import Card
from core.catalog.catalogue import find_successor
from core.catalog.templates import list_templates
from core.launch.drafts import Draft
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action, draw_error_of
from pages.parts.kit.notices import draw_warning
from pages.parts.setup import choices
from pages.parts.setup.model_finder import pick, why_not

_SHOWN = 12


def draw(draft: Draft, model: BaseModel) -> None:
    """Draw what speaks against a model, and what it asks a person to accept."""
    place = reads.find_connection()
    if place is not None and not model.runs_on:
        _draw_end(draft, model, place)
        if terms := model.card.terms:
            draw_warning(terms.words, key="terms")
            st.link_button("Read the terms", terms.find_url(place.cloud.studio), icon=":material/open_in_new:")


def draw_facts(model: BaseModel) -> None:
    """Draw all that its registry says of a model, folded."""
    with st.expander("About this model", icon=":material/info:"):
        facts = [f"**{label}**: {words.plain(said)}" for label, said in _list_facts(model) if said]
        st.markdown(":small[" + "]  \n:small[".join(facts) + "]")


def _draw_end(draft: Draft, model: BaseModel, place: Connection) -> None:
    """Draw that a model is archived or has ended by its dates, what follows it, and the tick for the latter."""
    life = model.lifecycle
    if not (life.archived or life.over):
        return
    successor = find_successor(place, model)
    follows = f"{successor.title} can be fine-tuned today." if successor else life.way_out
    draw_warning(life.refusal(model.title) or life.warning(model.title), follows, key="ended")
    if successor:
        versions = {successor.name: successor.version}
        action(f"Choose {successor.title}", pick, successor.name, draft.id, versions, key="successor", icon="upgrade")
    if life.archived or why_not(model):
        return
    field = fields.place(f"retired-{draft.id}", draft.retired_model == model.name)
    label = f"Use {words.plain(model.title)} all the same"
    st.checkbox(label, field.value, **fields.follow(field, "The tick", _tick, draft.id, model.name))
    draw_error_of(field.name)


def _tick(ticked: bool, draft_id: str, name: str) -> None:
    choices.save(draft_id, retired_model=name if ticked else "")


def _list_facts(model: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield a label and what is said under it, "" where nothing is known."""
    card = model.card
    yield "Publisher", model.publisher
    yield "Name", f"{model.name}, version {model.version}"
    yield "Registry", model.id.partition("/registries/")[2].partition("/")[0]
    yield "Licence", model.licence
    yield "Life", ", ".join(model.lifecycle.badges)
    yield "Task", model.task
    yield "Fine-tuning", f"said by {model.finetunable_source}" if model.finetunable_source else ""
    yield "Architecture", _describe_architecture(model)
    yield "LoRA trains", model.tags.get("lora_targets", "")
    yield "Context", _describe_context(model)
    yield "Size", describe_size(card)
    yield "Languages", _shorten(card.languages)
    yield "Defaults", ", ".join(f"{name} {value}" for name, value in model.defaults.items())
    yield "Trains on", _describe_sizes(model.finetune)
    yield "Served on", _describe_sizes(model.inference)
    yield "Deployment templates", _describe_templates(card)


def describe_size(card: Card) -> str:
    """Return "14 billion parameters (by its name), about 28 GB in 16 bits", or what of it is known."""
    parts = []
    if card.parameters:
        unit, word = (1e9, "billion") if card.parameters >= 1e9 else (1e6, "million")
        source = "" if card.parameters_source == "stated" else f" ({card.parameters_source})"
        parts.append(f"{card.parameters / unit:.3g} {word} parameters{source}")
    if card.weights_bytes:
        parts.append(f"weights of {words.size(card.weights_bytes)}")
    elif card.parameters:
        parts.append(f"about {words.size(2 * card.parameters)} in 16 bits")
    return ", ".join(parts)


def _describe_architecture(model: BaseModel) -> str:
    layers = f"{model.tags['layers']} layers" if "layers" in model.tags else ""
    return ", ".join(filter(None, (model.tags.get("architecture"), layers, model.tags.get("dtype"))))


def _describe_context(model: BaseModel) -> str:
    if not model.context_length:
        return ""
    most = f", answers up to {words.number(model.card.most_output)}" if model.card.most_output else ""
    return f"{words.number(model.context_length)} tokens{most}"


def _describe_sizes(allowed: AllowList) -> str:
    place = f"{allowed.source} {allowed.source_name}"
    if allowed.sizes:
        return f"{', '.join(allowed.sizes)} (from {place})"
    return f"at least {allowed.minimum.words} (from {place})" if allowed.minimum else ""


def _describe_templates(card: Card) -> str:
    if not card.templates:
        return ""
    snapshot = reads.read(list_templates, card.templates, max_age_s=600.0)
    if snapshot.value is None:
        return snapshot.error.message if snapshot.error else "reading…"
    return "; ".join(f"{each.name} {each.version}: {', '.join(each.sizes)}" for each in snapshot.value)


def _shorten(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
