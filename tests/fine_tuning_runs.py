"""Fine-tuning runs on a local workspace whose programs are a few lines long: one trains at a time, the others queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.home import Home
from core.local.blobs import CONTAINER, DATASTORE
from core.runs.states import FINE_TUNE, Run
from tests.core.local.submitting import metric_of, pipeline_body, submit, wait_for
from tests.local_server import LocalServer
from tests.tiny_model import NAME, build_tiny_model
from tests.waiting import wait_until

TRAIN = f"azureml://datastores/{DATASTORE}/paths/train.jsonl"
LONG = 100_000  # steps; it trains until it is cancelled


@contextmanager
def trivial_workspace(folder: Path) -> Iterator[LocalServer]:
    """Serve a new home in `folder` for the block, with a model to tune and data to tune it on."""
    build_tiny_model(folder / "base-models")
    home = Home(folder)
    server = LocalServer(
        home, {"TUNEDECK_BASE_MODELS": str(folder / "base-models")}, module="tests.core.local.trivial_server"
    )
    try:
        server.start()
        (home.blobs / CONTAINER / "train.jsonl").write_text("{}\n", encoding="utf-8")
        yield server
    finally:
        server.stop()


def start_run(server: LocalServer, name: str, title: str = "", steps: int = 3, **told: str) -> None:
    """Send a run as Tunedeck tags it; `told` are further tags."""
    body = pipeline_body(TRAIN, f"{NAME}/versions/1", max_steps=str(steps))
    body["properties"]["tags"] = {"tunedeck.title": title or name, **told}
    submit(server, name, body)


def start_training(server: LocalServer, name: str) -> None:
    """Send a run that trains until it is cancelled, and wait for its first loss."""
    start_run(server, name, steps=LONG)
    wait_until(lambda: metric_of(server, name))


def cancel(server: LocalServer, name: str) -> None:
    """Cancel a run and wait for its end."""
    server.request("POST", f"jobs/{name}/cancel")
    wait_for(server, name, "Canceled")


def training_of(run: Run) -> str:
    """Return the job of a run's fine-tuning."""
    step = run.find_stage(FINE_TUNE)
    assert step is not None
    return step.job
