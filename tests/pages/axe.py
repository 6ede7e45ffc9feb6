"""axe-core on a page. No finding is let pass."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

# What is asked for is what is read: no passes, and not the rule that takes a fifth of the time and is never serious.
_OPTIONS = {"resultTypes": ["violations"], "rules": {"region": {"enabled": False}}}


def list_serious(page: Page) -> list[tuple[str, str, str]]:
    """Return (rule, element, what is wrong) of each serious finding. Let the page settle first."""
    return [
        (found["id"], node["html"][:200], node["failureSummary"][:300])
        for found in _run(page)
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def _run(page: Page) -> list[dict[str, Any]]:
    """Run axe; its program, 0.5 MB, is given to a page once."""
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(AXE_SCRIPT)
    found: list[dict[str, Any]] = page.evaluate(
        "options => axe.run(options).then(results => results.violations)", _OPTIONS
    )
    return found
