"""Recipes: the settings of a run under a name, to start others with; neither data nor compute.

They belong to the home, not to a workspace. What a recipe does not list is left to the model.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from core import home
from core.database import Database
from core.errors import Conflict, NotFound
from core.recipe import BY_NAME, Recipe, Value, to_job_inputs
from core.runs.titles import LONGEST_TITLE, check_title
from core.stored import parse_fields, to_json


@dataclass(frozen=True)
class SavedRecipe:
    """Settings under a name. settings: not the component's own defaults; model: of whose run they were, "" for none."""

    name: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    model: str = ""
    id: int = 0


def list_recipes() -> list[SavedRecipe]:
    """Return the recipes of this home by name."""
    rows = _database().rows("select id, name, body from recipes order by name")
    return [recipe for row in rows if (recipe := _parse(row))]


def save_recipe(recipe: SavedRecipe) -> SavedRecipe:
    """Save a recipe, as a new one unless it has an id; raises BadInput for a name that cannot be, Conflict for one
    that another has, NotFound where it was deleted meanwhile.
    """
    recipe = replace(recipe, name=check_title(recipe.name, "recipe"))
    values = (recipe.name, to_json(settings=recipe.settings, model=recipe.model), _now())

    def write(db: sqlite3.Connection) -> sqlite3.Cursor:
        if recipe.id:
            return db.execute(
                "update recipes set name = ?, body = ?, updated_at = ? where id = ?", (*values, recipe.id)
            )
        return db.execute("insert into recipes (name, body, updated_at) values (?, ?, ?)", values)

    done = _change(write, recipe.name)
    return replace(recipe, id=recipe.id or done.lastrowid or 0)


def duplicate_recipe(recipe: SavedRecipe) -> SavedRecipe:
    """Save the same settings under "NAME copy", "NAME copy 2", …."""
    taken = {each.name.lower() for each in list_recipes()}
    number = 1
    while True:
        ending = " copy" + (f" {number}" if number > 1 else "")
        name = recipe.name[: LONGEST_TITLE - len(ending)].rstrip() + ending
        if name.lower() not in taken:
            return save_recipe(replace(recipe, name=name, id=0))
        number += 1


def delete_recipe(recipe: SavedRecipe) -> None:
    """Delete a recipe; `save_recipe(replace(recipe, id=0))` brings it back. Raises NotFound where it is gone."""
    _change(lambda db: db.execute("delete from recipes where id = ?", (recipe.id,)), recipe.name)


def make_recipe(name: str, recipe: Recipe, model: str) -> SavedRecipe:
    """Return what a set-up trains with, from the start, as a recipe; raises BadInput while a setting has a problem."""
    settings = {key: value for key, value in to_job_inputs(recipe).items() if key != "resume_from_checkpoint"}
    return SavedRecipe(name, settings, model)


def plan_use(saved: SavedRecipe, recipe: Recipe) -> tuple[dict[str, Value], dict[str, tuple[Value, Value]]]:
    """Return the own values with which a set-up trains as a recipe says, and by name what changes: (now, then).

    recipe: the set-up's. A value that the model or the lesson has anyway is not one's own; an own value that the recipe
    does not list is taken back.
    """
    known = {name: value for name, value in saved.settings.items() if name in recipe.values}
    own = {name: value for name, value in known.items() if value != recipe.without(name)}
    then = {name: own.get(name, recipe.without(name)) for name in recipe.values}
    return own, {name: (now, then[name]) for name, now in recipe.values.items() if now != then[name]}


def _change(write: Callable[[sqlite3.Connection], sqlite3.Cursor], name: str) -> sqlite3.Cursor:
    with _database().write() as db:
        try:
            done = write(db)
        except sqlite3.IntegrityError:
            raise Conflict(f"There is a recipe '{name}' already.", "Choose another name.") from None
    if not done.rowcount:
        raise NotFound(f"The recipe '{name}' was deleted meanwhile.", "Nothing was changed.")
    return done


def _parse(row: Mapping[str, Any] | sqlite3.Row) -> SavedRecipe | None:
    """Return a recipe, None where the row makes no sense: it costs that recipe, not the list."""
    try:
        recipe = parse_fields(SavedRecipe, json.loads(row["body"]), name=row["name"], id=row["id"])
        return replace(recipe, settings={name: recipe.settings[name] for name in recipe.settings if name in BY_NAME})
    except (ValueError, TypeError, AttributeError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _database() -> Database:
    return Database.at(home.current().ledger_db)
