"""Who made which resource: the resource manager notes the caller of the first PUT and tells it in `systemData`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.azure.tokens import read_token

_LOCAL = '"createdBy":"local"'


@dataclass
class Makers:
    """By the resource's id in small letters: a person's address, or an application's object id."""

    known: dict[str, str] = field(default_factory=dict)

    def note(self, method: str, target: str, status: int, authorization: str) -> None:
        """Remember the caller of a request that made or deleted something."""
        path = unquote(urlsplit(target).path).lower()
        claims = read_token(authorization.removeprefix("Bearer "))
        if status >= 300 or not claims:
            return
        if method == "PUT":
            self.known.setdefault(path, str(claims.get("upn") or claims.get("oid") or claims.get("appid")))
        elif method == "DELETE":
            self.known.pop(path, None)

    def tell(self, text: str) -> str:
        """Return an answer of the workspace with the makers that are known in the place of its one user."""
        if _LOCAL not in text.replace('": "', '":"'):
            return text
        content = json.loads(text)
        self._walk(content)
        return json.dumps(content)

    def _walk(self, content: Any) -> None:
        if isinstance(content, dict):
            made = content.get("systemData")
            who = self.known.get(str(content.get("id") or "").lower())
            if made and who:
                kind = "User" if "@" in who else "Application"
                made |= {"createdBy": who, "createdByType": kind, "lastModifiedBy": who, "lastModifiedByType": kind}
        for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            self._walk(inner)
