"""The server as a process: one per home, adopted, restarted, ended; and what it weighs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import LocalWorkspaceDown
from core.home import Home
from core.local import control, processes
from tests.local_server import LocalServer, running_server
from tests.waiting import wait_until

MAX_RSS_BYTES = 250 * 1024 * 1024
TRAINER = "import time; print('working', flush=True); time.sleep(600)"


def run_command(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core.local", *arguments],
        cwd=processes.REPOSITORY,
        env={**os.environ, "TUNEDECK_HOME": str(home.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_server_leaves_the_home_to_the_first(own_server: LocalServer) -> None:
    second = run_command(own_server.home, "serve")
    assert second.returncode == 0
    assert f"served already: {own_server.url}, process {own_server.pid}" in second.stdout
    started = run_command(own_server.home, "start")
    assert (started.returncode, "Runs already" in started.stdout) == (0, True)
    assert own_server.request("GET", "/health").json()["pid"] == own_server.pid


def test_five_starts_at_once_give_one_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "chooses-a-port") as server:
        server.stop()
        home = server.home
        commands = [
            subprocess.Popen(
                [sys.executable, "-m", "core.local", "start"],
                cwd=processes.REPOSITORY,
                env={**os.environ, "TUNEDECK_HOME": str(home.path)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(5)
        ]
        said = [command.communicate(timeout=60)[0] for command in commands]
        assert [command.returncode for command in commands] == [0] * 5
        pid = server.request("GET", "/health").json()["pid"]
        assert all(server.url in line for line in said)
        wait_until(lambda: _list_servers(home) == [pid], lambda: f"one server of {_list_servers(home)}")


def _list_servers(home: Home) -> list[int]:
    return [process.pid for process in psutil.process_iter(["cmdline", "environ"]) if _serves(process, home)]


def _serves(process: psutil.Process, home: Home) -> bool:
    command, environment = process.info["cmdline"] or [], process.info["environ"] or {}
    return command[-3:] == ["-m", "core.local", "serve"] and environment.get("TUNEDECK_HOME") == str(home.path)


def test_stop_ends_the_server_and_every_trainer_and_says_so(own_server: LocalServer) -> None:
    folder = own_server.home.runs / "job_1" / "finetune"
    processes.start(folder, [sys.executable, "-c", TRAINER], os.environ)
    child = json.loads((folder / "process.json").read_text(encoding="utf-8"))["child_pid"]
    assert "Runs: the step job_1/finetune." in run_command(own_server.home, "status").stdout
    stopped = run_command(own_server.home, "stop")
    assert stopped.returncode == 0
    assert f"Ended the server ({own_server.url}, process {own_server.pid})." in stopped.stdout
    assert "Ended the step job_1/finetune." in stopped.stdout
    assert not psutil.pid_exists(child)
    status = run_command(own_server.home, "status")
    assert (status.returncode, "Server: not running." in status.stdout) == (3, True)
    assert "Nothing of this home was running." in run_command(own_server.home, "stop").stdout


def test_a_suspended_server_can_be_stopped(own_server: LocalServer) -> None:
    os.kill(own_server.pid, signal.SIGSTOP)
    assert "does not answer" in run_command(own_server.home, "status").stdout
    assert own_server.stop() == [f"Ended the server ({own_server.url}, process {own_server.pid})."]


def test_a_killed_server_leaves_a_home_that_can_be_served_again(own_server: LocalServer) -> None:
    first = own_server.pid
    own_server.kill()
    assert not control.is_served(own_server.home)
    assert control.find_health(own_server.home) is None
    own_server.start()
    assert own_server.pid != first


def test_a_pid_that_is_another_process_now_is_not_ended(own_server: LocalServer) -> None:
    own_server.kill()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = {"pid": bystander.pid, "start_time": "another boot:1", "url": own_server.url}
        own_server.home.server_file.write_text(json.dumps(record), encoding="utf-8")
        assert control.stop(own_server.home) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_port_that_another_program_has_is_said_with_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (home.path / "address.json").write_text(json.dumps({"port": port}), encoding="utf-8")
        served = run_command(home, "serve")
        assert served.returncode == 1
        assert f"The port {port} of this home is used by another program." in served.stderr
        with pytest.raises(LocalWorkspaceDown) as caught:
            control.start(home)
        assert f"The port {port}" in caught.value.detail


def test_sigterm_ends_the_server_in_order_within_seconds(own_server: LocalServer) -> None:
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGTERM)
    assert own_server.process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert not own_server.home.server_file.exists()


def test_the_server_stays_small_and_never_loads_the_big_libraries(own_server: LocalServer) -> None:
    """Sends 64 MiB through the blob store: bodies have to stream."""
    from core.local.wire import storage_key

    key = storage_key.encode(storage_key.derive(own_server.home.secret()))
    from azure.storage.blob import BlobClient

    blob = BlobClient(f"{own_server.url}/localstore", "azureml-blobstore", "big", credential=key, retry_total=0)
    blob.upload_blob(b"\0" * (64 << 20), overwrite=True)
    assert len(blob.download_blob().readall()) == 64 << 20
    process = psutil.Process(own_server.pid)
    assert process.memory_info().rss < MAX_RSS_BYTES
    loaded = {Path(part.path).name for part in process.memory_maps()}
    assert not [name for name in loaded if name.startswith(("libtorch", "libc10"))]


def test_the_server_imports_nothing_of_the_big_libraries() -> None:
    listing = "import sys, core.local.server, core.local.serving; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", listing], cwd=processes.REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in answer.stdout.split()}
    assert not loaded & {"torch", "transformers", "azure", "numpy", "streamlit", "mlflow", "peft", "datasets"}
    engine = {name for name in answer.stdout.split() if name.startswith("core.engine.")}
    assert engine == {f"core.engine.{name}" for name in ("checkpoints", "component", "disk", "memory")}
