"""The server process of a home: its lock, its address, its log and its end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from functools import partial
from logging.handlers import RotatingFileHandler
from types import FrameType
from typing import Any

import uvicorn

from core.errors import Conflict
from core.home import Home, write_atomically
from core.local import control, server
from core.local.home_check import check_home
from core.local.profile import make_profile
from core.local.wire.certificates import ensure_certificates
from core.local.wire.connections import KnownConnection
from core.locks import tried
from core.pids import start_time_of

LOG_BYTES = 5 * 1024 * 1024
GOODBYE_S = 3  # how long open requests may go on after the server was asked to end
_log = logging.getLogger(__name__)


def serve(home: Home, *, foreground: bool = False, profile: str = "local") -> int:
    """Serve `home` in this process until SIGTERM or Ctrl-C.

    A home that is served already is left to its server: its address is printed and 0 returned. Raises Conflict where
    another program has the port or a newer Tunedeck wrote the home, BadInput where its folder cannot be served from.
    """
    os.umask(0o077)  # keys, data and models are the owner's; what is started here inherits it
    check_home(home.path)
    home.create()
    _set_up_log(home, foreground)
    with tried(home.server_lock) as is_ours:
        if not is_ours:
            print(f"This home is served already: {control.describe(home)}.", flush=True)
            return 0
        listener = _listen(home.port())
        if listener is None:
            raise Conflict(
                f"The port {home.port()} of this home is used by another program.",
                f"End that program, or delete {home.path / 'address.json'} and restart to choose another.",
            )
        secure = _listen(home.tls_port())
        if secure is None:
            _log.warning("Port %s, for TLS, is used by another program: http only.", home.tls_port())
        print(f"Local workspace at {home.url()}, home {home.path}. Ctrl-C ends it.", flush=True)
        config = uvicorn.Config(
            server.create_app(home, home.port(), home.tls_port() if secure else 0, make_profile(profile)),
            http=KnownConnection,
            ws="none",
            proxy_headers=False,  # a client is who it is: connections are found by their addresses
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GOODBYE_S,
        )
        application = _make_server(config, home, secure)
        gc.freeze()  # what is loaded by now stays: looking through it for garbage would cost each answer a little
        signal.signal(signal.SIGTERM, _leave)
        _write_server_file(home)
        try:
            application.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn ends in order, then sends itself again the signal that ended it
            pass
        finally:
            home.server_file.unlink(missing_ok=True)
            for each in filter(None, (listener, secure)):
                each.close()
        return 0 if application.started else 1


class RotatingLog(RotatingFileHandler):
    """Asks how large the file is instead of writing each line twice to know how large it would be."""

    def shouldRollover(self, _record: logging.LogRecord) -> bool:
        """Tell whether the file is full."""
        if self.stream is None:
            self.stream = self._open()
        return os.fstat(self.stream.fileno()).st_size >= self.maxBytes


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(port: int) -> socket.socket | None:
    """Return a socket on a port of the loopback, None where another program has it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        return None
    return listener


def _make_server(config: uvicorn.Config, home: Home, secure: socket.socket | None) -> uvicorn.Server:
    """Return uvicorn's server; where `secure` is given it listens there as well, and speaks TLS there.

    One application and one set of connections behind both, so that they end together.
    """

    class TwoListeners(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if secure is None or not self.started:
                return
            context = ensure_certificates(home).server_context()
            protocol: Any = config.http_protocol_class
            made = partial(protocol, config=config, server_state=self.server_state, app_state=self.lifespan.state)
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(made, sock=secure, ssl=context, backlog=config.backlog))

    return TwoListeners(config)


def _write_server_file(home: Home) -> None:
    pid = os.getpid()
    record = {"pid": pid, "start_time": start_time_of(pid), "url": home.url()}
    write_atomically(home.server_file, json.dumps(record))


def _set_up_log(home: Home, foreground: bool) -> None:
    handlers: list[logging.Handler] = [
        RotatingLog(home.logs / "server.log", maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    ]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    # A line per request: what no format names is not looked up for each (logging's HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", handlers=handlers)
