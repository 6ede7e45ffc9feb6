"""Access tokens as Entra ID writes them. Nobody holds the key that would prove a signature here, so none is checked."""

from __future__ import annotations

import base64
import json
import time
from typing import Any


def make_token(audience: str, tenant: str, life_s: int = 3600, **claims: Any) -> str:
    """Return a token for `audience`, good from now on for `life_s` seconds. claims: "upn" and the like."""
    now = int(time.time())
    issuer = f"https://sts.windows.net/{tenant}/"
    told = {"aud": audience, "iss": issuer, "tid": tenant, "iat": now, "nbf": now, "exp": now + life_s, **claims}
    return ".".join((encode({"typ": "JWT", "alg": "HS256"}), encode(told), "c2lnbmF0dXJl"))


def encode(content: dict[str, Any]) -> str:
    """Return JSON as a part of a token: base64 without padding."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def read_token(token: str) -> dict[str, Any]:
    """Return the claims of a token; empty for what is none."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
    except ValueError:
        return {}
