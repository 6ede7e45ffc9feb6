"""The training loop: epochs, optimiser steps, what is logged when, evaluation, early stopping, checkpoints.

A plain loop rather than a framework's: on two cores it is up to twice as fast. Its course is that of transformers'
Trainer (tests/core/engine/test_against_transformers.py). Reads and writes files only through Step and Checkpoints.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from core.engine.answer_loss import answer_loss, can_pack
from core.engine.batches import Batch, make_batch, plan_epoch, split_batch
from core.engine.checkpoints import STATE_FILE, Checkpoints, Note
from core.engine.compute_speed import Threads
from core.engine.memory_estimate import EAGER_UP_TO, ROOM, keep_of_row, leave_room, prepacked_bytes
from core.engine.step import Step
from core.engine.token_rows import TokenRows
from core.engine.trainable import Trainable
from core.engine.training_settings import TrainingSettings
from core.errors import TunedeckError


class Diverged(TunedeckError):
    """A loss or gradient is no number any more."""


@dataclass
class Window:
    """What has been measured since the last log line. norm (before clipping) and rate are the last step's."""

    loss: float = 0.0
    steps: int = 0
    tokens: int = 0
    norm: float = 0.0
    rate: float = 0.0
    started: float = field(default_factory=time.perf_counter)


@dataclass
class Position:
    """Where training is; all that a checkpoint must remember beside weights and optimiser."""

    step: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    packed: int = 0  # batches whose rows were packed behind a shared prefix
    seconds: float = 0.0
    best_loss: float = math.inf
    evaluations_without_gain: int = 0


class Training:
    """One run over the data. `train()` ends with the best weights, by validation loss, in the model."""

    def __init__(
        self,
        step: Step,
        settings: TrainingSettings,
        trainable: Trainable,
        rows: dict[str, TokenRows],
        checkpoints: Checkpoints,
        pad_id: int,
        pad_to: int,
        threads: Threads,
        room: int = ROOM,
    ) -> None:
        """room: bytes that the activations of one pass may take on the processor."""
        self.step, self.settings, self.trainable, self.rows = step, settings, trainable, rows
        self.checkpoints, self.pad_id, self.pad_to, self.threads = checkpoints, pad_id, pad_to, threads
        self.device = trainable.parameters[0].device
        self.at = Position()
        self.window = Window()
        self.stopped_early = False
        self.stopped = ""
        self.last_loss: float | None = None
        self.share = self.recomputes = False
        self.room: float = room
        self.batches_per_epoch = math.ceil(len(rows["train"]) / settings.per_device_train_batch_size)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / settings.gradient_accumulation_steps)
        planned = self.steps_per_epoch * settings.num_train_epochs
        self.total_steps = self.ends_at = settings.max_steps if settings.max_steps > 0 else planned
        self.optimizer = _make_optimizer(settings, trainable)
        self.scheduler = _make_scheduler(settings, self.optimizer, self.total_steps)
        if prepacked := prepacked_bytes(*trainable.count_frozen(), trainable.parameters[0].itemsize):
            trainable.prepack()
            longest = max(int(rows["train"].lengths.max()), pad_to)
            self.room = leave_room(room, prepacked, self._keep(longest), self._keep(EAGER_UP_TO))

    def train(self) -> Position:
        """Run all steps that remain, or until it is asked to stop, then load the best weights."""
        # With dropout, rows that share a prefix would share what is switched off in it.
        drops = self.settings.lora_dropout if self.settings.apply_lora else 0.0
        self.share = can_pack(self.trainable.model) and not drops
        self._report()
        started, base = time.perf_counter(), self.at.seconds
        if self.at.step:
            self._obey()
        while self.at.step < self.ends_at and not self.stopped_early:
            for micro_batches in self._epoch_groups():
                self._optimise(micro_batches)
                self.threads.adapt()
                self.at.seconds = base + time.perf_counter() - started
                if self.settings.logs_after(self.at.step, self.steps_per_epoch):
                    self._log()
                self._report()
                self._obey()
                if self.settings.evaluates_after(self.at.step, self.steps_per_epoch, self.ends_at):
                    self._evaluate_and_keep()
                if self.stopped_early or self.at.step >= self.ends_at:
                    break
        self._check_last_update()
        if self.window.steps:
            self._log()
        self._log_end()
        best = self.load_best()
        if self.ends_at < self.total_steps:
            what = f"{best} is the best" if best else "nothing was evaluated, so the last weights are the model"
            self.stopped = f"Stopped at step {self.at.step} of {self.total_steps}{self.step.read_stop()}; {what}."
            self.step.say(self.stopped)
        return self.at

    def _obey(self) -> None:
        """Let the step that was taken be the last one where somebody asked for the end."""
        if self.step.is_asked_to_stop():
            self.ends_at = min(self.at.step, self.total_steps)

    def resume(self, continues: str = "") -> None:
        """Go on from the newest checkpoint, if there is one: the same weights, optimiser, data and random numbers.

        continues: the name of the checkpoint that is another run's. Patience counts anew after it, as the Trainer's.
        """
        self.checkpoints.drop_unfinished()
        newest = self.checkpoints.find_newest()
        if newest is None:
            self.step.say("No checkpoint to resume from; training starts at step 1.")
            return
        state = torch.load(newest / STATE_FILE, map_location=self.device, weights_only=True)
        self.trainable.read(newest)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_of_gpu"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_of_gpu"].cpu(), self.device)
        position = state["position"]
        packed = position.pop("lines", 0)  # its name in checkpoints of before
        self.at = Position(**{"packed": packed, **position})
        seconds = state["window"].pop("seconds")
        self.window = Window(**state["window"], started=time.perf_counter() - seconds)
        if newest.name == continues:
            self.at.evaluations_without_gain = 0
        self.stopped_early = self._has_stopped_gaining()
        self.step.say(f"Resumed from {newest.name}.")

    def _epoch_groups(self) -> list[list[np.ndarray]]:
        """Return what is left of the current epoch: for each optimiser step its micro-batches."""
        epoch, done = divmod(self.at.step, self.steps_per_epoch)
        size = self.settings.gradient_accumulation_steps
        batches = plan_epoch(
            self.rows["train"].lengths,
            self.settings.per_device_train_batch_size,
            seed=self.settings.seed + epoch,
            # A batch size that is found by trying begins anew at a failure: nothing may have been logged by then.
            longest_at=0 if self.settings.auto_find_batch_size else 1,
        )
        return [batches[at : at + size] for at in range(0, len(batches), size)][done:]

    def _make_parts(self, indices: np.ndarray) -> list[Batch]:
        """Make a batch of training rows; on the processor in parts, where what it keeps would not fit."""
        whole = self._make_batch("train", indices)
        if whole.visible is not None or self._fits(whole):
            return [whole]
        parts = split_batch(
            self.rows["train"].lengths[indices], lambda width: self.room / self._keep(max(width, self.pad_to))
        )
        return [self._make_batch("train", indices[part]) for part in parts]

    def _fits(self, batch: Batch) -> bool:
        return self.device.type != "cpu" or len(batch.ids) * self._keep(batch.ids.shape[1]) <= self.room

    def _keep(self, length: int) -> float:
        """Return the bytes that a row of this length keeps for its gradients."""
        model: Any = self.trainable.model
        config = model.config
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        heads = config.num_attention_heads * (length <= EAGER_UP_TO or not model._supports_sdpa)
        drops = self.settings.apply_lora and self.settings.lora_dropout > 0
        size = model.dtype.itemsize
        return keep_of_row(config.num_hidden_layers, config.hidden_size, inner, heads, length, size, drops=drops)

    def learn(self, micro_batches: list[np.ndarray]) -> tuple[float, list[Batch]]:
        """Add up the gradients of an optimiser step's rows; return the loss and the parts that were computed at once.

        Activations are kept but for a single row that does not fit: those are computed twice, for 1.4 times the time.
        """
        model: Any = self.trainable.model
        made = [part for each in micro_batches for part in self._make_parts(each)]
        learned, total = sum(batch.learned_count for batch in made), 0.0
        for batch in made:
            if self.recomputes is self._fits(batch):
                self.recomputes = not self.recomputes
                if self.recomputes:
                    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                else:
                    model.gradient_checkpointing_disable()
            loss = self._sum_loss(batch) / learned
            torch.autograd.backward(loss)
            total += loss.item()
        return total, made

    def _sum_loss(self, batch: Batch) -> torch.Tensor:
        """Return the summed loss, its attention by a table of all pairs only where that is small."""
        model: Any = self.trainable.model
        wanted = "eager" if batch.ids.shape[1] <= EAGER_UP_TO else "sdpa"
        # Gemma 2 caps what attention is taken from: eager alone does.
        if self.device.type == "cpu" and model._supports_sdpa and model.config._attn_implementation != wanted:
            model.set_attn_implementation(wanted)
        return answer_loss(model, batch, self.trainable.prepacked_head)

    def _make_batch(self, split: str, indices: np.ndarray) -> Batch:
        return make_batch(self.rows[split], indices, self.pad_id, self.pad_to, self.device, share=self.share)

    def _optimise(self, micro_batches: list[np.ndarray]) -> None:
        """Take one optimiser step."""
        self.trainable.model.train()
        total, made = self.learn(micro_batches)
        self._require_finite(total, f"loss at step {self.at.step + 1}")
        self.trainable.take_gradients()
        limit = self.settings.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.trainable.masters, limit).item()
        self._require_finite(norm, f"gradient at step {self.at.step + 1}")
        rate = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        self.trainable.publish()
        self.trainable.clear_gradients()
        self.at.step += 1
        self.last_loss = total
        self.at.packed += sum(batch.visible is not None for batch in made)
        tokens = sum(batch.tokens for batch in made)
        self.at.loss_sum, self.at.tokens = self.at.loss_sum + total, self.at.tokens + tokens
        window = self.window
        window.loss, window.steps, window.tokens = window.loss + total, window.steps + 1, window.tokens + tokens
        window.norm, window.rate = norm, rate

    def _require_finite(self, value: float, what: str) -> None:
        """Raise Diverged where training has; the checkpoints written before it stay."""
        if math.isfinite(value):
            return
        best = self.checkpoints.find_best()
        kept = f" {best.name}, the best until then, is kept and can be deployed." if best else ""
        raise Diverged(
            f"The {what} is not a number: training has diverged.", f"Lower learning_rate, or raise warmup_steps.{kept}"
        )

    @torch.no_grad()
    def _check_last_update(self) -> None:
        """Take the loss once more where no evaluation does: the last update can be the one that breaks the weights."""
        if self.settings.evaluation_strategy != "disable":
            return
        self.trainable.model.eval()
        loss = self._sum_loss(self._make_batch("validation", np.zeros(1, dtype=int)))
        self._require_finite(loss.item(), f"loss after step {self.at.step}")

    def _log(self) -> None:
        window = self.window
        loss = window.loss / window.steps
        speed = window.tokens / max(1e-9, time.perf_counter() - window.started)
        values = {"loss": loss, "grad_norm": window.norm, "learning_rate": window.rate, "epoch": self._epoch()}
        self.step.log_metrics({**values, "tokens_per_second": speed}, self.at.step)
        self.step.say(
            f"step {self.at.step}/{self.total_steps} · loss {loss:.4f} · learning rate {window.rate:.2e} · "
            f"gradient norm {window.norm:.2f} · {speed:.0f} tokens/s"
        )
        self.window = Window()

    def _evaluate_and_keep(self) -> None:
        """Measure the validation loss, write a checkpoint, and decide whether to stop early."""
        began = time.perf_counter()
        loss = self.evaluate()
        gained = loss < self.at.best_loss - self.settings.early_stopping_threshold
        self.at.evaluations_without_gain = 0 if gained else self.at.evaluations_without_gain + 1
        self.at.best_loss = min(loss, self.at.best_loss)
        self.window.started += time.perf_counter() - began  # the speed that is logged is that of training
        size = self.settings.per_device_train_batch_size
        began = time.perf_counter()
        note = Note(self.at.step, loss, size, self._epoch(), self.last_loss)
        self.checkpoints.save(self.trainable, self._state(), note)
        self.window.started += time.perf_counter() - began
        self._report()
        self.stopped_early = self._has_stopped_gaining()
        if self.stopped_early:
            patience = self.settings.early_stopping_patience
            self.step.say(f"Stopped early: the validation loss did not fall in {patience} evaluations.")

    def _has_stopped_gaining(self) -> bool:
        patience = self.settings.early_stopping_patience
        return self.settings.apply_early_stopping and self.at.evaluations_without_gain >= patience

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the loss of the validation rows, and log it: each row counts with the mean per token of its batch."""
        started, rows = time.perf_counter(), self.rows["validation"]
        self.trainable.model.eval()
        total, size = 0.0, self.settings.per_device_eval_batch_size
        for start in range(0, len(rows), size):
            self.step.report_progress("evaluating", self.at.step, self.total_steps, self._epoch())
            indices = np.arange(start, min(start + size, len(rows)))
            batch = self._make_batch("validation", indices)
            total += self._sum_loss(batch).item() / batch.learned_count * len(indices)
            self.threads.adapt()
        seconds = time.perf_counter() - started
        loss = total / len(rows)
        self._require_finite(loss, f"validation loss after step {self.at.step}")
        self.step.log_metrics({"eval_loss": loss, "eval_runtime": seconds}, self.at.step)
        self.step.say(
            f"step {self.at.step}/{self.total_steps} · eval loss {loss:.4f} on {len(rows)} rows · {seconds:.1f} s"
        )
        return loss

    def _state(self) -> dict[str, Any]:
        window = {**vars(self.window), "seconds": time.perf_counter() - self.window.started}
        window.pop("started")
        on_gpu = self.device.type == "cuda"
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "random_of_gpu": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "window": window,
            "position": vars(self.at),
        }

    def load_best(self) -> str:
        """Take the best weights by validation loss; return their checkpoint's name, "" where nothing was evaluated."""
        best = self.checkpoints.find_best()
        if best is None:
            return ""
        self.trainable.read(best)
        self.step.say(f"Best weights by validation loss: {best.name} ({self.at.best_loss:.4f}).")
        return best.name

    def _log_end(self) -> None:
        mean = self.at.loss_sum / max(1, self.at.step)
        self.step.log_metrics({"train_loss": mean, "train_runtime": self.at.seconds}, self.at.step)

    def _epoch(self) -> float:
        """Return epochs by the batches read, so that a step with fewer at an epoch's end counts less."""
        epochs, steps = divmod(self.at.step, self.steps_per_epoch)
        batches = steps * self.settings.gradient_accumulation_steps
        return epochs + min(1.0, batches / self.batches_per_epoch)

    def _report(self) -> None:
        self.step.report_progress("training", self.at.step, self.total_steps, self._epoch())


def _make_optimizer(settings: TrainingSettings, trainable: Trainable) -> Optimizer:
    """Weight decay leaves vectors (norms, biases) alone, as the Trainer does."""
    matrices = [each for each in trainable.masters if each.dim() > 1]
    vectors = [each for each in trainable.masters if each.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": settings.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    if settings.optim == "adafactor":
        from transformers.optimization import Adafactor

        make: Any = Adafactor  # untyped in transformers
        adafactor: Optimizer = make(groups, lr=settings.learning_rate, scale_parameter=False, relative_step=False)
        return adafactor
    betas = (settings.adam_beta1, settings.adam_beta2)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, eps=settings.adam_epsilon, fused=True)


def _make_scheduler(settings: TrainingSettings, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    from transformers.optimization import get_scheduler

    scheduler: LRScheduler = get_scheduler(
        settings.lr_scheduler_type,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=total_steps,
    )
    return scheduler
