"""axe-core on a page, and the only findings that are let pass, each with its reason."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

# What is asked for is what is read: no passes, and not the rule that takes a fifth of the time and is never serious.
_OPTIONS = {"resultTypes": ["violations"], "rules": {"region": {"enabled": False}}}

# scheme, rule, where, why
EXCEPTIONS = (
    (
        "dark",
        "color-contrast",
        "[role=radio][aria-checked=true], [aria-pressed=true], [data-testid=stSlider]",
        "white text on the primary colour and primary-coloured text on its tint cannot both reach 4.5 to 1 in the dark",
    ),
)


def list_serious(page: Page, scheme: str) -> list[tuple[str, str, str]]:
    """Return (rule, element, what is wrong) of each serious finding that is no exception. Let the page settle first."""
    return [
        (found["id"], node["html"][:200], node["failureSummary"][:300])
        for found in _run(page)
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
        if not _is_exception(page, scheme, found["id"], node["target"][0])
    ]


def _run(page: Page) -> list[dict[str, Any]]:
    """Run axe; its program, 0.5 MB, is given to a page once."""
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(AXE_SCRIPT)
    found: list[dict[str, Any]] = page.evaluate(
        "options => axe.run(options).then(results => results.violations)", _OPTIONS
    )
    return found


def _is_exception(page: Page, scheme: str, rule: str, selector: str) -> bool:
    script = "([selector, where]) => !!document.querySelector(selector)?.closest(where)"
    known = [where for of, named, where, _ in EXCEPTIONS if (of, named) == (scheme, rule)]
    return any(page.evaluate(script, [selector, where]) for where in known)
