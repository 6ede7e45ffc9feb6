from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from core.azureml import client, local_process
from core.azureml.access import check_access
from core.azureml.connection import Connection, connect
from core.azureml.local_process import ask_health, ensure_local
from core.azureml.reader import reader_for
from core.azureml.settings import local_settings
from core.errors import LocalWorkspaceDown, NotFound, ServiceRefused
from core.home import Home
from tests.local_server import running_server
from tests.waiting import wait_until


@pytest.fixture
def started(home: Home) -> Iterator[Home]:
    """A home whose server is ended by its own process id after the test."""
    yield home
    if pid := local_process.ask_health(home).get("pid"):
        os.kill(pid, signal.SIGTERM)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


def test_facts_say_who_and_where(conn: Connection) -> None:
    facts = conn.facts()
    assert (facts.name, facts.region, facts.tenant) == ("local", "local", "local")
    assert facts.tracking_url == conn.home.url()
    assert "core" in facts.machine
    assert "GPU" in facts.machine
    assert facts.token_valid_until is not None


def test_there_is_one_connection_per_workspace_and_making_it_sends_nothing(home: Home) -> None:
    first = connect(local_settings(), home=home)  # no server runs in this home: a request would fail
    assert connect(local_settings(), home=home) is first
    assert (first.title, first.costs_money) == ("Local", False)


def test_every_step_of_access_is_proved(conn: Connection) -> None:
    heard: list[str] = []
    lines = check_access(conn.settings, on_line=lambda line: heard.append(line.title))
    assert [line.state for line in lines] == ["ok"] * len(lines)
    assert heard == ["Sign-in", "Workspace", "Registry", "Compute", "Storage"]


def test_a_wrong_workspace_name_brings_the_closest_one(conn: Connection) -> None:
    wrong = connect(dataclasses.replace(conn.settings, workspace_name="locall"), home=conn.home)
    with pytest.raises(NotFound) as caught:
        wrong.facts()
    assert caught.value.message == "Workspace 'locall' was not found in resource group 'local'."
    assert caught.value.hint == "Check the name. Did you mean 'local'?"
    assert "status 404" in caught.value.detail


def test_access_to_a_wrong_workspace_stops_at_the_first_line_that_fails(conn: Connection) -> None:
    lines = check_access(dataclasses.replace(conn.settings, workspace_name="locall"))
    assert [line.state for line in lines] == ["ok", "failed", "skipped", "skipped", "skipped"]


def test_an_answer_that_is_an_error_is_raised_as_a_sentence(conn: Connection) -> None:
    with pytest.raises(ServiceRefused, match=r"does not know how to read the workspace \(501\)"):
        conn.http("GET", f"{conn.workspace_path}/nothingOfThisName")
    with pytest.raises(NotFound, match="Compute 'gpu-1' was not found in workspace 'local'"):
        conn.call("read", "compute 'gpu-1'", conn.workspace.compute.get, "gpu-1")


def test_a_mistake_of_our_own_is_not_dressed_up_as_the_services(conn: Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        conn.call("read", "x", lambda: 1 / 0)


def test_the_default_datastore_takes_and_gives_a_file(conn: Connection) -> None:
    blobs = conn.blobs()
    blobs.container.upload_blob("tests/hello.txt", b"hello", overwrite=True)
    assert blobs.container.download_blob("tests/hello.txt").readall() == b"hello"
    assert blobs.uri("tests/hello.txt") == f"azureml://datastores/{blobs.datastore}/paths/tests/hello.txt"


def test_a_workspace_that_ended_is_told_at_once_with_the_command_that_starts_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_server(tmp_path_factory.mktemp("home")) as own:
        conn = connect(local_settings(), home=own.home)
        assert conn.facts().region == "local"
        own.kill()
        client = conn.workspace
        begun = time.monotonic()
        with pytest.raises(LocalWorkspaceDown) as caught:
            conn.call("read", "computes", lambda: list(client.compute.list()))
        assert time.monotonic() - begun < 5
        address = f"127.0.0.1:{own.home.port()}"
        assert caught.value.message == f"The local workspace does not answer on {address}."
        assert caught.value.hint == "Start it: `python -m core.local serve`. Runs and data are kept."


def test_a_stopped_workspace_holds_one_thread_and_never_the_page(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 4 s: the time-out of a reading, once, which is 10 s otherwise."""
    monkeypatch.setitem(client.LOCAL_PATIENCE, "read_timeout", 4)
    with running_server(tmp_path_factory.mktemp("home")) as own:
        conn = connect(local_settings(), home=own.home)
        reader = reader_for(conn)
        assert reader.wait("facts", Connection.facts).value is not None
        os.kill(own.pid, signal.SIGSTOP)
        try:
            times: list[float] = []

            def is_told() -> bool:
                for number in range(10):
                    begun = time.perf_counter()
                    read = reader.read(f"key {number}", Connection.facts)
                    times.append(time.perf_counter() - begun)
                    if isinstance(read.error, LocalWorkspaceDown):
                        return True
                return False

            wait_until(is_told, "a read that timed out", every_s=0.05)
            assert max(times) < 3, "a read that waits waits for its time-out"
            kept = reader.read("facts", Connection.facts, max_age_s=0.1)
            assert kept.value is not None
            assert kept.value.region == "local"
            assert kept.age_s is not None
            assert kept.age_s > 4
        finally:
            os.kill(own.pid, signal.SIGCONT)
        wait_until(lambda: not reader.read("facts", Connection.facts, max_age_s=0.1).error, "a reader that recovers")
        wait_until(lambda: reader.read("key 9", Connection.facts).value, "another key of it")


def test_the_local_workspace_is_started_once_by_two_dashboards_at_once(started: Home) -> None:
    assert not ask_health(started)
    with ThreadPoolExecutor(2) as pool:
        settings = list(pool.map(lambda _: ensure_local(started), range(2)))
    assert settings == [local_settings()] * 2
    served = local_process.ask_health(started)
    assert ensure_local(started) == local_settings()
    assert local_process.ask_health(started)["pid"] == served["pid"]
    assert os.getsid(served["pid"]) != os.getsid(0)  # Ctrl-C in this terminal does not reach it


def test_another_program_on_the_homes_port_is_told_apart(home: Home) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Keep the test's output quiet."""

    other = HTTPServer(("127.0.0.1", home.port()), Handler)
    threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with pytest.raises(LocalWorkspaceDown, match=r"Something else answers on 127\.0\.0\.1"):
            ensure_local(home)
    finally:
        other.shutdown()
        other.server_close()


def test_what_is_remembered_is_made_once_however_many_threads_ask(conn: Connection) -> None:
    """Two books of writes under way would hide from one operation why its write failed."""

    def make() -> object:
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: conn.remember("writes of a test", make, 60.0), range(8)))
    assert len(set(found)) == 1
