"""kill -9 of the server at random moments: right ends, no orphan, no metric lost, no second run.

Each round submits a job, kills the server some moments later (sometimes the trainer or its shim too), starts it again
and holds what the store says against what the trainer wrote. Rounds and seed: tests/soak.py.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from core.local import processes, shim
from core.local.jobs import runs
from core.local.jobs.job import COMMAND_STEP
from tests.core.local.submitting import TERMINAL, command_body, job_of, metric_of, wait_for
from tests.local_server import LocalServer
from tests.soak import Soak
from tests.waiting import wait_until

SERVER = "tests.core.local.trivial_server"
# What else happens beside the kill of the server: share of rounds, then the ends that are right.
EVENTS = {
    "nothing": ("Completed",),
    "crash": ("Failed",),
    "cancel": ("Canceled",),
    "kill trainer": ("Failed", "Completed"),
    "kill shim": ("Failed", "Completed"),
}


@pytest.fixture
def server(own_server: LocalServer) -> Iterator[LocalServer]:
    yield own_server
    # A second shim of an attempt, launched by the server after the kill, sees within seconds that it is not needed.
    wait_until(lambda: not any(processes.is_alive(lock.parent) for lock in own_server.home.runs.rglob(shim.LOCK_NAME)))


def written_by(server: LocalServer, name: str) -> list[int]:
    path = server.home.runs / name / COMMAND_STEP / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def starts_of(server: LocalServer, name: str) -> int:
    log = server.home.runs / name / COMMAND_STEP / runs.LOG_NAME
    return log.read_text().count("trains in") if log.exists() else 0


def processes_of(server: LocalServer) -> list[str]:
    """Return the command lines of every process that names this home, but the server's."""
    listed = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != server.pid:
            try:
                with (
                    (entry / "environ").open("rb") as environ,
                    (entry / "cmdline").open("rb") as line,
                ):
                    if f"TUNEDECK_STEP_FOLDER={server.home.path}".encode() in environ.read():
                        listed.append(line.read().decode().replace("\0", " "))
            except OSError:
                continue
    return listed


def put(server: LocalServer, name: str, body: dict[str, object]) -> None:
    """Send the PUT until it is answered: what a client does that was cut off and knows its job's name."""

    def answered() -> bool:
        try:
            return server.request("PUT", f"jobs/{name}", json=body).status_code in (200, 201)
        except requests.RequestException:
            return False

    wait_until(answered)


def put_and_cut(server: LocalServer, name: str, body: dict[str, object], after_s: float) -> None:
    """Kill the server while it may be at work on the PUT; whether it was recorded is then unknown."""
    cut = threading.Timer(after_s, server.kill)
    cut.start()
    with contextlib.suppress(requests.RequestException):
        server.request("PUT", f"jobs/{name}", json=body)
    cut.join()
    server.start()


def play(server: LocalServer, name: str, event: str, chance: random.Random) -> None:
    """One round: submit, let `event` and the kill of the server happen in a random order and moment, serve again."""
    steps = chance.randint(5, 40)
    body = command_body(
        f"--steps {steps} --pause {chance.choice((0.0, 0.01, 0.03))}" + " --crash exit" * (event == "crash")
    )
    if chance.random() < 0.4:
        put_and_cut(server, name, body, chance.random() * 0.02)
    put(server, name, body)
    folder = server.home.runs / name / COMMAND_STEP
    if chance.random() < 0.5:
        time.sleep(chance.random() * 0.5)
    if event == "cancel":
        server.request("POST", f"jobs/{name}/cancel")
    for _ in range(chance.randint(1, 2)):
        time.sleep(chance.random() * 0.2)
        server.kill()
        if event.startswith("kill "):
            record = processes._read_json(folder / shim.PROCESS_NAME)
            which = ("child_pid", "child_start_time") if event == "kill trainer" else ("pid", "start_time")
            processes._signal(record.get(which[0]), record.get(which[1]), signal.SIGKILL)
        server.start()
    put(server, name, body)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_whatever_moment_the_server_is_killed_at_nothing_is_lost(server: LocalServer) -> None:
    """A round for each event, of about two seconds."""
    with Soak("server-kills", quick=5, long=100, what="kill -9 of server, trainer and shim of a command") as soak:
        for number, chance in soak.rounds():
            event = list(EVENTS)[number % len(EVENTS)]
            name = f"round-{number}"
            where = f"seed {soak.seed}, round {number}, {event}"
            play(server, name, event, chance)
            job = wait_for(server, name, *TERMINAL, seconds=40)
            expected = EVENTS[event] + (("Completed",) if event == "cancel" else ())
            assert job["status"] in expected, where
            assert starts_of(server, name) <= 1, where
            assert [step for step, _ in metric_of(server, name)] == written_by(server, name), where
            if job["status"] == "Completed":
                assert len(written_by(server, name)) == len(set(written_by(server, name))) > 0, where
            wait_until(lambda: processes_of(server) == [])  # as in the fixture above
            soak.add(f"rounds with {event}")


def test_a_server_that_returns_adopts_the_trainer_it_finds(server: LocalServer) -> None:
    put(server, "adopted", command_body("--steps 100 --pause 0.02"))
    wait_for(server, "adopted", "Running")
    wait_until(lambda: metric_of(server, "adopted"))
    server.kill()
    child = processes._read_json(server.home.runs / "adopted" / COMMAND_STEP / shim.PROCESS_NAME)["child_pid"]
    measured = server.home.runs / "adopted" / COMMAND_STEP / "metrics.jsonl"
    before = measured.stat().st_size
    wait_until(lambda: measured.stat().st_size > before, "measures of a trainer that goes on without a server")
    assert shim.start_time_of(child)
    server.start()
    assert wait_for(server, "adopted", "Running", *TERMINAL)["status"] in ("Running", "Completed")
    assert wait_for(server, "adopted")["status"] == "Completed"
    assert [step for step, _ in metric_of(server, "adopted")] == list(range(1, 101))


def test_a_trainer_that_ended_while_no_server_lived_is_read_from_its_folder(server: LocalServer) -> None:
    put(server, "alone", command_body("--steps 20 --pause 0.02 --crash exit"))
    wait_for(server, "alone", "Running")
    server.kill()
    wait_until(lambda: not processes.is_alive(server.home.runs / "alone" / COMMAND_STEP))
    server.start()
    assert wait_for(server, "alone")["status"] == "Failed"
    assert len(metric_of(server, "alone")) == 20


def test_a_cancel_that_a_kill_cut_short_is_finished(server: LocalServer) -> None:
    """A deaf trainer: the grace runs out after the new server has begun."""
    put(server, "half", command_body("--steps 5000 --deaf"))
    wait_until(lambda: metric_of(server, "half"))
    server.request("POST", "jobs/half/cancel")
    server.kill()
    server.start()
    assert job_of(server, "half")["status"] == "CancelRequested"
    assert wait_for(server, "half", seconds=15)["status"] == "Canceled"
    assert processes_of(server) == []
