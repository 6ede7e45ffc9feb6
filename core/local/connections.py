"""The connections of this server, so that one can be ended without an answer. Knows no request."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[tuple[str, int], asyncio.Transport] = {}  # by the client's address, which is all that a request knows


class KnownConnection(H11Protocol):
    """A connection that can be found again by its client's address."""

    _client: tuple[str, int] | None = None

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


def drop_connection(scope: Scope) -> None:
    """End the connection of a request as it is, with nothing more sent."""
    client = scope.get("client")
    transport = _open.get((client[0], client[1])) if client else None
    if transport is not None:
        transport.abort()
