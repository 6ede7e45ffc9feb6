"""What a browser gets from the dashboard besides pages: files that it keeps, the mark and the name.

No page asks another host for anything; a browser test counts.
"""

from __future__ import annotations

from pathlib import Path

import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
_FOLDER = "assets"
_FILES = {f"plotly-{plotly.__version__}.min.js": Path(plotly.__file__).parent / "package_data" / "plotly.min.js"}
(PLOTLY,) = _FILES
MARK = Path(__file__).parent / "mark.svg"
_NAME = """
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 32" width="160" height="32" role="img" aria-label="Tunedeck">
  {mark}
  <text x="42" y="23" textLength="108" font-size="20" font-weight="650" fill="{colour}"
    font-family="'Source Sans', 'Source Sans Pro', sans-serif">Tunedeck</text>
</svg>
"""


def address(name: str) -> str:
    """Return where a browser finds a file, as a path on the dashboard's own host."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return "/" + "/".join(filter(None, (base, _FOLDER, name)))


def draw_name(*, light: bool) -> str:
    """Return the mark and the name beside it as SVG, for a light or a dark page."""
    mark = MARK.read_text(encoding="utf-8").replace("<svg", '<svg width="32" height="32"', 1)
    return _NAME.format(mark=mark, colour="#0B0F14" if light else "#F3F5F7")


def _send(request: Request) -> FileResponse:
    return FileResponse(_FILES[request.url.path.rsplit("/", 1)[-1]], headers=_KEPT)


ROUTES = [Route(f"/{_FOLDER}/{name}", _send) for name in _FILES]
