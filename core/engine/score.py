"""A deployment: one tuned model behind HTTP, in Azure's scoring form and in OpenAI's, streamed token by token.

Bound to this machine only and behind a secret: the local workspace stands before it with the endpoint's key. Run as
`python -m core.engine.score --model DIR --folder DIR`; SCORE_SECRET in the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from core.engine.import_model import find_weights_folder
from core.engine.step import write_json

if TYPE_CHECKING:
    from core.engine.generation import Answer, ChatModel
    from core.engine.score_request import ChatRequest

SECRET_HEADER = "X-Score-Secret"
LARGEST_REQUEST = 4 << 20
LOOK_FOR_DISCONNECT_EVERY_S = 0.2


class Scorer:
    """The web side of one model."""

    def __init__(self, chat: ChatModel, name: str, secret: str) -> None:
        self.chat, self.name, self.secret = chat, name, secret

    def create_app(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/", self.health),
            Route("/score", self._guarded(self.score), methods=["POST"]),
            Route("/v1/chat/completions", self._guarded(self.complete), methods=["POST"]),
            Route("/v1/models", self._guarded(self.models)),
        ]
        return Starlette(routes=routes)

    async def health(self, _request: Request) -> Response:
        """Answer a probe."""
        return PlainTextResponse("healthy")

    async def models(self, _request: Request) -> Response:
        """Name the model, as OpenAI's clients ask."""
        return JSONResponse({"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "local"}]})

    async def score(self, request: Request, body: Any) -> Response:
        """Answer Azure's form."""
        from core.engine.score_request import read_score_request

        identity, answer = f"score-{uuid.uuid4().hex}", await self._answer(request, read_score_request(body))
        message = {"role": "assistant", "content": answer.text}
        facts = {"output": answer.text, "message": message, "finish_reason": answer.finish_reason}
        return JSONResponse({**facts, "usage": _usage(answer), "model": self.name, "id": identity})

    async def complete(self, request: Request, body: Any) -> Response:
        """Answer OpenAI's form, whole or streamed."""
        from core.engine.score_request import read_chat_request

        asked = read_chat_request(body)
        identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.name}
        if asked.stream:
            prompt = self._check_prompt(asked)
            return StreamingResponse(self._stream(asked, prompt, identity), media_type="text/event-stream")
        answer = await self._answer(request, asked)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
        return JSONResponse({**identity, "object": "chat.completion", "choices": [choice], "usage": _usage(answer)})

    async def _answer(self, request: Request, asked: ChatRequest) -> Answer:
        """Generate a whole answer, and stop when the one who asked has gone."""
        prompt, stopped = self._check_prompt(asked), threading.Event()
        work = self._start(asked, prompt, lambda _piece: None, stopped)
        try:
            while not (await asyncio.wait({work}, timeout=LOOK_FOR_DISCONNECT_EVERY_S))[0]:
                if await request.is_disconnected():
                    stopped.set()
            return work.result()
        finally:
            stopped.set()

    async def _stream(self, asked: ChatRequest, prompt: list[int], identity: dict[str, Any]) -> AsyncIterator[str]:
        """Yield server-sent events; closing the stream stops the generation."""
        stopped, loop = threading.Event(), asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def emit(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        work = self._start(asked, prompt, emit, stopped)
        work.add_done_callback(lambda _done: pieces.put_nowait(None))
        try:
            yield _event(identity, {"role": "assistant", "content": ""})
            while (piece := await pieces.get()) is not None:
                yield _event(identity, {"content": piece})
            answer = work.result()
            yield _event(identity, {}, answer.finish_reason, _usage(answer))
            yield "data: [DONE]\n\n"
        finally:
            stopped.set()

    def _start(
        self, asked: ChatRequest, prompt: list[int], emit: Callable[[str], None], stopped: threading.Event
    ) -> asyncio.Future[Answer]:
        """Have it answered, and write a line about that when it is."""
        started = time.perf_counter()

        def note(done: Future[Answer]) -> None:
            if not done.cancelled() and done.exception() is None:
                answer, seconds = done.result(), time.perf_counter() - started
                print(
                    f"{time.strftime('%H:%M:%S')} {answer.prompt_tokens} tokens read, {answer.kept_tokens} of them "
                    f"kept, {answer.completion_tokens} written in {seconds:.1f} s ({answer.finish_reason})",
                    flush=True,
                )

        work = self.chat.start(prompt, asked.sampling, emit, stopped)
        work.add_done_callback(note)
        return asyncio.wrap_future(work)

    def _check_prompt(self, asked: ChatRequest) -> list[int]:
        from core.engine.chat_template import BadConversation
        from core.engine.score_request import BadRequest

        try:
            prompt = self.chat.tokens.encode_prompt(asked.messages)
        except BadConversation as error:
            raise BadRequest(str(error), 400) from error
        if len(prompt) >= self.chat.tokens.context_length:
            raise BadRequest(
                f"The conversation is {len(prompt):,} tokens long; the model reads at most "
                f"{self.chat.tokens.context_length:,}, its answer included.",
                400,
            )
        return prompt

    def _guarded(self, handler: Callable[..., Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler: secret, size and JSON of the request, and errors as OpenAI's clients read them."""

        async def guarded(request: Request) -> Response:
            from core.engine.score_request import BadRequest

            if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self.secret.encode()):
                return _error(401, "This deployment is reached through its endpoint, with the endpoint's key.")
            if request.method == "GET":
                return await handler(request)
            try:
                return await handler(request, await _read_json(request))
            except BadRequest as error:
                return _error(error.status, error.message)

        return guarded


async def _read_json(request: Request) -> Any:
    from core.engine.score_request import BadRequest

    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_REQUEST:
            raise BadRequest(f"The request is larger than {LARGEST_REQUEST >> 20} MiB.", 413)
    try:
        return json.loads(bytes(body))
    except ValueError as error:
        raise BadRequest(f"The request is not valid JSON: {error}.", 400) from error


def _event(
    identity: dict[str, Any],
    delta: dict[str, str],
    finish_reason: str | None = None,
    usage: dict[str, Any] | None = None,
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {**identity, "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(body if usage is None else {**body, 'usage': usage}, ensure_ascii=False)}\n\n"


def _usage(answer: Answer) -> dict[str, Any]:
    total = answer.prompt_tokens + answer.completion_tokens
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": answer.kept_tokens},
    }


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": status}}, status)


def serve(folder: Path, model_dir: Path, name: str, cores: int, instances: int, secret: str) -> None:
    """Load the model, then answer until this process is stopped; ready.json appears when requests are answered."""
    import uvicorn

    from core.engine.chat_template import BadConversation
    from core.engine.generation import ROWS_AT_ONCE, load_chat_model

    os.environ["HF_HUB_OFFLINE"] = "1"
    started = time.perf_counter()
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    try:
        chat = load_chat_model(find_weights_folder(model_dir), cores * instances, ROWS_AT_ONCE * instances)
    except BadConversation as error:
        sys.exit(f"ERROR {error}")
    print(f"{name}: loaded in {time.perf_counter() - started:.1f} s, {chat.words}.", flush=True)
    with closing(chat), socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            Scorer(chat, name, secret).create_app(),
            http="h11",  # refuses a head without end, before there is a secret to look at
            log_level="warning",
            access_log=False,  # probes come every few seconds; answers write a line of their own
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        write_json(ready, {"port": port, "pid": os.getpid()})
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Read the command line of a deployment."""
    parser = argparse.ArgumentParser(prog="python -m core.engine.score", description="Serve a tuned model.")
    parser.add_argument(
        "--model", type=Path, required=True, help="a Hugging Face folder, or an MLflow model with one in it"
    )
    parser.add_argument("--folder", type=Path, required=True, help="where ready.json is written")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--instances", type=int, default=1, help="each with so many cores, and answers of its own")
    parser.add_argument("--name", default="", help="what the model is called in answers")
    options = parser.parse_args()
    secret = os.environ.pop("SCORE_SECRET", "")
    if not secret:
        sys.exit("SCORE_SECRET is not set: a deployment is never served without a secret.")
    options.folder.mkdir(parents=True, exist_ok=True)
    name = options.name or options.model.resolve().name
    serve(options.folder, options.model, name, options.cores, options.instances, secret)


if __name__ == "__main__":
    main()
