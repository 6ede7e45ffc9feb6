"""A hub on loopback: what `datasets` and the adding of models ask of the Hugging Face hub's API, and what it gave.

Files of models that the hub keeps in its large storage are redirected to another host, as on the real one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE = 1 << 14


class Hub(ThreadingHTTPServer):
    """files: repository -> path -> content; models are those whose name begins with "models/". gated: of these.

    token: what a private or gated one wants, "" = all are public. before_answer: called with the number of each
    request, and may hold its answer back; False: there is none. before_piece: the same before each piece of a large
    file, with how much of it was sent; False: the line is cut.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, dict[str, bytes]], token: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.token = files, token
        self.given: dict[str, int] = {}
        self.asked: list[str] = []
        self.gated: set[str] = set()
        self.before_answer: Callable[[int], bool] = lambda _: True
        self.before_piece: Callable[[str, int], bool] = lambda _name, _sent: True
        self.told_elsewhere: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.server.asked.append(f"{self.command} {path}")
        if not self.server.before_answer(len(self.server.asked)):
            self.close_connection = True
            return None
        if path == "/":
            return self._send(200, b"", with_body)
        if path.startswith("/large/"):
            self.server.told_elsewhere += [self.headers["Authorization"]] * ("Authorization" in self.headers)
            return self._file(*path.removeprefix("/large/").split("@"), with_body)
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            return self._model(f"models/{found[1]}", found[2] or "main", with_body)
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)", path):
            return self._model_file(f"models/{found[1]}", found[2], with_body)
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._missing(401, "RepoNotFound", with_body)
        if found := re.fullmatch(
            r"/api/datasets/([\w.-]+/[\w.-]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path
        ):
            return self._api(found[1], found[2] or "revision", found[4] or "", body, with_body)
        if found := re.fullmatch(r"/datasets/([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)", path):
            return self._file(found[1], found[2], with_body)
        return self._missing(404, "RepoNotFound", with_body)

    def _api(self, repository: str, what: str, below: str, body: bytes, with_body: bool) -> None:
        files = self.server.files.get(repository)
        if files is None:
            return self._missing(404, "RepoNotFound", with_body)
        entries = [
            {"type": "file", "oid": f"{len(name):040x}", "size": len(content), "path": name}
            for name, content in files.items()
        ]
        if what == "tree":
            start = below.strip("/") + "/" if below.strip("/") else ""
            inside = [one for one in entries if str(one["path"]).startswith(start)]
            deep = [one for one in inside if "/" in str(one["path"])[len(start) :]]
            folders = {start + str(one["path"])[len(start) :].split("/")[0] for one in deep}
            shown: Any = [one for one in inside if one not in deep or "recursive=true" in self.path.lower()]
            shown += [{"type": "directory", "oid": f"{len(name):040x}", "size": 0, "path": name} for name in folders]
            if not inside:
                return self._missing(404, "EntryNotFound", with_body)
        elif what == "paths-info":
            form = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
            shown = [one for one in entries if one["path"] in form.get("paths", [])]
        else:
            shown = {
                "id": repository,
                "sha": COMMIT,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "lastModified": "2024-01-01T00:00:00.000Z",
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": name} for name in files],
            }
        return self._send(200, json.dumps(shown).encode(), with_body, {"Content-Type": "application/json"})

    def _model(self, repository: str, revision: str, with_body: bool) -> None:
        files = self.server.files.get(repository)
        if files is None:
            return self._missing(404 if "Authorization" in self.headers else 401, "RepoNotFound", with_body)
        if revision not in ("main", COMMIT):
            return self._missing(404, "RevisionNotFound", with_body)
        siblings: list[dict[str, Any]] = []
        for name, content in files.items():
            siblings.append({"rfilename": name, "size": len(content), "blobId": f"{len(name):040x}"})
            if _is_large(name):
                sha256 = hashlib.sha256(content).hexdigest()
                siblings[-1]["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        gated = "manual" if repository in self.server.gated else False
        own = {"id": repository.removeprefix("models/"), "sha": COMMIT, "private": False, "gated": gated}
        body = {**own, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
        return self._send(200, json.dumps(body).encode(), with_body, {"Content-Type": "application/json"})

    def _model_file(self, repository: str, name: str, with_body: bool) -> None:
        wanted = f"Bearer {self.server.token}"
        if repository in self.server.gated and self.headers.get("Authorization") != wanted:
            return self._missing(403 if "Authorization" in self.headers else 401, "GatedRepo", with_body)
        if not _is_large(name):
            return self._file(repository, name, with_body)
        elsewhere = f"http://localhost:{self.server.server_port}/large/{repository}@{name}"
        return self._send(302, b"", with_body, {"Location": elsewhere, "X-Repo-Commit": COMMIT})

    def _file(self, repository: str, name: str, with_body: bool) -> None:
        content = self.server.files.get(repository, {}).get(name)
        if content is None:
            return self._missing(404, "EntryNotFound", with_body)
        headers = {"ETag": f'"{len(content):040x}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status = 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        if with_body:
            self.server.given[name] = self.server.given.get(name, 0) + len(content)
        return self._send(status, content, with_body, headers)

    def _missing(self, status: int, code: str, with_body: bool) -> None:
        self._send(status, b'{"error": "not found"}', with_body, {"X-Error-Code": code, "X-Error-Message": "not found"})

    def _send(self, status: int, content: bytes, with_body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            with suppress(ConnectionError):  # whoever asked has given up
                for at in range(0, len(content), _PIECE):
                    if len(content) > _PIECE and not self.server.before_piece(self.path, at):
                        self.close_connection = True
                        return
                    self.wfile.write(content[at : at + _PIECE])


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", "tokenizer.json"))


@contextmanager
def serving(files: dict[str, dict[str, bytes]], token: str = "") -> Iterator[Hub]:
    hub = Hub(files, token)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
