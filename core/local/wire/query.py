"""What a list request asks for beyond its page: an order and a filter by tags or properties."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TypeVar

from starlette.requests import Request

from core.local.records import Record
from core.local.wire.errors import WireError

# `$orderBy=createdtime desc` of versions and deployments, `orderBy=CreatedTimeDesc` of endpoints.
_TIMES = {"createdtime": "created_at", "modifiedtime": "modified_at", "updatedtime": "modified_at"}
_DIRECTIONS = {"asc": False, "desc": True}
R = TypeVar("R", bound=Record)


def ordered(request: Request, records: list[R]) -> list[R]:
    """Return records, given newest first, in the order that the query names; raises 400 for one that is not known."""
    asked = request.query_params.get("$orderBy") or request.query_params.get("orderBy") or ""
    words = asked.lower().split()
    if len(words) == 1:
        word = words[0]
        ending = next((each for each in _DIRECTIONS if word.endswith(each) and word not in _TIMES), "")
        words = [word.removesuffix(ending), ending or "asc"]
    if not words:
        return records
    if len(words) != 2 or words[0] not in _TIMES or words[1] not in _DIRECTIONS:
        known = ", ".join(_TIMES)
        raise WireError(400, "BadRequest", f"'{asked}' is not an order: {known}, and asc or desc.")
    key, descending = _TIMES[words[0]], _DIRECTIONS[words[1]]
    oldest_first = records[::-1]  # of two with the same time the one that was made first
    oldest_first.sort(key=attrgetter(key))
    return oldest_first[::-1] if descending else oldest_first


def holds(pairs: Mapping[str, str], asked: str | None) -> bool:
    """Tell whether tags or properties fit a filter `name,other=value`: all names there, with the values where given."""
    for part in filter(None, (each.strip() for each in (asked or "").split(","))):
        name, has_value, value = part.partition("=")
        if name not in pairs or (has_value and pairs[name] != value):
            return False
    return True
