"""When endpoints and computes delete themselves: a fact of the resource, the same to every Tunedeck.

The tag `tunedeck.delete_at` is good only beside the mark of the resource it was written for (id and creation time): a
copied tag is told of, never obeyed. What time it is, the workspace's own answer says (its Date header).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.heard import time_of
from core.catalog.compute import Compute
from core.errors import Conflict, NotFound, TunedeckError
from core.serving.endpoints import EndpointView

_API = "2024-10-01"
_SAME = timedelta(milliseconds=1)  # one creation, though one answer may have fewer digits than another
_COLLECTIONS = {"endpoint": "onlineEndpoints", "compute": "computes"}


class Verdict(StrEnum):
    """What the delete-at of a resource comes to."""

    STAYS = "no delete-at"
    LATER = "not due yet"
    DUE = "due"
    COPIED = "its delete-at was written for another resource"
    UNREADABLE = "its delete-at is no time"

    @property
    def ignored(self) -> bool:
        """Whether a delete-at stands there that is not obeyed."""
        return self in {Verdict.COPIED, Verdict.UNREADABLE}


@dataclass(frozen=True)
class Timed:
    """An endpoint or a compute with its delete-at, as the workspace tells it."""

    kind: str
    """ "endpoint" or "compute"."""
    name: str
    id: str
    created_at: datetime | None
    created_by: str
    state: str
    now: datetime
    """The workspace's time when it was read."""
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def delete_at(self) -> datetime | None:
        """When it is to be deleted."""
        return tags.parse_time(self.tags.get(tags.DELETE_AT))

    @property
    def strict(self) -> bool:
        """Whether it is to be deleted then also while it is in use."""
        return self.tags.get(tags.DELETE_AT_STRICT) == tags.STRICT

    @property
    def mark(self) -> str:
        """What its delete-at has to stand beside."""
        return tags.mark(self.id, self.created_at) if self.created_at else ""

    @property
    def verdict(self) -> Verdict:
        """What is to be done about it now.

        Until its mark has a time, as while it is made, it is obeyed by the home that made it; so is one without a mark,
        from before these were written.
        """
        if not self.tags.get(tags.DELETE_AT):
            return Verdict.STAYS
        if self.delete_at is None:
            return Verdict.UNREADABLE
        written_for = self.tags.get(tags.DELETE_AT_OF, "")
        unbound = written_for in ("", tags.mark(self.id, None))
        if not (tags.is_ours(self.tags) if unbound else written_for == self.mark):
            return Verdict.COPIED
        return Verdict.DUE if self.delete_at <= self.now else Verdict.LATER


def as_timed(kind: str, of: EndpointView | Compute) -> Timed:
    """Return what was read already; what is due is judged by this machine's clock."""
    return Timed(kind, of.name, of.id, of.created_at, of.owner, of.state, datetime.now(UTC), of.tags)


def list_timed(conn: Connection, problems: list[TunedeckError] | None = None) -> list[Timed]:
    """Return the endpoints and computes of the workspace, whoever made them.

    problems: takes why one of the two could not be read; without it that is raised.
    """
    found: list[Timed] = []
    for kind in _COLLECTIONS:
        try:
            found += _list(conn, kind)
        except TunedeckError as error:
            if problems is None or problems:  # neither could be read
                raise
            problems.append(error)
    return found


def find_timed(conn: Connection, kind: str, name: str) -> Timed | None:
    """Return one endpoint or compute; None where it is gone."""
    try:
        answer = conn.http("GET", _path(conn, kind, name), params={"api-version": _API}, what=f"{kind} '{name}'")
    except NotFound:
        return None
    return _to_timed(kind, answer.json(), time_of(answer.headers))


def first_tags(conn: Connection, kind: str, name: str, at: datetime | None) -> dict[str, str]:
    """Return the delete-at of what is made only now, good for nothing of another name; empty for what stays."""
    mark = tags.mark(_path(conn, kind, name), None)
    return {tags.DELETE_AT: tags.format_time(at), tags.DELETE_AT_OF: mark} if at else {}


def delete_at_tags(timed: Timed, at: datetime | None) -> dict[str, str]:
    """Return a delete-at and its mark as tags; None lets it stay."""
    return {tags.DELETE_AT: tags.format_time(at) if at else "", tags.DELETE_AT_OF: timed.mark if at else ""}


def write_delete_at(conn: Connection, timed: Timed, at: datetime | None, **more: str) -> bool:
    """Begin to write a delete-at with its mark. more: further tags, as of `write_tags`."""
    return write_tags(conn, timed, {**delete_at_tags(timed, at), **more})


def write_tags(conn: Connection, timed: Timed, wanted: Mapping[str, str]) -> bool:
    """Begin to write tags, by the names of `tags`; "" takes one back. True where the resource says so already.

    Of an endpoint nothing but tags is sent, so that what others change at the same time, as its traffic, stays changed.
    A compute takes no tags alone, and no etag (api-version 2024-10-01): it is read and written whole, at once. Raises
    Conflict where another stands under the name by then, also where it was deleted on the way and came back by this.
    """
    if all(timed.tags.get(name, "") == value for name, value in wanted.items()):
        return True
    path, what = _path(conn, timed.kind, timed.name), f"{timed.kind} '{timed.name}'"
    send = partial(conn.http, url=path, params={"api-version": _API}, what=what)
    if timed.kind == "endpoint":
        send("PATCH", json={"tags": {**timed.tags, **wanted}}, doing="change")
        return False
    # Past the SDK, which cannot send back a compute that it read (1.35, no subnet).
    _check_same(timed, found := send("GET").json())
    kept = {name: found[name] for name in ("location", "identity", "sku", "properties") if found.get(name)}
    body = {**kept, "tags": {**(found.get("tags") or {}), **wanted}}
    _check_same(timed, send("PUT", json=body, doing="change").json())
    return False


def _check_same(timed: Timed, body: Mapping[str, Any]) -> None:
    now = _to_timed(timed.kind, body, timed.now).created_at
    if now and timed.created_at and abs(now - timed.created_at) > _SAME:
        raise Conflict(
            f"The {timed.kind} '{timed.name}' was deleted while its tags were written, and stands there anew.",
            "Look at what stands there now: delete it, or set its delete-at once more.",
        )


def _list(conn: Connection, kind: str) -> Iterator[Timed]:
    for answer in conn.pages(f"{conn.workspace_path}/{_COLLECTIONS[kind]}?api-version={_API}", f"the {kind}s"):
        for body in answer.json().get("value") or []:
            yield _to_timed(kind, body, time_of(answer.headers))


def _path(conn: Connection, kind: str, name: str) -> str:
    return f"{conn.workspace_path}/{_COLLECTIONS[kind]}/{name}"


def _to_timed(kind: str, body: Mapping[str, Any], now: datetime) -> Timed:
    made = body.get("systemData") or {}
    return Timed(
        kind=kind,
        name=str(body.get("name", "")),
        id=str(body.get("id", "")),
        created_at=tags.parse_time(made.get("createdAt")),
        created_by=str(made.get("createdBy") or ""),
        state=str((body.get("properties") or {}).get("provisioningState") or ""),
        now=now,
        tags={str(name): str(value or "") for name, value in (body.get("tags") or {}).items()},
    )
