"""What an operator does in the home that is kept as a fixture, up to the power cut in the middle of it.

Everything is done by the real code: the ledger's runner in a process of its own, the local workspace, and for the first
run the real engine on a tiny model. `python -m tests.home_story serve` is the workspace with programs of a few lines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings, make_settings, save_settings
from core.dataset import ChatDataset
from core.home import Home
from core.launch.drafts import Draft, create_draft, save_draft
from core.launch.plan import LaunchPlan
from core.local import __main__ as local_program
from core.local import control, processes, server, shim
from core.local.endpoints.deployments import Deployments
from core.local.jobs.runner import Runner
from core.operations import (
    Operation,
    find_operation_for,
    get_operation,
    start_cancel,
    start_create_compute,
    start_deploy,
    start_launch,
    start_set_delete_at,
    start_set_traffic,
    start_teardown,
)
from core.operations import __main__ as operations_program
from core.operations.ledger import Ledger
from core.operations.sweep import sweep
from core.overview import mark_seen
from core.runs.throughput import Pace, add_pace
from core.serving.chat import Sampling, stream_chat
from core.serving.endpoints import get_endpoint
from core.serving.transcripts import save_transcript
from core.teardown.inventory import list_inventory
from core.teardown.plan import plan_teardown
from pages.parts.serve.chat_state import Chat, Reply, Turn
from tests.chat_data import from_upload
from tests.core.local import trivial_server
from tests.launching import plan_launch
from tests.local_server import LocalServer
from tests.tiny_model import NAME, VERSION, build_tiny_model, make_conversations
from tests.waiting import finish, wait_until

REPOSITORY = Path(__file__).parents[1]
QUOTA = {"TUNEDECK_QUOTA_CORES": "16"}
TALK = "k3f9xx"
WITHOUT_END = datetime(2099, 1, 1, tzinfo=UTC)
LIVE, LOADING, HALF_GONE, REMOVED = "bell-ep", "night-ep", "rope-ep", "old-ep"
HALF_GONE_COMPUTE, EXPIRED_COMPUTE, EXPIRING_COMPUTE, COMPUTE_TO_COME = "spare", "brief", "ebb", "dawn"
EXPIRES_IN = timedelta(minutes=3)  # the story is over by then, and whoever opens the home later finds it due
CUT_AT_STEP, LAST_STEP, WORDS = 10, 70, 8

# A scorer that never gets ready, and one that does not obey: their endpoints stay in the middle until the power cut.
_STUBBORN_SCORER = f"""
import os, runpy, signal, sys
folder = sys.argv[sys.argv.index("--folder") + 1]
os.environ["LOADS_FOR_S"] = "600" if "{LOADING}" in folder else "0"
if "{HALF_GONE}" in folder:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
runpy.run_path({str(Path(trivial_server.__file__).with_name("trivial_scorer.py"))!r}, run_name="__main__")
"""


def live(home: Home) -> None:
    """Fill an empty home, and leave it as a power cut does."""
    build_tiny_model(home.base_models)
    conn = connect(local_settings(), home=home)
    save_settings(make_settings("5c0de000-0000-4000-8000-00000000fa4e", "rg-tides", "tides-ws", "fa4e.example"))
    with _serving(home, "core.local"), _operating(home):
        run = _tune_and_talk(conn)
    with _serving(home, __name__), _operating(home) as runner:
        _change_and_remove(conn, run)
        _begin_what_the_power_cut_ends(conn, run, runner)


# What has ended


def _tune_and_talk(conn: Connection) -> str:
    """Tune with the real engine, evaluate, deploy, talk; return the run."""
    data = from_upload("harbour", _to_jsonl(10), _to_jsonl(2, "Is it {}?"))
    launch = finish(start_launch(_plan(conn, data, max_steps=4, learning_rate=0.02)))
    assert [step.state for step in launch.steps] == ["done"] * 6, launch.steps
    mark_seen(launch.subject)
    add_pace("local", NAME, "this-machine", "calm-heron-1", Pace(512.5))
    _deploy(launch.subject, LIVE)
    talk = Chat(LIVE, TALK)
    for question in ("What is the kettle?", "Wann öffnet der Pier?"):
        talk.ask(question, "You keep the harbour office.")
        assert talk.waiting
        talk.turns.append(_answer(conn, talk.waiting))
    save_transcript(talk.id, "local", LIVE, [turn.to_record() for turn in talk.turns])
    return launch.subject


def _answer(conn: Connection, turn: Turn) -> Turn:
    reply = Reply(LIVE)
    for delta in stream_chat(conn, get_endpoint(conn, LIVE), turn.prompt, Sampling(max_tokens=WORDS)):
        reply.answer += delta.text
        reply.stats, reply.exchange = delta.stats or reply.stats, delta.exchange or reply.exchange
    turn.replies.append(reply)
    return turn


def _change_and_remove(conn: Connection, run: str) -> None:
    """Bring an operation of every other kind to its end."""
    for name in (REMOVED, HALF_GONE):
        _deploy(run, name)
    finish(start_set_traffic("local", LIVE, {"demo": 0}))
    finish(start_set_traffic("local", LIVE))
    finish(start_set_delete_at("local", "endpoint", LIVE, WITHOUT_END))
    finish(start_create_compute("local", HALF_GONE_COMPUTE, "local.cpu1", idle_s=300))
    finish(start_create_compute("local", "toobig", "Standard_NC96ads_A100_v4"), "failed")
    finish(_start_teardown(conn, f"endpoint:{REMOVED}", *_model_keys(conn, f"{REMOVED}-model")))
    finish(start_create_compute("local", EXPIRED_COMPUTE, "local.cpu1", delete_at=datetime.now(UTC) - EXPIRES_IN))
    sweep(Ledger(), conn, [])
    finish(wait_until(lambda: find_operation_for("local", EXPIRED_COMPUTE, "expire")))
    finish(start_create_compute("local", EXPIRING_COMPUTE, "local.cpu1", delete_at=datetime.now(UTC) + EXPIRES_IN))
    launch = start_launch(_plan(conn, _short_data(), max_steps=100_000))
    wait_until(lambda: _is_at(launch, "watch"))
    finish(start_cancel("local", launch.subject))
    finish(launch, "cancelled")


# What goes on


def _begin_what_the_power_cut_ends(conn: Connection, run: str, runner: subprocess.Popen[bytes]) -> None:
    start_deploy("local", run, f"{LOADING}-model", LOADING, "local.cpu1", WITHOUT_END)
    loading = find_operation_for("local", LOADING, "deploy")
    assert loading
    wait_until(lambda: _is_at(loading, "deployment", "Starting the container"))
    not_sent, queued, trained = (_plan(conn, _short_data(), max_steps=steps) for steps in (3, 30, LAST_STEP))
    removal = plan_teardown(conn, list_inventory(conn), [f"endpoint:{HALF_GONE}", f"compute:{HALF_GONE_COMPUTE}"])
    watched = start_launch(trained)
    wait_until(lambda: _is_at(watched, "watch"))
    waiting = start_launch(queued)
    wait_until(lambda: _is_at(waiting, "watch", "Queued"))
    half_gone = start_teardown(removal, removal.confirm)
    wait_until(lambda: _is_at(half_gone, f"remove endpoint:{HALF_GONE}", "Deleting"))
    wait_until(lambda: _steps_of(conn.home, watched) >= CUT_AT_STEP)
    runner.kill()
    runner.wait(timeout=10)
    start_launch(not_sent)
    start_cancel("local", waiting.subject)
    start_create_compute("local", COMPUTE_TO_COME, "local.cpu1", max_nodes=2, delete_at=WITHOUT_END)
    start_set_traffic("local", LIVE, {"demo": 0})
    start_set_delete_at("local", "endpoint", LIVE, None)
    draft = _draft(_short_data())
    save_draft(draft, parameters={**draft.parameters, "num_train_epochs": 5, "learning_rate": 0.0003})


def _is_at(operation: Operation, step: str, detail: str = "") -> bool:
    now = get_operation(operation.id)
    assert not now.finished, (now.title, now.state, now.error)
    return now.step is not None and now.step.name == step and now.step.state == "running" and detail in now.step.detail


def _steps_of(home: Home, launch: Operation) -> int:
    measured = home.runs / launch.subject / "chat_completion_finetune" / "metrics.jsonl"
    steps = len(measured.read_text(encoding="utf-8").splitlines()) if measured.exists() else 0
    assert steps < LAST_STEP, "the run ended before the power was cut"
    return steps


# Small hands


def _plan(conn: Connection, data: ChatDataset, **parameters: Any) -> LaunchPlan:
    plan = plan_launch(conn, _draft(data, **parameters))
    assert plan.ready, plan.failures
    return plan


def _draft(data: ChatDataset, **parameters: Any) -> Draft:
    return create_draft(
        "local", model=NAME, model_version=VERSION, compute="this-machine", dataset=data.key, parameters=parameters
    )


def _short_data() -> ChatDataset:
    return from_upload("bell", _to_jsonl(10, "Who rings {}?"))


def _to_jsonl(rows: int, question: str = "What is {}?") -> bytes:
    return "".join(
        json.dumps(row) + "\n" for row in make_conversations(rows, answer="Blue.", question=question)
    ).encode()


def _deploy(run: str, name: str) -> None:
    finish(start_deploy("local", run, f"{name}-model", name, "local.cpu1", WITHOUT_END))


def _model_keys(conn: Connection, model: str) -> list[str]:
    return [item.key for item in list_inventory(conn).items if item.kind == "model" and item.name == model]


def _start_teardown(conn: Connection, *keys: str) -> Operation:
    plan = plan_teardown(conn, list_inventory(conn), keys)
    assert len(plan.actions) == len(keys)
    return start_teardown(plan, plan.confirm)


@contextmanager
def _serving(home: Home, module: str) -> Iterator[None]:
    """Serve the home for the block; at its end the power is cut."""
    workspace = LocalServer(home, QUOTA, module=module).start()
    try:
        yield
    finally:
        workspace.kill()
        for folder in control.list_live_folders(home):
            os.kill(json.loads((folder / shim.PROCESS_NAME).read_text(encoding="utf-8"))["pid"], signal.SIGKILL)
            wait_until(lambda folder=folder: not processes.is_alive(folder))


@contextmanager
def _operating(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    with (home.logs / "runner.out").open("ab") as log:
        command = [sys.executable, "-m", operations_program.__name__, "run"]
        runner = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        yield runner
    finally:
        runner.kill()
        runner.wait(timeout=10)


def _program(name: str) -> list[str]:
    return [sys.executable, "-c", _STUBBORN_SCORER] if name == "score" else trivial_server.trivial_program(name)


if __name__ == "__main__":
    server.Runner = partial(Runner, program=_program)  # type: ignore[misc, assignment]
    server.Deployments = partial(Deployments, program=_program)  # type: ignore[misc, assignment]
    raise SystemExit(local_program.main())
