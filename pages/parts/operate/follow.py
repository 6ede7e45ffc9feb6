"""What becomes of a small change that a page asked for: a cap, a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from core import operations
from pages.parts.kit import reads
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error


def follow_change(kind: str, subject: str, stale: Sequence[Callable[..., Any]], *, key: str) -> str:
    """Draw what became of the last change of this kind, the page anew once it has ended; returns why it cannot change.

    kind: as the ledger stores it. stale: what is read anew then.
    """
    asked = operations.find_operation_for(ui().alias or "", subject, kind)
    if asked is None:
        return ""
    if not asked.finished:
        live(lambda: operations.get_operation(asked.id).state, key=f"{key}-changing", run_every=1.0, token=asked.state)
        return "It is being changed."
    if ui().notes.get(f"{key}-seen") != asked.id:
        ui().notes[f"{key}-seen"] = asked.id
        reads.forget(*stale)
    if asked.state == "failed":
        draw_operation_error(asked, key=key)
    return ""
