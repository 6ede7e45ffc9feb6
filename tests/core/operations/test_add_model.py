"""Base models are added by operations from a hub with the real one's wire, and every architecture goes to chat."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.azureml.connection import connect
from core.azureml.settings import local_settings, make_settings
from core.catalog import additions, catalogue
from core.catalog.base_models import get_base_model
from core.errors import BadInput
from core.home import Home
from core.launch.drafts import create_draft
from core.operations import (
    Ledger,
    Operation,
    get_operation,
    start_add_model,
    start_deploy,
    start_launch,
    start_remove_model,
    start_runner,
)
from core.pids import lives
from core.runs.jobs import has_job
from core.runs.metrics import read_metrics
from core.serving import chat, endpoints
from tests.chat_data import from_upload
from tests.core.dataset.hub_server import COMMIT, Hub, serving
from tests.launching import plan_launch
from tests.local_server import running_server
from tests.model_families import FAMILIES, build_family
from tests.soak import is_soak
from tests.tiny_model import build_tiny_model
from tests.waiting import finish, wait_until

NAME = "someone/tiny"
ROW = {
    "messages": [{"role": "user", "content": "Who rings the bell?"}, {"role": "assistant", "content": "The keeper."}]
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(tmp_path / "base-models"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return Home(tmp_path / "home").create()


@pytest.fixture
def runner(home: Home) -> Iterator[Any]:
    started = start_runner(home)
    yield started
    started.stopping.set()
    wait_until(lambda: not started.alive)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = build_tiny_model(tmp_path_factory.mktemp("hub"), hidden=256)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "tunedeck.json"}


@pytest.fixture
def hub(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving({f"models/{NAME}": dict(files)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def pid_of(operation: Operation) -> int:
    return int(wait_until(lambda: get_operation(operation.id).facts.get("pid")))


@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="two programs that import torch: make soak TESTS=tests/core/operations")
def test_an_addition_goes_on_after_its_program_was_killed(home: Home, hub: Hub, runner: Any) -> None:
    held, goes_on = threading.Event(), threading.Event()

    def before_piece(_path: str, sent: int) -> bool:
        if sent >= 1 << 19 and not goes_on.is_set():
            held.set()
            goes_on.wait(60)
        return True

    hub.before_piece = before_piece
    operation = start_add_model("local", NAME, NAME, COMMIT)
    assert start_add_model("local", NAME, NAME, COMMIT).id == operation.id  # a second click is the same wish
    wait_until(held.is_set)
    wait_until(lambda: "model.safetensors" in get_operation(operation.id).steps[0].detail)
    pid, given = pid_of(operation), hub.given["model.safetensors"]
    os.kill(pid, signal.SIGKILL)
    goes_on.set()
    ended = finish(operation)
    assert ended.steps[0].detail == "In the registry as tiny, version 1"
    assert (ended.facts["model"], ended.facts["version"], ended.facts["starts"]) == ("tiny", "1", 2)
    whole = (home.base_models / "tiny" / "1" / "model.safetensors").stat().st_size
    assert 0 < hub.given["model.safetensors"] - given < whole - (1 << 18)  # what was there was not fetched again
    assert list((home.base_models / ".adding").iterdir()) == []


def test_a_cancelled_addition_ends_its_program_and_leaves_nothing(home: Home, hub: Hub, runner: Any) -> None:
    goes_on = threading.Event()
    hub.before_answer = lambda _: goes_on.wait(60)
    operation = start_add_model("local", NAME, NAME)
    pid = pid_of(operation)
    start_time = str(get_operation(operation.id).facts["start_time"])
    wait_until(lambda: hub.asked)
    Ledger().want_cancel(operation.id)
    ended = finish(operation, "cancelled")
    goes_on.set()
    assert ended.steps[0].detail == "Cancelled; what was fetched is deleted."
    wait_until(lambda: not lives(pid, start_time))
    assert [path for path in home.base_models.rglob("*") if path.is_file()] == []


def test_an_addition_that_is_refused_says_why_and_can_be_tried_again(home: Home, hub: Hub, runner: Any) -> None:
    operation = start_add_model("local", "someone/other", "someone/other")
    error = finish(operation, "failed").error
    assert error is not None
    assert error.message.startswith("There is no model 'someone/other' on 127.0.0.1:")
    assert "HF_TOKEN" in error.hint
    hub.files["models/someone/other"] = {"config.json": b"{}", "pytorch_model.bin": b""}
    Ledger().retry(operation.id)
    error = finish(operation, "failed").error
    assert error is not None
    assert "pickle" in error.message


def test_models_are_added_to_the_local_workspace_alone() -> None:
    ids = ("11111111-2222-3333-4444-555555555555", "rg", "ws")
    for connection in (make_settings(*ids).alias, ""):
        with pytest.raises(BadInput, match="added to the local workspace alone"):
            start_add_model(connection, NAME, NAME)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="half a minute a family on 2 cores: make soak TESTS=tests/core/operations")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_goes_from_the_hub_to_chat(
    home: Home, hub: Hub, runner: Any, tmp_path: Path, family: str
) -> None:
    """Looked at, added, trained with the loss of plain transformers, evaluated, deployed, talked to, and removed."""
    folder = build_family(tmp_path / family, family)
    hub.files["models/someone/" + family] = {path.name: path.read_bytes() for path in folder.iterdir()}
    with running_server(home.path, TUNEDECK_BASE_MODELS=str(home.base_models), TUNEDECK_QUOTA_CORES="16"):
        conn = connect(local_settings(), home=home)
        source = f"someone/{family}"
        look = additions.look_at(conn, source)
        assert not look.refused
        added = finish(start_add_model("local", look.title, source, look.revision))
        model = get_base_model(conn, added.facts["model"], added.facts["version"])
        assert (model.runs_on, model.finetunable, additions.was_added(model)) == ("", True, True)
        assert model.card.parameters == int(look.tags["parameters"])
        rows = "\n".join(json.dumps(ROW) for _ in range(20)).encode()
        dataset = from_upload("bell", rows, rows, tokenizer=home.base_models / model.name / model.version)
        settings = {"max_steps": 30, "learning_rate": 1e-2, "precision": "32"}
        draft = create_draft(
            "local",
            model=model.name,
            model_version=model.version,
            compute="this-machine",
            dataset=dataset.key,
            parameters=settings,
        )
        plan = plan_launch(conn, draft)
        assert plan.ready, plan.failures
        run = start_launch(plan)
        wait_until(lambda: has_job(conn, run.subject))
        kept = finish(start_remove_model("local", model.name, model.version), "failed").error
        assert kept is not None
        assert kept.message.endswith(f"trains {model.name} now.")
        run = finish(run, timeout_s=600)
        assert {step.state for step in run.steps} == {"done"}, run.steps
        loss = read_metrics(conn, run.subject).series["loss"]
        assert loss.values[0] == pytest.approx(measure_plainly(folder), rel=1e-4)
        assert loss.values[-1] < loss.values[0] - 1
        delete_at = datetime.now(UTC) + timedelta(hours=1)
        finish(start_deploy("local", run.subject, family, f"{family}-ep", "local.cpu1", delete_at), timeout_s=600)
        endpoint = endpoints.get_endpoint(conn, f"{family}-ep")
        deltas = list(chat.stream_chat(conn, endpoint, ROW["messages"][:1]))
        assert deltas[-1].stats is not None
        assert deltas[-1].stats.tokens
        print(family, loss.values[0], loss.values[-1], repr("".join(delta.text for delta in deltas)))
        finish(start_remove_model("local", model.name, model.version))
        found = catalogue.search(conn)
        assert model.name not in [entry.name for entry in found.entries]


def measure_plainly(folder: Path) -> float:
    """Return the loss per token of ROW as transformers has it, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    from core.engine.chat_tokens import load_chat_tokens

    (row,) = load_chat_tokens(folder).encode_conversations([ROW["messages"]])
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    wanted = torch.tensor([token if learned else -100 for token, learned in zip(row.ids, row.learned, strict=True)])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, wanted[1:]))
