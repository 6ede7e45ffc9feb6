"""Steps of the engine on a tiny model: folders, configs, and a way to run each program here or as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.engine.import_model import import_model
from core.engine.preprocess import preprocess
from core.engine.step import Step
from core.home import REPOSITORY
from tests.tiny_model import DEFAULTS, build_tiny_model, make_conversations, write_jsonl


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base-models"))


@dataclass
class Workbench:
    """A job's folder with the steps' folders in it."""

    folder: Path
    model: Path

    def step(self, name: str, **config: Any) -> Step:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "outputs").mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        return Step(folder, config)

    def finetune_step(self, rows: list[Any] | None = None, name: str = "finetune", **parameters: Any) -> Step:
        """Run the steps before fine-tuning and return its own, ready to run."""
        values = {key: str(value) for key, value in (DEFAULTS | parameters).items()}
        train = write_jsonl(self.folder / "train.jsonl", rows or make_conversations(40))
        import_model(self.step("import_model", model_dir=str(self.model)))
        model_dir = str(self.folder / "import_model" / "outputs" / "model")
        preprocess(self.step("preprocess", train_file=str(train), model_dir=model_dir, parameters=values))
        data_dir = str(self.folder / "preprocess" / "outputs")
        return self.step(name, model_dir=model_dir, data_dir=data_dir, parameters=values, cores=1)

    def start(self, program: str, step: Step, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"core.engine.{program}", "--config", str(step.folder / "config.json")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=REPOSITORY, **pipes, **options)


class Impatient(Step):
    """A step whose run is asked to end once it has taken some steps, in the midst of its training."""

    def is_asked_to_stop(self) -> bool:
        return len(read_metrics_of(self, "loss")) >= int(self.config["stops_after"])


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Workbench:
    return Workbench(tmp_path, tiny_model)


def read_metrics_of(step: Step, key: str) -> list[tuple[int, float]]:
    """Return what a step has measured under a name, with the optimiser steps."""
    lines = (step.folder / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["value"]) for row in map(json.loads, lines) if row["key"] == key]


@pytest.fixture(scope="session")
def read_metrics() -> Callable[[Step, str], list[tuple[int, float]]]:
    return read_metrics_of
