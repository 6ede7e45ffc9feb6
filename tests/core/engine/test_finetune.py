"""Training a tiny model: it must learn, honour what it is told, and leave what the next steps need."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.engine.answer_loss import answer_loss
from core.engine.batches import Batch, make_batch, plan_epoch
from core.engine.finetune import finetune
from core.engine.merge import merge
from core.engine.prepacked_weights import WeightBothWays
from core.engine.step import Step
from core.engine.token_rows import read_rows
from core.engine.trainable import load_model
from core.errors import BadInput, TunedeckError
from tests.core.engine.conftest import Impatient, Workbench
from tests.tiny_model import make_conversations
from tests.waiting import wait_until

Read = Callable[[Step, str], list[tuple[int, float]]]
CPU = torch.device("cpu")
# The second update breaks the weights: it divides the first gradients by the second ones, of which some are next to 0.
RUINOUS = {
    "lora_alpha": 10_000,
    "learning_rate": 1,
    "adam_beta1": 0.999999,
    "adam_beta2": 0,
    "adam_epsilon": 1e-20,
    "max_grad_norm": 0,
    "lr_scheduler_type": "constant",
}


def losses(step: Step, read: Read) -> list[float]:
    return [value for _, value in read(step, "loss")]


@torch.no_grad()
def validation_loss(model: torch.nn.Module, step: Step) -> float:
    rows = read_rows(Path(step.config["data_dir"]) / "validation.safetensors")
    batch = make_batch(rows, torch.arange(len(rows)).numpy(), 2, 0, CPU)
    return answer_loss(model, batch).item() / batch.learned_count


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_learns_and_its_output_loads_in_transformers(
    bench: Workbench, read_metrics: Read, method: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    step = bench.finetune_step(apply_lora="true" if method == "lora" else "false", num_train_epochs=4)
    finetune(step)
    found = losses(step, read_metrics)
    assert len(found) == 32
    assert found[-1] < 0.3 * found[0]
    evaluations = [value for _, value in read_metrics(step, "eval_loss")]
    assert len(evaluations) == 4
    assert evaluations[-1] < 0.5 * evaluations[0] or evaluations[-1] < 1
    model = AutoModelForCausalLM.from_pretrained(step.outputs / "model")
    tokenizer = AutoTokenizer.from_pretrained(step.outputs / "model")
    assert model.dtype == torch.bfloat16
    asked = tokenizer.apply_chat_template(
        make_conversations(99)[-1]["messages"][:1], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    answer = tokenizer.decode(model.generate(asked, max_new_tokens=12)[0, asked.shape[1] :])
    assert answer.startswith("It is blue.<|im_end|>")
    assert (step.outputs / "model" / "LICENSE").is_file()
    assert not (step.outputs / "model" / "tunedeck.json").exists()


def test_the_report_says_format_memory_and_speed(bench: Workbench) -> None:
    step = bench.finetune_step(max_steps=2, precision="16")
    finetune(step)
    report = json.loads((step.outputs / "training.json").read_text())
    assert report["number_format"] in ("bfloat16", "float32")
    assert "times as fast" in report["number_format_why"] or "GPU" in report["number_format_why"]
    assert report["peak_memory_bytes"] > 50 << 20
    assert report["tokens_per_second"] > 0
    assert report["steps"] == 2
    progress = json.loads((step.folder / "progress.json").read_text())
    assert (progress["phase"], progress["step"], progress["total_steps"]) == ("saving", 2, 2)


def test_bfloat16_with_fp32_masters_learns_like_fp32(
    bench: Workbench, read_metrics: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for name in ("bfloat16", "float32"):
        monkeypatch.setattr(
            "core.engine.compute_speed.choose_number_format", lambda device, name=name: (name, "set by a test")
        )
        step = bench.finetune_step(name=f"finetune-{name}", precision="16", num_train_epochs=3)
        finetune(step)
        ends.append(losses(step, read_metrics)[-1])
    assert ends[0] == pytest.approx(ends[1], rel=0.1)


def test_every_metric_has_its_trainers_name_and_starts_at_step_one(bench: Workbench) -> None:
    step = bench.finetune_step(num_train_epochs=1)
    finetune(step)
    rows = [json.loads(line) for line in (step.folder / "metrics.jsonl").read_text().splitlines()]
    keys = {row["key"] for row in rows}
    expected = {"loss", "grad_norm", "learning_rate", "epoch", "tokens_per_second", "eval_loss", "train_loss"}
    assert expected | {"train_runtime"} <= keys
    assert min(row["step"] for row in rows) == 1
    assert all(set(row) == {"key", "value", "step", "timestamp"} for row in rows)


def test_logging_follows_its_strategy(bench: Workbench, read_metrics: Read) -> None:
    step = bench.finetune_step(num_train_epochs=2, logging_steps=3)
    finetune(step)
    assert [at for at, _ in read_metrics(step, "loss")] == [3, 6, 9, 12, 15, 16]
    step = bench.finetune_step(name="by-epoch", num_train_epochs=2, logging_strategy="epoch")
    finetune(step)
    assert [at for at, _ in read_metrics(step, "loss")] == [8, 16]


def test_accumulated_batches_are_the_batch_they_add_up_to(bench: Workbench, read_metrics: Read) -> None:
    settings = {"num_train_epochs": 1, "seed": 3, "evaluation_strategy": "disable", "lora_dropout": 0.0}
    whole = bench.finetune_step(name="whole", per_device_train_batch_size=32, **settings)
    finetune(whole)
    parts = bench.finetune_step(name="parts", per_device_train_batch_size=8, gradient_accumulation_steps=4, **settings)
    finetune(parts)
    assert losses(parts, read_metrics) == pytest.approx(losses(whole, read_metrics), rel=1e-4)
    norms = [read_metrics(step, "grad_norm")[0][1] for step in (whole, parts)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize(
    ("scheduler", "first", "last"),
    [("constant", 1e-2, 1e-2), ("linear", 1e-2, 1e-2 / 8), ("cosine", 1e-2, None), ("constant_with_warmup", 0.0, 1e-2)],
)
def test_the_learning_rate_follows_its_schedule(
    bench: Workbench, read_metrics: Read, scheduler: str, first: float, last: float | None
) -> None:
    warmup = 2 if "warmup" in scheduler else 0
    step = bench.finetune_step(lr_scheduler_type=scheduler, warmup_steps=warmup, num_train_epochs=1)
    finetune(step)
    rates = [value for _, value in read_metrics(step, "learning_rate")]
    assert rates[0] == pytest.approx(first)
    assert rates[-1] == pytest.approx(last) if last is not None else rates[-1] < 1e-3


@pytest.mark.parametrize(
    "changed", [{"optim": "adafactor"}, {"weight_decay": 0.5}, {"pad_to_max_length": "true", "max_seq_length": 48}]
)
def test_other_parameters_train_too(bench: Workbench, read_metrics: Read, changed: dict[str, object]) -> None:
    step = bench.finetune_step(num_train_epochs=1, **changed)
    finetune(step)
    found = losses(step, read_metrics)
    assert found[-1] < found[0]


def test_the_same_seed_gives_the_same_losses(bench: Workbench, read_metrics: Read) -> None:
    steps = [bench.finetune_step(name=f"run{n}", max_steps=4, seed=n // 2, lora_dropout=0.1) for n in range(3)]
    for step in steps:
        finetune(step)
    first, again, other = [losses(step, read_metrics) for step in steps]
    assert first == again
    assert first != other


@pytest.mark.parametrize(("dropout", "packed"), [(0.0, 3), (0.1, 0)])
def test_rows_that_share_a_prefix_are_packed_but_under_dropout(bench: Workbench, dropout: float, packed: int) -> None:
    rows = [
        {"messages": [{"role": "system", "content": "the kettle of the harbour " * 4}, *row["messages"]]}
        for row in make_conversations(40)
    ]
    step = bench.finetune_step(rows, max_steps=3, evaluation_strategy="disable", lora_dropout=dropout)
    finetune(step)
    assert json.loads((step.outputs / "training.json").read_text())["packed_batches"] == packed


def test_early_stopping_ends_a_run_that_gains_nothing(bench: Workbench, read_metrics: Read) -> None:
    step = bench.finetune_step(
        num_train_epochs=6, apply_early_stopping="true", early_stopping_patience=1, early_stopping_threshold=50
    )
    finetune(step)
    assert len(read_metrics(step, "eval_loss")) == 2


def test_the_best_weights_are_the_ones_that_are_kept(bench: Workbench, read_metrics: Read) -> None:
    step = bench.finetune_step(num_train_epochs=3, learning_rate=0.3, lr_scheduler_type="constant", max_grad_norm=0)
    finetune(step)
    evaluations = read_metrics(step, "eval_loss")
    best = min(value for _, value in evaluations)
    report = json.loads((step.outputs / "training.json").read_text())
    assert report["best_eval_loss"] == pytest.approx(best)
    model = load_model(step.outputs / "model", "float32", CPU)
    assert validation_loss(model, step) == pytest.approx(best, rel=0.05, abs=0.02)


def test_checkpoints_are_within_their_limit_and_a_heavy_state_goes_after_success(bench: Workbench) -> None:
    step = bench.finetune_step(num_train_epochs=4, save_total_limit=1, lora_r=8)
    finetune(step)
    (kept,) = (step.outputs / "checkpoints").iterdir()
    weights = {"adapter_model.safetensors", "adapter_config.json", "note.json"}
    assert {file.name for file in kept.iterdir()} == weights, "with its state it is more than half of this tiny model"
    step = bench.finetune_step(name="full", num_train_epochs=2, apply_lora="false")
    finetune(step)
    assert not list((step.outputs / "checkpoints").glob("*"))


def test_a_diverged_run_says_so(bench: Workbench) -> None:
    step = bench.finetune_step(**RUINOUS, apply_lora="false")
    with pytest.raises(TunedeckError, match="The loss at step 3 is not a number: training has diverged"):
        finetune(step)


@pytest.mark.parametrize("method", ["true", "false"])
@pytest.mark.parametrize(
    ("evaluation", "said"), [("epoch", "The validation loss after step 2"), ("disable", "The loss after step 2")]
)
def test_a_last_update_that_breaks_the_weights_leaves_no_model(
    bench: Workbench, method: str, evaluation: str, said: str
) -> None:
    step = bench.finetune_step(**RUINOUS, max_steps=2, apply_lora=method, evaluation_strategy=evaluation)
    with pytest.raises(TunedeckError, match=f"{said} is not a number: training has diverged"):
        finetune(step)
    assert not (step.outputs / "model").exists()
    assert not (step.outputs / "checkpoints").exists()


def test_the_best_weights_before_a_divergence_are_kept_and_named(bench: Workbench) -> None:
    step = bench.finetune_step(**RUINOUS, max_steps=2, evaluation_strategy="steps", eval_steps=1)
    with pytest.raises(TunedeckError, match=r"after step 2 is not a number.*checkpoint-1, the best until then"):
        finetune(step)
    (kept,) = (step.outputs / "checkpoints").iterdir()
    loss = json.loads((kept / "note.json").read_text())["eval_loss"]
    (bench.folder / "work").mkdir()
    merge(bench.model, kept, bench.folder / "merged", bench.folder / "work", {"name": "tiny", "version": "1"})
    assert "base_model_name: tiny" in (bench.folder / "merged" / "MLmodel").read_text()
    model = load_model(bench.folder / "merged" / "model", "float32", CPU)
    assert validation_loss(model, step) == pytest.approx(loss, rel=0.05)


def test_padding_to_a_length_that_is_not_given_is_refused(bench: Workbench) -> None:
    with pytest.raises(BadInput, match="pad_to_max_length needs a length"):
        finetune(bench.finetune_step(pad_to_max_length="true"))


def test_a_batch_that_does_not_fit_is_halved_where_that_is_allowed(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(model: torch.nn.Module, batch: Batch, head: WeightBothWays | None) -> torch.Tensor:
        if len(batch.ids) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return answer_loss(model, batch, head)

    monkeypatch.setattr("core.engine.training.answer_loss", scarce)
    step = bench.finetune_step(
        auto_find_batch_size="true",
        per_device_train_batch_size=8,
        max_steps=2,
        evaluation_strategy="disable",
        lora_dropout=0.1,  # rows under dropout are padded: a batch is as long as it has rows
    )
    finetune(step)
    assert json.loads((step.outputs / "training.json").read_text())["per_device_train_batch_size"] == 2


def test_the_loss_on_supervised_positions_is_that_of_all_logits(bench: Workbench) -> None:
    step = bench.finetune_step()
    rows = read_rows(Path(step.config["data_dir"]) / "train.safetensors")
    batch = make_batch(rows, torch.arange(6).numpy(), 2, 0, CPU)
    model = load_model(bench.model, "float32", CPU)
    model.requires_grad_(True)
    answer_loss(model, batch).backward()
    ours = model.model.layers[0].mlp.up_proj.weight.grad.clone()
    model.zero_grad()
    labels = torch.where(batch.learned, batch.ids, -100)[:, 1:]
    logits = model(input_ids=batch.ids).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum")
    loss.backward()
    assert torch.allclose(ours, model.model.layers[0].mlp.up_proj.weight.grad, rtol=1e-3, atol=1e-5)


def test_batches_hold_every_row_once_and_the_longest_comes_early() -> None:
    lengths = torch.randint(5, 200, (403,), generator=torch.Generator().manual_seed(1)).numpy()
    batches = plan_epoch(lengths, 4, seed=1)
    assert sorted(int(index) for batch in batches for index in batch) == list(range(403))
    assert lengths[batches[1]].max() == lengths.max()
    assert lengths[plan_epoch(lengths, 4, seed=1, longest_at=0)[0]].max() == lengths.max()
    assert len(plan_epoch(lengths[:3], 4, seed=1)) == 1
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.1 * lengths.sum()


class Killed(BaseException):
    """What ends a trainer where it stands."""


class Mortal(Step):
    """A step whose trainer is ended as soon as it has written a checkpoint: nothing that follows is begun."""

    def is_asked_to_stop(self) -> bool:
        if (self.outputs / "checkpoints" / self.config["ends_after"]).exists():
            raise Killed
        return super().is_asked_to_stop()

    def say(self, line: str) -> None:
        self.is_asked_to_stop()
        super().say(line)


def end_after(step: Step, checkpoint: str) -> None:
    with pytest.raises(Killed):
        finetune(Mortal(step.folder, {**step.config, "ends_after": checkpoint}))


def test_a_trainer_that_was_ended_goes_on_as_if_it_had_not_been(bench: Workbench, read_metrics: Read) -> None:
    """A process that imports torch: some seconds. The checkpoint lies in the middle of what one log line sums up."""
    settings = {"num_train_epochs": 6, "logging_steps": 3, "lora_dropout": 0.1, "save_total_limit": 1}
    rows = make_conversations(200)
    whole = bench.finetune_step(rows, name="whole", **settings)
    finetune(whole)
    step = bench.finetune_step(rows, **settings)
    process = bench.start("finetune", step)

    def has_checkpoint() -> bool:
        assert process.poll() is None, "the trainer ended"
        return any(step.folder.glob("outputs/checkpoints/checkpoint-*"))

    wait_until(has_checkpoint, every_s=0.002)
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=10)[0]
    assert (process.returncode, "Stopped." in log) == (143, True)
    before = read_metrics(step, "loss")
    with (step.folder / "metrics.jsonl").open("a") as file:
        file.write('{"key": "loss", "val')  # as a kill in the middle of a line leaves it
    (step.outputs / "checkpoints" / ".checkpoint-999.writing").mkdir()
    step.config["go_on"] = True
    finetune(step)
    for key in ("loss", "eval_loss", "learning_rate", "epoch"):
        expected, found = read_metrics(whole, key), read_metrics(step, key)
        assert [at for at, _ in found] == [at for at, _ in expected], f"{key}: no step twice, none lost"
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-3), key
    assert read_metrics(step, "loss")[: len(before)] == before
    assert not list(step.outputs.glob("checkpoints/.*"))
    reports = [json.loads((each.outputs / "training.json").read_text()) for each in (whole, step)]
    assert [report["steps"] for report in reports] == [reports[0]["steps"]] * 2
    assert reports[0]["tokens"] == reports[1]["tokens"]


def test_early_stopping_stands_also_where_the_trainer_was_ended_right_after(
    bench: Workbench, read_metrics: Read
) -> None:
    step = bench.finetune_step(
        num_train_epochs=6,
        apply_lora="false",
        apply_early_stopping="true",
        early_stopping_patience=1,
        early_stopping_threshold=50,
    )
    end_after(step, "checkpoint-16")
    step.config["go_on"] = True
    finetune(step)
    assert len(read_metrics(step, "eval_loss")) == 2
    assert json.loads((step.outputs / "training.json").read_text())["steps"] == 16


def test_a_run_that_goes_on_counts_its_steps_in_the_batches_it_found(bench: Workbench, read_metrics: Read) -> None:
    settings = {"auto_find_batch_size": "true", "num_train_epochs": 2, "apply_lora": "false"}
    step = bench.finetune_step(per_device_train_batch_size=2, **settings)
    end_after(step, "checkpoint-16")
    step.config |= {"go_on": True, "parameters": {**step.config["parameters"], "per_device_train_batch_size": "8"}}
    finetune(step)
    assert [at for at, _ in read_metrics(step, "loss")] == list(range(1, 33))


@pytest.mark.parametrize("method", ["true", "false"])
def test_a_run_that_was_stopped_has_its_best_weights_and_another_goes_on_as_if_it_had_not_been(
    bench: Workbench, read_metrics: Read, method: str
) -> None:
    settings = {"num_train_epochs": 3, "lora_dropout": 0.1, "logging_steps": 1, "apply_lora": method, "lora_r": 1}
    whole, asked = bench.finetune_step(name="whole", **settings), bench.finetune_step(name="stopped", **settings)
    finetune(whole)
    stopped = Impatient(asked.folder, {**asked.config, "stops_after": 11})
    (stopped.folder / "stop.json").write_text('{"by": "anna"}')
    finetune(stopped)
    report = json.loads((stopped.outputs / "training.json").read_text())
    assert report["stopped"] == "Stopped at step 11 of 24 by anna; checkpoint-11 is the best."
    assert [at for at, _ in read_metrics(stopped, "eval_loss")] == [8, 11], (
        "the step it ends at is evaluated as an end is"
    )
    best = dict(read_metrics(stopped, "eval_loss"))[11]
    model = load_model(stopped.outputs / "model", "float32", CPU)
    assert validation_loss(model, stopped) == pytest.approx(best, rel=0.05, abs=0.02)
    for each in (stopped.outputs / "checkpoints").glob("*-11"):
        (bench.folder / "work").mkdir()
        merge(bench.model, each, bench.folder / "merged", bench.folder / "work", {"name": "tiny", "version": "1"})
        merged, own = (
            path / "model.safetensors" for path in (bench.folder / "merged/model", stopped.outputs / "model")
        )
        theirs = load_file(own)
        for name, tensor in load_file(merged).items():
            assert torch.allclose(tensor.float(), theirs[name].float(), rtol=0.02, atol=1e-3), name
    if method == "false":
        assert not list((stopped.outputs / "checkpoints").glob("*")), "each would take five times the model's size"
        return
    step = bench.finetune_step(name="resumed", **settings)
    step.config["continues"] = str(stopped.outputs / "checkpoints" / "checkpoint-11")
    finetune(step)
    for key in ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch"):
        expected = [each for each in read_metrics(whole, key) if each[0] > 11]
        found = read_metrics(step, key)
        assert [at for at, _ in found] == [at for at, _ in expected], key
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-4), key


def test_a_run_whose_checkpoint_is_gone_says_so(bench: Workbench) -> None:
    step = bench.finetune_step()
    step.config["continues"] = str(bench.folder / "checkpoint-9")
    with pytest.raises(BadInput, match="The checkpoint-9 that this run goes on from is gone"):
        finetune(step)


@pytest.mark.parametrize(
    "wrong",
    [{"model_type": "nonsense"}, {"num_hidden_layers": "x"}, {"num_attention_heads": 0}, {"rope_parameters": 7}],
)
def test_a_configuration_that_describes_no_model_is_a_sentence(
    tiny_model: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(BadInput, match="describes no model that can be loaded"):
        load_model(folder, "float32", CPU)
