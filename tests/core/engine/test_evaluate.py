"""Evaluation of base against tuned, in the package and as the two files that travel to Azure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.engine import EVALUATION_PROGRAM
from core.engine import evaluate as program
from core.engine.evaluate import Options, evaluate
from core.engine.finetune import finetune
from core.errors import BadInput
from tests.core.engine.conftest import REPOSITORY, Workbench
from tests.tiny_model import make_conversations, write_jsonl

ENGINE = Path(program.__file__).parent


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    bench = Workbench(tmp_path_factory.mktemp("tuned"), tiny_model)
    step = bench.finetune_step(num_train_epochs=4)
    finetune(step)
    return step.outputs / "model"


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "test.jsonl", make_conversations(20, question="Is it the {} kettle?"))


def test_the_tuned_model_has_the_lower_loss_and_other_answers(
    tmp_path: Path, tiny_model: Path, tuned: Path, held_out: Path
) -> None:
    body = evaluate(tiny_model, tuned, held_out, tmp_path / "out", Options(answers=5, max_new_tokens=12, cores=1))
    assert body == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert body["rows"] == 20
    assert body["tuned"]["loss"] < 0.5 * body["base"]["loss"]
    assert body["tuned"]["perplexity"] == pytest.approx(torch.tensor(body["tuned"]["loss"]).exp().item(), rel=1e-4)
    assert [answer["why"] for answer in body["answers"]] == ["random", "random", "random", "best", "worst"]
    assert len({answer["row"] for answer in body["answers"]}) == 5
    *_, best, worst = body["answers"]
    assert best["tuned_loss"] <= body["tuned"]["loss"] <= worst["tuned_loss"] < worst["base_loss"]
    for answer in body["answers"]:
        assert answer["expected"] == "It is blue."
        assert answer["tuned"] == "It is blue."
        assert answer["base"] != answer["tuned"]
        assert answer["messages"][-1] == {"role": "user", "content": answer["prompt"]}


def test_the_loss_is_the_mean_over_answer_tokens_whatever_the_batches(
    tmp_path: Path, tiny_model: Path, tuned: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(answers=0, cores=1)
    many = evaluate(tiny_model, tuned, held_out, tmp_path / "many", options)
    monkeypatch.setattr(program, "ROWS_PER_BATCH", 1)
    single = evaluate(tiny_model, tuned, held_out, tmp_path / "single", options)
    assert many["base"]["loss"] == pytest.approx(single["base"]["loss"], rel=0.01)


def test_what_is_sent_to_azure_runs_alone(tmp_path: Path, tiny_model: Path, tuned: Path, held_out: Path) -> None:
    """A process that imports torch: some seconds."""
    folder = tmp_path / "code"
    for name in EVALUATION_PROGRAM:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    mlflow = tmp_path / "mlflow"
    shutil.copytree(tuned, mlflow / "model")
    command = [
        sys.executable,
        "-m",
        "core.engine.evaluate",
        "--base",
        str(tiny_model),
        "--tuned",
        str(mlflow),
        "--test",
        str(held_out),
    ]
    command += ["--output", str(tmp_path / "out"), "--answers", "2", "--max-new-tokens", "4"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TUNEDECK_STEP_FOLDER"] = str(tmp_path)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "evaluation.json").read_text())["answers"]) == 2
    keys = [json.loads(line)["key"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert keys == ["tuned_eval_loss", "base_eval_loss"]
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["step"] == progress["total_steps"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no conversation"),
        ("{broken", "Line 1 of bad.jsonl: not valid JSON"),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]}', "Line 1 of bad.jsonl: Message 1"),
        (None, "bad.jsonl was not found"),
    ],
)
def test_test_data_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, tiny_model: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(BadInput, match=words):
        evaluate(tiny_model, tiny_model, tmp_path / "bad.jsonl", tmp_path / "out", Options())
