"""Who made a resource, by what the service tells of it, and whether that is the identity that is signed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.azureml import tags
from core.azureml.cloud import read_claims
from core.azureml.connection import Connection

_PERSON = ("upn", "preferred_username", "unique_name", "email")
_IDS = ("oid", "appid", "azp")
_DATA_MARK = {"made_by": "tunedeck"}  # a data asset's, whose tags lie open to whoever reads the data


@dataclass(frozen=True)
class Made:
    """What a service tells of a resource's making, its `systemData`."""

    by: str = ""
    """A person's address, as some of its services say the shown name; an application's or identity's id."""
    at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True)
class Names:
    """How a service may call the identity that is signed in, in small letters."""

    sure: frozenset[str] = frozenset()
    """Its address and ids: nobody else has them."""
    shown: str = ""
    """A person's name, which a colleague may bear too."""


def read_made(of: Any) -> Made:
    """Read it from a resource on the wire, or from the SDK's object: some have it as `creation_context`, endpoints
    among their properties.
    """
    told = of.get("systemData") if isinstance(of, Mapping) else getattr(of, "properties", None)
    context = getattr(of, "creation_context", None)
    if context is not None:
        told = {"createdBy": context.created_by, "createdAt": context.created_at}
        told["lastModifiedAt"] = context.last_modified_at
    told = told or {}
    at, changed_at = (tags.parse_time(told.get(name)) for name in ("createdAt", "lastModifiedAt"))
    return Made(str(told.get("createdBy") or ""), at, changed_at)


def read_names(conn: Connection) -> Names:
    """Return the names of the identity that is signed in, by its token; raises where there is none."""
    claims = read_claims(conn.call("read", "the sign-in", conn.credential.get_token, conn.cloud.scope).token)
    told = {str(claims[name]).lower() for name in (*_PERSON, *_IDS) if claims.get(name)}
    return Names(frozenset(name.removeprefix("live.com#") for name in told), str(claims.get("name") or "").lower())


def is_mine(names: Names, by: str, told: Mapping[str, str]) -> bool:
    """Tell whether this identity made what carries these tags, through Tunedeck, from whichever home.

    Where the service tells a shown name only, this home must have made it: a colleague may be called the same.
    """
    made_through = bool(told.get(tags.MADE_BY)) or told.items() >= _DATA_MARK.items()
    by = by.lower()
    return made_through and (by in names.sure or (bool(by) and by == names.shown and tags.is_ours(told)))
