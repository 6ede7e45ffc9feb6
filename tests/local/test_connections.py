"""What the server does below its routes to answer cheaply: one write for an answer, one line of a log written once."""

from __future__ import annotations

import logging
from pathlib import Path

import h11
import pytest

from core.local.connections import WholeAnswers
from core.local.serving import RotatingLog

HEAD = h11.Response(status_code=200, headers=[("Content-Length", "2")], reason=b"OK")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_is_written_in_one_piece(method: str) -> None:
    connection = WholeAnswers(h11.SERVER)
    for _ in range(2):  # of one connection that is kept
        connection.receive_data(f"{method} /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert [type(connection.next_event()) for _ in range(2)] == [h11.Request, h11.EndOfMessage]
        assert connection.send(HEAD) == b""
        written = connection.send(h11.Data(data=b"{}" if method == "GET" else b""))
        assert written is not None
        assert written.startswith(b"HTTP/1.1 200 OK\r\n")
        assert written.endswith(b"\r\n\r\n{}" if method == "GET" else b"\r\n\r\n")
        assert connection.send(h11.EndOfMessage()) == b""
        connection.start_next_cycle()


def test_who_waits_for_leave_to_send_a_body_gets_it_at_once() -> None:
    connection = WholeAnswers(h11.SERVER)
    connection.receive_data(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    connection.next_event()
    leave = connection.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_full_log_is_put_aside_and_no_line_is_lost(tmp_path: Path) -> None:
    handler = RotatingLog(tmp_path / "server.log", maxBytes=100, backupCount=1, delay=True)
    for number in range(9):
        handler.emit(logging.makeLogRecord({"msg": f"{number}" * 29}))
    handler.close()
    kept = [line[0] for name in ("server.log.1", "server.log") for line in (tmp_path / name).read_text().splitlines()]
    assert kept == list("45678"), "one full file of four lines is kept, and what came after it"
