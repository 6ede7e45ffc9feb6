"""Pages run by AppTest inside the test's process, against a local workspace in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

REPOSITORY = Path(__file__).resolve().parents[2]


def open_page(script: str, **ids: str) -> AppTest:
    """Open a page of app.py as a new tab would: `open_page("pages/tune/runs.py", run=name)`."""
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=15)
    app.query_params["at"] = "local"
    app.switch_page(script)
    for name, value in ids.items():
        app.query_params[name] = value
    return app.run()


def run_until(app: AppTest, check: Callable[[AppTest], bool], timeout_s: float = 30.0) -> AppTest:
    """Draw the page again until `check` holds, as its pulse does in a browser."""
    deadline = time.monotonic() + timeout_s
    while not check(app):
        assert time.monotonic() < deadline, f"the page says:\n{read_text(app)}"
        time.sleep(0.2)
        app.run()
    assert not app.exception, app.exception
    return app


def says(text: str) -> Callable[[AppTest], bool]:
    """Return a check for a text anywhere on the page."""
    return lambda app: text in read_text(app)


def read_text(app: AppTest) -> str:
    """Return all that the page says, a line per element."""
    lines: list[str] = []
    for kind in ("title", "header", "markdown", "caption", "text", "metric", "button", "expander", "code"):
        for element in app.get(kind):
            value = getattr(element, "value", None)
            lines.append(" ".join(str(part) for part in (getattr(element, "label", ""), value) if part))
    return "\n".join(lines).replace("\\", "")
