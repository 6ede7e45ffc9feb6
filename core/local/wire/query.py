"""What a list request asks for beyond its page: an order and a filter by tags or properties. Knows no resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from core.local.wire.errors import WireError

# `$orderBy=createdtime desc` of versions and deployments, `orderBy=CreatedTimeDesc` of endpoints.
_TIMES = {"createdtime": "created_at", "modifiedtime": "modified_at", "updatedtime": "modified_at"}
_DIRECTIONS = {"asc": False, "desc": True}


def ordered(request: Request, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return documents, given newest first, in the order that the query names; raises 400 for one that is not known."""
    asked = request.query_params.get("$orderBy") or request.query_params.get("orderBy") or ""
    words = asked.lower().split()
    if len(words) == 1:
        word = words[0]
        ending = next((each for each in _DIRECTIONS if word.endswith(each) and word not in _TIMES), "")
        words = [word.removesuffix(ending), ending or "asc"]
    if not words:
        return documents
    if len(words) != 2 or words[0] not in _TIMES or words[1] not in _DIRECTIONS:
        known = ", ".join(_TIMES)
        raise WireError(400, "BadRequest", f"'{asked}' is not an order: {known}, and asc or desc.")
    key, descending = _TIMES[words[0]], _DIRECTIONS[words[1]]
    oldest_first = documents[::-1]  # of two with the same time the one that was made first
    oldest_first.sort(key=lambda document: str(document[key]))
    return oldest_first[::-1] if descending else oldest_first


def holds(pairs: Mapping[str, str], asked: str | None) -> bool:
    """Tell whether tags or properties fit a filter `name,other=value`: all names there, with the values where given."""
    for part in filter(None, (each.strip() for each in (asked or "").split(","))):
        name, has_value, value = part.partition("=")
        if name not in pairs or (has_value and pairs[name] != value):
            return False
    return True
