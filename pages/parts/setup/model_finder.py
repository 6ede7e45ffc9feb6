"""Finding a base model: search, filters, how far the lists of the registries are, and the models as radio buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from core.catalog import base_models, catalogue
from core.catalog.base_models import CHAT_TASK, BaseModel
from core.catalog.catalogue import Entry, Found
from core.catalog.kept import Hidden, Wanted
from core.launch.drafts import Draft
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import draw_error_of
from pages.parts.kit.notices import draw_loading, draw_warning
from pages.parts.kit.state import ui
from pages.parts.setup import choices

TUNABLE, CURRENT, HERE = "Fine-tunable", "Not retired", "Runs here"
FIRST_ON_AZURE = "Phi-4"
_FILTERS = ("registry", "publisher", "task", "licence")
_ANY = "Any"


def draw(draft: Draft) -> tuple[Draft, BaseModel | None]:
    """Draw what is searched for and what was found; returns the draft with the choice, and the model it names."""
    place = reads.find_connection()
    on_azure = place is not None and place.costs_money
    fields.keep_put()
    query, wanted = _draw_search(on_azure=on_azure)
    first = (st.session_state.get("page", 1) - 1) * catalogue.SCREENFUL
    further = on_azure and st.session_state.get("further", False)
    found = reads.look("models", partial(catalogue.search, further=further), query, wanted, first)
    if found is None:
        return draft, find_chosen(draft)
    ui().view["model-filters"] = found.choices
    _draw_lists(found)
    shown = [entry.model for entry in found.entries if entry.model]
    if not draft.model and (usable := _find_first(shown, on_azure=on_azure)):
        draft = choices.save(draft.id, model=usable.name, model_version=usable.version)
    if found.entries:
        _draw_radio(draft, found, on_azure=on_azure)
    elif found.moving:
        draw_loading("Reading the registries…", (52,) * 5)
    else:
        st.text(f"No model matches '{query}'. Clear the filters." if query else "No model matches. Clear the filters.")
    if on_azure and (hidden := _describe_hidden(found.hidden, query)):
        with st.container(gap="xsmall"):
            st.caption(hidden)
            st.button("Show them too", type="tertiary", on_click=_show_all, key="show-all")
    return draft, find_chosen(draft) or next((model for model in shown if model.name == draft.model), None)


def find_chosen(draft: Draft) -> BaseModel | None:
    """Return the draft's model, also while the list is searched for another."""
    if not draft.model:
        return None
    return reads.read(base_models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value


def why_not(model: BaseModel) -> str | None:
    """Return why this workspace cannot train a model, or None."""
    if model.runs_on:
        return f"{model.title} cannot be trained here: it runs on {model.runs_on}."
    if not model.finetunable:
        return f"{model.title} is not for fine-tuning."
    return model.lifecycle.refusal(model.title) or None


def pick(name: str | None, draft_id: str, versions: Mapping[str, str]) -> None:
    """Take a model into the draft."""
    if name is not None:
        choices.save(draft_id, model=name, model_version=versions[name])


def _draw_search(*, on_azure: bool) -> tuple[str, Wanted]:
    """Draw the search box and the filters, all of them in the address; return what is wanted."""
    shows = (TUNABLE, CURRENT) if on_azure else (TUNABLE, CURRENT, HERE)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input(
            "Search models",
            type="search",
            live="400ms",
            key="q",
            bind="query-params",
            width=280 if on_azure else 240,
            placeholder="name, publisher, task, licence" if on_azure else None,
            on_change=_begin_at_first,
        )
        chosen = st.pills(
            "Show only",
            shows,
            selection_mode="multi",
            default=shows[:2],
            key="show",
            bind="query-params",
            on_change=_begin_at_first,
        )
        wanted = Wanted(TUNABLE in chosen, CURRENT in chosen, HERE in chosen)
        return (query or "").strip(), _draw_filters(wanted) if on_azure else wanted


def _draw_filters(wanted: Wanted) -> Wanted:
    """Draw a choice of registry, publisher, task and licence each; return what is wanted with those that were made."""
    known: Mapping[str, Sequence[str]] = ui().view.get("model-filters", {})
    picked = {}
    with st.popover("Filters", icon=":material/filter_list:", key="filters"):
        for name in _FILTERS:
            usual = CHAT_TASK if name == "task" else _ANY
            asked = st.query_params.get(name, usual)  # may be of a list that is not read yet
            options = list(dict.fromkeys((_ANY, usual, *known.get(name, ()), asked)))
            value = st.selectbox(
                name.capitalize(),
                options,
                options.index(usual),
                key=name,
                bind="query-params",
                format_func=words.plain,
                on_change=_begin_at_first,
            )
            picked[name] = "" if value in (None, _ANY) else str(value)
        st.toggle("Look at every model, a request each", key="further")
    return replace(wanted, **picked)  # type: ignore[arg-type]  # all of these are texts


def _begin_at_first() -> None:
    """Go back to the first part of what is found: it is of another search."""
    st.session_state["page"] = 1


def _show_all() -> None:
    """Take back every filter, and leave what is searched for."""
    _begin_at_first()
    fields.put({"show": [], **dict.fromkeys(_FILTERS, _ANY)})


def _draw_lists(found: Found) -> None:
    """Say how far the lists are, of what age, and why one of them is not whole."""
    troubled = [each for each in found.registries if each.problem]
    if len(found.registries) > 1:
        st.caption(words.plain(describe_lists(found)))
    if len(found.registries) == 1 and troubled:
        draw_warning(f"{troubled[0].name}: {troubled[0].problem}", troubled[0].hint, key="registry")
    elif troubled:
        with st.expander(f"{words.plural(len(troubled), 'registry', 'registries')} could not be read whole, and why"):
            rows = [
                {
                    "Registry": words.plain(each.name or "of the subscription"),
                    "Why not": words.plain(each.problem),
                    "What to do": words.plain(each.hint),
                }
                for each in troubled
            ]
            st.table(rows, hide_index=True, alt=f"{len(rows)} registries with the reason")


def describe_lists(found: Found) -> str:
    """Return "3 of 5 registries listed, as of 28 Nov 10:32 UTC; azureml-meta: 420 models so far."."""
    named = [each for each in found.registries if each.name]
    whole = [each.as_of for each in named if each.as_of]
    oldest = min(whole, default=None)
    said = [f"{len(whole)} of {len(named)} registries listed"]
    said[0] += f", as of {words.moment(oldest)}" if oldest else ""
    said += [
        f"{each.name}: {words.plural(each.listed, 'model')} so far"
        for each in named
        if each.state == "listing" and not each.problem
    ]
    if found.unknown:
        said.append(f"of {words.plural(found.unknown, 'model')} only the name is known yet")
    return "; ".join(said) + "."


def _describe_hidden(hidden: Hidden, query: str) -> str:
    """Return how many models the filters leave out, and why."""
    reasons = {
        "for another task": hidden.others,
        "not for fine-tuning": hidden.untunable,
        "archived or retired": hidden.ended,
        "not looked at yet": hidden.unknown if query else 0,
    }
    said = [f"{words.number(count)} {reason}" for reason, count in reasons.items() if count]
    return f"Hidden: {', '.join(said)}." if said else ""


def _find_first(shown: Sequence[BaseModel], *, on_azure: bool) -> BaseModel | None:
    """Return the model to begin with: one that can be trained here and has not ended."""
    if on_azure:  # asked for by name: a list of thousands may not be there yet
        asked = reads.read(base_models.get_base_model, FIRST_ON_AZURE, max_age_s=300.0)
        if asked.value is None and asked.error is None:
            return None
        shown = [*([asked.value] if asked.value else []), *shown]
    return next((model for model in shown if why_not(model) is None and not model.lifecycle.over), None)


def _draw_radio(draft: Draft, found: Found, *, on_azure: bool) -> None:
    pages = -(-found.matches // catalogue.SCREENFUL)
    by_name = {entry.name: entry for entry in found.entries}
    field = fields.place(f"model-{draft.id}", draft.model, list(by_name))
    versions = {name: entry.version for name, entry in by_name.items()}
    st.radio(
        words.plural(found.matches, "model"),
        list(by_name),
        field.index,
        format_func=partial(_title_of, by_name),
        captions=[_describe(entry, on_azure=on_azure) for entry in found.entries],
        **fields.follow(field, "Model", pick, draft.id, versions),
    )
    draw_error_of(field.name)
    if pages > 1:
        st.pagination(pages, key="page", bind="query-params")


def _title_of(by_name: Mapping[str, Entry], name: str) -> str:
    model = by_name[name].model
    return words.plain(model.title if model else name)


def _describe(entry: Entry, *, on_azure: bool) -> str:
    """Return licence, context and what speaks against it, as plain text: badges in captions fail contrast."""
    model = entry.model
    if model is None:
        return words.plain(entry.problem or "reading…")
    parts = [entry.registry, model.publisher] if on_azure else []
    parts.append(model.licence)
    if model.context_length:
        parts.append(f"{words.number(model.context_length)} tokens")
    if model.runs_on:
        parts.append(f"{model.runs_on} only")
    parts += [*model.lifecycle.badges, model.weights_source]
    return words.plain(" · ".join(part for part in parts if part))
