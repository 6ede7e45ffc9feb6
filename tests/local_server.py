"""A real local workspace in a process of its own, for tests; fixtures of it are in the conftest.py files."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import requests

from core.home import Home
from core.local import control, processes
from core.local.wire import answers
from tests.waiting import wait_until


@dataclass
class LocalServer:
    """A server and its home. `request` speaks to it as a client with a good token does."""

    home: Home
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "core.local"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.home.url()

    @property
    def token(self) -> str:
        return self.make_token()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def make_token(self, **claims: Any) -> str:
        now = int(time.time())
        claims = {"iss": "tunedeck-local", "aud": self.url, "oid": "local", "exp": now + 600, **claims}
        return jwt.encode(claims, self.home.secret(), algorithm="HS256")

    def start(self) -> LocalServer:
        self.home.create()
        _choose_port(self.home)
        with (self.home.logs / "server.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve"],
                cwd=processes.REPOSITORY,
                env={**os.environ, "TUNEDECK_HOME": str(self.home.path), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, self.log)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended: {self.log()}"
        return control.find_health(self.home) is not None

    def kill(self) -> None:
        """End the server as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> list[str]:
        """End all that this home started, and say what."""
        ended = control.stop(self.home)
        if self.process is not None:
            self.process.wait(timeout=30)
        return ended

    def log(self) -> str:
        parts = []
        for name in ("server.out", "server.log"):
            path = self.home.logs / name
            parts += [f"--- {name}", *(path.read_text(encoding="utf-8").splitlines()[-25:] if path.exists() else [])]
        return "\n".join(parts)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; `path` below the server, or below the workspace where it does not begin with a slash."""
        target = self.url + (path if path.startswith("/") else f"{answers.workspace_id()}/{path}")
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, target, headers=headers, timeout=30, **options)

    def send_raw(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Send a request as it is written, its path too; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.home.port(), timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def finish(self, response: requests.Response, timeout_s: float = 30.0) -> dict[str, Any]:
        """Poll a long-running operation to its end; return its last answer."""
        address = response.headers["Azure-AsyncOperation"].removeprefix(self.url)

        def ask() -> dict[str, Any] | None:
            answer: dict[str, Any] = self.request("GET", address).json()
            return None if answer["status"] in ("InProgress", "Updating") else answer

        return wait_until(ask, f"the end of {address}", timeout_s=timeout_s)


def _choose_port(home: Home) -> None:
    """Give a new home a port of its own: the usual one may belong to a workspace that is only stopped."""
    address = home.path / "address.json"
    if not address.exists():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address.write_text(json.dumps({"port": probe.getsockname()[1]}), encoding="utf-8")


@contextmanager
def running_server(folder: Path, module: str = "core.local", **environment: str) -> Iterator[LocalServer]:
    """Serve a new home in `folder` for the block."""
    server = LocalServer(Home(folder), environment, module)
    try:
        yield server.start()
    finally:
        server.stop()
