"""The shorter lists of routes hold the one that the whole list would have found, for every path there is."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Match, Route

from core.local.server import ROUTES
from core.local.wire.dispatch import Dispatch, _key_of


def scope_of(path: str, method: str) -> dict[str, object]:
    return {"type": "http", "path": path, "method": method, "root_path": "", "headers": [], "query_string": b""}


def first_of(routes: list[Route], path: str, method: str) -> Route | None:
    return next((route for route in routes if route.matches(scope_of(path, method))[0] is Match.FULL), None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{max(route.methods)} {route.path[-60:]}")
def test_a_path_leads_where_it_led_whatever_its_capitals(route: Route) -> None:
    dispatch = Dispatch(ROUTES)
    path = re.sub(r"\{(\w+)(:path)?\}", r"a-\1", route.path)
    found = dispatch._routers[_key_of(path)].routes
    for method in route.methods or ():
        assert first_of(found, path, method) is first_of(ROUTES, path, method) is not None
        shouted = dispatch._routers[_key_of(path.upper())].routes
        assert first_of(shouted, path.upper(), method) is first_of(ROUTES, path, method)
    assert len(found) < len(ROUTES) / 2
