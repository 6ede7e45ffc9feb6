"""The panel of recipes: settings saved under a name, brought into a set-up, renamed, copied, deleted, as a file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import streamlit as st

from core.launch import recipe_file
from core.launch.drafts import Draft
from core.launch.recipes import (
    SavedRecipe,
    delete_recipe,
    duplicate_recipe,
    list_recipes,
    make_recipe,
    plan_use,
    save_recipe,
)
from core.recipe import BY_NAME, Recipe, Value, say_value
from pages.parts.kit import fields, words
from pages.parts.kit.action import action, close_dialog, draw_download, draw_error_of, drawer
from pages.parts.kit.guard import run_callback
from pages.parts.kit.state import ui
from pages.parts.setup import choices

KEY = "recipes"


def draw(draft: Draft, recipe: Recipe) -> None:
    """Draw the panel while it is open. recipe: what the set-up trains with."""
    drawer(KEY, "Recipes", lambda: _draw_panel(draft, recipe), icon="menu_book", wide=True)


def _draw_panel(draft: Draft, recipe: Recipe) -> None:
    st.text("Settings under a name, for any workspace. Neither data nor compute is in them.")
    known = list_recipes()
    if deleted := ui().notes.get("deleted-recipe"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{deleted.name} was deleted.")
            action("Undo", _undo, deleted, key="undo-recipe", icon="undo")
    by_id = {each.id: each for each in known}
    if by_id:
        shown = by_id.get(ui().notes.get("recipe", 0), known[0])
        field = fields.place("recipe", shown.id, list(by_id))
        st.selectbox(
            "Recipe",
            field.among,
            field.index,
            format_func=lambda each: by_id[each].name if each in by_id else "",
            **fields.follow(field, "Recipe", _select),
        )
        _draw_chosen(draft, recipe, shown)
    st.divider()
    with st.form("save-recipe", border=False):
        st.text_input("Name for the settings of this set-up", key="recipe-name")
        action("Save as a recipe", _save, draft, recipe, key="save-recipe-now", icon="save", in_form=True)
    _draw_import()


def _draw_chosen(draft: Draft, recipe: Recipe, saved: SavedRecipe) -> None:
    own, changes = plan_use(saved, recipe)
    if changes:
        rows = [
            {"Setting": BY_NAME[name].label, "Now": _say(name, now), "Then": _say(name, then)}
            for name, (now, then) in changes.items()
        ]
        st.table(rows, hide_index=True, alt=f"{words.plural(len(rows), 'setting')} would change")
    else:
        st.text("This set-up trains with just these settings.")
    if saved.model and saved.model != draft.model:
        st.caption(words.plain(f"Saved from a run of {saved.model}."))
    if left_out := sorted(set(saved.settings) - set(recipe.values)):
        st.caption(words.plain(f"Not taken here: {', '.join(left_out)}."))
    off = "" if changes else "Nothing would change."
    action("Use this recipe", _use, draft.id, own, key="use-recipe", type="primary", icon="check", off=off)
    with st.form(f"rename-recipe-{saved.id}-{saved.name}", border=False):
        key = f"recipe-{saved.id}-{saved.name}"
        st.text_input("Name", saved.name, key=key)
        action("Rename", _rename, saved, key, key="rename-recipe", icon="edit", in_form=True)
    with st.container(horizontal=True):
        action("Duplicate", _duplicate, saved, key="duplicate-recipe", icon="content_copy")
        action("Delete", _delete, saved, key="delete-recipe", icon="delete")
        draw_download(
            "Export as YAML", partial(recipe_file.write_recipe, saved), f"recipe-{saved.id}.yaml", key="export-recipe"
        )


def _draw_import() -> None:
    key = f"import-recipe-{ui().notes.get('imported-recipes', 0)}"
    st.file_uploader(
        "Import a recipe from YAML",
        type=["yaml", "yml"],
        key=key,
        max_upload_size=1,
        on_change=run_callback,
        args=("import-recipe", _import, (key,)),
    )
    draw_error_of("import-recipe")


def _say(name: str, value: Value) -> str:
    return words.plain(say_value(name, value))


def _save(draft: Draft, recipe: Recipe) -> None:
    _select(save_recipe(make_recipe(st.session_state["recipe-name"], recipe, draft.model)).id)


def _rename(saved: SavedRecipe, key: str) -> None:
    save_recipe(replace(saved, name=st.session_state[key]))
    ui().fields.pop("recipe", None)  # drawn anew: a browser shows the old name until something else is clicked


def _duplicate(saved: SavedRecipe) -> None:
    _select(duplicate_recipe(saved).id)


def _delete(saved: SavedRecipe) -> None:
    delete_recipe(saved)
    ui().notes["deleted-recipe"] = saved


def _undo(deleted: SavedRecipe) -> None:
    _select(save_recipe(replace(deleted, id=0)).id)
    ui().notes.pop("deleted-recipe", None)


def _use(draft_id: str, own: dict[str, Value]) -> None:
    choices.save(draft_id, parameters=own)
    close_dialog()


def _import(key: str) -> None:
    """Save what a file holds; the field is drawn anew, for the next one."""
    if (uploaded := st.session_state[key]) is None:
        return
    _select(save_recipe(recipe_file.read_recipe(uploaded.getvalue())).id)
    ui().notes["imported-recipes"] = ui().notes.get("imported-recipes", 0) + 1


def _select(recipe_id: int) -> None:
    ui().notes["recipe"] = recipe_id
