"""What the server does below its routes: one write for an answer, an end to heads without end, a log written once."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from core.local.connections import MOST_HEAD_BYTES
from core.local.serving import RotatingLog
from tests.local_server import LocalServer

HEAD = "{method} /metadata/endpoints HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_is_sent_in_one_piece(local_server: LocalServer, method: str) -> None:
    asked = f"{HEAD}\r\n".format(method=method, port=local_server.home.port()).encode()
    with socket.create_connection(("127.0.0.1", local_server.home.port()), timeout=10) as client:
        for _ in range(5):  # of one connection that is kept
            client.sendall(asked)
            head, _, body = client.recv(1 << 20).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert bool(body) == (method == "GET")
            if body:
                assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("line", ["x: " + "y" * 900 + "\r\n", "z" * 900], ids=["many lines", "one line"])
def test_a_head_without_end_is_refused(local_server: LocalServer, line: str) -> None:
    with socket.create_connection(("127.0.0.1", local_server.home.port()), timeout=10) as client:
        client.sendall(HEAD.format(method="GET", port=local_server.home.port()).encode())
        answer, sent = b"", 0
        client.settimeout(0.01)
        while not answer and sent < 4 * MOST_HEAD_BYTES:
            client.sendall(line.encode())
            sent += len(line)
            try:
                answer = client.recv(1 << 16)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert answer.endswith(b"The head of the request is too large.")
    assert local_server.request("GET", "/metadata/endpoints").status_code == 200, "others are answered"


def test_a_full_log_is_put_aside_and_no_line_is_lost(tmp_path: Path) -> None:
    handler = RotatingLog(tmp_path / "server.log", maxBytes=100, backupCount=1, delay=True)
    for number in range(9):
        handler.emit(logging.makeLogRecord({"msg": f"{number}" * 29}))
    handler.close()
    kept = [line[0] for name in ("server.log.1", "server.log") for line in (tmp_path / name).read_text().splitlines()]
    assert kept == list("45678"), "one full file of four lines is kept, and what came after it"
