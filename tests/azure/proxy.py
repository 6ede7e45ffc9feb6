"""A proxy that is each of Azure's hosts itself: CONNECT is taken, TLS ends here, and another host is refused."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.azure import registries
from tests.azure.behind import Behind, find_token_fault
from tests.azure.directory import Directory
from tests.azure.login import Login
from tests.azure.makers import Makers
from tests.azure.prices import answer_prices
from tests.azure.rules import HANG_UP, Answer, Asked, Rules
from tests.azure.sites import PRICES, Site, find_site

CHUNK_BYTES = 64 * 1024
_NO_ROLE = (
    "<Error><Code>AuthorizationPermissionMismatch</Code><Message>This request is not authorized to perform this "
    "operation using this permission.</Message></Error>"
)


@dataclass
class Azure:
    """All that answers: identities, prices, the workspace behind, and rules before them."""

    behind: Behind
    login: Login = field(default_factory=Login)
    rules: Rules = field(default_factory=Rules)
    directory: Directory = field(default_factory=Directory)
    makers: Makers = field(default_factory=Makers)
    identity_opens_storage: bool = True
    """Whether the signed-in identity has a role on the storage account."""

    def answer(self, host: str, method: str, target: str, headers: Any, body: bytes) -> Answer | tuple[Site, Any]:
        """Return an answer, or the cloud and the answer of the workspace behind it."""
        parts = urlsplit(target)
        if host == PRICES:
            return answer_prices(dict(parse_qsl(parts.query)).get("$filter", ""))
        site = find_site(host)
        assert site is not None, host
        if host == site.login:
            form = dict(parse_qsl(body.decode())) or dict(parse_qsl(parts.query))
            return self.login.answer(host, parts.path, form)
        authorization = headers.get("Authorization", "")
        if host == site.blobs and authorization.startswith("Bearer ") and not self.identity_opens_storage:
            code = {"Content-Type": "application/xml", "x-ms-error-code": "AuthorizationPermissionMismatch"}
            return Answer(403, _NO_ROLE.encode(), code)
        if not self._is_open(site, host, parts.path) and (fault := find_token_fault(site, authorization)):
            return fault
        skip = int(dict(parse_qsl(parts.query)).get("skip", 0))
        if host == site.management and (known := self.directory.find_answer(site, parts.path, skip)):
            return known
        if method == "GET" and (told := registries.find_answer(site, host, target)):
            return told
        found = self.behind.send(site, host, method, target, headers, body)
        if host == site.management:
            self.makers.note(method, target, found.status_code, authorization)
        return site, found

    @staticmethod
    def _is_open(site: Site, host: str, path: str) -> bool:
        """Tell whether what is asked is opened by something else than a token for the resource manager."""
        return host == site.blobs or bool(site.find_endpoint(host)) or path in ("/discovery", "/metadata/endpoints")


class Proxy(ThreadingHTTPServer):
    """Listens on a port of the loopback that the system chose."""

    daemon_threads = True

    def __init__(self, azure: Azure, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.azure, self.context = azure, context
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that went away; what else goes wrong is shown."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection of a client: first to the proxy, then, after CONNECT, to the host that was named."""

    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for the first's receipt
    host = ""

    def log_message(self, *_: Any) -> None:
        """Say nothing: what was asked is in the rules' record."""

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        if host != PRICES and find_site(host) is None:
            self.server.azure.rules.note(Asked("CONNECT", f"https://{host}", 403))
            self._send(Answer(403))
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb", -1), self.connection.makefile("wb", 0)
        self.host, self.close_connection = host, False

    def _handle(self) -> None:
        azure = self.server.azure
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.host:
            self._send(self._control(body))
            return
        url = f"https://{self.host}{self.path}"
        with azure.rules.in_flight():
            ruled = azure.rules.take(self.command, url, body.decode(errors="replace"))
            answer = ruled or azure.answer(self.host, self.command, self.path, self.headers, body)
        status = answer.status if isinstance(answer, Answer) else answer[1].status_code
        opened_by = self.headers.get("Authorization", "")
        azure.rules.note(Asked(self.command, url, status, ruled is not None, authorization=opened_by))
        if isinstance(answer, Answer):
            self._send(answer)
        else:
            self._hand_on(*answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle

    def _control(self, body: bytes) -> Answer:
        """Answer what is asked of the proxy itself: of a virtual machine's identity, of the rules, or by a rule.

        So it is a local workspace, too, that answers what a rule says.
        """
        rules = self.server.azure.rules
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if ruled := rules.take(self.command, f"{self.server.url}{path}"):
            return ruled
        if path == "/metadata/identity/oauth2/token":
            return self.server.azure.login.give_machine_token(query.get("resource", ""))
        if path == "/rules" and self.command == "POST":
            rules.add(**json.loads(body))
        elif path == "/rules" and self.command == "DELETE":
            rules.clear()
        elif path != "/requests":
            return Answer(404)
        return Answer(200, "".join(f"{asked}\n" for asked in rules.asked()).encode(), {"Content-Type": "text/plain"})

    def _send(self, answer: Answer) -> None:
        if answer.status == HANG_UP:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send_head(answer.status, answer.headers, {"Content-Length": str(len(answer.body))})
        if answer.cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def _send_head(self, status: int, headers: Mapping[str, str], framing: Mapping[str, str]) -> None:
        self.send_response_only(status)  # with send_response there would be a second Date, this machine's
        for name, value in {"Date": self.server.azure.rules.date(status), **headers, **framing}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hand_on(self, site: Site, found: Any) -> None:
        """Send the answer of the workspace: JSON translated, what streams as it comes."""
        behind = self.server.azure.behind
        headers = behind.headers_of(site, found)
        if not found.headers.get("Content-Type", "").startswith("text/event-stream") and _is_text(found):
            content = self.server.azure.makers.tell(behind.translate(site, found.content.decode()))
            self._send(Answer(found.status_code, content.encode(), headers))
            return
        length = found.headers.get("Content-Length")
        chunked = length is None and self.command != "HEAD"
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": length or "0"}
        self._send_head(found.status_code, headers, framing)
        for part in _parts(found, chunked):
            self.wfile.write(part)


def _is_text(found: Any) -> bool:
    return any(kind in found.headers.get("Content-Type", "") for kind in ("json", "xml"))


def _parts(found: Any, chunked: bool) -> Iterator[bytes]:
    """Yield a body as it arrives, framed where its length is not known."""
    for part in found.raw.stream(CHUNK_BYTES, decode_content=False) if not chunked else found.iter_content(None):
        yield b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
    if chunked:
        yield b"0\r\n\r\n"
