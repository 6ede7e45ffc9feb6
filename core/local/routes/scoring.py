"""The gateway of an endpoint: checks the key, picks a deployment by its traffic and hands the request to its scorer.

Answers the gateway's errors as the service does: 401 wrong key, 404 no traffic, 408 over the request timeout, 424 when
the model answered an error, 429 with a time to wait when more requests wait than the deployment takes. An event stream
passes through as it comes; a client that goes away ends the generation, because the connection to the scorer is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import math
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from core.local.endpoints import traffic
from core.local.endpoints.resources import Deployment, Endpoint
from core.local.wire import answers
from core.local.wire.answers import MAX_BODY_BYTES
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

DEPLOYMENT_HEADER = "azureml-model-deployment"
READY_WAIT_S = 10.0
_PATHS = {"/score": "POST", "/v1/chat/completions": "POST", "/v1/models": "GET", "/": "GET"}
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_LAST_ANSWERS = 16
_CLIENT_WENT_AWAY = 499  # only in the count of requests, where nginx writes the same

_log = logging.getLogger(__name__)
_in_flight: Counter[str] = Counter()
_took: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LAST_ANSWERS))
"""Seconds that the last answers of each deployment took."""
_copies: set[asyncio.Task[None]] = set()  # held here, or a mirrored request could be garbage-collected


@dataclass
class Answer:
    """The head of a scorer's answer; `reader` gives the body."""

    status: int
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def streams(self) -> bool:
        """Tell whether the body comes piece by piece and must go on so."""
        return self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body as it comes, chunked or of a given length."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self.reader.readline()).split(b";")[0].strip() or b"0", 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            return
        left = int(self.headers.get("content-length", _MAX_ANSWER_BYTES))
        while left > 0 and (chunk := await self.reader.read(min(65_536, left))):
            left -= len(chunk)
            yield chunk


class Scoring(Response):
    """One request to a scorer and its answer; ended when the client goes away."""

    def __init__(self, workspace: Workspace, deployment: Deployment, request: Request, body: bytes, path: str) -> None:
        super().__init__()
        self._workspace, self._deployment = workspace, deployment
        self._request, self._sent, self._path = request, body, path
        self._timeout_s, self._limit = deployment.request_timeout_s, deployment.request_limit
        self._status = _CLIENT_WENT_AWAY

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it, and count it."""
        started = time.perf_counter()
        try:
            await self._serve(receive, send)
        except WireError as error:
            self._status = error.status
            raise
        finally:
            seconds = time.perf_counter() - started
            endpoint, name = self._deployment.endpoint, self._deployment.name
            self._workspace.request_log.add(endpoint, name, self._status, seconds * 1000)
            if self._status == 200:
                _took[self._deployment.key].append(seconds)

    async def _serve(self, receive: Receive, send: Send) -> None:
        with self._counted():
            work = asyncio.create_task(self._relay(send))
            gone = asyncio.create_task(_until_gone(receive))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
            finally:
                for task in (work, gone):
                    task.cancel()
                await asyncio.gather(work, gone, return_exceptions=True)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the request as in flight; raises 429 where the deployment takes no more, and says when it should."""
        key = self._deployment.key
        if _in_flight[key] >= self._limit:
            message = f"The deployment '{self._deployment.name}' has {self._limit} requests waiting already."
            took = statistics.median(_took[key] or [1.0])
            pause = math.ceil(took / self._limit)  # so often one of them ends
            raise WireError(429, "TooManyRequests", message, headers={"Retry-After": str(pause)})
        _in_flight[key] += 1
        try:
            yield
        finally:
            _in_flight[key] -= 1

    async def send_copy(self) -> None:
        """Send the request to a deployment that it is mirrored to; the answer is read and dropped."""
        try:
            with self._counted():
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._ask()
                    with contextlib.closing(answer.writer):
                        async for _ in answer.chunks():
                            pass
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, ValueError, WireError) as error:
            _log.info("a request mirrored to %s was not answered: %s", self._deployment.key, error)

    async def _relay(self, send: Send) -> None:
        started = time.perf_counter()
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask()
                body = None if answer.streams else b"".join([chunk async for chunk in answer.chunks()])
            headers = self._answer_headers(answer, started)
            if body is not None:
                self._status = 200 if answer.status == 200 else 424
                await Response(body, self._status, headers)(self._request.scope, _nothing, send)
                return
            self._status = 200
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError as error:
            message = f"The model did not answer within {self._timeout_s:g} s, the request timeout of the deployment."
            raise WireError(408, "RequestTimeout", message) from error
        except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
            if answer is not None and answer.streams:
                return  # the headers are out: the client sees the stream end without [DONE]
            raise self._model_error("The scorer ended while it answered.") from error
        finally:
            if answer is not None:
                answer.writer.close()

    async def _ask(self) -> Answer:
        port = await self._find_port()
        method = self._request.method
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = [
                f"{method} {self._path} HTTP/1.1",
                f"Host: 127.0.0.1:{port}",
                "Connection: close",
                "Accept: */*",
                f"X-Score-Secret: {self._deployment.secret}",
                "Content-Type: application/json",
                f"Content-Length: {len(self._sent)}",
            ]
            writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + self._sent)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            headers = {}
            while line := (await reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
        except BaseException as error:
            writer.close()
            if isinstance(error, IndexError):
                raise ConnectionError("the scorer closed the connection") from error
            raise
        return Answer(status, headers, reader, writer)

    async def _find_port(self) -> int:
        """Return the scorer's port, waiting a little for one that is being started again."""
        until = time.monotonic() + READY_WAIT_S
        while True:
            port = await run_in_threadpool(self._workspace.deployments.scorer_of(self._deployment).read_port)
            if port is not None:
                return port
            if time.monotonic() > until:
                raise self._model_error("The scorer is being started again.")
            await asyncio.sleep(0.1)
            self._deployment = await run_in_threadpool(Deployment.get, self._workspace.store, self._deployment.key)

    def _model_error(self, message: str) -> WireError:
        headers = {DEPLOYMENT_HEADER: self._deployment.name, **_error_headers(502)}
        return WireError(424, "ModelError", f"{message} Try again in a few seconds.", headers=headers)

    def _answer_headers(self, answer: Answer, started: float) -> dict[str, str]:
        failed = answer.status != 200
        return {
            DEPLOYMENT_HEADER: self._deployment.name,
            "content-type": answer.headers.get("content-type", "application/json"),
            "x-ms-run-fn-exec-ms": f"{(time.perf_counter() - started) * 1000:.3f}",
            "x-ms-run-function-failed": str(failed),
            "cache-control": "no-store",
            **(_error_headers(answer.status) if failed else {}),
        }


def _error_headers(status: int) -> dict[str, str]:
    return {"ms-azureml-model-error-statuscode": str(status), "ms-azureml-model-error-reason": "model_error"}


async def score(request: Request) -> Response:
    """Serve `/endpoints/<endpoint>/…`."""
    workspace = workspace_of(request)
    name = str(request.path_params["endpoint"])
    path = request.scope["path"][len(f"/endpoints/{name}") :].lower() or "/"
    deployment, mirror = await run_in_threadpool(_choose, workspace, name, request)
    body = await _read(request)
    answers.check_characters(body)
    if mirror is not None:
        copy = asyncio.create_task(Scoring(workspace, mirror, request, body, path).send_copy())
        _copies.add(copy)
        copy.add_done_callback(_copies.discard)
    return Scoring(workspace, deployment, request, body, path)


async def _read(request: Request) -> bytes:
    body = bytearray()
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise WireError(413, "RequestTooLarge", f"The request is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _choose(workspace: Workspace, name: str, request: Request) -> tuple[Deployment, Deployment | None]:
    """Check the key, then return the deployment that the header names or that the traffic draws, and its mirror."""
    endpoint = Endpoint.find(workspace.store, name) if answers.check_name("an endpoint", name) else None
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    keys = endpoint.keys.values() if endpoint else ["-"]
    fits = [hmac.compare_digest(key.strip().encode(), each.encode()) for each in keys]
    if scheme.lower() != "bearer" or not any(fits):
        # The same answer for an endpoint that is not there: without a key nobody learns the names.
        raise WireError(401, "key_auth_access_denied", "The key is missing or is not one of this endpoint's.")
    assert endpoint is not None
    wanted, mirrored = request.headers.get(DEPLOYMENT_HEADER), None
    if not wanted:
        wanted, mirrored = traffic.choose(endpoint), traffic.choose_mirror(endpoint)
        if wanted is None:
            raise WireError(404, "NoTraffic", f"No deployment of '{name}' receives traffic.")
    deployment = _find_answering(workspace, name, wanted)
    if deployment is None:
        raise WireError(404, "DeploymentNotFound", f"'{name}' has no deployment '{wanted}' that can answer.")
    return deployment, _find_answering(workspace, name, mirrored) if mirrored else None


def _find_answering(workspace: Workspace, endpoint: str, name: str) -> Deployment | None:
    deployment = Deployment.find(workspace.store, f"{endpoint}/{name}")
    return deployment if deployment and deployment.can_answer else None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> dict[str, str]:
    return {"type": "http.disconnect"}


ROUTES = [Route(f"/endpoints/{{endpoint}}{path}", score, methods=[method]) for path, method in _PATHS.items()]
