"""Drafts: the set-up being put together (model, compute, data, recipe), saved at each choice.

Several tabs may show one draft. Each saves what it changed of the draft as it had read it; what another tab has saved
meanwhile stays (compare and swap, choice by choice).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from sqlite3 import Connection

from core import home
from core.database import Database
from core.errors import Conflict, NotFound
from core.recipe import BY_NAME, Value
from core.stored import parse_fields, to_json

_INSERT = "insert or ignore into drafts (id, connection, body, revision, updated_at) values (?, ?, ?, ?, ?)"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_CHOICES = {
    "model": "Model",
    "model_version": "Model version",
    "retired_model": "Retired model to use all the same",
    "compute": "Compute",
    "dataset": "Data",
}
_OWN = {"title": "Name", "note": "Note", "labels": "Tags"}  # of the run to start: a copy has none


@dataclass(frozen=True)
class Draft:
    """One set-up. Empty strings are choices not made yet."""

    id: str
    connection: str
    """Alias of the connection."""
    model: str = ""
    model_version: str = ""
    retired_model: str = ""
    """Name of the model that is wanted though its registry's dates have ended."""
    compute: str = ""
    dataset: str = ""
    """Key of a ChatDataset."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """The operator's own values only."""
    title: str = ""
    """The name of the run to start as it was typed, "" for two words that are made up."""
    note: str = ""
    labels: str = ""
    """A person's own tags for the run, as they were typed."""
    launched: str = ""
    """Id of the operation that started it, "" before."""
    revision: int = 0
    updated_at: str = ""
    whole: str = ""
    """Id of the draft that this one is a part of."""
    again: str = ""
    """Name of the run that it was set up as."""
    nonce: str = ""
    """Tells it from a draft of another home that has the same id; "" in one of an older Tunedeck."""


def create_draft(connection: str, **fields: object) -> Draft:
    """Make and save a new draft for the connection with this alias."""
    while True:
        name = "".join(secrets.choice(_LETTERS) for _ in range(4))
        draft = replace(Draft(name, connection, nonce=secrets.token_hex(8)), **fields)  # type: ignore[arg-type]
        draft = replace(draft, revision=1, updated_at=_now())
        with _database().write() as db:
            values = (draft.id, draft.connection, to_json(**vars(draft)), draft.revision, draft.updated_at)
            if db.execute(_INSERT, values).rowcount:
                return draft


def copy_draft(draft: Draft, again: str = "") -> Draft:
    """Make a draft of its own with the same choices. again: name of the run that the draft started."""
    kept = {name: getattr(draft, name) for name in _CHOICES}
    return create_draft(draft.connection, parameters=draft.parameters, again=again, **kept)


def save_draft(draft: Draft, **changes: object) -> Draft:
    """Make `changes` to a draft and return it as it is saved; a changed draft counts as not launched.

    draft: as it was read. What was saved since stays, but for what `changes` change. Raises Conflict where that was
    changed to something else since, or the draft was started; NotFound where it was deleted.
    """
    with _database().write() as db:
        stored = _find(db, draft.id)
        if stored is None:
            raise _unknown(draft.id)
        if stored.launched and stored.launched != draft.launched:
            raise Conflict("This set-up was started in another tab. Nothing was changed.", "Start it again.")
        merged = {name: _merge(name, getattr(draft, name), new, getattr(stored, name)) for name, new in changes.items()}
        saved = replace(stored, launched="", revision=stored.revision + 1, updated_at=_now(), **merged)  # type: ignore[arg-type]
        db.execute(
            "update drafts set body = ?, revision = ?, updated_at = ? where id = ?",
            (to_json(**vars(saved)), saved.revision, saved.updated_at, saved.id),
        )
    return saved


def list_differences(before: Draft, now: Draft) -> list[str]:
    """Return what a draft holds that it did not hold before, each as "Epochs is 5, it was 3"."""
    pairs = {label: (getattr(before, name), getattr(now, name)) for name, label in (_CHOICES | _OWN).items()}
    for name in {**before.parameters, **now.parameters}:
        pairs[_label(name)] = (before.parameters.get(name), now.parameters.get(name))
    return [
        f"{label} is {_say(label, new)}" + ("" if label == _CHOICES["dataset"] else f", it was {_say(label, old)}")
        for label, (old, new) in pairs.items()
        if old != new
    ]


def find_draft(draft_id: str) -> Draft | None:
    """Return the draft with this id, or None."""
    row = _database().row("select body from drafts where id = ?", draft_id)
    return _parse(row["body"]) if row else None


def get_draft(draft_id: str) -> Draft:
    """Return the draft with this id; raises NotFound."""
    draft = find_draft(draft_id)
    if draft is None:
        raise _unknown(draft_id)
    return draft


def find_latest_draft(connection: str, unfinished: bool = True) -> Draft | None:
    """Return the draft of this connection that was changed last; `unfinished` leaves out what was launched."""
    return next((draft for draft in _list(connection) if not (unfinished and draft.launched)), None)


def mark_launched(draft_id: str, operation_id: str, revision: int | None = None) -> None:
    """Note which operation started a draft; that is no change of what was chosen, so the revision stays.

    revision: of the draft that was started; one that was changed since is not the one that runs, and is not marked.
    """
    with _database().write() as db:
        draft = _find(db, draft_id)
        if draft is not None and revision in (None, draft.revision):
            body = to_json(**vars(replace(draft, launched=operation_id)))
            db.execute("update drafts set body = ? where id = ?", (body, draft_id))


def find_launched(connection: str, dataset: str) -> Draft | None:
    """Return the draft with this data that was launched last on a connection, or None."""
    return next((draft for draft in _list(connection) if draft.launched and draft.dataset == dataset), None)


def _find(db: Connection, draft_id: str) -> Draft | None:
    row = db.execute("select body from drafts where id = ?", (draft_id,)).fetchone()
    return _parse(row["body"]) if row else None


def _list(connection: str) -> Iterator[Draft]:
    """Yield the drafts of a connection, that which was changed last first."""
    rows = _database().rows("select body from drafts where connection = ? order by updated_at desc", connection)
    return (draft for row in rows if (draft := _parse(row["body"])))


def _merge(name: str, read: object, new: object, stored: object) -> object:
    """Return a choice as it is to be saved: as it was changed from `read` to `new`, and else as it is stored."""
    if isinstance(read, Mapping) and isinstance(new, Mapping) and isinstance(stored, Mapping):
        each = {
            known: _merge(known, read.get(known), new.get(known), stored.get(known))
            for known in {**stored, **read, **new}
        }
        return {known: value for known, value in each.items() if value is not None}
    if new == read:
        return stored
    if stored in (read, new):
        return new
    label = _label(name)
    raise Conflict(
        f"{label} was changed in another tab: it is {_say(label, stored)} now. Your change was not saved.",
        "Look at it, and change it again if you still want to.",
    )


def _label(name: str) -> str:
    return (_CHOICES | _OWN).get(name) or (BY_NAME[name].label if name in BY_NAME else name)


def _say(label: str, value: object) -> str:
    """Return a value in words: data is known by its hash, which says nothing to a person."""
    if label == _CHOICES["dataset"] and value:
        return "another data set"
    return "at its default" if value is None else str(value) or "not chosen"


def _unknown(draft_id: str) -> NotFound:
    return NotFound(f"There is no draft '{draft_id}'.", "Start a new one: choose a model and a compute.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _parse(body: str) -> Draft | None:
    """Return a draft, None where the row makes no sense: it costs that draft, not the list."""
    try:
        return parse_fields(Draft, json.loads(body))
    except (ValueError, TypeError):
        return None


def _database() -> Database:
    return Database.at(home.current().ledger_db)
