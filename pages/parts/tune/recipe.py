"""The training parameters as fields, drawn from the one table; each edit is saved in the draft at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core.launch.drafts import Draft
from core.recipe import GROUPS, PARAMETERS, YOURS, Parameter, Recipe, Value, say_value
from pages.parts.kit import fields, words
from pages.parts.kit.action import action, draw_error_of, open_dialog
from pages.parts.setup import choices
from pages.parts.tune import recipes

ORIGINS = {
    "component": "component: the default of the pipeline component",
    "lesson": "lesson: Microsoft's fine-tuning lesson",
    "model": "model: the model's own tag model_specific_defaults",
    YOURS: "yours: set on this page",
}


_BROWSERS_LARGEST = 2**53  # from here on not every whole number is a JavaScript number


def draw_recipe(draft: Draft, recipe: Recipe) -> None:
    """Draw the settings, basic or all, with where each value came from."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.header("Settings", anchor=False, width="content")
        st.space("stretch")
        action("Recipes", open_dialog, recipes.KEY, key="open-recipes", icon="menu_book")
        mode = st.segmented_control(
            "Which settings",
            ["Basic", "All"],
            default="Basic",
            required=True,
            key="settings",
            bind="query-params",
            label_visibility="collapsed",
        )
        text = st.text_input(
            "Search settings",
            type="search",
            live=True,
            key="find-setting",
            width=220,
            label_visibility="collapsed",
            placeholder="Search settings",
        )
    recipes.draw(draft, recipe)
    shown = find_parameters(recipe, text or "", basic=mode != "All")
    if not shown:
        st.text(f"No setting matches '{text}'. Clear the search.")
    for group in GROUPS:
        rows = [parameter for parameter in shown if parameter.group == group]
        if rows and (mode == "All" or text):
            wanted = any(p.basic or p.name in recipe.problems or recipe.origins[p.name] == YOURS for p in rows)
            with st.expander(group, expanded=wanted or bool(text), key=f"group-{group}"):
                _draw_rows(draft, recipe, rows)
    if mode != "All" and not text:
        _draw_rows(draft, recipe, shown)
    st.caption("Under each field: where its value comes from. " + "; ".join(ORIGINS.values()) + ".")
    if recipe.dropped:
        st.caption(words.plain(f"Not sent, for they are not taken here: {', '.join(recipe.dropped)}."))


def find_parameters(recipe: Recipe, text: str, *, basic: bool) -> list[Parameter]:
    """Return what a search shows; a search looks through all settings, and what is wrong or yours is always shown.

    Not shown is what this machine does not do, unless it was set elsewhere: there is nothing to choose.
    """
    known = [
        parameter
        for parameter in PARAMETERS
        if parameter.name in recipe.values
        and not (recipe.here and parameter.not_here and recipe.origins[parameter.name] != YOURS)
    ]
    if text:
        return [p for p in known if text.lower() in f"{p.label} {p.name} {p.help} {p.group}".lower()]
    if not basic:
        return known
    return [p for p in known if p.basic or p.name in recipe.problems or recipe.origins[p.name] == YOURS]


def _draw_rows(draft: Draft, recipe: Recipe, rows: Sequence[Parameter]) -> None:
    with st.grid(2, min_column_width=220, gap="small"):
        for parameter in rows:
            with st.container(gap="xxsmall"):
                _draw_field(draft, recipe, parameter)
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    origin = recipe.origins[parameter.name]
                    st.badge(origin, color="blue" if origin == YOURS else "gray")
                    if recipe.origins[parameter.name] == YOURS:
                        action(
                            "Reset",
                            _save,
                            None,
                            draft.id,
                            parameter,
                            key=f"reset-{parameter.name}",
                            type="tertiary",
                            help=f"Back to {recipe.without(parameter.name)}",
                        )
                draw_error_of(_name(draft.id, parameter))
                if problem := recipe.problems.get(parameter.name):
                    st.markdown(f":material/error: {words.plain(problem)}")


def _draw_field(draft: Draft, recipe: Recipe, parameter: Parameter) -> None:
    value = _to_field(parameter, recipe[parameter.name], draft.parameters.get(parameter.name))
    field = fields.place(_name(draft.id, parameter), value)
    unit = "" if parameter.unit in parameter.label else parameter.unit
    label = parameter.label + (f" ({unit})" if unit else "")
    more: dict[str, Any] = {
        "help": f"{parameter.help} `{parameter.name}`",
        **fields.follow(field, parameter.label, _save, draft.id, parameter),
    }
    if parameter.kind == "bool":
        st.toggle(label, bool(value), **more)
    elif parameter.kind == "choice":
        at = parameter.choices.index(str(value)) if value in parameter.choices else None
        st.selectbox(label, parameter.choices, at, **more)
    elif isinstance(value, int):
        least = None if parameter.minimum is None else min(int(parameter.minimum), value)
        st.number_input(label, least, value=value, step=1, **more)
    else:
        st.text_input(label, value, **more)


def _save(value: Value | None, draft_id: str, parameter: Parameter) -> None:
    if value in ("", parameter.unlimited_as):
        value = parameter.unlimited
    save_settings({parameter.name: ("true" if value else "false") if isinstance(value, bool) else value}, draft_id)


def save_settings(settings: Mapping[str, Value | None], draft_id: str) -> None:
    """Save the operator's own values; None takes one back."""
    own = {**choices.get_shown(draft_id).parameters, **settings}
    choices.save(draft_id, parameters={name: value for name, value in own.items() if value is not None})


def _name(draft_id: str, parameter: Parameter) -> str:
    return f"set-{draft_id}-{parameter.name}"


def _to_field(parameter: Parameter, value: Value, own: Value | None) -> bool | int | str:
    """Return a value as its field holds it: a number is text, so that 2e-3 can be typed, and stays as typed; so is one
    that may be without a limit, for which "model's own" stands and can be typed.
    """
    if parameter.unlimited_as:
        return say_value(parameter.name, value)
    if parameter.kind == "bool":
        return value == "true"
    if parameter.kind == "int" and isinstance(value, int) and abs(value) < _BROWSERS_LARGEST:
        return value
    if isinstance(own, str):
        return own
    return words.exact(value) if isinstance(value, int | float) else str(value)
