"""What the server does below its routes: one write for an answer, an end to heads without end, a log written once."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from core.local.serving import RotatingLog
from core.local.wire import answers as wire
from core.local.wire.connections import MOST_HEAD_BYTES
from tests.local_server import LocalServer

HEAD = "{method} /metadata/endpoints HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_is_sent_in_one_piece(local_server: LocalServer, method: str) -> None:
    asked = f"{HEAD}\r\n".format(method=method, port=local_server.home.port()).encode()
    with connect(local_server) as client:
        for _ in range(5):  # of one connection that is kept
            client.sendall(asked)
            head, _, body = client.recv(1 << 20).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert bool(body) == (method == "GET")
            if body:
                assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("GET /metadata/endpoints HTTP/1.1\r\nHost: {host}\r\n", "x: " + "y" * 900 + "\r\n"),
        ("GET /metadata/endpoints HTTP/1.1\r\nHost: {host}\r\n", "z" * 900),
        ("PUT /blob HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "x: " + "y" * 900 + "\r\n"),
    ],
    ids=["many lines", "one line", "behind a body"],
)
def test_a_head_without_end_is_refused(local_server: LocalServer, start: str, line: str) -> None:
    with connect(local_server) as client:
        client.sendall(start.format(host=f"127.0.0.1:{local_server.home.port()}").encode())
        answer, sent = b"", 0
        client.settimeout(0.01)
        while b"does not end" not in answer and sent < 8 * MOST_HEAD_BYTES:
            try:
                client.sendall(line.encode())
                sent += len(line)
                answer += client.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert b"HTTP/1.1 400 Bad Request" in answer
    assert answer.endswith(b"The head of the request does not end. Send fewer or shorter headers.")
    assert local_server.request("GET", "/metadata/endpoints").status_code == 200, "others are answered"


def test_who_waits_for_leave_to_send_a_body_gets_it_at_once(local_server: LocalServer) -> None:
    path = f"{wire.workspace_id()}/data/waited/versions/1"
    lines = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{local_server.home.port()}\r\nExpect: 100-continue\r\n"
    with connect(local_server) as client:
        client.sendall(f"{lines}Authorization: Bearer {local_server.token}\r\nContent-Length: 2\r\n\r\n".encode())
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")  # a version without a path


def test_what_trails_a_body_is_no_header(local_server: LocalServer) -> None:
    """The gate reads the headers: a credential behind the body is none."""
    path = f"{wire.workspace_id()}/computes/none"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{local_server.home.port()}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(local_server) as client:
        client.sendall(f"{head}0\r\nAuthorization: Bearer {local_server.token}\r\n\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


def test_who_asks_for_another_protocol_gets_this_one_and_a_body_is_never_taken_for_a_request(
    local_server: LocalServer,
) -> None:
    asked = HEAD.format(method="GET", port=local_server.home.port()) + "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    inner = HEAD.format(method="GET", port=local_server.home.port()) + "\r\n"
    with connect(local_server) as client:
        client.sendall(f"{asked}\r\n".encode())
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
    with connect(local_server) as client:
        client.sendall(f"{asked}Content-Length: {len(inner)}\r\n\r\n".encode())
        client.sendall(inner.encode())
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_requests_that_come_at_once_are_answered_in_turn(local_server: LocalServer) -> None:
    asked = HEAD.format(method="GET", port=local_server.home.port())
    with connect(local_server) as client:
        client.sendall(f"{asked}\r\n{asked}\r\n{asked}Connection: close\r\n\r\n".encode())
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3


def connect(server: LocalServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.home.port()), timeout=10)


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_a_full_log_is_put_aside_and_no_line_is_lost(tmp_path: Path) -> None:
    handler = RotatingLog(tmp_path / "server.log", maxBytes=100, backupCount=1, delay=True)
    for number in range(9):
        handler.emit(logging.makeLogRecord({"msg": f"{number}" * 29}))
    handler.close()
    kept = [line[0] for name in ("server.log.1", "server.log") for line in (tmp_path / name).read_text().splitlines()]
    assert kept == list("45678"), "one full file of four lines is kept, and what came after it"
