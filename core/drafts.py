"""Drafts: the set-up being put together (model, compute, data, recipe), saved at each choice. Knows no workspace."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from core import home
from core.database import Database
from core.errors import NotFound
from core.recipe import Value

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class Draft:
    """One set-up. Empty strings are choices not made yet.

    connection: alias of the connection. dataset: id of a ChatDataset (its content hash). parameters: the operator's own
    values only. launched: id of the operation that started it, "" before. nonce: tells this draft from one of another
    home that has the same id; "" in a draft of an older Tunedeck.
    """

    id: str
    connection: str
    model: str = ""
    model_version: str = ""
    compute: str = ""
    dataset: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    launched: str = ""
    revision: int = 0
    updated_at: str = ""
    nonce: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything a run needs has been chosen."""
        return bool(self.model and self.compute and self.dataset)


def create_draft(connection: str, **fields: object) -> Draft:
    """Make and save a new draft for the connection with this alias."""
    draft = Draft("".join(secrets.choice(_LETTERS) for _ in range(4)), connection, nonce=secrets.token_hex(8))
    return save_draft(replace(draft, **fields))  # type: ignore[arg-type]


def save_draft(draft: Draft, **changes: object) -> Draft:
    """Save `draft` with `changes` and return it with its new revision; a changed draft counts as not launched."""
    draft = replace(draft, **{"launched": "", **changes})  # type: ignore[arg-type]
    saved = replace(draft, revision=draft.revision + 1, updated_at=datetime.now(UTC).isoformat(timespec="milliseconds"))
    with _database().write() as connection:
        connection.execute(
            "insert into drafts (id, connection, body, revision, updated_at) values (?, ?, ?, ?, ?) "
            "on conflict (id) do update set connection = excluded.connection, "
            "body = excluded.body, revision = excluded.revision, updated_at = excluded.updated_at",
            (saved.id, saved.connection, json.dumps(asdict(saved)), saved.revision, saved.updated_at),
        )
    return saved


def find_draft(draft_id: str) -> Draft | None:
    """Return the draft with this id, or None."""
    row = _database().row("select body from drafts where id = ?", draft_id)
    return _parse(row["body"]) if row else None


def get_draft(draft_id: str) -> Draft:
    """Return the draft with this id; raises NotFound."""
    draft = find_draft(draft_id)
    if draft is None:
        raise NotFound(f"There is no draft '{draft_id}'.", "Start a new one on Model & compute.")
    return draft


def find_latest_draft(connection: str, unfinished: bool = True) -> Draft | None:
    """Return the draft of this connection that was changed last; `unfinished` leaves out what was launched."""
    for row in _database().rows("select body from drafts where connection = ? order by updated_at desc", connection):
        draft = _parse(row["body"])
        if not (unfinished and draft.launched):
            return draft
    return None


def mark_launched(draft_id: str, operation_id: str) -> None:
    """Note which operation started a draft; that is no change of what was chosen, so the revision stays."""
    draft = find_draft(draft_id)
    if draft is None:
        return
    with _database().write() as connection:
        body = json.dumps(asdict(replace(draft, launched=operation_id)))
        connection.execute("update drafts set body = ? where id = ? and revision = ?", (body, draft_id, draft.revision))


def find_launched(connection: str, dataset: str) -> Draft | None:
    """Return the draft with this data that was launched last on a connection, or None."""
    rows = _database().rows("select body from drafts where connection = ? order by updated_at desc", connection)
    found = (_parse(row["body"]) for row in rows)
    return next((draft for draft in found if draft.launched and draft.dataset == dataset), None)


def delete_draft(draft_id: str) -> None:
    """Delete a draft; nothing happens when it is gone already."""
    with _database().write() as connection:
        connection.execute("delete from drafts where id = ?", (draft_id,))


def _parse(body: str) -> Draft:
    known = json.loads(body)
    return Draft(**{name: known[name] for name in Draft.__dataclass_fields__ if name in known})


def _database() -> Database:
    return Database.at(home.current().ledger_db)
