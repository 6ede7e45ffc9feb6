"""The pieces of Model & compute: search, models, computes with the reason where one cannot be used, the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from core.azureml.settings import find_settings
from core.catalog import base_models, catalogue
from core.catalog import compute as computing
from core.catalog.base_models import BaseModel
from core.catalog.catalogue import Found
from core.catalog.compute import Compute, Size, Verdict
from core.catalog.kept import Wanted
from core.errors import Conflict
from core.launch.drafts import Draft
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action, draw_error_of
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_loading, draw_warning, ready
from pages.parts.kit.state import ui
from pages.parts.setup import choices, compute_drawer

_FILTERS = ("Fine-tunable", "Not retired", "Runs here")
FIRST_ON_AZURE = "Phi-4"


def draw_models(draft: Draft) -> tuple[Draft, BaseModel | None]:
    """Draw the models as radio buttons; returns the draft with the choice, and the model it names."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input("Search models", type="search", live="400ms", key="q", bind="query-params", width=240)
        query = (query or "").strip()
        chosen = st.pills("Show only", _FILTERS, selection_mode="multi", default=_FILTERS[:2], key="model-filters")
    wanted = Wanted("Fine-tunable" in chosen, "Not retired" in chosen, "Runs here" in chosen)
    first = (st.session_state.get("models-page", 1) - 1) * catalogue.SCREENFUL
    found = reads.look("models", catalogue.search, query, wanted, first)
    if found is None:
        return draft, _chosen_model(draft)
    _draw_lists(found)
    shown = [entry.model for entry in found.entries if entry.model]
    if not draft.model and (usable := _find_first(shown)):
        draft = choices.save(draft.id, model=usable.name, model_version=usable.version)
    if shown:
        _draw_radio(draft, shown, found.matches)
    elif found.moving:
        draw_loading("Reading the registries…", (52,) * 5)
    else:
        st.text(f"No model matches '{query}'. Clear the filters." if query else "No model matches. Clear the filters.")
    return draft, _chosen_model(draft) or next((model for model in shown if model.name == draft.model), None)


def _draw_lists(found: Found) -> None:
    """Say of which registries the list is not whole, and of how many models only the name is known."""
    problems: dict[tuple[str, str], list[str]] = {}
    for registry in found.registries:
        name = registry.name or "registries of the subscription"
        if registry.problem:
            problems.setdefault((registry.problem, registry.hint), []).append(name)
        elif registry.state == "listing":
            st.caption(words.plain(f"{name}: {words.plural(registry.listed, 'model')} so far."))
    for (problem, hint), names in problems.items():
        draw_warning(f"{', '.join(names)}: {problem}", hint, key=f"registry-{names[0]}")
    if found.unknown:
        st.caption(f"Of {words.plural(found.unknown, 'model')} only the name is known yet.")


def draw_computes(draft: Draft, model: BaseModel | None) -> tuple[Draft, Verdict | None]:
    """Draw what can be used as radio buttons and the rest with its reason; returns the draft and the chosen verdict."""
    compute_drawer.look_for_new(draft)
    computes = reads.read(computing.list_computes, max_age_s=5.0)
    sizes = reads.read(computing.list_sizes, max_age_s=300.0)
    if model is None:
        st.text("Choose a model first: it says which sizes it may be trained on.")
        return draft, None
    if not (ready(computes, "Reading computes…", (52,), key="computes") and ready(sizes, "Reading sizes…", (52,))):
        return draft, None
    draft, verdict = _draw_choices(draft, model, computes.value, sizes.value)
    compute_drawer.draw(draft, model, sizes.value, [found.name for found in computes.value])
    return draft, verdict


def _draw_choices(
    draft: Draft, model: BaseModel, computes: list[Compute], sizes: Sequence[Size]
) -> tuple[Draft, Verdict | None]:
    verdicts = [computing.check_compute(found, model, sizes) for found in computes]
    usable = [verdict for verdict in verdicts if verdict.eligible]
    names = [verdict.compute.name for verdict in usable]
    if (
        draft.compute and draft.compute not in names
    ):  # shown instead, and saved by "Use these": a person chose the other
        instead = f"'{names[0]}' is chosen instead." if names else "Create one that can."
        draw_warning(f"'{draft.compute}' cannot train {model.title}. {instead}", key="cleared")
        draft = replace(draft, compute=names[0] if names else "")
    elif not draft.compute and names:
        draft = choices.save(draft.id, compute=names[0])
    if names:
        field = fields.place(f"compute-{draft.id}", draft.compute, names)
        st.radio(
            f"Usable with {words.plain(model.title)} ({len(usable)})",
            names,
            field.index,
            format_func=words.plain,
            captions=[_describe_compute(verdict.compute) for verdict in usable],
            **fields.follow(field, "Compute", _pick_compute, draft.id),
        )
        draw_error_of(field.name)
    else:
        st.text("No compute here can train this model." if computes else "There is no compute yet. Create one.")
    _draw_unusable([verdict for verdict in verdicts if not verdict.eligible])
    return draft, next((verdict for verdict in usable if verdict.compute.name == draft.compute), None)


def draw_choice(draft: Draft, model: BaseModel | None, verdict: Verdict | None) -> None:
    """Draw the card that says what was chosen, and the way on."""
    with st.container(border=True):
        st.header("Your choice")
        if model is None:
            st.text("No model yet.")
        else:
            place = f" on {words.plain(verdict.compute.name)}" if verdict else ""
            st.markdown(f"**{words.plain(model.title)}** v{words.plain(model.version)}{place}")
            _draw_eligibility(model, verdict)
            _draw_ended(draft, model)
            _draw_terms(model)
        off = _missing(draft, model, verdict)
        action(
            "Use these",
            _use,
            choices.get_shown(draft.id),
            model,
            verdict,
            key="use-these",
            type="primary",
            icon="arrow_forward",
            off=off,
            then=link("data"),
            width="stretch",
        )


def _chosen_model(draft: Draft) -> BaseModel | None:
    """Return the draft's model, also while the list is searched for another."""
    if not draft.model:
        return None
    return reads.read(base_models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value


def _find_first(shown: Sequence[BaseModel]) -> BaseModel | None:
    """Return the model to begin with: one that can be trained here and has not ended."""
    place = reads.find_connection()
    if place is not None and place.costs_money:  # asked for by name: a list of thousands may not be there yet
        asked = reads.read(base_models.get_base_model, FIRST_ON_AZURE, max_age_s=300.0)
        if asked.value is None and asked.error is None:
            return None
        shown = [*([asked.value] if asked.value else []), *shown]
    return next((model for model in shown if _why_not(model) is None and not model.lifecycle.over), None)


def _draw_radio(draft: Draft, part: list[BaseModel], matches: int) -> None:
    pages = -(-matches // catalogue.SCREENFUL)
    by_name = {model.name: model for model in part}
    field = fields.place(f"model-{draft.id}", draft.model, list(by_name))
    versions = {name: model.version for name, model in by_name.items()}
    st.radio(
        words.plural(matches, "model"),
        list(by_name),
        field.index,
        format_func=lambda name: words.plain(by_name[name].title),
        captions=[_describe_model(model) for model in part],
        **fields.follow(field, "Model", _pick_model, draft.id, versions),
    )
    draw_error_of(field.name)
    if pages > 1:
        st.pagination(pages, key="models-page")


def _why_not(model: BaseModel) -> str | None:
    """Return why this workspace cannot train a model, or None."""
    if model.runs_on:
        return f"{model.title} cannot be trained here: it runs on {model.runs_on}."
    if not model.finetunable:
        return f"{model.title} is not for fine-tuning."
    if refusal := model.lifecycle.refusal(model.title):
        return f"{refusal} {model.lifecycle.way_out}"
    return None


def _describe_model(model: BaseModel) -> str:
    """Return licence, context and what speaks against it, as plain text: badges in captions fail contrast."""
    parts = [model.licence or "licence unknown"]
    if model.context_length:
        parts.append(f"{words.number(model.context_length)} tokens")
    if model.runs_on:
        parts.append(f"{model.runs_on} only")
    parts += model.lifecycle.badges
    if model.weights_source:
        parts.append(model.weights_source)
    return words.plain(" · ".join(parts))


def _describe_compute(found: Compute) -> str:
    parts = [found.size]
    if found.cores:
        parts.append(words.plural(found.cores, "core"))
    parts.append(words.plural(found.gpus, "GPU") if found.gpus else "no GPU")
    parts.append("ready" if found.state == "Succeeded" else found.state)
    if found.nodes is not None and found.max_nodes > 1:
        parts.append(f"{found.nodes} of {found.max_nodes} nodes")
    parts.append(found.price.words)
    return words.plain(" · ".join(parts))


def _draw_unusable(verdicts: list[Verdict]) -> None:
    if not verdicts:
        return
    with st.expander(f"{words.plural(len(verdicts), 'compute')} cannot be used, and why"):
        rows = [
            {
                "Compute": words.plain(verdict.compute.name),
                "Why not": words.plain(verdict.reason),
                "What to do": words.plain(verdict.fix),
            }
            for verdict in verdicts
        ]
        st.table(rows, hide_index=True, alt=f"{len(rows)} computes that cannot be used, with the reason")


def _draw_eligibility(model: BaseModel, verdict: Verdict | None) -> None:
    allowed = model.finetune
    if verdict is not None and _why_not(model) is None:
        st.badge("Eligible", icon=":material/check:", color="green")
        st.caption(words.plain(f"{verdict.compute.price.words}" + (", free" if verdict.compute.price.is_free else "")))
    st.caption(words.plain(allowed.words))
    if allowed.problem:
        draw_warning(allowed.problem, allowed.hint, _tag_of(model), key="allow-list")
    if model.defaults_problem:
        draw_warning(model.defaults_problem, detail=model.tags.get("model_specific_defaults", ""), key="defaults")


def _draw_ended(draft: Draft, model: BaseModel) -> None:
    """Draw that a model has ended by its dates, and the tick that it is wanted all the same."""
    warning = model.lifecycle.warning(model.title)
    if not warning or _why_not(model):
        return
    draw_warning(warning, model.lifecycle.way_out, key="ended")
    field = fields.place(f"retired-{draft.id}", draft.retired_model == model.name)
    label = f"Use {words.plain(model.title)} all the same"
    st.checkbox(label, field.value, **fields.follow(field, "The tick", _tick_retired, draft.id, model.name))
    draw_error_of(field.name)


def _draw_terms(model: BaseModel) -> None:
    """Draw what a person has to accept before the model may be used, with the way there."""
    settings = find_settings(ui().alias or "")
    if (terms := model.card.terms) and settings:
        draw_warning(terms.words, key="terms")
        st.link_button("Read the terms", terms.find_url(settings.cloud.studio), icon=":material/open_in_new:")


def _tag_of(model: BaseModel) -> str:
    """Return the model's lists as they stand in its tags."""
    return "\n".join(f"{name}: {value}" for name, value in model.tags.items() if name.endswith("compute_allow_list"))


def _missing(draft: Draft, model: BaseModel | None, verdict: Verdict | None) -> str:
    if model is None:
        return "Choose a model first."
    if problem := _why_not(model):
        return problem
    if model.lifecycle.over and draft.retired_model != model.name:
        return f"Tick that {model.title} is wanted, or choose another model."
    return "" if verdict else "Choose a compute first."


def _pick_model(name: str | None, draft_id: str, versions: Mapping[str, str]) -> None:
    if name is not None:
        choices.save(draft_id, model=name, model_version=versions[name])


def _tick_retired(ticked: bool, draft_id: str, name: str) -> None:
    choices.save(draft_id, retired_model=name if ticked else "")


def _pick_compute(name: str | None, draft_id: str) -> None:
    if name is not None:
        choices.save(draft_id, compute=name)


def _use(drawn: Draft, model: BaseModel, verdict: Verdict) -> None:
    """Save what the card says. What was picked since it was drawn arrives with the click, and counts."""
    now = choices.get_shown(drawn.id)
    if now.model != drawn.model:
        raise Conflict(f"'{now.model}' was chosen after this was drawn.", "See what can train it, and click again.")
    compute = now.compute if now.compute != drawn.compute else verdict.compute.name
    choices.save(drawn.id, model=model.name, model_version=model.version, compute=compute)
    ui().draft_id = drawn.id
