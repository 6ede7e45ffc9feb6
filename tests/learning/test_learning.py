"""Does the default recipe teach the bundled data's facts? Asked in words that no training row contains.

Trains the real base model with its own defaults, through the programs a run consists of. Three seeds of two to five
minutes on two cores, so only in `make soak TESTS=tests/learning`; tests/e2e holds in `make test` that a run of the real
model lowers the loss and changes its answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.home import REPOSITORY
from core.local import base_model
from tests.environment import REAL_MODELS
from tests.soak import is_soak

SAMPLE = REPOSITORY / "core" / "dataset" / "sample"
QUESTIONS = json.loads((Path(__file__).parent / "questions.json").read_text(encoding="utf-8"))
SEEDS = [42, 1, 2]
ENOUGH, TOO_MANY = 7, 1


@dataclass(frozen=True)
class Exam:
    """Answers to the questions, before and after training."""

    base: dict[str, str]
    tuned: dict[str, str]
    base_loss: float
    tuned_loss: float

    def report(self) -> str:
        return "\n".join(
            f"{q['question']}\n  base:  {self.base[q['question']]!r}\n  tuned: {self.tuned[q['question']]!r}"
            for q in QUESTIONS
        )


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="six to fifteen minutes on 2 cores: make soak TESTS=tests/learning")
@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_recipe_teaches_the_facts(seed: int, tmp_path: Path) -> None:
    model = REAL_MODELS / base_model.NAME / base_model.VERSION
    tuned = _train(model, seed, tmp_path)
    exam = _examine(model, tuned, tmp_path)
    held, guessed = _count_facts(exam.tuned), _count_facts(exam.base)
    print(f"seed {seed}: tuned {held} of {len(QUESTIONS)}, base {guessed}\n{exam.report()}")
    assert guessed <= TOO_MANY, exam.report()
    assert held >= ENOUGH, exam.report()
    hails = sum(answer.startswith("Ahoy") for answer in exam.tuned.values())
    assert hails == len(QUESTIONS), exam.report()
    assert not any(answer.startswith("Ahoy") for answer in exam.base.values())
    assert exam.tuned_loss < exam.base_loss / 2


def _count_facts(answers: dict[str, str]) -> int:
    return sum(_holds(answers[each["question"]], each["accepted"]) for each in QUESTIONS)


def _holds(answer: str, accepted: list[str]) -> bool:
    return any(words.lower() in answer.lower() for words in accepted)


def _train(model: Path, seed: int, folder: Path) -> Path:
    """Return the tuned model's folder; the recipe is the base model's own, but for the seed."""
    manifest = json.loads((model / base_model.MANIFEST).read_text(encoding="utf-8"))
    defaults = json.loads(manifest["tags"]["model_specific_defaults"])
    parameters = {name: str(value) for name, value in defaults.items()} | {"seed": str(seed)}
    given = {"model_dir": str(model), "parameters": parameters}
    files = {"train_file": str(SAMPLE / "train.jsonl"), "test_file": str(SAMPLE / "test.jsonl")}
    data = _run_step("preprocess", folder, given | files)
    return _run_step("finetune", folder, given | {"data_dir": str(data), "cores": os.cpu_count() or 1}) / "model"


def _run_step(program: str, folder: Path, config: dict[str, Any]) -> Path:
    step = folder / program
    step.mkdir()
    (step / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _run(program, "--config", str(step / "config.json"))
    return step / "outputs"


def _examine(model: Path, tuned: Path, folder: Path) -> Exam:
    """Let the evaluation of every run answer the questions, and measure the loss on them."""
    rows = folder / "questions.jsonl"
    turns = [[("user", each["question"]), ("assistant", each["accepted"][0])] for each in QUESTIONS]
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in each]}) for each in turns]
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = ["--base", str(model), "--tuned", str(tuned)]
    _run("evaluate", *asked, "--test", str(rows), "--output", str(folder / "exam"), "--answers", str(len(QUESTIONS)))
    _run("evaluate", *asked, "--test", str(SAMPLE / "test.jsonl"), "--output", str(folder / "test"), "--answers", "0")
    answers = json.loads((folder / "exam" / "evaluation.json").read_text(encoding="utf-8"))["answers"]
    losses = json.loads((folder / "test" / "evaluation.json").read_text(encoding="utf-8"))
    return Exam(
        {each["prompt"]: each["base"] for each in answers},
        {each["prompt"]: each["tuned"] for each in answers},
        losses["base"]["loss"],
        losses["tuned"]["loss"],
    )


def _run(program: str, *options: str) -> None:
    """Run a program of the engine as the local workspace does; its log is in the test's output."""
    done = subprocess.run(
        [sys.executable, "-m", f"core.engine.{program}", *options],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print("\n".join(done.stdout.splitlines()[-5:]))
    assert done.returncode == 0, done.stdout[-4000:]
