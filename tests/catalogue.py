"""The catalogue as a page looks at it: again and again, until a search finds no more."""

from __future__ import annotations

from core.azureml.connection import Connection
from core.catalog.base_models import BaseModel
from core.catalog.catalogue import Found, search
from core.catalog.kept import Wanted
from tests.waiting import wait_until


def find_all(conn: Connection, text: str = "", wanted: Wanted | None = None, timeout_s: float = 30.0) -> Found:
    """Return what a search finds in the end."""
    found: list[Found] = []

    def is_settled() -> bool:
        found.append(search(conn, text, wanted))
        return not found[-1].moving

    wait_until(is_settled, lambda: str(found[-1].registries), timeout_s=timeout_s, every_s=0.05)
    return found[-1]


def find_models(conn: Connection, text: str = "", wanted: Wanted | None = None) -> list[BaseModel]:
    """Return the models that a search finds in the end."""
    return [entry.model for entry in find_all(conn, text, wanted).entries if entry.model]
