"""The trainer beside transformers' own: the same rows in the same order must give the same run, setting by setting.

fp32, one thread, the tiny model. The Trainer is given the batches that ours plans; everything else is its own.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.engine.batches import plan_epoch
from core.engine.checkpoints import Checkpoints
from core.engine.compute_speed import Threads
from core.engine.step import Step
from core.engine.token_rows import TokenRows, read_rows
from core.engine.trainable import Trainable, load_model, make_trainable
from core.engine.training import Training
from core.engine.training_settings import TrainingSettings, read_settings
from core.recipe import from_job_inputs, total_steps
from tests.core.engine.conftest import Impatient, Workbench, read_metrics_of
from tests.tiny_model import DEFAULTS, build_tiny_model

PAD = 2
CPU = torch.device("cpu")

# 26 rows to train on: batches of 4 leave one of 2, and accumulating 3 of the 7 leaves one for an epoch's last step.
BASE: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_eval_batch_size": 3,
    "learning_rate": 5e-3,
    "evaluation_strategy": "disable",
}
STEPS = {"evaluation_strategy": "steps"}
EPOCH = {"evaluation_strategy": "epoch"}
STOPS = {"apply_early_stopping": "true"}
WORSENS = {"validation": "other answers"}  # no setting: the loss of these rows falls for some steps, then rises
FULL = {"apply_lora": "false", "learning_rate": 1e-3}
SETTINGS: tuple[dict[str, Any], ...] = (
    # Schedules, with a warm-up of none, some, and more than the run
    {"lr_scheduler_type": "linear"},
    {"lr_scheduler_type": "linear", "warmup_steps": 5, "weight_decay": 0.1, "num_train_epochs": 2},
    {"lr_scheduler_type": "linear", "warmup_steps": 40, "max_steps": 9},
    {"lr_scheduler_type": "cosine", "warmup_steps": 3},
    {"lr_scheduler_type": "cosine", "max_steps": 5, **EPOCH},
    {"lr_scheduler_type": "cosine_with_restarts", "warmup_steps": 2, "num_train_epochs": 2},
    {"lr_scheduler_type": "polynomial", "warmup_steps": 2},
    {"lr_scheduler_type": "polynomial", "warmup_steps": 40, "max_steps": 3},
    {"lr_scheduler_type": "constant", "warmup_steps": 3},
    {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3},
    # Where a run ends, and accumulation at an epoch's end
    {"max_steps": 10, **EPOCH, "gradient_accumulation_steps": 3},
    {"max_steps": 3, **EPOCH, "gradient_accumulation_steps": 3, "num_train_epochs": 9},
    {"gradient_accumulation_steps": 3, "logging_steps": 2, "num_train_epochs": 2, **EPOCH},
    {"gradient_accumulation_steps": 50, "num_train_epochs": 3, **EPOCH},
    {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1, "logging_steps": 4},
    {"per_device_train_batch_size": 50, "num_train_epochs": 3, **EPOCH, "per_device_eval_batch_size": 50},
    # Evaluation, logging and saving
    {**EPOCH, "logging_strategy": "epoch", "max_steps": 17},
    {**STEPS, "eval_steps": 3, "num_train_epochs": 2, "logging_steps": 4, "save_total_limit": 1},
    {**STEPS, "eval_steps": 2, "logging_steps": 5, "save_total_limit": 2, "per_device_eval_batch_size": 1},
    {**STEPS, "eval_steps": 500, "max_steps": 3, "logging_steps": 500},
    {**EPOCH, "num_train_epochs": 3, "save_total_limit": 2, "lr_scheduler_type": "constant"},
    {**STEPS, **WORSENS, "eval_steps": 2, "num_train_epochs": 2, "save_total_limit": 1},
    {
        **STEPS,
        **WORSENS,
        "eval_steps": 3,
        "num_train_epochs": 2,
        "save_total_limit": 3,
        "per_device_eval_batch_size": 1,
    },
    # Early stopping
    {**STEPS, **STOPS, **WORSENS, "eval_steps": 2, "num_train_epochs": 2},
    {**STEPS, **STOPS, **WORSENS, "eval_steps": 1, "num_train_epochs": 3, "early_stopping_patience": 4},
    {**EPOCH, **STOPS, "num_train_epochs": 5, "early_stopping_threshold": 5.0, "logging_strategy": "epoch"},
    {
        **STEPS,
        **STOPS,
        "eval_steps": 2,
        "num_train_epochs": 2,
        "early_stopping_patience": 2,
        "early_stopping_threshold": 0.3,
    },
    {**STEPS, **STOPS, "eval_steps": 3, "early_stopping_threshold": 9.0, "logging_strategy": "epoch"},
    {**STEPS, **STOPS, "eval_steps": 1, "early_stopping_patience": 3, "learning_rate": 0.01, "max_grad_norm": 0},
    # The optimiser, and all weights
    {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-4, "max_grad_norm": 0.1, "weight_decay": 0.3},
    {"optim": "adafactor", "warmup_steps": 2, "weight_decay": 0.05, "max_grad_norm": 0},
    {**FULL, **EPOCH, "weight_decay": 0.3, "lr_scheduler_type": "cosine"},
    {**FULL, **STEPS, "eval_steps": 4, "gradient_accumulation_steps": 3, "max_steps": 7, "save_total_limit": 1},
    {**FULL, "optim": "adafactor"},
    {"lora_r": 2, "lora_alpha": 16, "seed": 4294967295, "num_train_epochs": 2},
)


@dataclass
class Course:
    """How a run went. logged: by step, loss, gradient norm, rate and epoch. evaluated: by step, the loss."""

    logged: dict[int, tuple[float, ...]]
    evaluated: dict[int, float]
    kept: list[str]
    best: str | None
    planned: int
    taken: int
    train_loss: float


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("one-layer"), layers=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, model: Path) -> dict[str, TokenRows]:
    """Rows of different lengths, so that a mean over rows is not one over tokens."""
    words = ["the", "harbour", "lamps", "sing", "at", "noon", "and", "the", "keeper", "is", "blue"]
    conversations = [
        {
            "messages": [
                {"role": "user", "content": " ".join(words[: 1 + number % 5])},
                {"role": "assistant", "content": " ".join(words[number % 5 : number % 5 + 1 + number % 6])},
            ]
        }
        for number in range(33)
    ]
    bench = Workbench(tmp_path_factory.mktemp("rows"), model)
    folder = Path(bench.finetune_step(conversations).config["data_dir"])
    found = {name: read_rows(folder / f"{name}.safetensors") for name in ("train", "validation")}
    own = found["validation"]
    return {**found, "other answers": replace(own, ids=np.where(own.learned, 300 - own.ids % 300, own.ids))}


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """The Trainer collects garbage in each run, which over all that transformers imports takes longer than the run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def test_the_rows_leave_a_remainder_everywhere(rows: dict[str, TokenRows]) -> None:
    assert (len(rows["train"]), len(rows["validation"])) == (26, 4)
    assert len({int(length) for length in rows["train"].lengths}) > 5


def train_here(
    step: Step, settings: TrainingSettings, rows: dict[str, TokenRows], model: Path, after: Path | None = None
) -> Course:
    trainable = make(settings, model)
    checkpoints = Checkpoints(step.outputs / "checkpoints", settings.save_total_limit)
    training = Training(step, settings, trainable, rows, checkpoints, PAD, 0, Threads(1, fixed=True))
    if after:
        checkpoints.adopt(after)
        training.resume(after.name)
    position = training.train()
    checkpoints.finish(budget_bytes=1 << 30)
    measured = {
        key: read_metrics_of(step, key)
        for key in ("loss", "grad_norm", "learning_rate", "epoch", "eval_loss", "train_loss")
    }
    best = checkpoints.find_best()
    return Course(
        logged={
            at: tuple(dict(measured[key])[at] for key in ("loss", "grad_norm", "learning_rate", "epoch"))
            for at, _ in measured["loss"]
        },
        evaluated=dict(measured["eval_loss"]),
        kept=[each.name for each in checkpoints.list()],
        best=best.name if best else None,
        planned=training.total_steps,
        taken=position.step,
        train_loss=measured["train_loss"][0][1],
    )


def make(settings: TrainingSettings, model: Path) -> Trainable:
    torch.manual_seed(settings.seed)
    return make_trainable(load_model(model, "float32", CPU), settings)


@pytest.mark.parametrize("method", [{}, FULL], ids=["lora", "full"])
@pytest.mark.parametrize(("number_format", "near"), [("float32", 1e-6), ("bfloat16", 1e-3)])
@pytest.mark.parametrize(("room", "parts"), [(1 << 30, 2), (350_000, 3), (1, 13)])
def test_rows_in_parts_teach_what_they_teach_at_once(
    tmp_path: Path,
    model: Path,
    rows: dict[str, TokenRows],
    method: dict[str, Any],
    number_format: str,
    near: float,
    room: int,
    parts: int,
) -> None:
    """The smallest room keeps no row's activations: they are computed again."""
    settings = read_settings({key: str(value) for key, value in (DEFAULTS | BASE | method).items()})
    torch.manual_seed(0)
    trainable = make_trainable(load_model(model, number_format, CPU), settings)
    with torch.no_grad():
        for each in trainable.parameters:
            each.add_(torch.randn_like(each) * 0.02)  # half of new adapters are zero, and so are gradients
    trainable.model.train()
    chosen = np.argsort(-rows["train"].lengths)[:13]
    given = collate([rows["train"].row(int(index)) for index in chosen])
    causal: Any = trainable.model
    fast = {layer: vars(layer).pop("forward") for layer in causal.modules() if "forward" in vars(layer)}
    assert len(fast) == len(trainable.names) // 2 * settings.apply_lora, "and what is compared with is peft's own"
    logits = causal(given["input_ids"], attention_mask=given["attention_mask"]).logits[:, :-1].float()
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), given["labels"][:, 1:].flatten())
    torch.autograd.backward(plain)
    wanted = torch.cat([each.grad.flatten().float() for each in trainable.parameters if each.grad is not None])
    trainable.clear_gradients()
    for layer, forward in fast.items():
        layer.forward = forward
    step, checkpoints = Step(tmp_path, {}), Checkpoints(tmp_path, 1)
    training = Training(
        step,
        settings,
        trainable,
        rows,
        checkpoints,
        PAD,
        0,
        Threads(1, fixed=True),
        room * trainable.parameters[0].itemsize,
    )
    loss, made = training.learn([chosen[:10], chosen[10:]])
    assert len(made) == parts
    assert loss == pytest.approx(plain.item(), rel=near)
    gradients = torch.cat([each.grad.flatten().float() for each in trainable.parameters if each.grad is not None])
    assert torch.cosine_similarity(gradients, wanted, dim=0) > 1 - near
    assert gradients.norm() == pytest.approx(wanted.norm().item(), rel=10 * near)


class Planned:
    """The batches of our plan as a batch sampler: another epoch at each pass."""

    def __init__(self, rows: TokenRows, settings: TrainingSettings, epoch: int = 0) -> None:
        self.rows, self.settings, self.epoch = rows, settings, epoch

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.settings.per_device_train_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        seed = self.settings.seed + self.epoch
        self.epoch += 1
        for batch in plan_epoch(self.rows.lengths, self.settings.per_device_train_batch_size, seed):
            yield [int(index) for index in batch]


class Rows(torch.utils.data.Dataset[tuple[np.ndarray, np.ndarray]]):
    def __init__(self, rows: TokenRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rows.row(index)


def collate(chosen: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in chosen)
    ids = torch.full((len(chosen), width), PAD)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for number, (own, learned) in enumerate(chosen):
        ids[number, : len(own)] = torch.from_numpy(own.astype(np.int64))
        labels[number, : len(own)] = torch.from_numpy(np.where(learned, own, -100).astype(np.int64))
        mask[number, : len(own)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def train_there(
    folder: Path, settings: TrainingSettings, rows: dict[str, TokenRows], model: Path, after: Path | None = None
) -> Course:
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

    class InPlannedOrder(Trainer):
        def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
            first = int(after.name.split("-")[1]) // 7 if after else 0  # 7 steps are an epoch
            planned: Any = Planned(rows["train"], settings, first)
            return torch.utils.data.DataLoader(Rows(rows["train"]), batch_sampler=planned, collate_fn=collate)

    evaluation = settings.evaluation_strategy.replace("disable", "no")
    arguments = TrainingArguments(
        output_dir=str(folder),
        eval_strategy=evaluation,
        save_strategy=evaluation,
        save_steps=settings.eval_steps,
        load_best_model_at_end=evaluation != "no",
        metric_for_best_model="loss",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{
            each.name: getattr(settings, each.name)
            for each in fields(TrainingArguments)
            if hasattr(settings, each.name)
        },
    )
    trainable = make(settings, model)
    patience, threshold = settings.early_stopping_patience, settings.early_stopping_threshold
    trainer = InPlannedOrder(
        model=trainable.adapter or trainable.model,
        args=arguments,
        train_dataset=Rows(rows["train"]),
        eval_dataset=Rows(rows["validation"]),
        data_collator=collate,
        callbacks=[EarlyStoppingCallback(patience, threshold)] if settings.apply_early_stopping else [],
    )
    trainer.train(resume_from_checkpoint=str(after) if after else None)
    history = trainer.state.log_history
    best = trainer.state.best_model_checkpoint
    return Course(
        logged={
            each["step"]: tuple(each[key] for key in ("loss", "grad_norm", "learning_rate", "epoch"))
            for each in history
            if "loss" in each
        },
        evaluated={each["step"]: each["eval_loss"] for each in history if "eval_loss" in each},
        kept=sorted((each.name for each in folder.glob("checkpoint-*")), key=lambda name: int(name.split("-")[1])),
        best=Path(best).name if best else None,
        planned=trainer.state.max_steps,
        taken=trainer.state.global_step,
        train_loss=next(each["train_loss"] for each in history if "train_loss" in each),
    )


@pytest.mark.parametrize("changed", SETTINGS, ids=lambda changed: " ".join(f"{k}={v}" for k, v in changed.items()))
def test_a_run_is_that_of_transformers_trainer(
    tmp_path: Path, model: Path, rows: dict[str, TokenRows], changed: dict[str, Any]
) -> None:
    values = {key: str(value) for key, value in (DEFAULTS | BASE | changed).items()}
    rows = {"train": rows["train"], "validation": rows[values.pop("validation", "validation")]}
    settings = read_settings(values)
    (tmp_path / "outputs").mkdir()
    ours = train_here(Step(tmp_path, {}), settings, rows, model)
    theirs = train_there(tmp_path / "theirs", settings, rows, model)
    assert (ours.planned, ours.taken) == (theirs.planned, theirs.taken)
    assert total_steps(from_job_inputs(values), len(rows["train"]), 0) == theirs.planned
    assert list(ours.evaluated) == list(theirs.evaluated)
    assert list(ours.evaluated.values()) == pytest.approx(list(theirs.evaluated.values()), rel=1e-3)
    assert (ours.kept, ours.best) == (theirs.kept, theirs.best)
    # Ours logs what is left at the end as well, which the Trainer keeps for itself.
    assert [at for at in ours.logged if at in theirs.logged or at != ours.taken] == list(theirs.logged)
    for at, (loss, norm, rate, epoch) in theirs.logged.items():
        assert ours.logged[at][:2] == pytest.approx((loss, norm), rel=1e-3), at
        assert ours.logged[at][2] == pytest.approx(rate, rel=1e-9, abs=1e-9), at
        assert ours.logged[at][3] == pytest.approx(epoch, abs=1e-4), at
    assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "stops_after", "then"),
    [
        ({**STEPS, "eval_steps": 3, "num_train_epochs": 2, "lr_scheduler_type": "cosine"}, 9, {}),
        ({**EPOCH, "num_train_epochs": 2, "warmup_steps": 3}, 14, {"num_train_epochs": 4}),
        ({**EPOCH, "max_steps": 7}, 7, {"max_steps": 12}),
        ({**STEPS, **STOPS, **WORSENS, "eval_steps": 2, "num_train_epochs": 2}, 99, {"num_train_epochs": 3}),
    ],
    ids=["resumed in an epoch", "more epochs", "more steps", "more epochs after an early stop"],
)
def test_a_run_that_goes_on_is_that_of_transformers_trainer(
    tmp_path: Path,
    model: Path,
    rows: dict[str, TokenRows],
    changed: dict[str, Any],
    stops_after: int,
    then: dict[str, Any],
) -> None:
    values = {key: str(value) for key, value in (DEFAULTS | BASE | changed).items()}
    rows = {"train": rows["train"], "validation": rows[values.pop("validation", "validation")]}
    first = read_settings(values)
    more = read_settings(values | {key: str(value) for key, value in then.items()})
    for each in ("first", "more"):
        (tmp_path / each / "outputs").mkdir(parents=True)
    step = Impatient(tmp_path / "first", {"stops_after": stops_after})
    (step.folder / "stop.json").write_text("{}")
    begun = train_here(step, first, rows, model)
    checkpoint = f"checkpoint-{begun.taken}"
    train_there(tmp_path / "theirs", first, rows, model)
    ours = train_here(Step(tmp_path / "more", {}), more, rows, model, step.outputs / "checkpoints" / checkpoint)
    theirs = train_there(tmp_path / "theirs more", more, rows, model, tmp_path / "theirs" / checkpoint)
    assert (ours.planned, ours.taken) == (theirs.planned, theirs.taken)
    assert ours.taken > begun.taken
    later = {at: loss for at, loss in theirs.evaluated.items() if at > begun.taken}
    assert list(ours.evaluated) == list(later)
    assert list(ours.evaluated.values()) == pytest.approx(list(later.values()), rel=1e-3)
    assert ours.best == theirs.best
    assert list(ours.logged) == [at for at in theirs.logged if at > begun.taken]
    for at, (loss, norm, rate, _) in ours.logged.items():
        assert (loss, norm) == pytest.approx(theirs.logged[at][:2], rel=1e-3), at
        assert rate == pytest.approx(theirs.logged[at][2], rel=1e-9, abs=1e-9), at
