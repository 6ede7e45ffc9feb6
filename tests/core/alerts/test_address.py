from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from core.alerts.address import parse_address, resolve
from core.alerts.book import AlertState, Entry
from core.alerts.delivery import send
from core.alerts.events import Alert
from core.alerts.settings import Kind, Webhook, read_settings, save_webhook
from core.errors import BadInput, TunedeckError
from core.home import Home
from tests.azure.certificates import Certificates, make_certificates
from tests.azure.sites import PRICES

NEWS = [Entry(1, Alert("local", "run_failed", "otter", "It failed."), 0.0, AlertState.SENDING)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.slack.com/services/T/B/x", "begins with https"),
        ("ftp://hooks.slack.com/x", "begins with https"),
        ("hooks.slack.com/x", "begins with https|no web address"),
        ("https://", "no web address"),
        ("https://hooks.slack.com:port/x", "no web address"),
        ("https://hooks.slack.com/a b", "no web address"),
        ("https://hooks.slack.com/a\r\nX-Other: 1", "no web address"),
        ("https://ana:word@hooks.slack.com/x", "name or password"),
        ("https://127.0.0.1/x", "private network"),
        ("http://localhost:80/x", "private network"),
        ("https://10.1.2.3/x", "private network"),
        ("https://192.168.0.1/x", "private network"),
        ("https://100.64.0.1/x", "private network"),
        ("https://[::1]/x", "private network"),
        ("https://[::ffff:10.0.0.1]/x", "private network"),
        ("https://[64:ff9b::a00:1]/x", "private network"),
        ("https://[fd12::1]/x", "private network"),
        ("https://169.254.169.254/latest", "no webhook"),
        ("https://[::ffff:169.254.169.254]/latest", "no webhook"),
        ("https://[fe80::1]/x", "no webhook"),
        ("https://168.63.129.16/x", "no webhook"),
        ("https://0.0.0.0/x", "no webhook"),
    ],
)
def test_an_address_that_is_no_webhook_is_refused_before_anything_is_kept(home: Home, url: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        save_webhook(Kind.JSON, url)
    assert read_settings(home).webhook is None


@pytest.mark.parametrize("url", ["https://169.254.169.254/x", "https://[fd00:ec2::254]/x", "https://168.63.129.16/"])
def test_what_tells_a_machine_its_secrets_is_no_webhook_inside_ones_network_either(home: Home, url: str) -> None:
    with pytest.raises(BadInput, match="no webhook"):
        save_webhook(Kind.JSON, url, inside=True)


def test_a_retired_connector_of_teams_is_told_from_a_workflow(home: Home) -> None:
    with pytest.raises(BadInput, match="no longer has") as refused:
        save_webhook(Kind.TEAMS, "https://contoso.webhook.office.com/webhookb2/abc/IncomingWebhook/def")
    assert "When a Teams webhook request is received" in refused.value.hint
    save_webhook(Kind.TEAMS, "https://prod-1.westeurope.logic.azure.com:443/workflows/a/paths/invoke?sig=b")


def lead(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let a name lead to these addresses, another list with each question; the last stays."""
    left = list(answers)

    real = socket.getaddrinfo

    def ask(host: str, port: int, *more: Any, **named: Any) -> list[Any]:
        if host == "127.0.0.1":
            return real(host, port, *more, **named)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", ask)


def test_a_name_is_refused_where_one_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    place = parse_address("https://hooks.example/x", inside=False)
    lead(monkeypatch, ["93.184.216.34", "10.0.0.7"])
    with pytest.raises(BadInput, match="private network"):
        resolve(place, inside=False)


def test_a_name_that_leads_elsewhere_after_it_was_saved_is_not_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was good when it was saved; before each message it is looked up, and only that address is asked."""
    lead(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    place = parse_address("https://hooks.example/x", inside=False)
    assert resolve(place, inside=False) == "93.184.216.34"
    found = send(Webhook(Kind.JSON, "https://hooks.example/x"), NEWS)
    assert (found.state, found.words) == (AlertState.FAILED, "hooks.example leads into a private network.")


def read_request(opened: socket.socket) -> bytes:
    """Read a request to its last byte: to close before that would be a reset for the client, which is still sending."""
    with opened.makefile("rb") as stream:
        head = list(iter(lambda: stream.readline().rstrip(b"\r\n"), b""))
        lengths = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:")]
        return b"\r\n".join([*head, b"", stream.read(sum(lengths))])


@contextmanager
def served(certificates: Certificates, *, behind_proxy: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Serve two requests over TLS, behind a proxy's CONNECT where it stands for one; yield the port and what came."""
    listener, context = socket.create_server(("127.0.0.1", 0)), certificates.server_context()
    heard: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            raw, _ = listener.accept()
            if behind_proxy:
                heard.append(read_request(raw))
                raw.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with suppress(ssl.SSLError, OSError), context.wrap_socket(raw, server_side=True) as opened:
                heard.append(read_request(opened))
                opened.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], heard
    thread.join(10)
    listener.close()


def test_the_certificate_is_held_against_the_name_at_the_checked_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS to the address that was looked up first, though the name leads elsewhere a moment later."""
    made = make_certificates(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with served(made) as (port, heard):
        webhook = Webhook(Kind.JSON, f"https://{PRICES}:{port}/hook", inside=True)
        lead(monkeypatch, ["127.0.0.1"], ["192.0.2.1"])
        unknown = send(webhook, NEWS)
        assert (unknown.state, "SSLCertVerificationError" in unknown.words) == (AlertState.DUE, True)
        lead(monkeypatch, ["127.0.0.1"], ["192.0.2.1"])
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        assert send(webhook, NEWS).state is AlertState.SENT
    assert f"Host: {PRICES}:{port}\r\n".encode() in heard[0]


def test_a_message_goes_through_the_proxy_that_this_machine_goes_out_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(made, behind_proxy=True) as (port, heard):
        monkeypatch.setenv("https_proxy", f"http://ana:w%40rd@127.0.0.1:{port}")
        for _ in range(2):
            assert send(Webhook(Kind.JSON, f"https://{PRICES}/hook"), NEWS).state is AlertState.SENT
    assert heard[0].startswith(f"CONNECT {PRICES}:443 HTTP/1".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"ana:w@rd") in heard[0]
    assert heard[1].startswith(b"POST /hook HTTP/1.1\r\n")
    assert f"Host: {PRICES}\r\n".encode() in heard[1]


def test_a_name_that_leads_nowhere_says_so() -> None:
    with pytest.raises(TunedeckError, match="leads nowhere"):
        resolve(parse_address("https://nobody.invalid/x", inside=False), inside=False)
