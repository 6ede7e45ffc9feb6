"""A browser session without a browser: asks a running dashboard for a page and times its script.

Speaks Streamlit's own websocket protocol, so what is measured is what an operator waits for: from asking for the page
to the message that its script has finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.RootContainer_pb2 import RootContainer
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60.0
STRIP_BAR_MS, STRIP_LOOKS = 30, 20
_FINISHED = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
PULSE_S = 0.5


@dataclass
class Tab:
    """One browser session on the dashboard."""

    socket: ClientConnection

    def open(self, page: str, **ids: str) -> float:
        """Run a page's script, as a reload or a click in the menu does; return the milliseconds it took."""
        asked = BackMsg()
        asked.rerun_script.query_string = urlencode(ids)
        asked.rerun_script.page_name = page
        return self._time(asked)

    def refresh_strip(self) -> float:
        """Draw the strip alone, as a page does every two seconds; return the milliseconds it took."""
        assert self.strip, "a page was opened before"
        asked = BackMsg()
        asked.rerun_script.fragment_id = self.strip
        return self._time(asked)

    def _time(self, asked: BackMsg) -> float:
        self.says = ""
        started = time.perf_counter()
        self.socket.send(asked.SerializeToString())
        self._wait_for_the_end(started + PATIENCE_S)
        return (time.perf_counter() - started) * 1000

    def await_text(self, page: str, text: str, **ids: str) -> tuple[float, int]:
        """Open a page, and again whenever it asks for that, until a message holds this text.

        Return the seconds until then and the bytes that came.
        """
        asked = BackMsg()
        asked.rerun_script.query_string, asked.rerun_script.page_name = urlencode(ids), page
        began, received, sought = time.perf_counter(), 0, text.encode()
        self.socket.send(asked.SerializeToString())
        while True:
            raw = self.socket.recv(timeout=max(0.01, began + PATIENCE_S - time.perf_counter()))
            message = raw if isinstance(raw, bytes) else raw.encode()
            received += len(message)
            if sought in message:
                return time.perf_counter() - began, received
            ended = ForwardMsg.FromString(message)
            if ended.WhichOneof("type") == "script_finished":
                time.sleep(PULSE_S)  # as a browser's timer does
                self.socket.send(asked.SerializeToString())

    def _wait_for_the_end(self, deadline: float) -> None:
        while True:
            raw = self.socket.recv(timeout=max(0.01, deadline - time.perf_counter()))
            message = ForwardMsg.FromString(raw if isinstance(raw, bytes) else raw.encode())
            if message.delta.fragment_id and list(message.metadata.delta_path)[:1] == [RootContainer.BOTTOM]:
                self.strip = message.delta.fragment_id
                self.says += message.delta.new_element.page_link.label
            if message.WhichOneof("type") != "script_finished":
                continue
            if message.script_finished in _FINISHED:
                return
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                raise RuntimeError("the page's script could not be compiled")
            # else it asked to be run again, and the operator waits for that run as well


@contextmanager
def open_tab(port: int) -> Iterator[Tab]:
    """Open a session of its own."""
    with connect(f"ws://127.0.0.1:{port}/_stcore/stream", max_size=None, proxy=None) as socket:
        yield Tab(socket)
