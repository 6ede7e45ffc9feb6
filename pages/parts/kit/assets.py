"""Files of our own that the browser fetches once and keeps: their address changes with what they hold."""

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


def address(name: str) -> str:
    """Return where a browser finds a file, as a path on the dashboard's own host."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return "/" + "/".join(filter(None, (base, _FOLDER, name)))


def _send(request: Request) -> FileResponse:
    return FileResponse(_FILES[request.url.path.rsplit("/", 1)[-1]], headers=_KEPT)


ROUTES = [Route(f"/{_FOLDER}/{name}", _send) for name in _FILES]
