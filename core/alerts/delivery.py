"""Sends what is due to the webhook: recorded before it is sent, tried again only where it surely did not arrive."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from core import home
from core.alerts.address import Place, parse_address, resolve
from core.alerts.book import GATHER_S, AlertBook, AlertState, Entry
from core.alerts.messages import make_body, make_headers
from core.alerts.settings import Webhook, read_settings
from core.azureml.service_errors import read_answer
from core.errors import BadInput, ServiceRefused, TunedeckError, Unreachable

TIMEOUT_S = 10.0
MOST_S = 30.0  # for a whole answer, however slowly it comes
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 3600.0
TRIES = 8  # with the pauses between them about half an hour
_AGAIN = {408, 429, 500, 502, 503}  # it was not taken; after a 504 nobody knows
_MEANS = {
    400: "it does not take messages of this kind",
    401: "it wants another address or secret",
    403: "it may not be used any more",
    404: "nothing listens at this address any more",
    410: "nothing listens at this address any more",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a message. pause_s: after which it is tried again, where the state is DUE."""

    state: AlertState
    words: str
    pause_s: float | None = None


def is_due(of: home.Home | None = None) -> bool:
    """Tell whether there is something to sort or to send."""
    return AlertBook(of).has_work(time.time())


def deliver(of: home.Home | None = None, now: float | None = None) -> None:
    """Sort what is new and send what is due as one message. Several processes may: each alert is sent by one."""
    book, settings, at = AlertBook(of), read_settings(of), time.time() if now is None else now
    entries = book.take(settings, at) if book.has_work(at) else []
    if not entries or settings.webhook is None:
        return
    found = send(settings.webhook, entries)
    tries = max(each.tries for each in entries) + 1
    if found.state is AlertState.DUE and tries >= TRIES:
        found = Outcome(AlertState.FAILED, f"{found.words}; given up after {tries} tries")
    pause_s = min(LONGEST_PAUSE_S, max(found.pause_s or 0.0, FIRST_PAUSE_S * 2 ** (tries - 1)))
    book.settle(entries, found.state, found.words, at + pause_s)


def deliver_all(of: home.Home | None = None) -> None:
    """Send what is to be sent now: who calls this does not stay."""
    deliver(of)
    deliver(of, time.time() + GATHER_S)


def send_test(connection: str) -> str:
    """Send a test message now and return what became of it; raises where it did not arrive."""
    webhook = read_settings().webhook
    if webhook is None:
        raise BadInput("There is no webhook.", "Save one first.")
    book = AlertBook()
    entry = book.begin_test(connection, webhook.host, time.time())
    found = send(webhook, [entry])
    book.settle([entry], AlertState.FAILED if found.state is AlertState.DUE else found.state, found.words)
    if found.state is not AlertState.SENT:
        raise ServiceRefused(f"{webhook.host}: {found.words}.", "Check the address, then send it again.")
    return found.words


def send(webhook: Webhook, entries: Sequence[Entry]) -> Outcome:
    """Send one message; never raises for what the other side does."""
    body = make_body(webhook, entries)
    message_id = f"tunedeck-{entries[0].number}-{entries[-1].number}"
    try:
        place = parse_address(webhook.url, inside=webhook.inside)
        headers = make_headers(webhook, message_id, body, time.time())
        with _connected(place, inside=webhook.inside) as connection:
            try:
                connection.request("POST", place.path, body, {"Host": _host_of(place), **headers})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                return Outcome(AlertState.UNKNOWN, "no answer came, so it may have arrived; it is not sent again")
            return _judge(answer.status, dict(answer.headers))
    except BadInput as error:
        return Outcome(AlertState.FAILED, error.message)
    except TunedeckError as error:
        return Outcome(AlertState.DUE, error.message)


def _judge(status: int, headers: dict[str, str]) -> Outcome:
    if 200 <= status < 300:
        return Outcome(AlertState.SENT, f"taken ({status})")
    if status in _AGAIN:
        return Outcome(
            AlertState.DUE, f"it asked to wait or failed ({status})", read_answer(status, headers, "").pause_s
        )
    if 300 <= status < 400:
        return Outcome(AlertState.FAILED, f"it leads to another address ({status}), which is not followed")
    if status == http.HTTPStatus.GATEWAY_TIMEOUT:
        return Outcome(AlertState.UNKNOWN, f"something on the way had no answer ({status}); it may have arrived")
    return Outcome(AlertState.FAILED, f"refused ({status}): {_MEANS.get(status, 'it does not say why')}")


@contextmanager
def _connected(place: Place, *, inside: bool) -> Iterator[http.client.HTTPConnection]:
    """Give a connection to the place that is open; raises Unreachable or BadInput before anything is sent."""
    connection = _through_proxy(place) or _Direct(place, resolve(place, inside=inside))
    try:
        connection.connect()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Unreachable(f"it cannot be reached ({type(error).__name__})") from None
    opened = connection.sock
    ending = threading.Timer(MOST_S, lambda: _end(opened))
    ending.daemon = True
    ending.start()
    try:
        yield connection
    finally:
        ending.cancel()
        connection.close()


def _end(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class _Direct(http.client.HTTPConnection):
    """A connection to the address that was checked, wherever the name leads by now. No redirect, no proxy."""

    def __init__(self, place: Place, address: str) -> None:
        super().__init__(place.host, place.port, timeout=TIMEOUT_S)
        self._address, self._is_tls = address, place.is_tls

    def connect(self) -> None:
        """Open it, with TLS for the name."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_tls:
            self.sock = _context().wrap_socket(self.sock, server_hostname=self.host)


def _through_proxy(place: Place) -> http.client.HTTPConnection | None:
    """Return a connection through the proxy that this machine goes out by; None without one. It resolves the name."""
    known = urlsplit(getproxies().get("https", "")) if place.is_tls and not proxy_bypass(place.host) else None
    if known is None or not known.hostname:
        return None
    connection = http.client.HTTPSConnection(known.hostname, known.port or 8080, timeout=TIMEOUT_S, context=_context())
    named = f"{unquote(known.username or '')}:{unquote(known.password or '')}".encode()
    signed = {"Proxy-Authorization": f"Basic {base64.b64encode(named).decode()}"} if known.username else {}
    connection.set_tunnel(place.host, place.port, signed)
    return connection


def _context() -> ssl.SSLContext:
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    return ssl.create_default_context(cafile=next(filter(None, named), certifi.where()))


def _host_of(place: Place) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == (443 if place.is_tls else 80) else f"{host}:{place.port}"
