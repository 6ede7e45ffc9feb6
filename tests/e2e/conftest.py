"""Two dashboards on homes of their own, one with the real base model and one with the tiny one, and common clicks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from core import dataset, operations
from core.azureml import connection
from core.azureml.connection import Connection
from core.azureml.local_process import ensure_local
from core.catalog import compute
from core.home import Home
from core.launch import drafts
from core.local.faults import Faults
from core.serving import chat, endpoints, transcripts
from pages.parts.serve.chat_state import Reply, Turn
from tests.chat_data import from_upload
from tests.environment import REAL_MODELS
from tests.launching import plan_launch
from tests.pages.conftest import Dashboard, dashboard, launch, page, settle, stop
from tests.tiny_model import build_tiny_model
from tests.waiting import finish

__all__ = ["dashboard", "page"]

BASE_MODEL = "SmolLM2-135M-Instruct"
SLOW = 300_000


@pytest.fixture(scope="session")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real base model and no other; it lies where `make base-model` put it, and is only read."""
    found = REAL_MODELS / BASE_MODEL
    if not list(found.glob("*/tunedeck.json")):
        pytest.fail(f"No base model in {REAL_MODELS}: run `make base-model`.", pytrace=False)
    folder = tmp_path_factory.mktemp("base-models")
    (folder / BASE_MODEL).symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def base_models(real_models: Path) -> Path:
    """The real models, in the place of the tiny one that other browser tests use."""
    return real_models


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One dashboard with the tiny model for the tests that look at pages; empty until `made` is asked for."""
    models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(models)
    found = launch(tmp_path_factory.mktemp("home"), models)
    yield found
    stop(found)


@pytest.fixture(scope="session")
def made(tiny: Dashboard) -> dict[str, str]:
    """A completed run, an endpoint, a chat with it and a draft in the home of `tiny`; by the ids of their pages."""
    with _sitting_at(tiny):
        return _make(connection.connect(ensure_local()))


@pytest.fixture(scope="session")
def failed(tiny: Dashboard, made: dict[str, str]) -> dict[str, str]:
    """Beside them a run and a deployment that failed, by faults of the local workspace, and data with findings."""
    with _sitting_at(tiny):
        faults, choices = Faults(Home(tiny.home)), _choices()
        faults.add("image-build")
        run = operations.start_launch(plan_launch(connection.connect(ensure_local()), drafts.create_draft(**choices)))
        finish(run)
        faults.add("liveness")
        size = compute.list_sizes(connection.connect(ensure_local()))[0].name
        broken = operations.start_deploy("local", made["run"], "tiny-broken", "tiny-broken-1", size, None)
        finish(broken, "failed")
        wrong = from_upload("wrong.jsonl", b'{"messages": [{"role": "user", "content": "Only asked."}]}\nno JSON\n')
        draft = drafts.create_draft(**{**choices, "dataset": wrong.key})
    told = {"failed": run.subject, "broken": broken.subject, "change": broken.id, "wrong": draft.id}
    return {**made, **told}


@contextmanager
def _sitting_at(of: Dashboard) -> Iterator[None]:
    """Make a dashboard's home and models those of this process for the block."""
    before = dict(os.environ)
    os.environ |= {name: of.server.environment[name] for name in ("TUNEDECK_HOME", "TUNEDECK_BASE_MODELS")}
    try:
        yield
    finally:  # before other tests look for the real base model
        os.environ.clear()
        os.environ |= before


def _choices() -> dict[str, Any]:
    return {
        "connection": "local",
        "model": "tiny-chat",
        "model_version": "1",
        "compute": "this-machine",
        "dataset": dataset.load_sample().key,
        "parameters": {"max_steps": 6},
    }


def _make(conn: Connection) -> dict[str, str]:
    choices = _choices()
    begun = operations.start_launch(plan_launch(conn, drafts.create_draft(**choices)))
    finish(begun)
    size = compute.list_sizes(conn)[0].name
    served = operations.start_deploy("local", begun.subject, "tiny-support", "tiny-support-1", size, None)
    finish(served)
    draft = drafts.create_draft(**choices)
    return {"run": begun.subject, "endpoint": served.subject, "draft": draft.id, "chat": ask_once(conn, served.subject)}


def ask_once(conn: Connection, endpoint: str) -> str:
    """Ask the endpoint a test question, and keep it as the chat page does with two answers; returns the chat's id."""
    prompt = [{"role": "user", "content": "When does the pier open?"}]
    said = list(chat.stream_chat(conn, endpoints.get_endpoint(conn, endpoint), prompt, chat.Sampling(max_tokens=8)))
    reply = Reply(endpoint, "".join(each.text for each in said), said[-1].stats, said[-1].exchange)
    turn = Turn(
        "When does the pier open?",
        prompt,
        "At nine, friend.",
        1,
        "I do not know.",
        [reply, replace(reply, endpoint="another")],
    )
    transcripts.save_transcript("talked", "local", endpoint, [turn.to_record()])
    return "talked"


def click(tab: Page, name: str, *, timeout_ms: int = 60_000) -> None:
    """Click a button by its words once it can be clicked."""
    button = tab.get_by_role("button", name=name, exact=False).first
    expect(button).to_be_enabled(timeout=timeout_ms)
    button.click()


def go_to_launch(tab: Page, here: Dashboard) -> None:
    """Click from a fresh home to the Launch page, with everything as it is preselected."""
    tab.goto(here.url)
    click(tab, "Start on this machine")
    click(tab, "Use these")
    click(tab, "Use this data")
    heading(tab, "Launch")
    expect(tab.get_by_role("button", name="Start run")).to_be_enabled()


def set_number(tab: Page, search: str, label: str, value: str) -> None:
    """Find a setting by its name and put a number into it."""
    field = tab.get_by_placeholder("Search settings")
    field.fill(search)
    number = tab.get_by_label(label).and_(tab.locator("input"))
    number.wait_for()
    number.fill(value)
    number.press("Tab")
    expect(number).to_have_value(value)
    settle(tab)


def heading(tab: Page, text: str) -> Locator:
    """Wait for the page's title."""
    found = tab.get_by_role("heading", level=1, name=text)
    found.wait_for()
    return found
