"""The connections of this server: an answer goes out in one piece; one is ended without any, or for an endless head."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
_MOST_JOINED_BYTES = 64 * 1024
_open: dict[tuple[str, int], asyncio.Transport] = {}  # by the client's address, which is all that a request knows


class JoinedAnswers:
    """A transport that holds the head of an answer back until its body begins: one send to the socket, not two.

    A send is a third of what answering costs. `answer_ended` tells it that the next piece is a head again.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_head_next = True
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send a piece of an answer, or hold it back where it is the head."""
        if self._is_head_next and not data.startswith(b"HTTP/1.1 100 "):
            self._head, self._is_head_next = data, False
        elif self._head and len(data) <= _MOST_JOINED_BYTES:
            whole, self._head = self._head + data, b""
            self._transport.write(whole)
        else:
            self._send_head()
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held back, and close."""
        self._send_head()
        self._transport.close()

    def answer_ended(self) -> None:
        """Send what is held back of an answer without a body, and take the next piece as a head."""
        self._send_head()
        self._is_head_next = True

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class KnownConnection(HttpToolsProtocol):
    """A connection that can be found again by its client's address, and that keeps nothing without end.

    httptools keeps a head, and what trails a body in chunks, whatever their size: after 64 KiB without progress the
    request is refused.
    """

    _client: tuple[str, int] | None = None
    _in_head = False
    _has_progressed = False
    _bytes_in_vain = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        name: Any = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._client = (str(name[0]), int(name[1]))
            _open[self._client] = transport
        super().connection_made(JoinedAnswers(transport))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._client is not None:
            _open.pop(self._client, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what goes on without an end is refused."""
        self._has_progressed = False
        super().data_received(data)
        self._bytes_in_vain = 0 if self._has_progressed else self._bytes_in_vain + len(data)
        if self._bytes_in_vain > MOST_HEAD_BYTES and not self.transport.is_closing():
            message = "The head of the request does not end. Send fewer or shorter headers."
            self.logger.warning(message)
            self.send_400_response(message)

    def on_message_begin(self) -> None:
        """Take what follows as a head."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what trails a body is none, and not for the gate to read."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the answer. A client that would rather speak another protocol gets this one, and a new connection.

        httptools takes no body of such a request, and would take it for the next request.
        """
        self._in_head, self._has_progressed = False, True
        is_leaving = self.parser.should_upgrade()
        if is_leaving and {b"content-length", b"transfer-encoding"} & {name for name, _ in self.headers}:
            raise ValueError("a request with a body asks for another protocol")  # answered with 400
        super().on_headers_complete()
        if is_leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._has_progressed = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let the next answer begin."""
        joined: Any = self.transport
        joined.answer_ended()
        super().on_response_complete()


def drop_connection(scope: Scope) -> None:
    """End the connection of a request as it is, with nothing more sent."""
    client = scope.get("client")
    transport = _open.get((client[0], client[1])) if client else None
    if transport is not None:
        transport.abort()
