"""The connections of this server: one is ended without an answer, or for a head without end. Knows no request."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
_open: dict[tuple[str, int], asyncio.Transport] = {}  # by the client's address, which is all that a request knows


class KnownConnection(HttpToolsProtocol):
    """A connection that can be found again by its client's address. A request's head may not be larger than 64 KiB."""

    _client: tuple[str, int] | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        name: Any = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._client = (str(name[0]), int(name[1]))
            _open[self._client] = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._client is not None:
            _open.pop(self._client, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has not ended by now is refused, since the parser would keep it whatever its size."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End to count."""
        self._in_head = False
        super().on_headers_complete()


def drop_connection(scope: Scope) -> None:
    """End the connection of a request as it is, with nothing more sent."""
    client = scope.get("client")
    transport = _open.get((client[0], client[1])) if client else None
    if transport is not None:
        transport.abort()
