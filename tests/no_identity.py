"""A machine on Azure that has no identity: its metadata service says so at once, where none is there for 5 s."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class _NoIdentity(BaseHTTPRequestHandler):
    """The metadata service of a machine on Azure that has no identity."""

    def do_GET(self) -> None:
        self.send_error(400, "Identity not found")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def no_identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoIdentity) as service:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{service.server_port}")
        threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True).start()
        yield
        service.shutdown()
