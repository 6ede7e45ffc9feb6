"""The dashboard without a browser: Streamlit's AppTest on app.py, waiting for what is read in the background."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from pages.parts.kit.links import PAGES
from tests.pages.conftest import REPOSITORY
from tests.waiting import wait_until

# A server looks once through all that is installed for components of others; AppTest would, 0.2 s long, for each page.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


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


def run_until(app: AppTest, seen: Callable[[AppTest], Any], timeout_s: float = 90.0) -> AppTest:
    """Run the page again until `seen` holds, as the browser does every 0.8 s while something is read."""
    if not seen(app):
        wait_until(lambda: seen(app.run()), lambda: f"the page says: {texts(app)}", timeout_s=timeout_s, every_s=0.2)
    return app


def texts(app: AppTest) -> str:
    """Return what the page says, in the order of its elements."""
    found = [*app.title, *app.header, *app.markdown, *app.text, *app.caption]
    return "\n".join(str(element.value) for element in found).replace("\\", "")


def table_of(app: AppTest) -> list[dict[str, Any]]:
    """Return the rows of the page's table (pages.parts.kit.elements.table), by the titles of its columns."""
    told = [each.proto for each in app.get("bidi_component") if each.proto.component_name == "tunedeck.table"]
    if not told:
        return []
    data = json.loads(told[0].json)
    titles = [column["title"] for column in data["columns"]]
    return [{"href": row["href"], **dict(zip(titles, row["cells"], strict=True))} for row in data["rows"]]


def buttons(app: AppTest) -> dict[str, Any]:
    """Return the buttons by their label."""
    return {button.label: button for button in app.button}
