"""Finds a request's route among those that can be it, instead of trying each of 150 in turn.

The words of a path compare without case, as Azure's do.

The words that tell them apart are the first of a path and, below a workspace, the one after the workspace's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

_AFTER_THE_WORKSPACE = 9  # /subscriptions/{}/resourceGroups/{}/providers/{}/workspaces/{}/<word>


class Dispatch(Router):
    """A router with a shorter list of routes for each pair of words; what fits none goes through all of them."""

    def __init__(self, routes: Sequence[Route], **options: Any) -> None:
        for route in routes:
            route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE | re.ASCII)
        super().__init__(routes, redirect_slashes=False, **options)
        keys = {_key_of(route.path) for route in routes}
        fitting = {key: [route for route in routes if _can_be(_key_of(route.path), key)] for key in keys}
        self._routers = {key: Router(found, redirect_slashes=False) for key, found in fitting.items()}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's start and end."""
        found = self._routers.get(_key_of(scope["path"])) if scope["type"] == "http" else None
        await (super().app if found is None else found.app)(scope, receive, send)


def _key_of(path: str) -> tuple[str, str]:
    words = path.lower().split("/", _AFTER_THE_WORKSPACE + 1)
    after = words[_AFTER_THE_WORKSPACE] if len(words) > _AFTER_THE_WORKSPACE else ""
    return words[1] if len(words) > 1 else "", after if words[1:2] == ["subscriptions"] else ""


def _can_be(template: tuple[str, str], key: tuple[str, str]) -> bool:
    """Tell whether a path with these words may be one of a route; a word in braces stands for any."""
    return all(mine == theirs or mine.startswith("{") for mine, theirs in zip(template, key, strict=True))
