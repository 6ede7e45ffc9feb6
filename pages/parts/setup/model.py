"""The pieces of Model & compute beside the models: computes with the reason where one cannot be used, the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from core.catalog import compute as computing
from core.catalog.base_models import BaseModel
from core.catalog.compute import Compute, Size, Verdict
from core.errors import Conflict
from core.launch.drafts import Draft
from pages.parts.kit import fields, reads, size_matrix, words
from pages.parts.kit.action import action, draw_error_of, link_button
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_warning, ready
from pages.parts.kit.state import ui
from pages.parts.setup import choices, compute_drawer, model_card
from pages.parts.setup.model_finder import why_not


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
    _draw_serving(model)
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
    for found in computes:
        if found.errors:
            _draw_errors(found)
    _draw_unusable([verdict for verdict in verdicts if not (verdict.eligible or verdict.compute.errors)])
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
            model_card.draw(draft, model)
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
        if model is not None:
            model_card.draw_facts(model)


def _describe_compute(found: Compute) -> str:
    parts = [found.size]
    if found.cores:
        parts.append(words.plural(found.cores, "core"))
    parts.append(words.plural(found.gpus, "GPU") if found.gpus else "no GPU")
    parts.append("ready" if found.state == "Succeeded" else found.state)
    if found.low_priority:
        parts.append("low priority")
    if found.nodes is not None and found.max_nodes > 1:
        parts.append(f"{found.nodes} of {found.max_nodes} nodes")
    parts.append(found.price.words)
    return words.plain(" · ".join(parts))


def _draw_errors(found: Compute) -> None:
    """Draw what the service says of a compute that it gave no nodes, with the way to end it."""
    failed = found.state.lower() == "failed"
    what = "could not be provisioned" if failed else "is there, but got no node"
    draw_warning(f"Compute '{found.name}' {what}: {' '.join(found.errors)}", key=f"failed-{found.name}")
    with st.container(horizontal=True, vertical_alignment="center"):
        target = link("teardown", pick=f"compute:{found.name}")
        link_button(f"Delete {words.plain(found.name)}…", target, key=f"end-{found.name}", icon="delete_forever")
        conn = reads.find_connection()
        if conn and conn.costs_money and "quota" in found.errors[0].lower():
            size_matrix.draw_quota_link(conn)


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
    if verdict is not None and why_not(model) is None:
        st.badge("Eligible", icon=":material/check:", color="green")
        st.caption(words.plain(f"{verdict.compute.price.words}" + (", free" if verdict.compute.price.is_free else "")))
    st.caption(words.plain(allowed.words))
    if allowed.problem:
        draw_warning(allowed.problem, allowed.hint, _tag_of(model), key="allow-list")
    if model.defaults_problem:
        draw_warning(model.defaults_problem, detail=model.tags.get("model_specific_defaults", ""), key="defaults")


def _draw_serving(model: BaseModel) -> None:
    """Say on Azure where the model can be served and what that will cost, long before there is an endpoint."""
    conn = reads.find_connection()
    if conn is None or not conn.costs_money:
        return
    serving = size_matrix.read_serving(conn, model.name, model.version)
    if not isinstance(serving, size_matrix.Serving):
        st.caption(words.plain(serving.message) if serving else "Reading the sizes for serving…")
        return
    usable = serving.can_be_had
    first = f"from {usable[0].price.words} ({usable[0].size.name})" if usable else "no size that may serve it has quota"
    with st.expander(words.plain(f"Serving: {first}")):
        st.caption(words.plain(serving.allowed.words))
        size_matrix.draw_table(serving.offers)
        if size_matrix.is_short(serving.offers):
            size_matrix.draw_quota_link(conn)


def _tag_of(model: BaseModel) -> str:
    """Return the model's lists as they stand in its tags."""
    return "\n".join(f"{name}: {value}" for name, value in model.tags.items() if name.endswith("compute_allow_list"))


def _missing(draft: Draft, model: BaseModel | None, verdict: Verdict | None) -> str:
    if model is None:
        return "Choose a model first."
    if problem := why_not(model):
        return problem
    if model.lifecycle.over and draft.retired_model != model.name:
        return f"Tick that {model.title} is wanted, or choose another model."
    return "" if verdict else "Choose a compute first."


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
