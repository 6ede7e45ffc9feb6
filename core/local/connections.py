"""The connections of this server: an answer goes out in one piece, or one is ended without any. Knows no request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[tuple[str, int], asyncio.Transport] = {}  # by the client's address, which is all that a request knows


class WholeAnswers(h11.Connection):
    """Holds the head of an answer back until its body begins: a small answer is one send to the socket, not two."""

    _head: Sequence[bytes] = ()

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """Return what is to be written for an event: nothing yet for the head of an answer."""
        parts = super().send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head, parts = parts or (), []
        elif parts is not None:
            self._head, parts = (), [*self._head, *parts]
        return parts


class KnownConnection(H11Protocol):
    """A connection that can be found again by its client's address."""

    _client: tuple[str, int] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = WholeAnswers(h11.SERVER)

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
