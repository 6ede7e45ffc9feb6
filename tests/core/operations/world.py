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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn

from core.azureml import tags
from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.errors import TunedeckError
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
        send = self._dated(send)
        if scope["type"] != "http" or scope["method"] not in WRITES or not self._world.is_watched(scope["path"]):
            await self._app(scope, receive, send)
            return
        body, fate = await _read_all(receive), self._world.take_fate()
        if scope["method"] == "DELETE":
            self._world.judge_deletion(scope["path"])
            await self._world.meet(scope["path"])
        if scope["method"] in ("PATCH", "PUT") and self._world.races and self._world.find(scope["path"]):
            self._world.races -= 1
            await self._carry_out_after_another(scope, body, send)
            return
        if fate == "lost request":
            drop_connection(scope)
        elif fate == "held":
            self._world.held.append([HELD_LOOKS, partial(self._carry_out, scope, body, None)])
            drop_connection(scope)
        else:
            await self._carry_out(scope, body, None if fate == "lost answer" else send)
            if fate == "lost answer":
                drop_connection(scope)

    def _dated(self, send: Any) -> Any:
        """Let each answer say what time the workspace has."""

        async def dated(message: Any) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._world.now, usegmt=True).encode()
                message["headers"] = [*message.get("headers", []), (b"date", date)]
            await send(message)

        return dated

    async def _carry_out_after_another(self, scope: Any, body: bytes, send: Any) -> None:
        """Let a colleague change an endpoint's traffic, or delete a compute, while a write is on its way.

        The traffic has to stay changed.
        """
        name = scope["path"].rsplit("/", 1)[1]
        if scope["method"] == "PUT":
            await asyncio.to_thread(self._world.delete_compute, name)
            self._world.counted["clusters deleted on the way"] += 1
            await self._carry_out(scope, body, send, revives=True)
            return
        traffic = await asyncio.to_thread(self._world.change_traffic, name)
        self._world.counted["traffic changed on the way"] += bool(traffic)
        await self._carry_out(scope, body, send)
        endpoint = self._world.workspace.store.get("endpoint", name)
        if traffic is not None and endpoint is not None and endpoint["traffic"] != traffic:
            self._world.wrong.append(f"the traffic of {name} is {endpoint['traffic']}, and was set to {traffic}")

    async def _carry_out(self, scope: Any, body: bytes, send: Any, revives: bool = False) -> None:
        """Let the workspace answer. revives: whether it makes anew what somebody deleted on the way, which it says."""
        status: list[int] = []

        async def watch(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await (send or _nowhere)(message)

        absent = not revives and not self._world.exists(scope["path"])
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

    def actor_of(self, operation: Operation) -> Actor:
        """Return who carries an operation on."""
        if operation.id not in self.actors:
            self.actors[operation.id] = Actor(self, self.ledger.get(operation.id))
        return self.actors[operation.id]

    def look(self, operation: Operation, pauses: int | None = None) -> None:
        """Carry an operation on: over so many of its pauses, or until it waits."""
        actor = self.actor_of(operation)
        self.world.acting = operation
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

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self._over

    def go_on(self, to_the_end: bool = False, sits: bool = False) -> bool:
        """Let it run to its next pause; True once it is over. sits: its home is the process's own already."""
        self._runs_through = to_the_end
        self._stands.clear()
        with nullcontext() if sits else self._seat.sitting():
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
        self.ahead = timedelta()  # of the workspace's clock before this machine's
        self.races = 0  # how many writes of tags a colleague's change comes before
        self.wrong: list[str] = []  # what must not have happened
        self.copies: set[tuple[str, str, str]] = set()  # kind, name and creation time of what has another's tags
        self.acting: Operation | None = None
        self.asked: dict[tuple[str, str], list[datetime]] = {}  # when the end of each thing was asked for
        self.counted: Counter[str] = Counter()  # what befell, over all histories
        self._meeting: asyncio.Event | None = None
        self._met = 0
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
            date_header=False,
            timeout_keep_alive=300,  # nobody is cut off because the machine is busy
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

    def begin_history(self) -> None:
        """Forget what was the last history's."""
        for of in (self.arrived, self.fates, self.wrong, self.copies, self.asked):
            of.clear()
        self.races = 0

    @property
    def now(self) -> datetime:
        """The workspace's time."""
        return datetime.now(UTC) + self.ahead

    def find(self, path: str) -> tuple[str, str, dict[str, Any]] | None:
        """Return kind, name and document of an endpoint or a compute; None for what else a path names."""
        found = _THING.search(path)
        if not found or found[3]:
            return None
        kind = "endpoint" if found[1] == "onlineEndpoints" else "compute"
        document = self.workspace.store.get(kind, found[2])
        return (kind, found[2], document) if document else None

    def judge_deletion(self, path: str) -> None:
        """Note where something is about to be deleted that nobody wants deleted: neither its own tags nor a click."""
        found, operation = self.find(path), self.acting
        if not found or operation is None or found[2].get("state") == "Deleting":
            return
        kind, name, document = found
        self.asked.setdefault((kind, name), []).append(self.now.replace(microsecond=0))
        if operation.kind == "expire":
            self.counted["deletions of what was due"] += 1
            until = document["tags"].get(tags.DELETE_AT, "")
            copied = (kind, name, document["created_at"]) in self.copies
            if copied or not until or datetime.fromisoformat(until) > self.now:
                self.wrong.append(f"{path} goes by itself: copied {copied}, delete-at '{until}', now {self.now}")
        elif f"{kind}:{name}" not in {item.key for item in getattr(operation.change, "items", ())}:
            self.wrong.append(f"{operation.title} deletes {path}")

    async def meet(self, path: str) -> None:
        """Hold a deletion back until another is there too, where two are to meet."""
        if self._meeting is None:
            return
        self._met += 1
        if self._met == 2:
            self._meeting.set()
        await asyncio.wait_for(self._meeting.wait(), 30)

    def carry_on_at_once(self, pairs: Sequence[tuple[Seat, Operation]]) -> int:
        """Carry operations of several homes on at the same moment; their deletions wait for each other on the way.

        Return how many of these met.
        """
        self.acting, self._meeting, self._met = pairs[0][1], asyncio.Event(), 0
        threads = [
            threading.Thread(target=seat.actor_of(each).go_on, kwargs={"to_the_end": True, "sits": True})
            for seat, each in pairs
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: self._met >= 2 or self._met == sum(thread.is_alive() for thread in threads))
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._meeting.set)
        for thread in threads:
            thread.join(60)
        self._meeting = None
        for seat, each in pairs:
            if seat.actors[each.id].over:
                del seat.actors[each.id]
        return self._met

    @contextmanager
    def colleague(self) -> Iterator[Connection]:
        """Work as somebody else in the portal, whose writes are not watched."""
        watched, self.watched = self.watched, False
        try:
            yield self.seats[0].conn
        finally:
            self.watched = watched

    def delete_compute(self, name: str) -> None:
        """Delete a compute, as a colleague does, and see it gone."""
        with self.colleague() as conn:
            conn.http("DELETE", f"{conn.workspace_path}/computes/{name}", params={"api-version": "2024-10-01"})
        wait_until(lambda: self.is_gone("compute", name))

    def change_traffic(self, endpoint: str) -> dict[str, int] | None:
        """Send the traffic of an endpoint elsewhere, as a colleague does; None where it cannot be changed now."""
        with self.colleague() as conn:
            path, params = f"{conn.workspace_path}/onlineEndpoints/{endpoint}", {"api-version": "2024-10-01"}
            body = conn.http("GET", path, params=params).json()
            shares = body["properties"]["traffic"] or dict.fromkeys(self.list_deployments(endpoint), 0)
            traffic = {name: 100 - share for name, share in shares.items()}
            kept = {name: body[name] for name in ("location", "identity", "tags")}
            properties = {"authMode": "Key", "traffic": traffic, "description": "sent elsewhere"}
            try:
                conn.http("PUT", path, params=params, json={**kept, "properties": properties})
            except TunedeckError:
                return None
            return traffic

    def list_deployments(self, endpoint: str) -> list[str]:
        """Return the names of an endpoint's deployments."""
        return [each["name"] for each in self.workspace.store.list("deployment", parent=endpoint)]

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

    def list_scorers(self) -> list[str]:
        """Return the command lines of the programs that serve an endpoint."""
        folder, programs = str(self.workspace.home.deployments), []
        for pid in psutil.pids():  # `process_iter` is not for two threads, and the workspace measures in its own
            with suppress(psutil.Error):
                programs.append(" ".join(psutil.Process(pid).cmdline()))
        return [program for program in programs if folder in program]

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
