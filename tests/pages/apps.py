"""The dashboard without a browser: Streamlit's AppTest on app.py, waiting for what is read in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from pages.parts.kit.links import PAGES
from tests.pages.conftest import REPOSITORY
from tests.waiting import wait_until


def open_app(page: str = "overview", **ids: str) -> AppTest:
    """Open a page as a link does."""
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60)
    for name, value in ids.items():
        app.query_params[name] = value
    app.run()
    if page != "overview":
        app.switch_page(PAGES[page].script)
        for name, value in ids.items():
            app.query_params[name] = value
        app.run()
    return app


def run_until(app: AppTest, seen: Callable[[AppTest], Any], timeout_s: float = 40.0) -> AppTest:
    """Run the page again until `seen` holds, as the browser does every 0.8 s while something is read."""
    if not seen(app):
        wait_until(lambda: seen(app.run()), lambda: f"the page says: {texts(app)}", timeout_s=timeout_s, every_s=0.2)
    return app


def texts(app: AppTest) -> str:
    """Return what the page says, in the order of its elements."""
    found = [*app.title, *app.header, *app.markdown, *app.text, *app.caption]
    return "\n".join(str(element.value) for element in found).replace("\\", "")


def buttons(app: AppTest) -> dict[str, Any]:
    """Return the buttons by their label."""
    return {button.label: button for button in app.button}
