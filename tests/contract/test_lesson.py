"""The lesson as its own azure-ai-ml script (lesson.py), run by `python -m core.local exec` and by nothing else.

Its data are files of this machine, which the SDK's own uploader sends, and its model comes back through the SDK's own
downloader: over TLS, because that uploader speaks nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.home import Home
from core.local import processes
from tests import tiny_model
from tests.contract.sdk import SUBSCRIPTION_ID
from tests.local_server import LocalServer, running_server

SCRIPT = Path(__file__).with_name("lesson.py")
ROWS = 24
CHILDREN = [
    "ft_nlp_common_validation",
    "chat_completion_model_import",
    "chat_completion_datapreprocess",
    "chat_completion_finetune",
    "ft_nlp_model_converter",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    tiny_model.build_tiny_model(base_models)
    with running_server(tmp_path_factory.mktemp("home"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three splits that the lesson uses, in the schema of ultrachat_200k."""
    folder = tmp_path_factory.mktemp("ultrachat_200k_dataset")
    for split in ("train_sft", "test_sft", "test_gen"):
        rows = []
        for number in range(ROWS):
            question = f"Question {number}: what is the colour of the kettle of the harbour office?"
            answer = "The kettle of the harbour office is blue and sings at noon, says the keeper of the lamps."
            messages = [{"content": question, "role": "user"}, {"content": answer, "role": "assistant"}]
            rows.append({"prompt": question, "messages": messages, "prompt_id": f"{number:064x}"})
        tiny_model.write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def local(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the local workspace as an operator does, with a real Azure's names left in the environment."""
    misleading = {"AZURE_CLIENT_ID": "elsewhere", "AZUREML_CURRENT_CLOUD": "AzureCloud", "AZURE_CLIENT_SECRET": "s"}
    return subprocess.run(
        [sys.executable, "-m", "core.local", *arguments],
        cwd=processes.REPOSITORY,
        env={**os.environ, **misleading, "TUNEDECK_HOME": str(home.path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_the_lesson_from_the_first_client_to_the_deleted_endpoint(
    server: LocalServer, data_folder: Path, tmp_path: Path
) -> None:
    """Takes up to a minute: a pipeline of five processes and a scorer, three of which load torch."""
    names = {"subscription_id": SUBSCRIPTION_ID, "resource_group": "local", "workspace_name": "local"}
    (tmp_path / "config.json").write_text(json.dumps(names))
    done = local(server.home, "exec", "--", sys.executable, str(SCRIPT), str(data_folder), str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    lines = done.stdout.splitlines()
    assert "Execution Summary" in lines, "jobs.stream went to the job's end"
    assert told(lines, "Steps: ") == [str(sorted(CHILDREN))]
    runs = told(lines, "Run: ")
    assert len(runs) == 1 + len(CHILDREN), "the job and its steps have the job as their root"
    assert [float(run.rpartition(" ")[2]) > 0 for run in runs if not run.endswith("None")] == [True, True]
    (answer,) = told(lines, "Answer: ")
    assert json.loads(answer)["output"] is not None
    assert lines[-1] == "Left: []"
    placed = server.home.blobs / "azureml-blobstore" / "azureml"
    (weights,) = placed.glob("*/trained_model/**/model.safetensors")
    copies = [copy for copy in tmp_path.rglob("model.safetensors") if copy.read_bytes() == weights.read_bytes()]
    assert {copy.relative_to(tmp_path).parts[0] for copy in copies} == {"output", "all", "model"}
    (events,) = server.home.runs.glob("*/executionlogs.txt")
    for folder in ("log", "all"):
        log = tmp_path / folder / "artifacts/logs/azureml/executionlogs.txt"
        assert log.read_text() == events.read_text()
    log = tmp_path / "step/artifacts/user_logs/std_log.txt"
    assert log.read_bytes() == (events.parent / "chat_completion_finetune/std_log.txt").read_bytes()


def told(lines: list[str], what: str) -> list[str]:
    """Return what the script printed after a word at the beginning of a line."""
    return [line.removeprefix(what) for line in lines if line.startswith(what)]
