"""A small world for operations: a real local workspace, two homes, a hand on every write of the ledger and every send.

The workspace serves from a thread of this process, with programs of a few lines, so that a test can decide what becomes
of each request that changes something. Operations are carried out by the real Runner, one step of one thread at a time:
a thread stands still before and after each write of the ledger until it is let go on, or ended there as by a kill.
Nothing waits for time: what an operation waits for are looks, and a look is taken when the test says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.home import Home
from core.local import server
from core.local.endpoints.deployments import Deployments
from core.local.jobs.runner import Runner as Trainer
from core.local.wire.connections import KnownConnection, drop_connection
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.runner import Runner
from tests.core.local.trivial_server import trivial_program
from tests.core.operations.counting_server import _nowhere, _once, _read_all
from tests.waiting import wait_until

WRITES = ("PUT", "DELETE", "PATCH", "POST")
HELD_LOOKS = 5  # a request on its way arrives sooner than an operation takes it for lost
ENDED = ("Completed", "Failed", "Canceled")
_JOB = re.compile(r"/workspaces/[^/]+/jobs/([^/]+)$")
_THING = re.compile(r"/workspaces/[^/]+/(onlineEndpoints|computes)/([^/]+)(/deployments/[^/]+)?$")


class Killed(BaseException):
    """What ends a thread where it stands."""


@dataclass
class Arrival:
    """A write that the workspace carried out. made: the thing was not there; heard: its sender got the answer."""

    method: str
    path: str
    body: dict[str, Any]
    made: bool
    heard: bool

    @property
    def operation(self) -> str:
        told = self.body.get("tags") or (self.body.get("properties") or {}).get("tags") or {}
        return str(told.get("tunedeck.operation", ""))


class Wire:
    """Between clients and the workspace: carries out, loses, or holds back each write, and keeps what arrived."""

    def __init__(self, app: Any, world: World) -> None:
        self._app, self._world = app, world

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in WRITES or not self._world.is_watched(scope["path"]):
            await self._app(scope, receive, send)
            return
        body, fate = await _read_all(receive), self._world.take_fate()
        if fate == "lost request":
            drop_connection(scope)
        elif fate == "held":
            self._world.held.append([HELD_LOOKS, partial(self._carry_out, scope, body, None)])
            drop_connection(scope)
        else:
            await self._carry_out(scope, body, None if fate == "lost answer" else send)
            if fate == "lost answer":
                drop_connection(scope)

    async def _carry_out(self, scope: Any, body: bytes, send: Any) -> None:
        status: list[int] = []

        async def watch(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await (send or _nowhere)(message)

        absent = not self._world.exists(scope["path"])
        await self._app(scope, _once(body), watch)
        if status and status[0] < 300:
            told = json.loads(body) if body else {}
            self._world.arrived.append(Arrival(scope["method"], scope["path"], told, absent, send is not None))


@dataclass
class Seat:
    """One home: its ledger, the fence and the threads of who works for it now."""

    home: Home
    world: World
    fence: int = 0
    runner: Runner | None = None
    actors: dict[str, Actor] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home)

    @property
    def conn(self) -> Connection:
        return connect(local_settings(), home=self.home)

    @contextmanager
    def sitting(self) -> Iterator[None]:
        """Make this home the process's own for the block."""
        before = os.environ.get("TUNEDECK_HOME")
        os.environ["TUNEDECK_HOME"] = str(self.home.path)
        try:
            yield
        finally:
            os.environ["TUNEDECK_HOME"] = before or ""

    def begin(self) -> None:
        """A dashboard starts: it takes the lease over from whoever has it, and knows nothing but the ledger."""
        fence = self.ledger.take_lease(os.getpid(), secrets.token_hex(4), 60.0, holder_lives=False)
        assert fence
        self.fence, self.actors = fence, {}
        self.runner = Runner(self.home, PausingLedger(self.home, self))

    def kill(self) -> None:
        """kill -9 of the dashboard, and its next start."""
        for actor in list(self.actors.values()):
            actor.end()
        self.begin()

    def take_over(self) -> None:
        """The dashboard stands still as a laptop that sleeps; another takes over, and the first wakes up again."""
        asleep = list(self.actors.values())
        self.begin()
        for actor in asleep:
            actor.go_on(to_the_end=True)

    def look(self, operation: Operation, pauses: int | None = None) -> None:
        """Carry an operation on: over so many of its pauses, or until it waits."""
        actor = self.actors.get(operation.id)
        if actor is None:
            actor = self.actors[operation.id] = Actor(self, self.ledger.get(operation.id))
        for _ in range(pauses if pauses is not None else 1):
            if actor.go_on(to_the_end=pauses is None):
                self.actors.pop(operation.id, None)
                break
        self.world.let_held_arrive()


class Actor:
    """A thread that carries one operation on, standing still at each write of the ledger."""

    def __init__(self, seat: Seat, operation: Operation) -> None:
        self._seat, self._operation = seat, operation
        self._may_go, self._stands = threading.Event(), threading.Event()
        self._dies = self._runs_through = self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def go_on(self, to_the_end: bool = False) -> bool:
        """Let it run to its next pause; True once it is over."""
        self._runs_through = to_the_end
        self._stands.clear()
        with self._seat.sitting():
            if self._thread.ident is None:
                self._thread.start()
            self._may_go.set()
            assert self._stands.wait(60), f"{self._operation.title} neither ends nor pauses"
        return self._over

    def end(self) -> None:
        """End it where it stands, as a kill would."""
        if not self._over and self._thread.ident is not None:
            self._dies = True
            self.go_on()
        self._over = True

    def pause(self) -> None:
        if threading.current_thread() is not self._thread or self._runs_through:
            return
        self._may_go.clear()
        self._stands.set()
        assert self._may_go.wait(60)
        if self._dies:
            raise Killed

    def _run(self) -> None:
        self._may_go.wait(60)
        assert self._seat.runner is not None
        try:
            self._seat.runner.advance(self._operation, self._seat.fence)
        except Killed:
            pass
        finally:
            self._over = True
            self._stands.set()


class PausingLedger(Ledger):
    """The ledger of a home, whose runner stands still before and after each write."""

    def __init__(self, home: Home, seat: Seat) -> None:
        super().__init__(home)
        self._seat = seat

    def save(self, operation: Operation, fence: int, waits: bool = False) -> Operation:
        self._pause(operation)
        saved = super().save(operation, fence, waits)
        self._pause(operation)
        return saved

    def _pause(self, operation: Operation) -> None:
        if actor := self._seat.actors.get(operation.id):
            actor.pause()


class World:
    """The workspace and its two homes."""

    def __init__(self, folder: Path, base_models: Path) -> None:
        self.arrived: list[Arrival] = []
        self.fates: list[str] = []
        self.held: list[list[Any]] = []
        self.watched = False
        host = Home(folder / "first").create()
        guest = Home(folder / "second").create()
        (guest.path / "address.json").write_text(json.dumps({"port": host.port()}), encoding="utf-8")
        host.secret()
        (guest.path / "secret").write_bytes((host.path / "secret").read_bytes())
        self.seats = (Seat(host, self), Seat(guest, self))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "Runner", partial(Trainer, program=trivial_program))
            patch.setattr(server, "Deployments", partial(Deployments, program=trivial_program))
            app = server.create_app(host, host.port())
        self.workspace = app.state.workspace
        app.add_middleware(Wire, world=self)
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=host.port(),
            http=KnownConnection,
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> World:
        self._thread.start()
        wait_until(lambda: self._server.started)
        for seat in self.seats:
            seat.begin()
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def is_watched(self, path: str) -> bool:
        return self.watched and bool(_JOB.search(path) or _THING.search(path))

    def exists(self, path: str) -> bool:
        store = self.workspace.store
        if job := _JOB.search(path):
            return store.get("job", job[1]) is not None
        found = _THING.search(path)
        assert found
        if found[3]:
            return store.get("deployment", f"{found[2]}/{found[3].rsplit('/', 1)[1]}") is not None
        return store.get("endpoint" if found[1] == "onlineEndpoints" else "compute", found[2]) is not None

    def take_fate(self) -> str:
        return self.fates.pop(0) if self.fates else ""

    def let_held_arrive(self, all_of_them: bool = False) -> None:
        """Count a look for what is held back on its way; what has been for long arrives."""
        for each in list(self.held):
            each[0] -= 1
            if each[0] <= 0 or all_of_them:
                self.held.remove(each)
                assert self._loop is not None
                asyncio.run_coroutine_threadsafe(each[1](), self._loop).result(30)

    def rests(self) -> bool:
        """Tell whether nothing in the workspace changes by itself."""
        store = self.workspace.store
        moving = [
            each
            for kind in ("endpoint", "deployment", "compute")
            for each in store.list(kind)
            if each.get("state") not in ("Succeeded", "Failed")
        ]
        return not moving and all(each.get("status", ENDED[0]) in ENDED for each in store.list("job"))

    def is_gone(self, kind: str, name: str) -> bool:
        return self.workspace.store.get(kind, name) is None

    def wait_a_moment(self) -> None:
        """Let the workspace's programs run: starting one takes real time, which is nobody's to set."""
        if not self.rests():
            time.sleep(0.05)

    def puts_of(self, job: str) -> list[Arrival]:
        return [each for each in self.arrived if each.method == "PUT" and each.path.endswith(f"/jobs/{job}")]

    def made(self) -> Counter[tuple[str, str]]:
        """Count how often each operation made each thing whose making was confirmed before."""
        return Counter(
            (each.operation, each.path) for each in self.arrived if each.method == "PUT" and each.made and each.heard
        )

    def _serve(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve()

        asyncio.run(serve())
