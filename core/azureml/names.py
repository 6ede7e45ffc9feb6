"""Names that Azure accepts, made from what an operator calls a thing."""

from __future__ import annotations

import re

_LONGEST = 80


def to_asset_name(text: str) -> str:
    """Return `text` as the name of a data asset or a model: letters, digits, hyphens, dots and underscores."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_LONGEST].rstrip("-._")
    return name or "data"
